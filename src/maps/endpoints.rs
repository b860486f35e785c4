//! Each instance's list of the remote endpoints of all instances' tunnels. Its own endpoint comes first.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};

use super::pinned;
use crate::abi::Size;
use crate::bpf;
use crate::bpf::map_defs;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;

/// Entries of a list.
pub const LENGTH: usize = Size::MIRRORING_ENDPOINTS.0 as usize;

/// Stands for an unknown tunnel protocol. IANA has reserved it, so no packet has it.
const NO_PROTOCOL: u8 = 255;

/// 8-byte words of an entry.
const WORDS: usize = size_of::<bpf::Endpoint>() / size_of::<u64>();

/// The far end of a tunnel: a [`bpf::Endpoint`] as words, which are stored one by one. The last word, which holds the
/// protocol, is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint([u64; WORDS]);

/// Far ends of tunnels, each once.
pub type Endpoints = BTreeSet<Endpoint>;

impl Endpoint {
    /// The collector's address, the UDP port and the outer protocol of a tunnel. By these the loop guard recognizes
    /// tunnel traffic.
    pub fn of(tunnel: &bpf::Tunnel) -> Self {
        let protocol = if tunnel.protocol == 0 { NO_PROTOCOL } else { tunnel.protocol };
        let endpoint = bpf::Endpoint {
            address: tunnel.collector,
            port: tunnel.port,
            protocol,
            ..Default::default()
        };
        // SAFETY: the same size, and integers without padding
        Self(unsafe { std::mem::transmute::<bpf::Endpoint, [u64; WORDS]>(endpoint) })
    }
}

/// The list of one instance.
#[derive(Debug)]
pub struct List(MmapArray<[u64; WORDS * LENGTH]>);

/// The entries of a list. One whose last word is 0 is empty and terminates the list.
type Entries = [[u64; WORDS]; LENGTH];

fn is_empty(entry: &[u64; WORDS]) -> bool {
    entry[WORDS - 1] == 0
}

impl List {
    /// The list in an open map. Fails where the map has not the size that all versions share.
    pub fn new(map: &libbpf_rs::MapHandle) -> Result<Self> {
        MmapArray::new(map, 1).map(Self)
    }

    /// The list of the instance with these pins. Fails where it is not pinned or has another size.
    pub fn pinned(pins: &Pins) -> Result<Self> {
        Self::new(&pinned(pins, map_defs::ENDPOINTS)?)
    }

    fn entries(&self) -> Entries {
        let mut entries = [[0; WORDS]; LENGTH];
        for (entry, words) in entries.iter_mut().zip(self.0.words().chunks_exact(WORDS)) {
            *entry = [0, 1, 2].map(|at: usize| words[at].load(Ordering::Acquire));
        }
        entries
    }

    /// The endpoint of the instance's own tunnel; `None` where it mirrors nothing.
    pub fn own(&self) -> Option<Endpoint> {
        Some(self.entries()[0]).filter(|entry| !is_empty(entry)).map(Endpoint)
    }

    /// Replaces the list. Readers always see every endpoint that is in both the old and the new list, and never a
    /// premature terminator. (A reader may see half of an endpoint that replaces another one. That is harmless: neither
    /// of the two has copies in flight at that moment.)
    pub fn write(&self, own: Endpoint, others: &Endpoints) -> Result<()> {
        let entries = arrange(&self.entries(), own, others)?;
        // from the back, so that an endpoint which moves away from the front is in its new place first
        for (entry, words) in entries.iter().zip(self.0.words().chunks_exact(WORDS)).rev() {
            // the last word last: it is what makes an entry valid
            for (value, word) in entry.iter().zip(words) {
                word.store(*value, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Puts the own endpoint first, and keeps all others.
    pub fn begin_with(&self, own: Endpoint) -> Result<()> {
        let others = self.entries().into_iter().filter(|entry| !is_empty(entry)).map(Endpoint);
        self.write(own, &others.collect())
    }

    /// Copies another list.
    pub fn copy(&self, other: &Self) {
        for (value, word) in other.entries().as_flattened().iter().zip(self.0.words()) {
            word.store(*value, Ordering::Release);
        }
    }

    /// Empties the list, when the instance mirrors nothing any more.
    pub fn clear(&self) {
        for word in self.0.words() {
            word.store(0, Ordering::Release);
        }
    }
}

/// The new list: the own endpoint first, endpoints that stay at the same place as before. A place that becomes free gets
/// a new endpoint, or the own one again.
fn arrange(before: &Entries, own: Endpoint, others: &Endpoints) -> Result<Entries> {
    let mut entries = *before;
    entries[0] = own.0;
    let mut missing: BTreeSet<_> = others.iter().map(|endpoint| endpoint.0).collect();
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
    // nothing follows these, so they can be empty
    for entry in entries[1..].iter_mut().rev().take_while(|entry| **entry == own.0) {
        *entry = [0; WORDS];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1000;

    fn endpoint(number: u64) -> [u64; WORDS] {
        [number % 7, number % 3, number]
    }

    fn list(numbers: &[u64]) -> Entries {
        let mut list = [[0; WORDS]; LENGTH];
        for (entry, number) in list.iter_mut().zip(numbers) {
            *entry = endpoint(*number);
        }
        list
    }

    fn arranged(before: &[u64], others: &[u64]) -> Entries {
        let others = others.iter().map(|number| Endpoint(endpoint(*number))).collect();
        arrange(&list(before), Endpoint(endpoint(OWN)), &others).unwrap()
    }

    fn bytes(endpoint: Endpoint) -> Vec<u8> {
        endpoint.0.map(u64::to_ne_bytes).concat()
    }

    #[test]
    fn an_endpoint_is_never_empty_and_has_what_identifies_a_tunnel() {
        let to = |address: &str| bpf::Tunnel {
            collector: bpf::address::words_of(address.parse().unwrap()),
            port: 6080_u16.to_be(),
            protocol: 17,
            ..Default::default()
        };
        let tag = [0x17, 0xc0, 17, 0, 0, 0, 0, 0];
        let v4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 50];
        assert_eq!(bytes(Endpoint::of(&to("192.0.2.50"))), [&v4[..], &tag].concat());
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50];
        assert_eq!(bytes(Endpoint::of(&to("2001:db8::50"))), [&v6[..], &tag].concat());
        let nowhere = Endpoint::of(&bpf::Tunnel::default());
        assert_eq!(bytes(nowhere)[16..], [0, 0, 255, 0, 0, 0, 0, 0]);
        assert!(!is_empty(&nowhere.0));
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
        assert!(full.iter().all(|entry| !is_empty(entry)));
        let one_more = others.iter().chain(&[500]).map(|number| Endpoint(endpoint(*number)));
        assert!(arrange(&full, Endpoint(endpoint(OWN)), &one_more.collect()).is_err());
    }
}
