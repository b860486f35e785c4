//! The instances of this host, as their pinned maps tell of them: also those whose process is
//! gone, and those that l3afd loaded.

pub mod process;

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libbpf_rs::Program;
use nix::net::if_::if_nameindex;

use crate::bpf;
use crate::bpf::bpffs::Turn;
use crate::bpf::loaded_programs;
use crate::bpf::pins::Pins;
use crate::instance::process::Process;
use crate::maps::{self, Common, Counters, Maps};
use crate::model::{Direction, InstanceId, InterfaceName};
use crate::netlink::Netlink;

/// For a process that is dying.
const DYING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An instance that has its maps pinned, of whichever version.
#[derive(Debug)]
pub struct Instance {
    pub pins: Pins,
    pub common: Common,
}

impl Instance {
    pub fn open(pins: Pins) -> Result<Option<Self>> {
        let common = Common::pinned(&pins)?;
        Ok(common.map(|common| Self { pins, common }))
    }

    /// Our turn, and what a previous start left behind. Its process has to be gone, or about to: l3afd kills
    /// one and starts the next at once.
    pub fn left_behind(pins: &Pins, bpffs: &Path) -> Result<(Turn, Option<Self>)> {
        let deadline = Instant::now() + DYING;
        loop {
            let turn = Turn::take(bpffs)?;
            let previous = Self::open(pins.clone())?;
            let process = previous.as_ref().map(Self::process);
            let Some(process) = process.filter(|process| process.is_alive()) else {
                return Ok((turn, previous));
            };
            ensure!(
                process.is_dying() && Instant::now() < deadline,
                "{} is mirrored by process {} already; change it with --cmd=update, or end it with \
                 --cmd=stop",
                pins.id,
                process.pid
            );
            drop(turn);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Our turn, and the instances of the interface and version, in either direction, that l3afd has loaded
    /// and whose process is gone, or about to: l3afd ends them and starts others at once. At least one; those
    /// that never had a process come last.
    pub fn interrupted(bpffs: &Path, id: &InstanceId) -> Result<(Turn, Vec<Self>)> {
        let deadline = Instant::now() + DYING;
        loop {
            let turn = Turn::take(bpffs)?;
            let mut interrupted = Vec::new();
            for direction in Direction::ALL {
                let instance = Self::open(Pins::find(bpffs, &id.towards(direction)))?;
                interrupted.extend(instance.filter(Self::is_loaded_by_l3afd));
            }
            let is_dying =
                interrupted.iter().map(Self::process).any(|it| it.is_alive() && it.is_dying());
            interrupted.retain(|it| !it.process().is_alive());
            interrupted.sort_by_key(|it| it.record().pid == 0);
            let is_late = Instant::now() >= deadline;
            if !interrupted.is_empty() && (!is_dying || is_late) {
                return Ok((turn, interrupted));
            }
            ensure!(
                !is_late,
                "l3afd restarts, and has loaded no program for {} ({}) that lacks its process",
                id.interface,
                id.version
            );
            drop(turn);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// All that can be opened; the others are named in the log.
    pub fn all(bpffs: &Path) -> Vec<Self> {
        let mut all = Vec::new();
        for pins in Pins::all(bpffs) {
            let id = pins.id.clone();
            match Self::open(pins) {
                Ok(instance) => all.extend(instance),
                Err(error) => log::warn!("ignoring the instance {id}: {error:#}"),
            }
        }
        all
    }

    /// The live instance that mirrors the interface which has this name now, and had another one when
    /// that was started.
    pub fn of_renamed(bpffs: &Path, now: &InterfaceName) -> Result<Option<Self>> {
        let Some(link) = Netlink::open()?.link(now.as_str())? else {
            return Ok(None);
        };
        let of_link =
            |instance: &Self| instance.record().ifindex == link.index && instance.is_live();
        let all = Self::all(bpffs).into_iter();
        Ok(all.filter(|instance| instance.pins.id.interface != *now).find(of_link))
    }

    /// All of its maps, where it is of this version. Those that a start which was cut short has pinned
    /// need not be those of the program that runs: its pin comes last.
    pub fn maps(&self) -> Result<Maps> {
        let program = match self.is_self_loaded() {
            true => self.pinned_program(),
            false => self.program(),
        };
        ensure!(
            program.is_some(),
            "the last start of {} was cut short; start it once more",
            self.pins.id
        );
        Maps::pinned(&self.pins).with_context(|| {
            format!(
                "the maps of {} are another version's; start it anew with this version",
                self.pins.id
            )
        })
    }

    pub fn record(&self) -> bpf::Instance {
        self.common.instance.read(0)
    }

    pub fn process(&self) -> Process {
        let record = self.record();
        Process { pid: record.pid, start_time: record.start_time }
    }

    /// Whether the pins are our work. (l3afd, loading over the pins of a dead instance of ours, takes
    /// up maps that say so: then the program tells, which is a later one.)
    pub fn is_self_loaded(&self) -> bool {
        let loader = self.common.config.read(0).loader;
        loader == bpf::Loader::MIRRORING_LOADER_SELF
            && self.program().is_none_or(|id| id <= self.record().program)
    }

    /// Whether a program of l3afd's awaits its maps. It loads the program before it calls us; maps
    /// alone are what it left when it crashed.
    pub fn is_loaded_by_l3afd(&self) -> bool {
        self.program().is_some() && !self.is_self_loaded()
    }

    /// Id of the program. It is pinned, but by l3afd 2.0, and there it is the last that was loaded with the
    /// maps.
    pub fn program(&self) -> Option<u32> {
        match self.pins.id.version.name() {
            Some(_) => self.pinned_program(),
            None => self.programs().ok()?.into_iter().max(),
        }
    }

    fn pinned_program(&self) -> Option<u32> {
        let program = Program::fd_from_pinned_path(self.pins.program()).ok()?;
        Program::id_from_fd(program.as_fd()).ok()
    }

    /// Whether packets are being mirrored, be it without a process.
    pub fn is_live(&self) -> bool {
        self.common.config.is_live()
    }

    /// Whether it does all that it was started for: where a process stays, that must be there, and so must
    /// the interface.
    pub fn is_running(&self) -> bool {
        let record = self.record();
        let needs_no_process = || record.pid == 0 && !self.is_self_loaded();
        self.is_live()
            && is_there(record.ifindex)
            && (self.process().is_alive() || needs_no_process())
    }

    /// Whether its packets come from the interface itself, as a start of ours attached it.
    pub fn is_attached_by_us(&self) -> bool {
        self.is_self_loaded() && self.record().previous_map == 0
    }

    /// Where its copies go; `None` where nothing is mirrored. Fails where another version says that in
    /// another way.
    pub fn tunnel(&self) -> Result<Option<bpf::Tunnel>> {
        match self.is_live() {
            true => maps::tunnel(&self.pins, &self.common),
            false => Ok(None),
        }
    }

    /// What it counts. Fails where another version counts in another way.
    pub fn counters(&self) -> Result<Counters> {
        Counters::pinned(&self.pins)
    }

    /// The ids of its programs: whichever starts loaded them, they lead on through the same jump table.
    pub fn programs(&self) -> Result<HashSet<u32>> {
        Ok(loaded_programs::using(self.common.jmp_table_id()?))
    }
}

/// Whether this host has an interface with the index.
fn is_there(ifindex: u32) -> bool {
    if_nameindex().is_ok_and(|all| all.iter().any(|interface| interface.index() == ifindex))
}
