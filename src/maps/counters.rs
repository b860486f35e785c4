//! The counters of the rules: per CPU, as the programs count, and the published sums over all CPUs.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::batch;
use crate::abi::Size;
use crate::bpf;
use crate::bpf::map_defs::{self, MapDef};
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;

/// The entry of former rules, behind those of all bits of a mask.
const RETIRED: u32 = Size::MIRRORING_RETIRED.0;

/// Counters of a rule.
const COUNTERS: usize = map_defs::METRICS.entries as usize;

/// The counters of one instance.
#[derive(Debug)]
pub struct Counters {
    /// per CPU and rule
    outcomes: MapHandle,
    /// sums over CPUs and rules, for l3afd's `monitor_maps`, which cannot read per-CPU maps
    metrics: MmapArray<u64>,
}

impl Counters {
    /// `open` opens a map of the instance.
    pub fn open(open: impl Fn(MapDef) -> Result<MapHandle>) -> Result<Self> {
        let outcomes = open(map_defs::OUTCOMES)?;
        let found = (outcomes.value_size() as usize, outcomes.max_entries());
        ensure!(
            found == (size_of::<bpf::Outcomes>(), map_defs::OUTCOMES.entries),
            "the counters are another version's"
        );
        let metrics = MmapArray::new(&open(map_defs::METRICS)?, COUNTERS)?;
        Ok(Self { outcomes, metrics })
    }

    /// The counters of a pinned instance. Its other maps may be another version's.
    pub fn pinned(pins: &Pins) -> Result<Self> {
        Self::open(|map| super::pinned(pins, map))
    }

    /// The sum over all rules since the program was loaded, also over those no longer in force.
    pub fn total(&self) -> Result<bpf::Outcomes> {
        Ok(of_words(sum(self.all()?)))
    }

    /// The counters of the rule with this bit.
    pub fn of_bit(&self, bit: u32) -> Result<bpf::Outcomes> {
        Ok(of_words(sum_of_cpus(&self.per_cpu(bit)?)))
    }

    /// The sum over all rules whose bits are not in the mask.
    pub fn of_all_but(&self, mask: u64) -> Result<bpf::Outcomes> {
        let is_other = |entry: u32| entry == RETIRED || mask >> entry & 1 == 0;
        let all = (0..).zip(self.all()?);
        Ok(of_words(sum(all.filter(|(entry, _)| is_other(*entry)).map(|(_, words)| words))))
    }

    /// Stores [`total`](Self::total) in the metrics map, in the order of `struct mirroring_outcomes`, and returns it.
    /// Hold the lock: during an update, the counters of retiring rules are briefly in the sum twice.
    pub fn publish(&self) -> Result<bpf::Outcomes> {
        let total = sum(self.all()?);
        for (metric, sum) in self.metrics.words().iter().zip(total) {
            metric.store(sum, Ordering::Relaxed);
        }
        Ok(of_words(total))
    }

    /// Moves the counters of the rules with these bits to the entry for retired rules, so that the bits can be reused.
    /// No program may be using the bits.
    pub fn retire(&self, bits: impl Iterator<Item = u32>) -> Result<()> {
        let mut retired = self.per_cpu(RETIRED)?;
        for bit in bits {
            let counts = self.per_cpu(bit)?;
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
            self.outcomes
                .update_percpu(&RETIRED.to_ne_bytes(), &retired, MapFlags::ANY)
                .and_then(|()| {
                    self.outcomes.update_percpu(&bit.to_ne_bytes(), &nothing, MapFlags::ANY)
                })
                .context("cannot write the counters")?;
        }
        Ok(())
    }

    /// Each entry, summed over all CPUs.
    fn all(&self) -> Result<Vec<[u64; COUNTERS]>> {
        let cpus =
            libbpf_rs::num_possible_cpus().context("cannot tell how many CPUs there may be")?;
        let value_size = size_of::<bpf::Outcomes>() * cpus;
        let at_once = batch::read_values(&self.outcomes, value_size, RETIRED + 1);
        match at_once.context("cannot read the counters")? {
            Some(values) => {
                ensure!(
                    values.len() == value_size * (RETIRED as usize + 1),
                    "counters are missing"
                );
                let entries = values.chunks_exact(value_size);
                Ok(entries
                    .map(|entry| sum(entry.chunks_exact(size_of::<bpf::Outcomes>()).map(words)))
                    .collect())
            }
            None => (0..=RETIRED).map(|entry| Ok(sum_of_cpus(&self.per_cpu(entry)?))).collect(),
        }
    }

    fn per_cpu(&self, entry: u32) -> Result<Vec<Vec<u8>>> {
        self.outcomes
            .lookup_percpu(&entry.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the counters")?
            .context("the counters' map is empty")
    }
}

fn sum(all: impl IntoIterator<Item = [u64; COUNTERS]>) -> [u64; COUNTERS] {
    let mut total = [0; COUNTERS];
    for words in all {
        for (sum, word) in total.iter_mut().zip(words) {
            *sum += word;
        }
    }
    total
}

fn sum_of_cpus(cpus: &[Vec<u8>]) -> [u64; COUNTERS] {
    sum(cpus.iter().map(|cpu| words(cpu)))
}

fn words(cpu: &[u8]) -> [u64; COUNTERS] {
    let mut words = [0; COUNTERS];
    for (word, bytes) in words.iter_mut().zip(cpu.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks_exact gives 8 bytes"));
    }
    words
}

fn of_words(words: [u64; COUNTERS]) -> bpf::Outcomes {
    // SAFETY: both are as many integers of 8 bytes
    unsafe { std::mem::transmute::<[u64; COUNTERS], bpf::Outcomes>(words) }
}
