//! From compiled rules to the maps of one instance, one generation at a time.
//!
//! An update never touches the bits that the rules in force use. It fills in the bits of the free generation, switches
//! `live` with one store, and clears the old bits once no running program can still read them.

use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use libbpf_rs::{MapHandle, Object};

use crate::abi::{GENERATION_BITS, MASK_BITS};
use crate::bpf;
use crate::bpf::map_defs::{self, MapDef};
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;
use crate::filter::{CompiledRules, Segments, Table};
use crate::model::Direction;

mod batch;
mod counters;
pub mod endpoints;
mod grace_period;
mod layout;
mod read_back;
mod rules;
mod stable;
mod tries;
mod tunnels;

pub use counters::Counters;
use endpoints::Endpoint;
use grace_period::GracePeriod;
pub use layout::Layout;
use layout::MASKS;
pub use read_back::as_read_back;
pub use stable::{Common, is_incomplete};
use tries::Trie;
pub use tunnels::{cap, set_cap};

/// All maps of one instance of this version, open.
#[derive(Debug)]
pub struct Maps {
    /// The maps that every version has, too.
    pub common: Common,
    /// The far ends by which this instance's loop guard recognizes tunnel traffic.
    pub endpoints: endpoints::List,
    tunnel: MmapArray<bpf::Tunnel>,
    rule: MmapArray<bpf::RuleEntry>,
    tables: Vec<(Table, TableMaps)>,
    counters: Counters,
}

/// Where the masks of a table are.
#[derive(Debug)]
struct TableMaps {
    values: MmapArray<u64>,
    prefixes: Option<MapHandle>,
    /// The mask of the rules that accept every value: bytes from the start of the config entry.
    any: usize,
}

impl Maps {
    fn open(direction: Direction, open: impl Fn(&str) -> Result<MapHandle>) -> Result<Self> {
        let map = |map: MapDef| open(&map.name(direction));
        let tables = Table::all().map(|table| -> Result<_> {
            let Layout { values, prefixes, any } = Layout::of(table);
            let maps = TableMaps {
                values: MmapArray::new(&map(values)?, values.entries as usize)?,
                prefixes: prefixes.map(map).transpose()?,
                any,
            };
            Ok((table, maps))
        });
        Ok(Self {
            common: Common {
                config: MmapArray::new(&map(map_defs::CONFIG)?, 1)?,
                instance: MmapArray::new(&map(map_defs::INSTANCE)?, 1)?,
                jmp_table: map(map_defs::JMP_TABLE)?,
            },
            endpoints: endpoints::List::new(&map(map_defs::ENDPOINTS)?)?,
            tunnel: tunnels_of(&map(map_defs::TUNNEL)?)?,
            rule: MmapArray::new(&map(map_defs::RULE)?, MASK_BITS as usize)?,
            tables: tables.collect::<Result<_>>()?,
            counters: Counters::open(map)?,
        })
    }

    /// The maps of an object that we loaded.
    pub fn of(object: &Object, direction: Direction) -> Result<Self> {
        Self::open(direction, |name| bpf::map(object, name))
    }

    /// The maps that are pinned.
    pub fn pinned(pins: &Pins) -> Result<Self> {
        Self::open(pins.id.direction, |name| open_pin(pins, name))
    }

    /// Puts rules, and the tunnel for the packets that match them, into force at one instant. The loop guard knows the
    /// tunnel before that.
    pub fn apply(&self, rules: &CompiledRules, tunnel: bpf::Tunnel) -> Result<()> {
        let live = self.common.config.live();
        let in_force = live.load(Ordering::Acquire);
        let free = Generation(usize::from(in_force as u32 != 0));
        let grace_period = GracePeriod::prepare()?;

        // this also removes what an interrupted update left in the free generation
        self.write_fields(rules, free);
        let mut tries = Vec::new();
        for (table, maps) in &self.tables {
            let Some(map) = &maps.prefixes else { continue };
            let prefixes = rules.tables[*table].prefixes.iter();
            let new = prefixes.map(|(prefix, rules)| (*prefix, free.mask(*rules))).collect();
            let mut trie = Trie::read(map)?;
            trie.add(&new, free)?;
            tries.push((trie, new));
        }
        self.counters.retire(free.bits())?;
        let before = self.last_installed();
        self.write_rules(rules, free, before + 1);
        self.tunnel.write(free.0, tunnels::entry(tunnel));
        self.endpoints.begin_with(Endpoint::of(&tunnel))?;

        // a program sees all of the stores above before the new rules, and none of those below while it still uses the
        // old ones
        keep_the_order(&grace_period)?;
        live.store(free.mask(rules.live), Ordering::Release);
        if before == 0 {
            // there were no rules before
            return Ok(());
        }
        grace_period.wait()?;

        self.write_fields(&CompiledRules::default(), free.other());
        for (mut trie, new) in tries {
            trie.change(new)?;
        }
        Ok(())
    }

    /// Puts all rules out of force: from here on the program only passes packets on.
    pub fn disable(&self) {
        self.common.disable();
        self.endpoints.clear();
    }

    /// The tunnel of the rules in force.
    pub fn tunnel(&self) -> Option<bpf::Tunnel> {
        self.common.tunnel(&self.tunnel)
    }

    /// What became of the packets that matched, over all rules and CPUs, since the program was loaded.
    pub fn outcomes(&self) -> Result<bpf::Outcomes> {
        self.counters.total()
    }

    /// Writes all masks of a generation, except those of prefixes.
    fn write_fields(&self, rules: &CompiledRules, generation: Generation) {
        for (table, maps) in &self.tables {
            let masks = &rules.tables[*table];
            write_masks(&maps.values, &masks.values, generation);
            generation.put(slice::from_ref(self.common.config.word(maps.any)), masks.any);
        }
        for mask in &MASKS {
            generation.put(slice::from_ref(self.common.config.word(mask.offset)), (mask.of)(rules));
        }
    }

    /// The number of the last installation; 0 where there was none.
    fn last_installed(&self) -> u64 {
        let bits = 0..MASK_BITS as usize;
        bits.map(|bit| self.rule.read(bit).installed).max().unwrap_or(0)
    }

    fn write_rules(&self, rules: &CompiledRules, generation: Generation, installed: u64) {
        for (rule, bit) in rules.rules.iter().zip(generation.bits()) {
            self.rule.write(bit as usize, rules::entry(rule, installed));
        }
    }
}

/// A pinned map.
pub fn pinned(pins: &Pins, map: MapDef) -> Result<MapHandle> {
    open_pin(pins, &map.name(pins.id.direction))
}

fn open_pin(pins: &Pins, name: &str) -> Result<MapHandle> {
    let path = pins.map(name);
    MapHandle::from_pinned_path(&path)
        .with_context(|| format!("cannot open the pinned map {}", path.display()))
}

/// The tunnels of a pinned instance, one for each generation. Its other maps may be another version's.
pub fn tunnels(pins: &Pins) -> Result<MmapArray<bpf::Tunnel>> {
    tunnels_of(&pinned(pins, map_defs::TUNNEL)?)
}

fn tunnels_of(map: &MapHandle) -> Result<MmapArray<bpf::Tunnel>> {
    MmapArray::new(map, map_defs::TUNNEL.entries as usize)
}

/// One of the two halves of every mask.
#[derive(Clone, Copy)]
struct Generation(usize);

impl Generation {
    fn other(self) -> Self {
        Self(1 - self.0)
    }

    /// The generation's rules, as bits of a mask.
    fn mask(self, rules: u32) -> u64 {
        u64::from(rules) << (GENERATION_BITS * self.0 as u32)
    }

    /// The numbers of its bits in a mask.
    fn bits(self) -> std::ops::Range<u32> {
        let first = GENERATION_BITS * self.0 as u32;
        first..first + GENERATION_BITS
    }

    /// The bits of a mask that are not this generation's.
    fn others(self, mask: u64) -> u64 {
        mask & !self.mask(u32::MAX)
    }

    /// Sets this generation's bits in words. Nobody else writes them, so no bit of the other generation gets lost.
    fn put(self, words: &[AtomicU64], rules: u32) {
        let mask = self.mask(rules);
        for word in words {
            let before = word.load(Ordering::Relaxed);
            let after = self.others(before) | mask;
            // most words do not change: do not dirty their cache lines
            if after != before {
                word.store(after, Ordering::Relaxed);
            }
        }
    }
}

fn write_masks(table: &MmapArray<u64>, segments: &Segments, generation: Generation) {
    let mut rest = table.words();
    let mut first = 0;
    for (range, rules) in segments {
        let (start, end) = (usize::from(*range.start()), usize::from(*range.end()) + 1);
        let (between, from_start) = rest.split_at(start - first);
        let (words, behind) = from_start.split_at(end - start);
        generation.put(between, 0);
        generation.put(words, *rules);
        (rest, first) = (behind, end);
    }
    generation.put(rest, 0);
}

/// Makes sure that a program which sees a later store sees all earlier ones, too. On x86-64 there is nothing to do:
/// stores and loads are seen in order (Intel SDM, volume 3, 10.2.2). Elsewhere a program may have read a table before it
/// read which rules are live.
fn keep_the_order(grace_period: &GracePeriod) -> Result<()> {
    if cfg!(target_arch = "x86_64") { Ok(()) } else { grace_period.wait() }
}
