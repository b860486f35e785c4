//! Which rules a sequence of packets matches. A later fragment of a datagram gets the rule of the first fragment.

use std::collections::HashMap;
use std::net::IpAddr;

use traffic_mirroring::filter::Rule;

use super::evaluate::{self, Fragment, Packet};

/// What identifies a datagram: source, destination, identification and, in IPv4, the protocol.
type Datagram = (IpAddr, IpAddr, u32, Option<u8>);

#[derive(Default)]
pub struct Datagrams {
    /// The index of the rule that the first fragment of each datagram matched.
    rules: HashMap<Datagram, usize>,
    /// How many later fragments got the rule of the first one.
    pub followed: usize,
}

impl Datagrams {
    /// The index of the rule that the packet matches, given the packets before it. `None` where no rule matches.
    pub fn verdict(&mut self, rules: &[Rule], packet: &Packet) -> Option<usize> {
        let alone = || evaluate::verdict(rules, packet);
        let Some(Fragment { is_first, id }) = packet.fragment else { return alone() };
        let protocol = packet.src.is_ipv4().then_some(packet.protocol);
        let datagram = (packet.src, packet.dst, id, protocol);
        if !is_first {
            let Some(rule) = self.rules.get(&datagram) else { return alone() };
            self.followed += 1;
            return Some(*rule);
        }
        let verdict = alone();
        if let Some(rule) = verdict {
            self.rules.insert(datagram, rule);
        }
        verdict
    }
}
