//! IPv6 packets for tests.

use std::net::SocketAddrV6;

use super::packets::{frame, has_ports};

const ETH_P_IPV6: u16 = 0x86dd;
const IPV6_HLEN: usize = 40;

/// Extension headers (RFC 8200).
pub const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
pub const DESTINATION: u8 = 60;

#[derive(Clone, Debug)]
pub struct Packet6 {
    src: SocketAddrV6,
    dst: SocketAddrV6,
    traffic_class: u8,
    next: u8,
    /// Everything after the fixed header.
    payload: Vec<u8>,
}

impl Packet6 {
    /// A packet between addresses such as `[2001:db8::1]:1000`. Protocols without ports ignore the
    /// port.
    pub fn new(protocol: u8, src: &str, dst: &str) -> Self {
        let [src, dst] = [src, dst].map(|end| end.parse::<SocketAddrV6>().unwrap());
        let mut payload = Vec::new();
        if has_ports(protocol) {
            payload.extend(src.port().to_be_bytes());
            payload.extend(dst.port().to_be_bytes());
        }
        payload.resize(24, 0xa5);
        Self { src, dst, traffic_class: 0, next: protocol, payload }
    }

    /// An ICMPv6 message of this type.
    pub fn icmp(kind: u8, src: &str, dst: &str) -> Self {
        let mut packet = Self::new(58, src, dst);
        packet.payload[0] = kind;
        packet
    }

    /// Changes one byte of the payload, such as the TCP flags.
    pub fn with(mut self, offset: usize, byte: u8) -> Self {
        self.payload[offset] = byte;
        self
    }

    pub fn with_class(mut self, traffic_class: u8) -> Self {
        self.traffic_class = traffic_class;
        self
    }

    /// Puts an extension header of 8 + 8 × `more` bytes in front.
    pub fn behind(mut self, kind: u8, more: u8) -> Self {
        let mut header = vec![self.next, more];
        header.resize(8 + 8 * usize::from(more), 0);
        self.payload.splice(0..0, header);
        self.next = kind;
        self
    }

    /// Makes it a fragment. `offset` is in bytes, a multiple of 8.
    pub fn fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        let offset_and_more = (offset | u16::from(more)).to_be_bytes();
        let header = [&[self.next, 0][..], &offset_and_more, &id.to_be_bytes()].concat();
        self.payload.splice(0..0, header);
        self.next = FRAGMENT;
        self
    }

    /// Truncates or extends the packet to `len` bytes from the IP header on.
    pub fn of_length(mut self, len: usize) -> Self {
        self.payload.resize(len - IPV6_HLEN, 0x5a);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let class = [0x60 | self.traffic_class >> 4, self.traffic_class << 4, 0, 0];
        let len = (self.payload.len() as u16).to_be_bytes();
        let fixed = [&class[..], &len, &[self.next, 64]].concat();
        let addresses = [self.src.ip().octets(), self.dst.ip().octets()].concat();
        [fixed, addresses, self.payload.clone()].concat()
    }

    pub fn frame(&self) -> Vec<u8> {
        frame(ETH_P_IPV6, &self.bytes())
    }
}

pub fn tcp6(src: &str, dst: &str) -> Packet6 {
    Packet6::new(6, src, dst)
}

pub fn udp6(src: &str, dst: &str) -> Packet6 {
    Packet6::new(17, src, dst)
}

/// An ICMPv6 error about the packet, from the packet's destination.
pub fn icmp6_error(kind: u8, about: &Packet6) -> Packet6 {
    let mut error = Packet6::new(58, "[2001:db8::2]:0", "[2001:db8::1]:0");
    error.payload = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &about.bytes()].concat();
    error
}
