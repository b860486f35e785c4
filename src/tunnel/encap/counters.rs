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
    pub fn lost(&self) -> u64 {
        // one that is on its way is in neither count for long
        self.packets.saturating_sub(self.arrived)
    }

    /// Copies that did not leave, and of those that crossed the pair, packets, under each reason.
    pub fn dropped(&self) -> [(&'static str, u64); 9] {
        [
            ("not_ip", self.not_ip),
            ("unreadable", self.unreadable),
            ("no_room", self.no_room),
            ("uncuttable", self.uncuttable),
            ("next_hop_unresolved", self.next_hop_unresolved),
            ("lost", self.lost()),
            ("untrimmed", self.untrimmed),
            ("unsummed", self.unsummed),
            ("torn", self.torn),
        ]
    }
}

/// For the log: where copies went.
impl fmt::Display for bpf::GueCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copies {}, sent whole {}", self.copies, self.whole)?;
        if self.paired > 0 {
            write!(
                f,
                ", via veth {} as {} packets (fragmented {} into {}, whole {})",
                self.paired, self.packets, self.cut, self.fragments, self.fitting
            )?;
        }
        let reasons = [
            ("not IP", self.not_ip),
            ("unreadable", self.unreadable),
            ("no room for the outer headers", self.no_room),
            ("nested tunnel too long", self.uncuttable),
            ("next hop unresolved", self.next_hop_unresolved),
            ("backlog full", self.lost()),
            ("truncate failed", self.untrimmed),
            ("checksum failed", self.unsummed),
            ("fragment send failed", self.torn),
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
        let plain = bpf::GueCounters { copies: 7, whole: 7, ..Default::default() };
        assert_eq!(plain.to_string(), "copies 7, sent whole 7, dropped 0");
        let all = bpf::GueCounters {
            foreign: 99,
            copies: 105,
            whole: 50,
            paired: 40,
            packets: 60,
            not_ip: 1,
            unreadable: 2,
            no_room: 3,
            uncuttable: 4,
            next_hop_unresolved: 5,
            arrived: 58,
            fitting: 6,
            cut: 32,
            fragments: 70,
            untrimmed: 8,
            unsummed: 3,
            torn: 9,
        };
        assert_eq!(all.copies, all.whole + all.paired + 1 + 2 + 3 + 4 + 5);
        assert_eq!(all.arrived, all.fitting + all.cut + 8 + 3 + 9);
        assert_eq!(
            all.to_string(),
            "copies 105, sent whole 50, via veth 40 as 60 packets (fragmented 32 into 70, whole 6), \
             dropped 37 (not IP 1, unreadable 2, no room for the outer headers 3, nested tunnel too \
             long 4, next hop unresolved 5, backlog full 2, truncate failed 8, checksum failed 3, fragment send failed 9)"
        );
    }
}
