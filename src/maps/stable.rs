//! What instances of every version have: enough to end one, to ask about it, or to take its place.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapType};

use super::{GracePeriod, pinned, tunnels};
use crate::bpf;
use crate::bpf::map_defs;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;
use crate::model::Rate;

/// The maps whose meaning is the same in every version, open (`bpf/mirroring.h`). Of the config, that
/// is true of what this type tells of it.
#[derive(Debug)]
pub struct Common {
    pub config: MmapArray<bpf::Config>,
    pub instance: MmapArray<bpf::Instance>,
    pub jmp_table: MapHandle,
}

impl Common {
    /// Of an instance that is pinned; `None` where there is none, or only [remains](is_incomplete).
    pub fn pinned(pins: &Pins) -> Result<Option<Self>> {
        if !pins.exist() || is_incomplete(pins) {
            return Ok(None);
        }
        let jmp_table = pinned(pins, map_defs::JMP_TABLE)?;
        ensure!(
            jmp_table.map_type() == MapType::ProgArray,
            "what is pinned as the jump table of {} is none",
            pins.id
        );
        Ok(Some(Self {
            config: MmapArray::of_any_version(&pinned(pins, map_defs::CONFIG)?)?,
            instance: MmapArray::of_any_version(&pinned(pins, map_defs::INSTANCE)?)?,
            jmp_table,
        }))
    }

    /// Puts all rules out of force: from here on the program only passes packets on.
    pub fn disable(&self) {
        self.config.live().store(0, Ordering::Release);
        // those that still run harm nobody; what they count may come too late
        if let Err(error) = GracePeriod::prepare().and_then(|period| period.wait()) {
            log::warn!("the counters may miss the last packets: {error:#}");
        }
    }

    /// Id of the jump table, which no other instance has.
    pub fn jmp_table_id(&self) -> Result<u32> {
        let info = self.jmp_table.info().context("cannot ask about the jump table")?;
        Ok(info.info.id)
    }

    /// Of the [tunnels](super::tunnels) of both generations, that of the rules in force.
    pub fn tunnel(&self, tunnels: &MmapArray<bpf::Tunnel>) -> Option<bpf::Tunnel> {
        self.generation_in_force().map(|generation| tunnels.read(generation))
    }

    /// Puts another cap on that tunnel, if there is one. Programs read it meanwhile.
    pub fn set_cap(&self, tunnels: &MmapArray<bpf::Tunnel>, cap: Rate) {
        if let Some(generation) = self.generation_in_force() {
            tunnels::set_cap_in_force(tunnels, generation, cap);
        }
    }

    fn generation_in_force(&self) -> Option<usize> {
        match self.config.live().load(Ordering::Acquire) {
            0 => None,
            live => Some(usize::from(live as u32 == 0)),
        }
    }
}

/// Whether the pins are what a start or a stop of ours left that was killed half-way (or, unless we
/// have our lock, what one is about to pin or has not yet removed): of the maps,
/// the jump table is pinned last, and removed first. No packet comes to such an instance. l3afd calls
/// us only once it has pinned all.
pub fn is_incomplete(pins: &Pins) -> bool {
    let loader = || {
        let config = pinned(pins, map_defs::CONFIG)?;
        MmapArray::<bpf::Config>::of_any_version(&config).map(|config| config.read(0).loader)
    };
    pins.exist()
        && !pins.map(&map_defs::JMP_TABLE.name(pins.id.direction)).exists()
        && loader().is_ok_and(|loader| loader == bpf::Loader::MIRRORING_LOADER_SELF)
}
