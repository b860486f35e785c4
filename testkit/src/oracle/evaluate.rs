//! Whether rules match a packet, in the plainest form. It uses the type [`Rule`] and nothing else of the program.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{Entries, IcmpType, Prefix, Rule, TcpFlags, UNTAGGED};

/// The fields of a packet that rules can name.
#[derive(Debug, Clone)]
pub struct Packet {
    pub protocol: u8,
    /// Source address. It has the same family as the destination.
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ports: Ports,
    pub tcp_flags: Option<u8>,
    /// VLAN ID of the outermost tag; none of an untagged packet.
    pub vlan: Option<u16>,
    /// Type of an ICMP message in IPv4, or of an ICMPv6 message in IPv6.
    pub icmp_type: Option<u8>,
    pub dscp: u8,
    pub length: u16,
    /// `None`: the packet is a whole datagram.
    pub fragment: Option<Fragment>,
}

/// What makes a packet a fragment: `id` is the same in all fragments of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub is_first: bool,
    pub id: u32,
}

#[derive(Debug, Clone, Copy)]
pub enum Ports {
    Known {
        src: u16,
        dst: u16,
    },
    /// The protocol has none.
    None,
    /// A later fragment of a protocol with ports.
    Unknown,
}

/// The index of the first rule that matches a packet, whatever came before it.
pub fn verdict(rules: &[Rule], packet: &Packet) -> Option<usize> {
    rules.iter().position(|rule| matches(rule, packet))
}

pub fn matches(rule: &Rule, packet: &Packet) -> bool {
    // every field is named, so that this does not compile without a new one
    let Rule {
        name: _,
        action: _,
        protocol,
        src_address,
        dst_address,
        src_port,
        dst_port,
        tcp_flags,
        vlan,
        icmp_type,
        dscp,
        length,
    } = rule;
    accepts(protocol, |protocol| *protocol == packet.protocol)
        && accepts(src_address, |prefix| contains(prefix, packet.src))
        && accepts(dst_address, |prefix| contains(prefix, packet.dst))
        && match packet.ports {
            Ports::Known { src, dst } => in_range(src_port, src) && in_range(dst_port, dst),
            Ports::None if !protocol.only.is_empty() => true,
            Ports::None | Ports::Unknown => src_port.is_any() && dst_port.is_any(),
        }
        && (tcp_flags.is_any()
            || packet
                .tcp_flags
                .is_some_and(|flags| accepts(tcp_flags, |TcpFlags(set)| flags & set == *set)))
        && in_range(vlan, packet.vlan.unwrap_or(UNTAGGED))
        && (icmp_type.is_any()
            || packet
                .icmp_type
                .is_some_and(|kind| accepts(icmp_type, |named| has_type(named, packet.src, kind))))
        && accepts(dscp, |dscp| *dscp == packet.dscp)
        && in_range(length, packet.length)
}

fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    IpNetwork::new(prefix.address(), prefix.len).expect("a prefix").contains(address)
}

fn accepts<T>(entries: &Entries<T>, holds: impl Fn(&T) -> bool) -> bool {
    (entries.only.is_empty() || entries.only.iter().any(&holds)) && !entries.not.iter().any(holds)
}

fn in_range(entries: &Entries<RangeInclusive<u16>>, value: u16) -> bool {
    accepts(entries, |range| range.contains(&value))
}

fn has_type(named: &IcmpType, source: IpAddr, kind: u8) -> bool {
    Some(kind) == if source.is_ipv4() { named.v4 } else { named.v6 }
}
