//! `--cmd=start`, in three launch modes: alone on an interface, in a chain, or with a program that l3afd has loaded.
//! Also resuming what runs after a restart of l3afd.
//!
//! First everything that can be wrong is checked. Only then the host is changed.

use std::mem;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{Object, Program, ProgramMut};

use crate::attach::chain::Slot;
use crate::bpf;
use crate::bpf::map_defs;
use crate::bpf::pins::{self, Pins};
use crate::command::launcher::L3afd;
use crate::command::rollback::Undo;
use crate::daemon::event_loop::EventLoop;
use crate::daemon::monitor::{self, Monitor};
use crate::daemon::publisher::Publisher;
use crate::filter::{self, CompiledRules};
use crate::instance::host::{Host, HostLock};
use crate::instance::process::Process;
use crate::instance::{Instance, attachment};
use crate::logging;
use crate::loop_guard;
use crate::maps::endpoints::{Endpoint, Endpoints};
use crate::maps::{self, Maps};
use crate::model::InstanceId;
use crate::netlink::{Link, Netlink};
use crate::request;
use crate::tunnel::{self, Plan};

/// Verdicts of linux/pkt_cls.h, for a program without a next one.
const TC_ACT_OK: i32 = 0;
const TC_ACT_UNSPEC: i32 = -1;

/// Starts mirroring. Returns when it has ended, or at once if l3afd keeps the program and no process is to stay.
pub fn start(host: &Host, start: &request::Start) -> Result<()> {
    // from here on signals are handled in order, and do not interrupt a step
    let event_loop = EventLoop::prepare()?;
    let pins = match &start.map_name {
        Some(slot) => Pins::in_chain(host.bpffs(), &start.id, slot),
        None => Pins::find(host.bpffs(), &start.id),
    };
    let start = &request::Start { id: pins.id.clone(), ..start.clone() };
    let (mut lock, previous) = host.lock_to_start(&pins)?;
    let previous = previous.as_deref();

    let mut netlink = Netlink::open()?;
    let mirrored = mirrored_interface(&mut netlink, &start.id)?;
    let rules = filter::compile(&start.rules)?;
    let slot = start.map_name.as_ref();
    let slot = slot.map(|path| Slot::pinned(path, host.bpffs())).transpose()?;
    if let (Some(slot), Some(previous)) = (&slot, previous) {
        ensure!(
            slot.map_id()? != previous.common.jmp_table_id()?,
            "--map-name: that is the jump table of {} itself; give the previous program's",
            start.id
        );
    }
    let loaded = previous.filter(|it| slot.is_none() && it.is_loaded_by_l3afd());
    let must_load = loaded.is_none() && slot.is_none();
    if let Some(l3afd) = L3afd::that_launched_us().filter(|_| must_load) {
        l3afd.ensure_it_wants_us_to_load(&pins, mirrored.index, &mut netlink)?;
    }
    let plan = Plan::new(&mut netlink, &start.tunnel, &mirrored, &lock)?;

    let mut lock_of_mount_point = None;
    let mounted = host.mount()?;
    if mounted {
        // from now on other commands lock what is mounted, not the directory below; one may have been first
        let (of_mounted, started) = host.lock_to_start(&pins)?;
        ensure!(started.is_none(), "another command has started {} meanwhile; try again", start.id);
        lock_of_mount_point = Some(mem::replace(&mut lock, of_mounted));
    }
    let lock = lock;
    let mut undo = Undo::default();
    if mounted {
        undo.with("the mount of the BPF file system", || host.unmount());
    }
    undo.with("tunnel and route", || {
        lock.forget(&start.id);
        tunnel::clean_up(&mut Netlink::open()?, &lock)
    });
    let (mut tunnel, problems) = open_way(&plan, &mut netlink)?;
    tunnel::warn_of_whole_copies(&tunnel, &rules);
    if let Some(rate) = start.max_rate {
        maps::set_cap(&mut tunnel, rate);
    }
    let endpoints = loop_guard::register(&lock, Endpoint::of(&tunnel))?;
    let launch = Launch {
        pins: &pins,
        ifindex: mirrored.index,
        rules: &rules,
        tunnel,
        endpoints,
        lock: &lock,
    };
    let stays = match loaded {
        Some(instance) => {
            attachment::hand_over_to_l3afd(instance, &mut netlink, &lock)?;
            let process = start.resident.then(Process::current).transpose()?;
            launch.fill_in(instance, process)?;
            start.resident
        }
        None => {
            launch.load(previous, slot.as_ref(), &mut netlink, &mut undo)?;
            true
        }
    };
    undo.keep();
    // mirroring works, so leftovers of others are no reason to stop
    lock.forget(&start.id);
    if let Err(error) = tunnel::clean_up(&mut netlink, &lock) {
        log::warn!("cannot remove unused tunnels and routes: {error:#}");
    }
    drop((lock, lock_of_mount_point));
    let cap = start.max_rate.map_or(String::new(), |rate| format!(", at most {rate}"));
    log::info!("mirroring {}: {plan}{cap}", start.id);
    if stays {
        let monitor = Monitor::new(host, start, mirrored, plan, problems);
        stay_with(host, &pins, event_loop, monitor)?;
    }
    Ok(())
}

/// Resumes an instance whose process l3afd has ended for its restart. The rules and their cap stay as they are, since
/// updates may have changed them.
///
/// l3afd does not say which direction it means, and both may lack their process. So the instance is taken whose
/// tunnel is as the flags say. If that is true of both, it does not matter which process resumes which.
pub fn resume(host: &Host, start: &request::Start) -> Result<()> {
    let event_loop = EventLoop::prepare()?;
    let (lock, interrupted) = host.lock_to_resume(&start.id)?;

    let mut netlink = Netlink::open()?;
    let mirrored = mirrored_interface(&mut netlink, &start.id)?;
    let plan = Plan::new(&mut netlink, &start.tunnel, &mirrored, &lock)?;
    let (tunnel, problems) = open_way(&plan, &mut netlink)?;
    let in_force = |it: &Instance| it.tunnel().ok().flatten();
    let redirected = |it: &Instance| in_force(it).map(|from| tunnel::redirected(from, tunnel));
    let as_it_is = |it: &&Rc<Instance>| matches!(redirected(it), Some(None));
    let instance = interrupted.iter().find(as_it_is).or(interrupted.first());
    let instance = instance.expect("there is one at least");
    let pins = &instance.pins;
    let start = &request::Start { id: pins.id.clone(), ..start.clone() };
    logging::set_subject(start.id.subject());

    let process = start.resident.then(Process::current).transpose()?;
    match redirected(instance) {
        Some(other_way) => {
            let maps = instance.maps()?;
            if let Some(tunnel) = other_way {
                loop_guard::register(&lock, Endpoint::of(&tunnel))?;
                lock.set_tunnel(&maps, tunnel)?;
            }
            maps.common.instance.write(0, record_of(mirrored.index, process));
            lock.publish(instance.counters()?)?;
        }
        None => {
            let rules = filter::compile(&start.rules)?;
            let endpoints = loop_guard::register(&lock, Endpoint::of(&tunnel))?;
            let mut tunnel = tunnel;
            if let Some(rate) = start.max_rate {
                maps::set_cap(&mut tunnel, rate);
            }
            let launch = Launch {
                pins,
                ifindex: mirrored.index,
                rules: &rules,
                tunnel,
                endpoints,
                lock: &lock,
            };
            launch.fill_in(instance, process)?;
        }
    }
    drop(lock);
    log::info!("resumed {} after a restart of l3afd: {plan}", start.id);
    if start.resident {
        let monitor = Monitor::new(host, start, mirrored, plan, problems);
        stay_with(host, pins, event_loop, monitor)?;
    }
    Ok(())
}

/// Stays until a signal comes. If l3afd sent it for its restart, the kernel keeps mirroring, and l3afd's next process
/// resumes.
fn stay_with(host: &Host, pins: &Pins, event_loop: EventLoop, monitor: Monitor<'_>) -> Result<()> {
    // not inside the log macro, which evaluates nothing when logging is off
    let signal = event_loop.run(monitor, Publisher::new(host, pins))?;
    if L3afd::that_launched_us().is_some_and(|l3afd| l3afd.is_restarting()) {
        log::info!("received {signal}, leaving {} to the kernel while l3afd restarts", pins.id);
        return Ok(());
    }
    log::info!("received {signal}, stopping {}", pins.id);
    let lock = host.lock()?;
    let mut netlink = Netlink::open()?;
    if let Some(instance) = lock.instance(pins)? {
        // another process may have taken over
        if instance.process() == Process::current()? {
            instance.end(&mut netlink, &lock)?;
        }
    }
    tunnel::clean_up(&mut netlink, &lock)
}

/// Creates the way to the collector. Returns the tunnel entry, and what is wrong with the way.
fn open_way(plan: &Plan, netlink: &mut Netlink) -> Result<(bpf::Tunnel, Vec<String>)> {
    let tunnel = plan.carry_out(netlink, None)?;
    let mut problems = plan.warnings();
    if !plan.resolve(netlink)? {
        problems.extend(monitor::unresolved_next_hop(plan));
    }
    for problem in &problems {
        log::warn!("{problem}");
    }
    Ok((tunnel, problems))
}

/// The interface to mirror. It must exist and have Ethernet headers.
fn mirrored_interface(netlink: &mut Netlink, id: &InstanceId) -> Result<Link> {
    let name = &id.interface;
    let link = netlink.link(name.as_str())?;
    let link = link.with_context(|| {
        format!("--iface: there is no interface \"{name}\"; `ip link` lists those there are")
    })?;
    ensure!(
        link.ethernet,
        "--iface: the packets of \"{name}\" have no Ethernet headers (a tun or WireGuard device, \
         say), and those cannot be mirrored; name the interface that it sends through"
    );
    Ok(link)
}

/// What a start puts into force, after all checks.
struct Launch<'a> {
    pins: &'a Pins,
    ifindex: u32,
    rules: &'a CompiledRules,
    tunnel: bpf::Tunnel,
    /// of the tunnels of all instances
    endpoints: Endpoints,
    lock: &'a HostLock<'a>,
}

impl Launch<'_> {
    /// For a program that l3afd has loaded and attached: only its maps have to be filled in.
    fn fill_in(&self, instance: &Instance, process: Option<Process>) -> Result<()> {
        let maps = instance.maps()?;
        maps.common.instance.write(0, record_of(self.ifindex, process));
        self.apply(&maps)?;
        // the counters of a program from before a crash of l3afd go on
        self.lock.publish(instance.counters()?).map(drop)
    }

    fn apply(&self, maps: &Maps) -> Result<()> {
        maps.endpoints.write(Endpoint::of(&self.tunnel), &self.endpoints)?;
        self.lock.apply(maps, self.rules, self.tunnel)
    }

    /// Loads the program, in place of `previous` if there is one, and attaches it to the chain or to the interface.
    fn load(
        &self,
        previous: Option<&Instance>,
        slot: Option<&Slot>,
        netlink: &mut Netlink,
        undo: &mut Undo,
    ) -> Result<()> {
        let direction = self.pins.id.direction;
        let jmp_table = map_defs::JMP_TABLE.name(direction);
        // with its jump table, the next program of the chain follows the new program at once
        let reuse = previous.map(|previous| (jmp_table.as_str(), &previous.common.jmp_table));
        let object = bpf::load(bpf::object_bytes(direction), reuse.as_slice())?;
        let program = bpf::program(&object);
        let maps = Maps::of(&object, direction)?;
        maps.common.config.write(
            0,
            bpf::Config {
                loader: bpf::Loader::MIRRORING_LOADER_SELF,
                verdict: if slot.is_some() { TC_ACT_OK } else { TC_ACT_UNSPEC },
                ..Default::default()
            },
        );
        self.apply(&maps)?;

        let mut record = record_of(self.ifindex, None);
        record.program = Program::id_from_fd(program.as_fd())?;
        record.previous_map = slot.map(Slot::map_id).transpose()?.unwrap_or(0);
        maps.common.instance.write(0, record);

        // If we are killed, the next command finds what we did by our pins. So the pins come before the packets. A
        // previous program keeps its pins until the new one has its place.
        if previous.is_none() {
            let pins = self.pins.clone();
            undo.with("the pins", move || pins.remove());
            self.pin(&object, &program)?;
        }
        let dead = previous.map(|previous| (previous, previous.record()));
        match slot {
            Some(slot) => {
                attachment::enter_chain(slot, program.as_fd(), &maps.common, previous)?;
            }
            None => attachment::attach_or_replace(
                program.as_fd(),
                self.ifindex,
                self.pins,
                &maps.common,
                previous,
                netlink,
            )?,
        }
        if let Some((dead, known)) = dead {
            // the previous program may have been attached elsewhere: in another chain, or alone
            attachment::detach_dead(dead, &known, record.program, netlink, self.lock)?;
            self.pin(&object, &program)?;
        }
        // last of all: only now the record says that this runs
        let process = Process::current()?;
        let mut record = maps.common.instance.read(0);
        (record.pid, record.start_time) = (process.pid, process.start_time);
        maps.common.instance.write(0, record);
        Ok(())
    }

    fn pin(&self, object: &Object, program: &ProgramMut<'_>) -> Result<()> {
        // remove a previous program's pin first: next to our maps it would look like a program of l3afd's
        pins::remove(&self.pins.program())?;
        let names = pins::map_names(self.pins.id.direction);
        for name in &names {
            pins::pin(bpf::map(object, name)?.as_fd(), &self.pins.map(name))?;
        }
        // only another version has these
        self.pins.remove_maps_but(&names)?;
        pins::pin(program.as_fd(), &self.pins.program())
    }
}

/// The record of an instance, for later commands.
fn record_of(ifindex: u32, process: Option<Process>) -> bpf::Instance {
    bpf::Instance {
        start_time: process.map_or(0, |process| process.start_time),
        pid: process.map_or(0, |process| process.pid),
        ifindex,
        ..Default::default()
    }
}
