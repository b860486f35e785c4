//! The counters, over all CPUs.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::bpf;

/// Entries of the map: one for each bit of a mask, and one for rules that have gone
/// (`MIRRORING_RETIRED` in `bpf/mirroring.h`).
const RETIRED: u32 = 64;

const COUNTS: usize = size_of::<bpf::Outcomes>() / 8;

fn per_cpu(map: &MapHandle, entry: u32) -> Result<Vec<Vec<u8>>> {
    map.lookup_percpu(&entry.to_ne_bytes(), MapFlags::ANY)
        .context("cannot read the counters")?
        .context("the counters' map is empty")
}

fn words(cpu: &[u8]) -> [u64; COUNTS] {
    let mut words = [0; COUNTS];
    for (word, bytes) in words.iter_mut().zip(cpu.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks_exact gives 8 bytes"));
    }
    words
}

/// What became of all packets that matched since the program was loaded.
pub fn total(map: &MapHandle) -> Result<bpf::Outcomes> {
    sum(map, 0..=RETIRED)
}

/// What became of those that met the rule with this bit.
pub fn of_bit(map: &MapHandle, bit: u32) -> Result<bpf::Outcomes> {
    sum(map, bit..=bit)
}

fn sum(map: &MapHandle, entries: RangeInclusive<u32>) -> Result<bpf::Outcomes> {
    let mut total = [0; COUNTS];
    for entry in entries {
        for cpu in per_cpu(map, entry)? {
            for (sum, word) in total.iter_mut().zip(words(&cpu)) {
                *sum += word;
            }
        }
    }
    // SAFETY: both are as many integers of 8 bytes
    Ok(unsafe { std::mem::transmute::<[u64; COUNTS], bpf::Outcomes>(total) })
}

/// Adds what the rules with these bits have counted to that of rules that have gone, so that others
/// can take their places. No program is to be using the bits.
pub fn retire(map: &MapHandle, bits: impl Iterator<Item = u32>) -> Result<()> {
    let mut retired = per_cpu(map, RETIRED)?;
    for bit in bits {
        let counts = per_cpu(map, bit)?;
        if counts.iter().all(|cpu| cpu.iter().all(|byte| *byte == 0)) {
            continue;
        }
        for (sum, cpu) in retired.iter_mut().zip(&counts) {
            let added: Vec<u8> = words(sum)
                .into_iter()
                .zip(words(cpu))
                .flat_map(|(sum, count)| (sum + count).to_ne_bytes())
                .collect();
            *sum = added;
        }
        let nothing: Vec<Vec<u8>> = counts.iter().map(|cpu| vec![0; cpu.len()]).collect();
        map.update_percpu(&RETIRED.to_ne_bytes(), &retired, MapFlags::ANY)
            .and_then(|()| map.update_percpu(&bit.to_ne_bytes(), &nothing, MapFlags::ANY))
            .context("cannot write the counters")?;
    }
    Ok(())
}
