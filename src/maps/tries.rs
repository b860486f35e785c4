//! Prefixes in the kernel's LPM tries. Both generations share a trie: each entry holds the longest-prefix result of both.

use std::mem::offset_of;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle};

use super::Generation;
use super::batch::{self, Entries};
use crate::abi;
use crate::filter::prefix_sets::{self, Prefixes};
use crate::filter::{Family, Prefix};

/// Where the address is in a key. The length of the prefix is in front of it, for IPv4 and IPv6 alike.
const ADDRESS: usize = offset_of!(abi::Prefix6, address);

const _: () = {
    assert!(offset_of!(abi::Prefix, address) == ADDRESS);
    assert!(offset_of!(abi::Prefix, len) == 0 && offset_of!(abi::Prefix6, len) == 0);
    assert!(ADDRESS == size_of::<u32>());
};

/// A trie and its contents.
pub struct Trie<'a> {
    map: &'a MapHandle,
    prefixes: Prefixes,
}

impl<'a> Trie<'a> {
    pub fn read(map: &'a MapHandle) -> Result<Self> {
        Ok(Self { map, prefixes: read(map)? })
    }

    /// Writes the prefixes of a free generation, in place of what an interrupted update left there.
    pub fn add(&mut self, new: &Prefixes, generation: Generation) -> Result<()> {
        let others = self.prefixes.iter().map(|(prefix, mask)| (*prefix, generation.others(*mask)));
        let others = prefix_sets::fewest(&others.collect());
        self.change(prefix_sets::union(&others, new))
    }

    /// Makes these prefixes the contents. Only the differences are written.
    ///
    /// If removing or adding an entry does not change the longest-prefix result of a generation, lookups of that
    /// generation stay correct throughout the update.
    pub fn change(&mut self, to: Prefixes) -> Result<()> {
        let (gone, new) = prefix_sets::difference(&self.prefixes, &to);
        // first, since the new ones may need the space
        batch::delete(self.map, &self.keys(gone)).context("cannot delete prefixes")?;
        let entries = Entries {
            keys: self.keys(new.iter().map(|entry| entry.0)),
            values: new.iter().flat_map(|entry| entry.1.to_ne_bytes()).collect(),
        };
        batch::write(self.map, &entries).with_context(|| {
            let (all, most) = (to.len(), self.map.max_entries());
            format!("cannot write prefixes ({all} with those still in force, and room for {most})")
        })?;
        self.prefixes = to;
        Ok(())
    }

    fn keys(&self, prefixes: impl IntoIterator<Item = Prefix>) -> Vec<u8> {
        let address_len = self.map.key_size() as usize - ADDRESS;
        let mut keys = Vec::new();
        for prefix in prefixes {
            keys.extend(u32::from(prefix.len).to_ne_bytes());
            keys.extend(&prefix.bits.to_be_bytes()[..address_len]);
        }
        keys
    }
}

pub fn read(map: &MapHandle) -> Result<Prefixes> {
    let Entries { keys, values } = batch::read(map).context("cannot read the prefixes")?;
    let masks = values.chunks_exact(size_of::<u64>());
    let masks = masks.map(|mask| u64::from_ne_bytes(mask.try_into().expect("as many bytes")));
    let prefixes = keys.chunks_exact(map.key_size() as usize).map(prefix);
    let mut all: Prefixes = prefixes.zip(masks).collect();
    all.sort_unstable();
    Ok(all)
}

fn prefix(key: &[u8]) -> Prefix {
    let (len, address) = key.split_at(ADDRESS);
    let family = if address.len() == size_of::<u32>() { Family::V4 } else { Family::V6 };
    let mut bits = [0; size_of::<u128>()];
    bits[..address.len()].copy_from_slice(address);
    Prefix {
        family,
        bits: u128::from_be_bytes(bits),
        // 128 at most
        len: u32::from_ne_bytes(len.try_into().expect("as many bytes")) as u8,
    }
}
