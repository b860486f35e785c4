//! Packets of both families in captures and in copies.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{Copies, Direction, Frame, Frames};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// EtherTypes of VLAN tags: IEEE 802.1Q and 802.1ad.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];

impl Frame {
    /// The IP packet in the frame, without VLAN tags and padding; `None` if the frame has none.
    pub fn ip(&self) -> Option<&[u8]> {
        let mut at = 12;
        while TAGS.contains(self.bytes.get(at..)?.first_chunk()?) {
            at += 4;
        }
        let (ethertype, packet) = self.bytes[at..].split_first_chunk()?;
        let word =
            |at: usize| Some(usize::from(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
        let length = match *ethertype {
            IPV4 => word(2)?,
            IPV6 => 40 + word(4)?,
            _ => return None,
        };
        packet.get(..length)
    }
}

impl Frames {
    /// The IP packets that went in one direction.
    pub fn ip(&self, direction: Direction) -> Vec<&[u8]> {
        let frames = self.0.iter().filter(|frame| frame.direction == direction);
        frames.filter_map(Frame::ip).collect()
    }
}

impl Copies {
    /// The mirrored packets. Each must be of the family that its GUE header names (protocol 4 or 41).
    pub fn ip(&self) -> Vec<&[u8]> {
        for copy in &self.0 {
            let protocol = if copy.inner[0] >> 4 == 4 { 4 } else { 41 };
            assert_eq!(copy.header, [0, protocol, 0, 0], "GUE header from {}", copy.from);
        }
        self.0.iter().map(|copy| copy.inner.as_slice()).collect()
    }

    /// The mirrored packets from one of these source addresses.
    pub fn ip_from(&self, addresses: &[IpAddr]) -> Vec<&[u8]> {
        let mut packets = self.ip();
        packets.retain(|packet| addresses.contains(&source(packet)));
        packets
    }
}

pub fn source(packet: &[u8]) -> IpAddr {
    match packet[0] >> 4 {
        4 => <[u8; 4]>::try_from(&packet[12..16]).expect("4 bytes").into(),
        _ => <[u8; 16]>::try_from(&packet[8..24]).expect("16 bytes").into(),
    }
}

/// Checks the TCP, UDP or ICMPv6 checksum of an IPv6 packet.
pub fn assert_sums6(bytes: &[u8]) {
    let packet = SlicedPacket::from_ip(bytes).expect("a packet");
    let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("not IPv6: {packet:?}") };
    let ip = ip.header().to_header();
    let (found, right) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            (header.checksum, header.calc_checksum_ipv6(&ip, tcp.payload()).expect("a sum"))
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            (header.checksum, header.calc_checksum_ipv6(&ip, udp.payload()).expect("a sum"))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (source, destination) = (ip.source, ip.destination);
            let right = icmp.icmp_type().calc_checksum(source, destination, icmp.payload());
            (icmp.checksum(), right.expect("a sum"))
        }
        other => panic!("neither TCP, UDP nor ICMPv6: {other:?}"),
    };
    assert_eq!(found, right, "{} bytes", bytes.len());
}

/// Checks that both lists have the same packets. Their order may differ: the two ends of a flow send from different
/// CPUs at once.
pub fn assert_same(mut found: Vec<&[u8]>, mut expected: Vec<&[u8]>) {
    found.sort_unstable();
    expected.sort_unstable();
    let without = |of: &[&[u8]], others: &[&[u8]]| -> Vec<String> {
        let mut others = others.to_vec();
        let mut strays = of.to_vec();
        strays.retain(|packet| match others.binary_search(packet) {
            Ok(at) => {
                others.remove(at);
                false
            }
            Err(_) => true,
        });
        strays.iter().map(|packet| describe(packet)).collect()
    };
    let (strays, missing) = (without(&found, &expected), without(&expected, &found));
    assert!(found == expected, "copies of nothing: {strays:#?}, without a copy: {missing:#?}");
}

fn describe(packet: &[u8]) -> String {
    let head = &packet[..packet.len().min(60)];
    format!("{} bytes from {}: {head:02x?}", packet.len(), source(packet))
}
