//! Prefixes in the kernel's tries of longest matches. Those of both generations share one: each entry
//! holds the answers of both.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::Generation;
use crate::prefixes::{self, Prefixes};

/// The bytes of `struct mirroring_prefix` or `struct mirroring_prefix6`.
fn key(prefix: IpNetwork) -> Vec<u8> {
    let mut key = u32::from(prefix.prefix()).to_ne_bytes().to_vec();
    match prefix.network() {
        IpAddr::V4(address) => key.extend(address.octets()),
        IpAddr::V6(address) => key.extend(address.octets()),
    }
    key
}

fn prefix(key: &[u8]) -> Result<IpNetwork> {
    let (len, address) = key.split_first_chunk().context("a key without a length")?;
    let address = match address.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address)?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address)?)),
        len => bail!("an address of {len} bytes"),
    };
    Ok(IpNetwork::new(address, u8::try_from(u32::from_ne_bytes(*len))?)?)
}

pub fn read(map: &MapHandle) -> Result<Prefixes> {
    let mut all = Prefixes::new();
    for key in map.keys() {
        let prefix = prefix(&key)?;
        let mask = map.lookup(&key, MapFlags::ANY)?;
        let mask = mask.with_context(|| format!("the prefix {prefix} has gone"))?;
        all.push((prefix, u64::from_ne_bytes(mask.as_slice().try_into()?)));
    }
    all.sort_unstable_by_key(|(prefix, _)| (prefix.network(), prefix.prefix()));
    Ok(all)
}

/// Writes the union of the prefixes in force and the new ones; returns the new ones.
pub fn add(map: &MapHandle, new: &[(IpNetwork, u32)], generation: Generation) -> Result<Prefixes> {
    let in_force: Prefixes =
        read(map)?.into_iter().map(|(prefix, mask)| (prefix, generation.others(mask))).collect();
    let new: Prefixes =
        new.iter().map(|(prefix, rules)| (*prefix, generation.mask(*rules))).collect();
    write(map, &prefixes::union(&in_force, &new))?;
    Ok(new)
}

fn write(map: &MapHandle, prefixes: &Prefixes) -> Result<()> {
    for (prefix, mask) in prefixes {
        map.update(&key(*prefix), &mask.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot write the prefix {prefix}"))?;
    }
    Ok(())
}

/// Leaves the given prefixes, with these masks, and no others.
pub fn keep(map: &MapHandle, keep: &Prefixes) -> Result<()> {
    // before the longer ones go: what they covered then falls to these
    write(map, keep)?;
    let keep: HashSet<IpNetwork> = keep.iter().map(|entry| entry.0).collect();
    for (prefix, _) in read(map)? {
        if !keep.contains(&prefix) {
            map.delete(&key(prefix))
                .with_context(|| format!("cannot delete the prefix {prefix}"))?;
        }
    }
    Ok(())
}
