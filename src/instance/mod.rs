//! The instances of this host. Their pinned maps tell about them, so an instance is known also when its process is
//! gone, or when l3afd has loaded it.

pub mod attachment;
mod end;
pub mod host;
pub mod process;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::Program;
use nix::net::if_::if_nameindex;

use crate::bpf;
use crate::bpf::loaded_programs;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::Pins;
use crate::instance::process::Process;
use crate::maps::{self, Common, Counters, Maps};
use crate::model::Rate;

/// An instance whose maps are pinned, of any version. Apart from `common`, its pins are opened when they are first
/// needed, and once only.
#[derive(Debug)]
pub struct Instance {
    /// Where the instance's maps, program and link are pinned, and which instance it is.
    pub pins: Pins,
    /// The maps that instances of every version have, open.
    pub common: Common,
    program: OnceCell<Option<u32>>,
    tunnels: OnceCell<MmapArray<bpf::Tunnel>>,
    counters: OnceCell<Counters>,
}

impl Instance {
    /// The instance with these pins. `None` where it has none, or where they are [incomplete](maps::is_incomplete).
    /// Fails where a pin is there but is not what it has to be.
    pub fn open(pins: Pins) -> Result<Option<Self>> {
        let common = Common::pinned(&pins)?;
        Ok(common.map(|common| Self {
            pins,
            common,
            program: OnceCell::new(),
            tunnels: OnceCell::new(),
            counters: OnceCell::new(),
        }))
    }

    /// All of its maps. Fails where it is of another version.
    pub fn maps(&self) -> Result<Maps> {
        self.ensure_complete()?;
        Maps::pinned(&self.pins).with_context(|| {
            format!(
                "the maps of {} are another version's; start it anew with this version",
                self.pins.id
            )
        })
    }

    /// Fails where a start was interrupted. The maps that it has pinned may not be those of the running program,
    /// since it pins the program last.
    fn ensure_complete(&self) -> Result<()> {
        let program = match self.is_self_loaded() {
            true => self.pinned_program(),
            false => self.program(),
        };
        ensure!(
            program.is_some(),
            "the last start of {} was cut short; start it once more",
            self.pins.id
        );
        Ok(())
    }

    /// What the instance has noted for later commands: process, interface and attachment. Fields that its version
    /// does not know are 0.
    pub fn record(&self) -> bpf::Instance {
        self.common.instance.read(0)
    }

    /// The process that stays with the program. Its `pid` is 0 where none does, and it may have ended: ask
    /// [`Process::is_alive`].
    pub fn process(&self) -> Process {
        let record = self.record();
        Process { pid: record.pid, start_time: record.start_time }
    }

    /// Whether we loaded the program, not l3afd. (When l3afd loads over the pins of a dead instance of ours, it
    /// reuses the config, which says that we did. Then the program has a later id than the one that we recorded.)
    pub fn is_self_loaded(&self) -> bool {
        let loader = self.common.config.read(0).loader;
        loader == bpf::Loader::MIRRORING_LOADER_SELF
            && self.program().is_none_or(|id| id <= self.record().program)
    }

    /// Whether l3afd has loaded the program, and it is there. (Maps without a program are what l3afd leaves when it
    /// crashes: it loads the program before it calls us.)
    pub fn is_loaded_by_l3afd(&self) -> bool {
        self.program().is_some() && !self.is_self_loaded()
    }

    /// Id of the program. l3afd 2.0 does not pin it: there it is the newest of those that use the maps.
    pub fn program(&self) -> Option<u32> {
        match self.pins.id.version.name() {
            Some(_) => self.pinned_program(),
            None => self.programs().ok()?.into_iter().max(),
        }
    }

    fn pinned_program(&self) -> Option<u32> {
        *self.program.get_or_init(|| {
            let program = Program::fd_from_pinned_path(self.pins.program()).ok()?;
            Program::id_from_fd(program.as_fd()).ok()
        })
    }

    /// The ids of all programs that use its jump table, whichever start loaded them.
    pub fn programs(&self) -> Result<HashSet<u32>> {
        let loaded: Vec<_> = loaded_programs::all().collect();
        Ok(loaded_programs::using(&loaded, self.common.jmp_table_id()?).collect())
    }

    /// Whether rules are in force, with or without a process.
    pub fn is_live(&self) -> bool {
        self.common.config.is_live()
    }

    /// Whether it does what it was started for: rules are in force, the interface exists, and so does the process, if
    /// one is to stay.
    pub fn is_running(&self) -> bool {
        let record = self.record();
        let needs_no_process = || record.pid == 0 && !self.is_self_loaded();
        self.is_live()
            && is_there(record.ifindex)
            && (self.process().is_alive() || needs_no_process())
    }

    /// Whether a start of ours attached it to the interface itself, and not to a chain.
    pub fn is_attached_by_us(&self) -> bool {
        self.is_self_loaded() && self.record().previous_map == 0
    }

    /// Where its copies go; `None` where nothing is mirrored. Fails where another version has another form of tunnel
    /// entry.
    pub fn tunnel(&self) -> Result<Option<bpf::Tunnel>> {
        match self.is_live() {
            true => Ok(self.common.tunnel(self.tunnels()?)),
            false => Ok(None),
        }
    }

    /// Changes the cap on the rate. The rules in force stay, and so do their counters.
    pub fn set_cap(&self, cap: Rate) -> Result<()> {
        self.ensure_complete()?;
        self.common.set_cap(self.tunnels()?, cap);
        Ok(())
    }

    fn tunnels(&self) -> Result<&MmapArray<bpf::Tunnel>> {
        once(&self.tunnels, || maps::tunnels(&self.pins))
    }

    /// Its counters. Fails where another version has other ones.
    pub fn counters(&self) -> Result<&Counters> {
        once(&self.counters, || Counters::pinned(&self.pins))
    }
}

/// The content of the cell, which is opened first if it is empty.
fn once<T>(cell: &OnceCell<T>, open: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(it) => Ok(it),
        None => {
            let it = open()?;
            Ok(cell.get_or_init(|| it))
        }
    }
}

/// Whether this host has an interface with the index.
fn is_there(ifindex: u32) -> bool {
    if_nameindex().is_ok_and(|all| all.iter().any(|interface| interface.index() == ifindex))
}
