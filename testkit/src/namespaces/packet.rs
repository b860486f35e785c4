//! The fields of an IPv4 packet that tests look at.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    /// `IPPROTO_*`
    pub protocol: u8,
    /// Source and destination port of TCP and UDP; none of fragments.
    pub ports: Option<(u16, u16)>,
    /// The bytes behind the TCP, UDP or ICMP header. In fragments and other packets, the bytes behind the IP header.
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn decode(packet: &[u8]) -> Packet {
        let packet = SlicedPacket::from_ip(packet)
            .unwrap_or_else(|error| panic!("not an IPv4 packet: {error}: {packet:02x?}"));
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4: {packet:?}") };
        let (ports, payload) = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                (Some((tcp.source_port(), tcp.destination_port())), tcp.payload())
            }
            Some(TransportSlice::Udp(udp)) => {
                (Some((udp.source_port(), udp.destination_port())), udp.payload())
            }
            Some(TransportSlice::Icmpv4(icmp)) => (None, icmp.payload()),
            _ => (None, ip.payload().payload),
        };
        Packet {
            src: ip.header().source_addr(),
            dst: ip.header().destination_addr(),
            protocol: ip.payload_ip_number().0,
            ports,
            payload: payload.to_vec(),
        }
    }
}

/// One's complement has two forms of 0, and the kernel uses both (RFC 1624). This makes them equal. (In UDP, 0 means
/// that there is no checksum.)
fn as_sum(checksum: u16) -> u16 {
    if checksum == u16::MAX { 0 } else { checksum }
}

/// Checks the IP checksum of a packet and, unless it is a fragment, its TCP, UDP or ICMP checksum.
pub fn assert_sums(bytes: &[u8]) {
    let packet = SlicedPacket::from_ip(bytes).expect("a packet");
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4: {packet:?}") };
    let ip = ip.header().to_header();
    assert_eq!(usize::from(ip.total_len), bytes.len());
    assert_eq!(as_sum(ip.header_checksum), as_sum(ip.calc_header_checksum()));
    let (found, right) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            let right = header.calc_checksum_ipv4(&ip, tcp.payload()).unwrap();
            (as_sum(header.checksum), as_sum(right))
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            (header.checksum, header.calc_checksum_ipv4(&ip, udp.payload()).unwrap())
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            (as_sum(icmp.checksum()), as_sum(right))
        }
        _ => return,
    };
    assert_eq!(found, right, "checksum of protocol {}, {} bytes", ip.protocol.0, bytes.len());
}
