//! The counters of a built-in device (`bpf/gue.h`). They belong to the programs on the device, and each start hands
//! them on to its new programs.

use std::fmt;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::live_maps;
use crate::bpf;

/// Name of the map in the object.
pub const MAP: &str = "gue_counters";

const COUNTERS: usize = size_of::<bpf::GueCounters>() / 8;

/// The map of the counters of a device; `None` where no program of this version is on the device.
pub fn of_device(ifindex: u32) -> Result<Option<MapHandle>> {
    live_maps::map(ifindex, MAP, size_of::<bpf::GueCounters>())
}

/// The sums over all CPUs.
pub fn read(map: &MapHandle) -> Result<bpf::GueCounters> {
    let per_cpu = map
        .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
        .context("cannot read the tunnel's counters")?
        .context("the map of the tunnel's counters is empty")?;
    let mut words = [0; COUNTERS];
    for cpu in per_cpu {
        for (sum, word) in words.iter_mut().zip(cpu.chunks_exact(8)) {
            *sum += u64::from_ne_bytes(word.try_into().expect("chunks_exact gives 8 bytes"));
        }
    }
    // SAFETY: both are as many integers of 8 bytes
    Ok(unsafe { std::mem::transmute::<[u64; COUNTERS], bpf::GueCounters>(words) })
}

impl bpf::GueCounters {
    /// Packets that the pair took at its near end and did not deliver at the far one: its backlog was
    /// full, or there was no memory.
    pub fn backlog_full(&self) -> u64 {
        // one that is on its way is in neither count for long
        self.veth_packets.saturating_sub(self.veth_received)
    }

    /// Copies that did not leave, and of those that crossed the pair, packets, under each reason.
    pub fn dropped(&self) -> [(&'static str, u64); 9] {
        [
            ("not_ip", self.not_ip),
            ("unreadable", self.unreadable),
            ("encap_failed", self.encap_failed),
            ("nested_tunnel_too_long", self.nested_tunnel_too_long),
            ("next_hop_unresolved", self.next_hop_unresolved),
            ("backlog_full", self.backlog_full()),
            ("truncate_failed", self.truncate_failed),
            ("checksum_failed", self.checksum_failed),
            ("fragment_send_failed", self.fragment_send_failed),
        ]
    }
}

/// For the log: where copies went.
impl fmt::Display for bpf::GueCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copies {}, sent whole {}", self.copies, self.sent_whole)?;
        if self.via_veth > 0 {
            write!(
                f,
                ", via veth {} as {} packets (fragmented {} into {}, whole {})",
                self.via_veth,
                self.veth_packets,
                self.sent_fragmented,
                self.fragments,
                self.sent_whole_via_veth
            )?;
        }
        let reasons = [
            ("not IP", self.not_ip),
            ("unreadable", self.unreadable),
            ("no room for the outer headers", self.encap_failed),
            ("nested tunnel too long", self.nested_tunnel_too_long),
            ("next hop unresolved", self.next_hop_unresolved),
            ("backlog full", self.backlog_full()),
            ("truncate failed", self.truncate_failed),
            ("checksum failed", self.checksum_failed),
            ("fragment send failed", self.fragment_send_failed),
        ];
        let dropped: u64 = reasons.iter().map(|(_, count)| count).sum();
        write!(f, ", dropped {dropped}")?;
        let reasons: Vec<_> = reasons
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        if reasons.is_empty() { Ok(()) } else { write!(f, " ({})", reasons.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_was_dropped_and_why() {
        let plain = bpf::GueCounters { copies: 7, sent_whole: 7, ..Default::default() };
        assert_eq!(plain.to_string(), "copies 7, sent whole 7, dropped 0");
        let all = bpf::GueCounters {
            not_a_copy: 99,
            copies: 105,
            sent_whole: 50,
            via_veth: 40,
            veth_packets: 60,
            not_ip: 1,
            unreadable: 2,
            encap_failed: 3,
            nested_tunnel_too_long: 4,
            next_hop_unresolved: 5,
            veth_received: 58,
            sent_whole_via_veth: 6,
            sent_fragmented: 32,
            fragments: 70,
            truncate_failed: 8,
            checksum_failed: 3,
            fragment_send_failed: 9,
        };
        assert_eq!(all.copies, all.sent_whole + all.via_veth + 1 + 2 + 3 + 4 + 5);
        assert_eq!(all.veth_received, all.sent_whole_via_veth + all.sent_fragmented + 8 + 3 + 9);
        assert_eq!(
            all.to_string(),
            "copies 105, sent whole 50, via veth 40 as 60 packets (fragmented 32 into 70, whole 6), \
             dropped 37 (not IP 1, unreadable 2, no room for the outer headers 3, nested tunnel too \
             long 4, next hop unresolved 5, backlog full 2, truncate failed 8, checksum failed 3, fragment send failed 9)"
        );
    }
}
