//! What rules mean for one packet after another: a later fragment meets the rule that the first one
//! met.

use std::collections::HashMap;
use std::net::IpAddr;

use traffic_mirroring::filter::Rule;

use crate::meaning::{self, Fragment, Packet};
use crate::random::Random;

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
        let alone = || meaning::verdict(rules, packet);
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

/// What random frames have as numbers of datagrams, in IPv4 and in IPv6.
const ID_V4: [u8; 2] = [0x12, 0x34];
const ID_V6: [u8; 4] = [1, 2, 3, 4];

/// A later fragment, with other data, of the datagram whose first fragment is this random frame.
pub fn later_fragment(random: &mut Random, first: &[u8]) -> Option<Vec<u8>> {
    let find = |id: &[u8]| first.windows(id.len()).position(|bytes| bytes == id);
    let mut frame = first.to_vec();
    let data = if let Some(id) = find(&ID_V6) {
        frame[id - 2..id].copy_from_slice(&random.one_of(&[[0, 9], [5, 0xc8], [0xff, 0xf9]]));
        id + ID_V6.len()
    } else {
        let fragment = find(&ID_V4)? + ID_V4.len();
        let offset = random.one_of(&[[0x20, 1], [0, 185], [0x1f, 0xff]]);
        frame[fragment..fragment + 2].copy_from_slice(&offset);
        // behind the addresses
        fragment + 14
    };
    for byte in frame.iter_mut().skip(data) {
        *byte = random.byte();
    }
    Some(frame)
}
