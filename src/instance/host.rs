//! The host with its instances, and the lock that a command takes to work on them.

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

/// How long we wait for a process that is being killed, and how often we look.
const DYING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One BPF file system, and the instances whose maps are pinned there.
#[derive(Debug, Clone)]
pub struct Host {
    bpffs: PathBuf,
}

impl Host {
    /// Fails where this process lacks a privilege, or where there is no directory at which the BPF file system could
    /// be mounted.
    pub fn open(bpffs: &Path) -> Result<Self> {
        bpffs::check_privileges()?;
        bpffs::check_bpffs(bpffs)?;
        Ok(Self { bpffs: bpffs.to_owned() })
    }

    /// Root of the BPF file system, as it was given to [`open`](Self::open).
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

    /// Undoes [`mount`](Self::mount), even while we hold a lock in the mounted file system. If another command has
    /// started an instance there since, the mount stays.
    pub fn unmount(&self) -> Result<()> {
        if Pins::all(&self.bpffs).is_empty() { bpffs::unmount_bpffs(&self.bpffs) } else { Ok(()) }
    }

    /// Device number of the file system. It tells apart several BPF file systems on one host.
    pub fn device(&self) -> u64 {
        fs::metadata(&self.bpffs).map_or(0, |metadata| metadata.dev())
    }

    /// Takes the lock, waiting for other commands to release it.
    pub fn lock(&self) -> Result<HostLock<'_>> {
        bpffs::lock(&self.bpffs).map(|lock| HostLock::new(self, lock))
    }

    /// Takes the lock; `None` where another command holds it.
    pub fn try_lock(&self) -> Option<HostLock<'_>> {
        bpffs::try_lock(&self.bpffs).map(|lock| HostLock::new(self, lock))
    }

    /// Takes the lock for a start. Returns what a previous start left at these pins, if anything. Its process must be
    /// gone or dying: l3afd kills one and starts the next at once.
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

    /// Takes the lock to resume after a restart of l3afd. Returns the instances of this interface and version, in
    /// either direction, that l3afd has loaded and whose process is gone: at least one, those that never had a
    /// process last. A process that is dying is waited for: l3afd kills one and starts the next at once.
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

    /// All instances, without the lock, so others may be changing them. Those that cannot be opened are left out and
    /// named in the log.
    pub fn instances_unlocked(&self) -> Vec<Instance> {
        let pins = Pins::all(&self.bpffs).into_iter();
        pins.filter_map(|pins| openable(&pins, Instance::open(pins.clone()))).collect()
    }

    /// The instance with rules in force that mirrors the interface of this name, but was started when the interface
    /// had another name.
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

/// The lock of a host. Whoever holds it may change instances, tunnels and routes, which instances share. Dropping it
/// releases it.
///
/// Nobody else changes instances meanwhile, so directories are listed once and each instance is opened once.
#[derive(Debug)]
pub struct HostLock<'a> {
    host: &'a Host,
    known: RefCell<Known>,
    _lock: Flock<File>,
}

/// What has been read under the lock.
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

    /// The host that is locked, for what needs no lock.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// The pins of every instance, whoever loaded it, sorted by name.
    pub fn pins(&self) -> Vec<Pins> {
        let mut known = self.known.borrow_mut();
        known.pins.get_or_insert_with(|| Pins::all(&self.host.bpffs)).clone()
    }

    /// The instance with these pins; `None` where there is none, or where the pins are incomplete.
    pub fn instance(&self, pins: &Pins) -> Result<Option<Rc<Instance>>> {
        let mut known = self.known.borrow_mut();
        if let Some(instance) = known.instances.iter().find(|it| it.pins == *pins) {
            return Ok(Some(Rc::clone(instance)));
        }
        let instance = Instance::open(pins.clone())?.map(Rc::new);
        known.instances.extend(instance.clone());
        Ok(instance)
    }

    /// The list of endpoints that the instance with these pins guards against, whatever the version of its other
    /// maps. Fails where the list itself has another form.
    pub fn endpoints(&self, pins: &Pins) -> Result<Rc<List>> {
        let mut known = self.known.borrow_mut();
        if let Some((_, list)) = known.endpoints.iter().find(|(id, _)| *id == pins.id) {
            return Ok(Rc::clone(list));
        }
        let list = Rc::new(List::pinned(pins)?);
        known.endpoints.push((pins.id.clone(), Rc::clone(&list)));
        Ok(list)
    }

    /// The instance that an id means: see [`Pins::find`].
    pub fn find(&self, id: &InstanceId) -> Result<Option<Rc<Instance>>> {
        self.instance(&Pins::find(&self.host.bpffs, id))
    }

    /// All instances. Those that cannot be opened are left out and named in the log.
    pub fn instances(&self) -> Vec<Rc<Instance>> {
        self.instances_where(|_| true)
    }

    /// The instances whose ids are meant. No others are opened.
    pub fn instances_where(&self, is_meant: impl Fn(&InstanceId) -> bool) -> Vec<Rc<Instance>> {
        let pins = self.pins().into_iter().filter(|pins| is_meant(&pins.id));
        pins.filter_map(|pins| openable(&pins, self.instance(&pins))).collect()
    }

    /// Forgets what was read of an instance. Call it after changing, adding or removing its pins.
    pub fn forget(&self, id: &InstanceId) {
        let mut known = self.known.borrow_mut();
        known.instances.retain(|it| it.pins.id != *id);
        known.endpoints.retain(|(of, _)| of != id);
        known.pins = None;
    }

    /// Puts rules and their tunnel into force: see [`Maps::apply`].
    pub fn apply(&self, maps: &Maps, rules: &CompiledRules, tunnel: bpf::Tunnel) -> Result<()> {
        maps.apply(rules, tunnel)
    }

    /// Puts another tunnel into force, with the same rules. Their counters begin anew.
    pub fn set_tunnel(&self, maps: &Maps, tunnel: bpf::Tunnel) -> Result<()> {
        maps.apply(&maps.rules_in_force()?, tunnel)
    }

    /// Changes the cap on the rate: see [`Instance::set_cap`].
    pub fn set_cap(&self, instance: &Instance, cap: Rate) -> Result<()> {
        instance.set_cap(cap)
    }

    /// Publishes the sums of an instance's counters, and returns them: see [`Counters::publish`].
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
