//! Packets for tests, and the frames that carry them.

use std::net::SocketAddrV4;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header};

pub const ETH_HLEN: usize = 14;
/// The shortest frame without its checksum (IEEE 802.3).
const ETH_MIN_LEN: usize = 60;
const ETH_P_IP: u16 = 0x0800;

/// An IPv4 packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub header: Ipv4Header,
    pub payload: Vec<u8>,
}

impl Packet {
    /// A packet between addresses such as `10.0.0.1:1234`. Protocols without ports ignore the port.
    pub fn new(protocol: u8, src: &str, dst: &str) -> Self {
        let [src, dst] = [src, dst].map(|end| end.parse::<SocketAddrV4>().unwrap());
        let mut payload = Vec::new();
        if has_ports(protocol) {
            payload.extend(src.port().to_be_bytes());
            payload.extend(dst.port().to_be_bytes());
        }
        // the rest of the longest fixed header, and some data; none of it looks like a port
        payload.resize(24, 0xa5);
        let [src, dst] = [src, dst].map(|end| end.ip().octets());
        let header = Ipv4Header::new(0, 64, IpNumber(protocol), src, dst).unwrap();
        Self { header, payload }
    }

    /// Adds this many 32-bit words of IP options, all of them "no operation" (RFC 791).
    pub fn with_options(mut self, words: usize) -> Self {
        self.header.options = vec![1; 4 * words].as_slice().try_into().unwrap();
        self
    }

    /// Sets the datagram ID, for fragments.
    pub fn with_id(mut self, id: u16) -> Self {
        self.header.identification = id;
        self
    }

    /// Makes it a fragment. `offset` is in units of 8 bytes.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.header.dont_fragment = false;
        self.header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        self.header.more_fragments = more;
        self
    }

    /// Truncates or extends the packet to `len` bytes from the IP header on.
    pub fn of_length(mut self, len: usize) -> Self {
        self.payload.resize(len - self.header.header_len(), 0x5a);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        header.set_payload_len(self.payload.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &self.payload].concat()
    }

    pub fn frame(&self) -> Vec<u8> {
        frame(ETH_P_IP, &self.bytes())
    }

    /// The frame as an Ethernet device sends it, with padding if the packet is short.
    pub fn padded_frame(&self) -> Vec<u8> {
        let mut frame = self.frame();
        frame.resize(frame.len().max(ETH_MIN_LEN), 0);
        frame
    }

    /// The frame with one byte of the IP header changed.
    pub fn frame_with(&self, offset: usize, byte: u8) -> Vec<u8> {
        let mut frame = self.frame();
        frame[ETH_HLEN + offset] = byte;
        frame
    }

    /// The frame with another total length in its IP header.
    pub fn frame_saying(&self, total_len: u16) -> Vec<u8> {
        let mut frame = self.frame();
        frame[ETH_HLEN + 2..ETH_HLEN + 4].copy_from_slice(&total_len.to_be_bytes());
        frame
    }

    /// The frame with only the first bytes of the packet.
    pub fn frame_cut_to(&self, packet_len: usize) -> Vec<u8> {
        let mut frame = self.frame();
        frame.truncate(ETH_HLEN + packet_len);
        frame
    }
}

pub fn has_ports(protocol: u8) -> bool {
    // TCP, UDP, DCCP, SCTP, UDP-Lite
    [6, 17, 33, 132, 136].contains(&protocol)
}

pub fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    [&addresses[..], &ethertype.to_be_bytes(), payload].concat()
}

/// The frame with VLAN tags after its addresses. Each is an EtherType and an ID, the outermost
/// first.
pub fn tagged(tags: &[(u16, u16)], frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tags = tags.iter().flat_map(|(kind, id)| [kind.to_be_bytes(), id.to_be_bytes()].concat());
    addresses.iter().copied().chain(tags).chain(rest.iter().copied()).collect()
}

/// The frame without its two outermost VLAN tags, if they are of the types that the kernel strips.
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for _ in 0..2 {
        if matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8])) && frame.len() >= 18 {
            frame.drain(12..16);
        }
    }
    frame
}

pub fn tcp(src: &str, dst: &str) -> Packet {
    Packet::new(6, src, dst)
}

pub fn udp(src: &str, dst: &str) -> Packet {
    Packet::new(17, src, dst)
}

/// An echo request.
pub fn ping(src: &str, dst: &str) -> Packet {
    icmp(8, 0, &[], src, dst)
}

/// An ICMP error of this type and code. As in RFC 792, it quotes the packet's IP header and the 8
/// bytes after it.
pub fn icmp_error(kind: u8, code: u8, about: &Packet) -> Packet {
    let mut quoted = about.bytes();
    quoted.truncate(about.header.header_len() + 8);
    icmp(kind, code, &quoted, "10.9.9.9:0", "10.0.0.1:0")
}

fn icmp(kind: u8, code: u8, body: &[u8], src: &str, dst: &str) -> Packet {
    let mut packet = Packet::new(1, src, dst);
    packet.payload = [&[kind, code, 0, 0, 0, 0, 0, 0], body].concat();
    packet
}
