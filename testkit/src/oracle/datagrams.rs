//! What rules mean for one packet after another: a later fragment meets the rule that the first one
//! met.

use std::collections::HashMap;
use std::net::IpAddr;

use traffic_mirroring::filter::Rule;

use super::evaluate::{self, Fragment, Packet};

/// Addresses, number, and of IPv4 the protocol.
type Datagram = (IpAddr, IpAddr, u32, Option<u8>);

#[derive(Default)]
pub struct Datagrams {
    /// To the rule that the first fragment met.
    rules: HashMap<Datagram, usize>,
    /// Later fragments that met the rule of the first one.
    pub followed: usize,
}

impl Datagrams {
    /// The number of the rule that the packet meets, after those that came before.
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
