//! The maps that instances of every version have: enough to stop one, to ask for its status, or to take its place.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapType};

use super::{GracePeriod, pinned, tunnels};
use crate::bpf;
use crate::bpf::map_defs;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;
use crate::model::Rate;

/// The maps that mean the same in every version (`bpf/mirroring.h`), open. Of the config, only the fields that this
/// type reads do.
#[derive(Debug)]
pub struct Common {
    /// `<direction>_config`: `live` and `loader` mean the same in every version.
    pub config: MmapArray<bpf::Config>,
    /// `<direction>_instance`: what the instance has noted for later commands.
    pub instance: MmapArray<bpf::Instance>,
    /// The PROG_ARRAY through which the program calls the next one of its chain.
    pub jmp_table: MapHandle,
}

impl Common {
    /// Those of a pinned instance; `None` where there is none, or where its pins are [incomplete](is_incomplete).
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
        // without the wait, a program that is still running may count after the counters were read
        if let Err(error) = GracePeriod::prepare().and_then(|period| period.wait()) {
            log::warn!("the counters may miss the last packets: {error:#}");
        }
    }

    /// Id of the jump table. No other instance uses the same one.
    pub fn jmp_table_id(&self) -> Result<u32> {
        let info = self.jmp_table.info().context("cannot ask about the jump table")?;
        Ok(info.info.id)
    }

    /// The tunnel of the rules in force, out of those of both generations ([`tunnels`](super::tunnels())).
    pub fn tunnel(&self, tunnels: &MmapArray<bpf::Tunnel>) -> Option<bpf::Tunnel> {
        self.generation_in_force().map(|generation| tunnels.read(generation))
    }

    /// Sets the cap of that tunnel, if there is one, while programs read it.
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

/// Whether these pins are incomplete: a start or stop was killed midway (or, without the lock, is in progress).
///
/// Of the maps, the jump table is pinned last and removed first, so it is what is missing. No packet reaches such an
/// instance. Pins by l3afd are never incomplete: it calls us only after it has pinned all of them.
pub fn is_incomplete(pins: &Pins) -> bool {
    let loader = || {
        let config = pinned(pins, map_defs::CONFIG)?;
        MmapArray::<bpf::Config>::of_any_version(&config).map(|config| config.read(0).loader)
    };
    pins.exist()
        && !pins.map(&map_defs::JMP_TABLE.name(pins.id.direction)).exists()
        && loader().is_ok_and(|loader| loader == bpf::Loader::MIRRORING_LOADER_SELF)
}
