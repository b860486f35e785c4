//! The collector over IPv6, and the packets on its link.

use std::net::Ipv6Addr;

use super::capture::{Direction, Frames};
use super::{GUE_PORT, Topology};

pub const COLLECTOR6: Ipv6Addr = Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2);
/// The host's address on the collector's link.
pub const NEAR_COLLECTOR6: Ipv6Addr = Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 1);

/// The flag for the same collector over IPv6. Give it after [`TO_COLLECTOR`](super::TO_COLLECTOR): of a repeated flag,
/// the last one counts.
pub const TO_COLLECTOR6: [&str; 1] = ["--tunnel-remote-address=fd02::2"];

/// The same limit as for IPv4 in `topology`.
const ROOM_FOR_FRAGMENTS: &str = "echo 99999999 > /proc/sys/net/ipv6/ip6frag_high_thresh";

/// Gives both ends of the collector's link an IPv6 address, and the loopback devices theirs. Both ends also get a
/// link-local address: without one, the kernel asks for a neighbour only if it has a packet for it.
pub fn with_ipv6_to_collector(net: &Topology) {
    let host = (net.host(), "eth1", NEAR_COLLECTOR6);
    for (ns, ifname, address) in [host, (net.collector(), "eth0", COLLECTOR6)] {
        ns.sh(&format!(
            "cd /proc/sys/net/ipv6/conf
            echo 0 > {ifname}/accept_dad
            echo 0 > {ifname}/router_solicitations
            for dev in {ifname} lo; do echo 0 > $dev/disable_ipv6; done
            ip address add {address}/64 dev {ifname} nodad"
        ));
    }
    net.collector().sh(ROOM_FOR_FRAGMENTS);
}

pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
/// Bytes of an IPv6 header.
pub const IPV6_HLEN: usize = 40;

impl Frames {
    /// The IPv6 packets that went in one direction, without padding.
    pub fn ipv6(&self, direction: Direction) -> Vec<&[u8]> {
        let frames = self.0.iter().filter(|frame| frame.direction == direction);
        let packets = frames.filter(|frame| frame.bytes[12..14] == [0x86, 0xdd]);
        packets
            .map(|frame| {
                let packet = &frame.bytes[14..];
                let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                &packet[..IPV6_HLEN + len]
            })
            .collect()
    }

    /// The tunnel's packets that went in one direction: whole ones and fragments.
    pub fn outer_ipv6(&self, direction: Direction) -> Vec<&[u8]> {
        let mut packets = self.ipv6(direction);
        packets.retain(|packet| match packet[6] {
            UDP => packet[IPV6_HLEN + 2..][..2] == GUE_PORT.to_be_bytes(),
            next => next == FRAGMENT && packet[IPV6_HLEN] == UDP,
        });
        packets
    }
}
