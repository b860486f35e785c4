//! From compiled rules to the maps of one instance, one generation at a time.
//!
//! An update never touches what the rules in force read: it fills in the bits of the free
//! generation, changes `live` with one store, and clears the old bits once no program can still be
//! looking at them.

use std::collections::HashSet;
use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnetwork::Ipv4Network;
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object};

use crate::bpf;
use crate::config::Direction;
use crate::filter::RuleSet;
use crate::guard::{self, Endpoint};
use crate::mapped::Mapped;
use crate::pins::{self, Pins};
use crate::prefixes::{self, Prefixes};

mod in_force;

/// Rules of a generation (`bpf/mirroring.h`).
const GENERATION_BITS: u32 = 32;

/// The maps of one instance, open.
#[derive(Debug)]
pub struct Maps {
    pub config: Mapped<bpf::Config>,
    pub instance: Mapped<bpf::Instance>,
    pub endpoints: guard::List,
    tunnel: Mapped<bpf::Tunnel>,
    protocol: Mapped<u64>,
    src_port: Mapped<u64>,
    dst_port: Mapped<u64>,
    src_net: Mapped<u64>,
    dst_net: Mapped<u64>,
    src_prefix: MapHandle,
    dst_prefix: MapHandle,
    outcomes: MapHandle,
    pub jmp_table: MapHandle,
}

impl Maps {
    fn open(direction: Direction, open: impl Fn(&str) -> Result<MapHandle>) -> Result<Self> {
        let map = |name| open(&pins::map_name(direction, name));
        let of_8_bits = |name| Mapped::new(&map(name)?, 1 << 8);
        let of_16_bits = |name| Mapped::new(&map(name)?, 1 << 16);
        Ok(Self {
            config: Mapped::new(&map("config")?, 1)?,
            instance: Mapped::new(&map("instance")?, 1)?,
            endpoints: guard::List::new(&map("endpoints")?)?,
            tunnel: Mapped::new(&map("tunnel")?, 2)?,
            protocol: of_8_bits("protocol")?,
            src_port: of_16_bits("src_port")?,
            dst_port: of_16_bits("dst_port")?,
            src_net: of_16_bits("src_net")?,
            dst_net: of_16_bits("dst_net")?,
            src_prefix: map("src_prefix")?,
            dst_prefix: map("dst_prefix")?,
            outcomes: map("outcomes")?,
            jmp_table: open(&pins::jmp_table(direction))?,
        })
    }

    /// The maps of an object that we loaded.
    pub fn of(object: &Object, direction: Direction) -> Result<Self> {
        Self::open(direction, |name| bpf::map(object, name))
    }

    /// The maps that are pinned; `None` where there are none, or only [remains](are_remains).
    pub fn pinned(pins: &Pins) -> Result<Option<Self>> {
        if !pins.exist() || are_remains(pins) {
            return Ok(None);
        }
        Self::open(pins.id.direction, |name| pinned(pins, name)).map(Some)
    }

    /// Puts rules, and the tunnel of the packets that match them, into force at one instant. The
    /// tunnel's own packets are guarded against from before then on.
    pub fn install(&self, rules: &RuleSet, tunnel: bpf::Tunnel) -> Result<()> {
        let live = self.config.live();
        let in_force = live.load(Ordering::Acquire);
        let free = Generation(usize::from(in_force as u32 != 0));

        // whatever an update that was cut short left in the free generation goes, too
        self.write_fields(rules, free);
        let src_prefixes = add_prefixes(&self.src_prefix, &rules.src_prefixes, free)?;
        let dst_prefixes = add_prefixes(&self.dst_prefix, &rules.dst_prefixes, free)?;
        self.tunnel.write(free.0, tunnel);
        self.endpoints.begin_with(Endpoint::of(&tunnel))?;

        // a program sees all of the above before the new rules, and none of the below before it
        // has done with the old ones
        wait_for_programs();
        live.store(free.mask(rules.live), Ordering::Release);
        wait_for_programs();

        self.write_fields(&RuleSet::default(), free.other());
        keep_prefixes(&self.src_prefix, &src_prefixes)?;
        keep_prefixes(&self.dst_prefix, &dst_prefixes)
    }

    /// Puts all rules out of force: from here on the program only passes packets on.
    pub fn disable(&self) {
        self.config.live().store(0, Ordering::Release);
        wait_for_programs();
        self.endpoints.clear();
    }

    /// The tunnel of the rules in force.
    pub fn tunnel(&self) -> Option<bpf::Tunnel> {
        match self.config.live().load(Ordering::Acquire) {
            0 => None,
            live => Some(self.tunnel.read(usize::from(live as u32 == 0))),
        }
    }

    /// What became of the packets, over all CPUs, since the program was loaded.
    pub fn outcomes(&self) -> Result<bpf::Outcomes> {
        let per_cpu = self
            .outcomes
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the counters")?
            .context("the counters' map is empty")?;
        let mut total = bpf::Outcomes::default();
        for cpu in per_cpu {
            // in the order of struct mirroring_outcomes, which a test holds this against
            let mut counts = cpu.chunks_exact(8).map(|word| {
                u64::from_ne_bytes(word.try_into().expect("chunks_exact gives 8 bytes"))
            });
            for sum in [
                &mut total.matched,
                &mut total.sent,
                &mut total.guarded,
                &mut total.oversize,
                &mut total.over_rate,
                &mut total.failed,
            ] {
                *sum += counts.next().context("the counters' map has another shape")?;
            }
        }
        Ok(total)
    }

    /// Everything but the prefixes, in place of what the generation held.
    fn write_fields(&self, rules: &RuleSet, generation: Generation) {
        for (table, segments) in [
            (&self.protocol, &rules.protocols),
            (&self.src_port, &rules.src_ports),
            (&self.dst_port, &rules.dst_ports),
            (&self.src_net, &rules.src_nets),
            (&self.dst_net, &rules.dst_nets),
        ] {
            write_masks(table, segments.iter().cloned(), generation);
        }
        for (offset, mask) in [
            (offset_of!(bpf::Config, any_protocol), rules.any_protocol),
            (offset_of!(bpf::Config, any_src_port), rules.any_src_port),
            (offset_of!(bpf::Config, any_dst_port), rules.any_dst_port),
            (offset_of!(bpf::Config, any_src_address), rules.any_src_v4),
            (offset_of!(bpf::Config, any_dst_address), rules.any_dst_v4),
            (offset_of!(bpf::Config, portless), rules.portless),
        ] {
            generation.put(self.config.word(offset), mask);
        }
    }
}

/// One of the maps that are pinned.
pub fn pinned(pins: &Pins, name: &str) -> Result<MapHandle> {
    let path = pins.map(name);
    MapHandle::from_pinned_path(&path)
        .with_context(|| format!("cannot open the pinned map {}", path.display()))
}

/// Whether the pins are what a start or a stop of ours left that was killed half-way (or, unless we
/// have our [turn](crate::host::Turn), what one is about to pin or has not yet removed). No packet
/// comes to such an instance. l3afd calls us only once it has pinned all.
pub fn are_remains(pins: &Pins) -> bool {
    let config = || Mapped::new(&pinned(pins, &pins::map_name(pins.id.direction, "config"))?, 1);
    let is_ours =
        |config: Mapped<bpf::Config>| config.read(0).loader == bpf::Loader::MIRRORING_LOADER_SELF;
    pins.exist() && !pins.are_complete() && config().is_ok_and(is_ours)
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

    /// The bits of a mask that are not this generation's.
    fn others(self, mask: u64) -> u64 {
        mask & !self.mask(u32::MAX)
    }

    /// Sets this generation's bits of a word; only we write, so that no bit of the other is lost.
    fn put(self, word: &AtomicU64, rules: u32) {
        let before = word.load(Ordering::Relaxed);
        let after = self.others(before) | self.mask(rules);
        // most words stay as they are: leave their cache lines clean
        if after != before {
            word.store(after, Ordering::Relaxed);
        }
    }
}

fn write_masks(
    table: &Mapped<u64>,
    segments: impl Iterator<Item = (RangeInclusive<u16>, u32)>,
    generation: Generation,
) {
    let mut segments = segments.peekable();
    for (value, word) in table.words().iter().enumerate() {
        while segments.next_if(|(range, _)| usize::from(*range.end()) < value).is_some() {}
        let rules = match segments.peek() {
            Some((range, rules)) if usize::from(*range.start()) <= value => *rules,
            _ => 0,
        };
        generation.put(word, rules);
    }
}

/// The bytes of `struct mirroring_prefix`.
fn prefix_key(prefix: Ipv4Network) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&u32::from(prefix.prefix()).to_ne_bytes());
    key[4..].copy_from_slice(&prefix.network().octets());
    key
}

fn read_prefixes(map: &MapHandle) -> Result<Prefixes> {
    let mut all = Prefixes::new();
    for key in map.keys() {
        let (len, address) = key.split_at(4);
        let len = u32::from_ne_bytes(len.try_into()?);
        let address: [u8; 4] = address.try_into()?;
        let prefix = Ipv4Network::new(Ipv4Addr::from(address), u8::try_from(len)?)?;
        let mask = map.lookup(&key, MapFlags::ANY)?;
        let mask = mask.with_context(|| format!("the prefix {prefix} has gone"))?;
        all.push((prefix, u64::from_ne_bytes(mask.as_slice().try_into()?)));
    }
    all.sort_unstable_by_key(|(prefix, _)| (prefix.network(), prefix.prefix()));
    Ok(all)
}

/// Writes the union of the prefixes in force and the new ones; returns the new ones.
fn add_prefixes(
    map: &MapHandle,
    new: &[(Ipv4Network, u32)],
    generation: Generation,
) -> Result<Prefixes> {
    let in_force: Prefixes = read_prefixes(map)?
        .into_iter()
        .map(|(prefix, mask)| (prefix, generation.others(mask)))
        .collect();
    let new: Prefixes =
        new.iter().map(|(prefix, rules)| (*prefix, generation.mask(*rules))).collect();
    write_prefixes(map, &prefixes::union(&in_force, &new))?;
    Ok(new)
}

fn write_prefixes(map: &MapHandle, prefixes: &Prefixes) -> Result<()> {
    for (prefix, mask) in prefixes {
        map.update(&prefix_key(*prefix), &mask.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot write the prefix {prefix}"))?;
    }
    Ok(())
}

/// Leaves the given prefixes, with these masks, and no others.
fn keep_prefixes(map: &MapHandle, keep: &Prefixes) -> Result<()> {
    // before the longer ones go: what they covered then falls to these
    write_prefixes(map, keep)?;
    let keep: HashSet<Ipv4Network> = keep.iter().map(|entry| entry.0).collect();
    for (prefix, _) in read_prefixes(map)? {
        if !keep.contains(&prefix) {
            map.delete(&prefix_key(prefix))
                .with_context(|| format!("cannot delete the prefix {prefix}"))?;
        }
    }
    Ok(())
}

/// Returns when every program that was running has ended: tc programs run inside RCU read-side
/// sections, and `MEMBARRIER_CMD_GLOBAL` waits for those (kernel/sched/membarrier.c).
fn wait_for_programs() {
    // SAFETY: a system call that takes three integers and touches no memory of ours
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if waited != 0 {
        // not offered with nohz_full CPUs; no program takes nearly as long as this
        thread::sleep(Duration::from_millis(50));
    }
}
