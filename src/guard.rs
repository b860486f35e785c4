//! What no instance mirrors: packets to the far end of any instance's tunnel, and ICMP errors about
//! those. Two instances that did not know each other's would mirror each other's copies without end.
//!
//! So each has a list of all far ends, its own one first, in a map of its own. Whoever starts puts
//! itself into everybody's list before its first copy leaves; the next start or stop of anybody
//! takes out those who have gone. A list can be read without the instance's other maps, so that
//! versions that differ in those can still guard against each other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};

use crate::bpf;
use crate::mapped::Mapped;
use crate::maps;
use crate::pins::{self, Pins};

/// Entries of a list (`MIRRORING_ENDPOINTS` in `bpf/mirroring.h`).
const LENGTH: usize = 32;

/// In place of a tunnel's protocol that nobody told: reserved by IANA, and no packet's.
const NO_PROTOCOL: u8 = 255;

/// The far end of a tunnel, as the bytes of `struct mirroring_endpoint`; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint(u64);

pub type Endpoints = BTreeSet<Endpoint>;

impl Endpoint {
    pub fn of(tunnel: &bpf::Tunnel) -> Self {
        let protocol = if tunnel.protocol == 0 { NO_PROTOCOL } else { tunnel.protocol };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&tunnel.collector.to_ne_bytes());
        bytes[4..6].copy_from_slice(&tunnel.port.to_ne_bytes());
        bytes[6] = protocol;
        Self(u64::from_ne_bytes(bytes))
    }
}

/// The list of one instance.
#[derive(Debug)]
pub struct List(Mapped<[u64; LENGTH]>);

impl List {
    pub fn new(map: &libbpf_rs::MapHandle) -> Result<Self> {
        Mapped::new(map, 1).map(Self)
    }

    fn pinned(pins: &Pins) -> Result<Self> {
        Self::new(&maps::pinned(pins, &pins::map_name(pins.id.direction, "endpoints"))?)
    }

    fn entries(&self) -> [u64; LENGTH] {
        let mut entries = [0; LENGTH];
        for (entry, word) in entries.iter_mut().zip(self.0.words()) {
            *entry = word.load(Ordering::Acquire);
        }
        entries
    }

    /// The far end of the instance's own tunnel; `None` where it mirrors nothing.
    fn own(&self) -> Option<Endpoint> {
        Some(self.entries()[0]).filter(|entry| *entry != 0).map(Endpoint)
    }

    /// Puts this list in place of what is there. At no time is one missing that was there before,
    /// and is to stay.
    pub fn write(&self, own: Endpoint, others: &Endpoints) -> Result<()> {
        let entries = arrange(&self.entries(), own, others)?;
        // what makes room at the front is at its new place before
        for (entry, word) in entries.iter().zip(self.0.words()).rev() {
            word.store(*entry, Ordering::Release);
        }
        Ok(())
    }

    /// Puts the far end of the own tunnel first, and keeps all others.
    pub fn begin_with(&self, own: Endpoint) -> Result<()> {
        let others = self.entries().into_iter().filter(|entry| *entry != 0).map(Endpoint);
        self.write(own, &others.collect())
    }

    /// Has the far ends that another list has.
    pub fn copy(&self, other: &Self) {
        for (entry, word) in other.entries().iter().zip(self.0.words()) {
            word.store(*entry, Ordering::Release);
        }
    }

    /// For an instance that mirrors nothing any more.
    pub fn clear(&self) {
        for word in self.0.words() {
            word.store(0, Ordering::Release);
        }
    }
}

/// Puts the far end of a tunnel that is about to be used into the list of every instance. Returns
/// them all.
pub fn announce(bpffs: &Path, starting: Endpoint) -> Result<Endpoints> {
    write_lists(bpffs, Some(starting), |pins, error| {
        log::warn!(
            "{} was started by another version, and knows no tunnel but its own: where copies \
             leave by an interface that is mirrored, it may mirror ours, and we its; stop it and \
             start it again with this version ({error:#})",
            pins.id
        );
    })
}

/// Takes out of every list the far ends that no instance has any more.
pub fn retire(bpffs: &Path) -> Result<()> {
    write_lists(bpffs, None, |_, _| {}).map(drop)
}

fn write_lists(
    bpffs: &Path,
    starting: Option<Endpoint>,
    cannot_open: impl Fn(&Pins, anyhow::Error),
) -> Result<Endpoints> {
    let mut lists = Vec::new();
    for pins in Pins::all(bpffs) {
        match List::pinned(&pins) {
            Ok(list) => lists.extend(list.own().map(|own| (own, list))),
            Err(error) => cannot_open(&pins, error),
        }
    }
    let all: Endpoints = lists.iter().map(|(own, _)| *own).chain(starting).collect();
    ensure!(
        all.len() <= LENGTH,
        "the tunnels of all instances would lead to {} collectors or ports, more than the {LENGTH} \
         that each can guard against; send the copies of some to the same one",
        all.len()
    );
    for (own, list) in &lists {
        list.write(*own, &all)?;
    }
    Ok(all)
}

/// The list with its own endpoint first, in which those that were there before and stay have kept
/// their places. Where one has gone, another is, or the own one once more.
fn arrange(before: &[u64; LENGTH], own: Endpoint, others: &Endpoints) -> Result<[u64; LENGTH]> {
    let mut entries = *before;
    entries[0] = own.0;
    let mut missing: BTreeSet<u64> = others.iter().map(|endpoint| endpoint.0).collect();
    missing.remove(&own.0);
    let mut free = Vec::new();
    for entry in &mut entries[1..] {
        if !missing.remove(entry) {
            free.push(entry);
        }
    }
    ensure!(missing.len() <= free.len(), "more than {LENGTH} far ends of tunnels");
    for entry in free {
        *entry = missing.pop_first().unwrap_or(own.0);
    }
    // none follows these
    for entry in entries[1..].iter_mut().rev().take_while(|entry| **entry == own.0) {
        *entry = 0;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1000;

    fn list(entries: &[u64]) -> [u64; LENGTH] {
        let mut list = [0; LENGTH];
        list[..entries.len()].copy_from_slice(entries);
        list
    }

    fn arranged(before: &[u64], others: &[u64]) -> [u64; LENGTH] {
        let others = others.iter().copied().map(Endpoint).collect();
        arrange(&list(before), Endpoint(OWN), &others).unwrap()
    }

    #[test]
    fn an_endpoint_holds_what_tells_a_tunnels_packets_and_is_never_empty() {
        let tunnel = bpf::Tunnel {
            collector: u32::from_ne_bytes([192, 0, 2, 50]),
            port: 6080_u16.to_be(),
            protocol: 17,
            ..Default::default()
        };
        let Endpoint(word) = Endpoint::of(&tunnel);
        assert_eq!(word.to_ne_bytes(), [192, 0, 2, 50, 0x17, 0xc0, 17, 0]);
        let Endpoint(nowhere) = Endpoint::of(&bpf::Tunnel::default());
        assert_eq!(nowhere.to_ne_bytes(), [0, 0, 0, 0, 0, 0, 255, 0]);
    }

    #[test]
    fn the_own_endpoint_is_first_and_there_once() {
        assert_eq!(arranged(&[], &[]), list(&[OWN]));
        assert_eq!(arranged(&[], &[OWN]), list(&[OWN]));
        assert_eq!(arranged(&[], &[1, 2, OWN]), list(&[OWN, 1, 2]));
        assert_eq!(arranged(&[OWN, 1], &[1, 2]), list(&[OWN, 1, 2]));
        assert_eq!(arranged(&[1, OWN], &[]), list(&[OWN]));
    }

    #[test]
    fn those_that_stay_keep_their_places() {
        assert_eq!(arranged(&[OWN, 1, 2, 3], &[3]), list(&[OWN, OWN, OWN, 3]));
        assert_eq!(arranged(&[OWN, OWN, OWN, 3], &[3, 4]), list(&[OWN, 4, OWN, 3]));
        assert_eq!(arranged(&[OWN, 1, 2, 3], &[1]), list(&[OWN, 1]));
        // a new own one: the old one, which is somebody else's as well, moves
        assert_eq!(arranged(&[1, 2], &[1, 2]), list(&[OWN, 2, 1]));
    }

    #[test]
    fn a_full_list_has_no_empty_entry_and_takes_no_more() {
        let others: Vec<u64> = (1..LENGTH as u64).collect();
        let full = arranged(&[], &others);
        assert!(full.iter().all(|entry| *entry != 0));
        let one_more = others.iter().copied().chain([500]).map(Endpoint).collect();
        assert!(arrange(&full, Endpoint(OWN), &one_more).is_err());
    }
}
