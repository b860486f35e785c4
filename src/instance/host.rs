//! A host, as one BPF file system has it, and the lock that commands take to work on it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::fcntl::Flock;

use super::Instance;
use crate::bpf;
use crate::bpf::bpffs;
use crate::bpf::pins::Pins;
use crate::filter::CompiledRules;
use crate::maps::endpoints::List;
use crate::maps::{Counters, Maps};
use crate::model::{Direction, InstanceId, InterfaceName, Rate};
use crate::netlink::Netlink;

/// How long a process that is dying may take, and how often it is looked at.
const DYING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The instances that have their maps pinned in one BPF file system, and the file system itself.
#[derive(Debug)]
pub struct Host {
    bpffs: PathBuf,
}

impl Host {
    /// Fails where this process lacks a privilege, or where there is no directory to mount the BPF file
    /// system at.
    pub fn open(bpffs: &Path) -> Result<Self> {
        bpffs::check_privileges()?;
        bpffs::check_bpffs(bpffs)?;
        Ok(Self { bpffs: bpffs.to_owned() })
    }

    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Whether the BPF file system is mounted. Where it is not, nothing is mirrored.
    pub fn is_mounted(&self) -> Result<bool> {
        bpffs::check_bpffs(&self.bpffs)
    }

    /// Mounts the BPF file system where none is. Returns whether it did.
    pub fn mount(&self) -> Result<bool> {
        bpffs::mount_bpffs(&self.bpffs)
    }

    /// Undoes [`mount`](Self::mount), also while we hold the lock of what was mounted.
    pub fn unmount(&self) -> Result<()> {
        bpffs::unmount_bpffs(&self.bpffs)
    }

    /// Number of the file system's device, which tells it from others of this host.
    pub fn device(&self) -> u64 {
        fs::metadata(&self.bpffs).map_or(0, |metadata| metadata.dev())
    }

    /// Waits until no other command holds the lock of the same BPF file system.
    pub fn lock(&self) -> Result<HostLock<'_>> {
        bpffs::lock(&self.bpffs).map(|lock| HostLock::new(self, lock))
    }

    /// The lock, where nobody else has it.
    pub fn try_lock(&self) -> Option<HostLock<'_>> {
        bpffs::try_lock(&self.bpffs).map(|lock| HostLock::new(self, lock))
    }

    /// The lock, and what a previous start left behind. Its process has to be gone, or about to: l3afd kills
    /// one and starts the next at once.
    pub fn lock_to_start(&self, pins: &Pins) -> Result<(HostLock<'_>, Option<Rc<Instance>>)> {
        let deadline = Instant::now() + DYING;
        loop {
            let lock = self.lock()?;
            let previous = lock.instance(pins)?;
            let process = previous.as_ref().map(|previous| previous.process());
            let Some(process) = process.filter(|process| process.is_alive()) else {
                return Ok((lock, previous));
            };
            ensure!(
                process.is_dying() && Instant::now() < deadline,
                "{} is mirrored by process {} already; change it with --cmd=update, or end it with \
                 --cmd=stop",
                pins.id,
                process.pid
            );
            drop(lock);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The lock, and the instances of the interface and version, in either direction, that l3afd has loaded
    /// and whose process is gone, or about to: l3afd ends them and starts others at once. There is at least
    /// one; those that never had a process come last.
    pub fn lock_to_resume(&self, id: &InstanceId) -> Result<(HostLock<'_>, Vec<Rc<Instance>>)> {
        let deadline = Instant::now() + DYING;
        loop {
            let lock = self.lock()?;
            let mut interrupted = Vec::new();
            for direction in Direction::ALL {
                let instance = lock.find(&id.towards(direction))?;
                interrupted.extend(instance.filter(|it| it.is_loaded_by_l3afd()));
            }
            let processes = interrupted.iter().map(|it| it.process());
            let is_dying = processes.into_iter().any(|it| it.is_alive() && it.is_dying());
            interrupted.retain(|it| !it.process().is_alive());
            interrupted.sort_by_key(|it| it.record().pid == 0);
            let is_late = Instant::now() >= deadline;
            if !interrupted.is_empty() && (!is_dying || is_late) {
                return Ok((lock, interrupted));
            }
            ensure!(
                !is_late,
                "l3afd restarts, and has loaded no program for {} ({}) that lacks its process",
                id.interface,
                id.version
            );
            drop(lock);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// All instances that can be opened, without the lock: others may be at work on them. Those that cannot
    /// be opened are named in the log.
    pub fn instances_unlocked(&self) -> Vec<Instance> {
        let pins = Pins::all(&self.bpffs).into_iter();
        pins.filter_map(|pins| openable(&pins, Instance::open(pins.clone()))).collect()
    }

    /// The live instance that mirrors the interface which has this name now, and had another one when
    /// that was started.
    pub fn renamed(&self, now: &InterfaceName) -> Result<Option<Instance>> {
        let Some(link) = Netlink::open()?.link(now.as_str())? else {
            return Ok(None);
        };
        let mirrors_it = |instance: &Instance| {
            instance.pins.id.interface != *now
                && instance.record().ifindex == link.index
                && instance.is_live()
        };
        Ok(self.instances_unlocked().into_iter().find(mirrors_it))
    }
}

/// The right to change instances, tunnels and routes, which instances share. It is given up by dropping it.
///
/// Directories are listed once, and each instance is opened once: nobody else changes them meanwhile.
#[derive(Debug)]
pub struct HostLock<'a> {
    host: &'a Host,
    known: RefCell<Known>,
    _lock: Flock<File>,
}

/// What has been found out under the lock.
#[derive(Debug, Default)]
struct Known {
    pins: Option<Vec<Pins>>,
    instances: Vec<Rc<Instance>>,
    endpoints: Vec<(InstanceId, Rc<List>)>,
}

impl<'a> HostLock<'a> {
    fn new(host: &'a Host, lock: Flock<File>) -> Self {
        Self { host, known: RefCell::default(), _lock: lock }
    }

    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// Of every instance that has maps pinned, whoever loaded it, in the order of their names.
    pub fn pins(&self) -> Vec<Pins> {
        let mut known = self.known.borrow_mut();
        known.pins.get_or_insert_with(|| Pins::all(&self.host.bpffs)).clone()
    }

    /// The instance that has these pins; `None` where there is none, or what is left of one.
    pub fn instance(&self, pins: &Pins) -> Result<Option<Rc<Instance>>> {
        let mut known = self.known.borrow_mut();
        if let Some(instance) = known.instances.iter().find(|it| it.pins == *pins) {
            return Ok(Some(Rc::clone(instance)));
        }
        let instance = Instance::open(pins.clone())?.map(Rc::new);
        known.instances.extend(instance.clone());
        Ok(instance)
    }

    /// The far ends that the instance with these pins guards against, also where the rest of it is another
    /// version's. Fails where that lists them in another way.
    pub fn endpoints(&self, pins: &Pins) -> Result<Rc<List>> {
        let mut known = self.known.borrow_mut();
        if let Some((_, list)) = known.endpoints.iter().find(|(id, _)| *id == pins.id) {
            return Ok(Rc::clone(list));
        }
        let list = Rc::new(List::pinned(pins)?);
        known.endpoints.push((pins.id.clone(), Rc::clone(&list)));
        Ok(list)
    }

    /// The instance that is meant by an id: see [`Pins::find`].
    pub fn find(&self, id: &InstanceId) -> Result<Option<Rc<Instance>>> {
        self.instance(&Pins::find(&self.host.bpffs, id))
    }

    /// All instances that can be opened; the others are named in the log.
    pub fn instances(&self) -> Vec<Rc<Instance>> {
        self.instances_where(|_| true)
    }

    /// Those of them whose ids are meant; no others are opened.
    pub fn instances_where(&self, is_meant: impl Fn(&InstanceId) -> bool) -> Vec<Rc<Instance>> {
        let pins = self.pins().into_iter().filter(|pins| is_meant(&pins.id));
        pins.filter_map(|pins| openable(&pins, self.instance(&pins))).collect()
    }

    /// Has one instance looked at again: it is new, or gone, or another program has its pins.
    pub fn forget(&self, id: &InstanceId) {
        let mut known = self.known.borrow_mut();
        known.instances.retain(|it| it.pins.id != *id);
        known.endpoints.retain(|(of, _)| of != id);
        known.pins = None;
    }

    /// Puts rules into force, and the tunnel that copies of what they match go into: see [`Maps::apply`].
    pub fn apply(&self, maps: &Maps, rules: &CompiledRules, tunnel: bpf::Tunnel) -> Result<()> {
        maps.apply(rules, tunnel)
    }

    /// Puts another tunnel into force, for the same rules.
    pub fn set_tunnel(&self, maps: &Maps, tunnel: bpf::Tunnel) -> Result<()> {
        maps.apply(&maps.rules_in_force()?, tunnel)
    }

    /// Puts another cap on the rate of what leaves: see [`Instance::set_cap`].
    pub fn set_cap(&self, instance: &Instance, cap: Rate) -> Result<()> {
        instance.set_cap(cap)
    }

    /// Stores the sums of an instance's counters where anybody can read them, and returns them. While rules
    /// are being replaced, theirs count twice: hence under the lock.
    pub fn publish(&self, counters: &Counters) -> Result<bpf::Outcomes> {
        counters.publish()
    }
}

fn openable<T>(pins: &Pins, opened: Result<Option<T>>) -> Option<T> {
    opened.unwrap_or_else(|error| {
        log::warn!("ignoring the instance {}: {error:#}", pins.id);
        None
    })
}
