//! `--cmd=start`: from checked flags to mirrored packets, in one of three launch modes; and going on with
//! what runs, when l3afd restarts.
//!
//! First everything that can be wrong is looked at; only then the host is changed.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{Object, Program, ProgramHandle, ProgramMut};

use crate::attach::chain::Slot;
use crate::attach::hook::{self, Filter, TcxLink};
use crate::bpf;
use crate::bpf::bpffs::{self, Turn};
use crate::bpf::pins::{self, Pins};
use crate::command::launcher::L3afd;
use crate::command::rollback::Undo;
use crate::command::stop;
use crate::daemon::event_loop::Stay;
use crate::daemon::monitor::{self, Watch};
use crate::daemon::publisher::Publisher;
use crate::filter::{self, CompiledRules};
use crate::instance::Instance;
use crate::instance::process::Process;
use crate::logging;
use crate::loop_guard;
use crate::maps::endpoints::{Endpoint, Endpoints};
use crate::maps::{self, Common, Maps};
use crate::model::InstanceId;
use crate::netlink::{Link, Netlink};
use crate::request;
use crate::tunnel::{self, Plan};

/// linux/pkt_cls.h: what the program returns where none follows it.
const TC_ACT_OK: i32 = 0;
const TC_ACT_UNSPEC: i32 = -1;

/// Starts mirroring. Returns when it is to end, or at once where l3afd keeps the program.
pub fn start(bpffs: &Path, start: &request::Start) -> Result<()> {
    bpffs::check_privileges()?;
    // from here on a signal ends us in order, not half-way
    let stay = Stay::prepare()?;
    let mounted = bpffs::check_bpffs(bpffs)?;
    let pins = match &start.map_name {
        Some(slot) => Pins::in_chain(bpffs, &start.id, slot),
        None => Pins::find(bpffs, &start.id),
    };
    let start = &request::Start { id: pins.id.clone(), ..start.clone() };
    let (turn, previous) = Instance::left_behind(&pins, bpffs)?;

    let mut netlink = Netlink::open()?;
    let mirrored = mirrored_interface(&mut netlink, &start.id)?;
    let rules = filter::compile(&start.rules)?;
    let slot = start.map_name.as_ref();
    let slot = slot.map(|path| Slot::pinned(path, bpffs)).transpose()?;
    if let (Some(slot), Some(previous)) = (&slot, &previous) {
        ensure!(
            slot.map_id()? != previous.common.jmp_table_id()?,
            "--map-name: that is the jump table of {} itself; give the previous program's",
            start.id
        );
    }
    let loaded = previous.as_ref().filter(|it| slot.is_none() && it.is_loaded_by_l3afd());
    if loaded.is_none()
        && slot.is_none()
        && let Some(l3afd) = L3afd::that_launched_us()
    {
        l3afd.ensure_it_wants_us_to_load(&pins, mirrored.index, &mut netlink)?;
    }
    let plan = Plan::new(&mut netlink, &start.tunnel, &mirrored, bpffs)?;

    let mut undo = Undo::default();
    // where others take their turns, as soon as something is mounted there
    let mut turn_on_mount = None;
    if !mounted && bpffs::mount_bpffs(bpffs)? {
        undo.with("the mount of the BPF file system", || bpffs::unmount_bpffs(bpffs));
        turn_on_mount = Some(Turn::take(bpffs)?);
    }
    undo.with("tunnel and route", || tunnel::sweep(&mut Netlink::open()?, bpffs));
    let (mut tunnel, troubles) = open_way(&plan, &mut netlink)?;
    tunnel::warn_of_whole_copies(&tunnel, &rules);
    if let Some(rate) = start.max_rate {
        maps::set_cap(&mut tunnel, rate);
    }
    let endpoints = loop_guard::announce(bpffs, Endpoint::of(&tunnel))?;
    let launch = Launch { pins: &pins, ifindex: mirrored.index, rules: &rules, tunnel, endpoints };
    let stays = match loaded {
        Some(instance) => {
            stop::make_way_for_l3afd(instance, &mut netlink, bpffs)?;
            let process = start.resident.then(Process::current).transpose()?;
            launch.fill_in(instance, process)?;
            start.resident
        }
        None => {
            launch.load(previous.as_ref(), slot.as_ref(), &mut netlink, &mut undo, bpffs)?;
            true
        }
    };
    undo.keep();
    // packets are mirrored: what others left is no reason to end
    if let Err(error) = tunnel::sweep(&mut netlink, bpffs) {
        log::warn!("cannot remove unused tunnels and routes: {error:#}");
    }
    drop((turn, turn_on_mount));
    let cap = start.max_rate.map_or(String::new(), |rate| format!(", at most {rate}"));
    log::info!("mirroring {}: {plan}{cap}", start.id);
    if stays {
        let watch = Watch::new(bpffs, start, mirrored, plan, troubles);
        stay_with(bpffs, &pins, stay, watch)?;
    }
    Ok(())
}

/// Goes on with an instance whose process l3afd has ended in order to restart: its rules and their cap
/// stay as they are, since updates may have changed them. l3afd does not say which direction's it is.
/// Both may be without a process, so that it is the one whose tunnel is as the flags have it; if that is true
/// of both, what one does the other would do.
pub fn resume(bpffs: &Path, start: &request::Start) -> Result<()> {
    bpffs::check_privileges()?;
    let stay = Stay::prepare()?;
    bpffs::check_bpffs(bpffs)?;
    let (turn, interrupted) = Instance::interrupted(bpffs, &start.id)?;

    let mut netlink = Netlink::open()?;
    let mirrored = mirrored_interface(&mut netlink, &start.id)?;
    let plan = Plan::new(&mut netlink, &start.tunnel, &mirrored, bpffs)?;
    let (tunnel, troubles) = open_way(&plan, &mut netlink)?;
    let in_force = |it: &Instance| it.tunnel().ok().flatten();
    let redirected = |it: &Instance| in_force(it).map(|from| tunnel::redirected(from, tunnel));
    let as_it_is = |it: &&Instance| matches!(redirected(it), Some(None));
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
                loop_guard::announce(bpffs, Endpoint::of(&tunnel))?;
                maps.redirect(tunnel)?;
            }
            maps.common.instance.write(0, record_of(mirrored.index, process));
            instance.counters()?.publish()?;
        }
        None => {
            let rules = filter::compile(&start.rules)?;
            let endpoints = loop_guard::announce(bpffs, Endpoint::of(&tunnel))?;
            let mut tunnel = tunnel;
            if let Some(rate) = start.max_rate {
                maps::set_cap(&mut tunnel, rate);
            }
            let launch = Launch { pins, ifindex: mirrored.index, rules: &rules, tunnel, endpoints };
            launch.fill_in(instance, process)?;
        }
    }
    drop(turn);
    log::info!("resumed {} after a restart of l3afd: {plan}", start.id);
    if start.resident {
        let watch = Watch::new(bpffs, start, mirrored, plan, troubles);
        stay_with(bpffs, pins, stay, watch)?;
    }
    Ok(())
}

/// Until a signal comes. Where it is that of an l3afd which restarts, the kernel mirrors on, and the next
/// process of l3afd's takes over.
fn stay_with(bpffs: &Path, pins: &Pins, stay: Stay, watch: Watch<'_>) -> Result<()> {
    // not inside the macro, which evaluates nothing where nobody logs
    let signal = stay.wait(watch, Publisher::new(bpffs, pins))?;
    if L3afd::that_launched_us().is_some_and(|l3afd| l3afd.is_restarting()) {
        log::info!("received {signal}, leaving {} to the kernel while l3afd restarts", pins.id);
        return Ok(());
    }
    log::info!("received {signal}, stopping {}", pins.id);
    stop::end_own(bpffs, &pins.id)
}

/// Makes the way to the collector, and returns what is wrong with it.
fn open_way(plan: &Plan, netlink: &mut Netlink) -> Result<(bpf::Tunnel, Vec<String>)> {
    let tunnel = plan.carry_out(netlink, None)?;
    let mut troubles = plan.warnings();
    if !plan.resolve(netlink)? {
        troubles.extend(monitor::silence_of(plan));
    }
    for trouble in &troubles {
        log::warn!("{trouble}");
    }
    Ok((tunnel, troubles))
}

/// The interface to mirror from: there, and with Ethernet headers.
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

/// A start, once it is clear that it can go ahead.
struct Launch<'a> {
    pins: &'a Pins,
    ifindex: u32,
    rules: &'a CompiledRules,
    tunnel: bpf::Tunnel,
    /// of all instances' tunnels
    endpoints: Endpoints,
}

impl Launch<'_> {
    /// l3afd has loaded and attached the program: its maps are all that is left to do.
    fn fill_in(&self, instance: &Instance, process: Option<Process>) -> Result<()> {
        let maps = instance.maps()?;
        maps.common.instance.write(0, record_of(self.ifindex, process));
        self.install(&maps)?;
        // what a program counted before l3afd crashed goes on
        instance.counters()?.publish()
    }

    fn install(&self, maps: &Maps) -> Result<()> {
        maps.endpoints.write(Endpoint::of(&self.tunnel), &self.endpoints)?;
        maps.install(self.rules, self.tunnel)
    }

    /// Loads the program ourselves, in the place of `previous` where that left one behind, and
    /// gives it its packets: from the chain, or else from the interface itself.
    fn load(
        &self,
        previous: Option<&Instance>,
        slot: Option<&Slot>,
        netlink: &mut Netlink,
        undo: &mut Undo,
        bpffs: &Path,
    ) -> Result<()> {
        let direction = self.pins.id.direction;
        let jmp_table = pins::jmp_table(direction);
        // whoever is linked behind the previous program is behind this one at once
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
        self.install(&maps)?;

        let mut record = record_of(self.ifindex, None);
        record.program = Program::id_from_fd(program.as_fd())?;
        record.previous_map = slot.map(Slot::map_id).transpose()?.unwrap_or(0);
        maps.common.instance.write(0, record);

        // Killed at any moment, we leave what the next command finds by its pins: so they come
        // before the packets. A previous program keeps its own until the new one is in its place.
        if previous.is_none() {
            let pins = self.pins.clone();
            undo.with("the pins", move || pins.remove());
            self.pin(&object, &program)?;
        }
        let dead = previous.map(|previous| (previous, previous.record()));
        match slot {
            Some(slot) => enter_chain(slot, &program, &maps.common, previous)?,
            None => self.attach(&program, &maps.common, previous, netlink)?,
        }
        if let Some((dead, known)) = dead {
            // it may have had its packets from elsewhere: another chain, or none
            stop::detach_dead(dead, &known, record.program, netlink, bpffs)?;
            self.pin(&object, &program)?;
        }
        // the last word: until now nothing says that this runs
        let process = Process::current()?;
        let mut record = maps.common.instance.read(0);
        (record.pid, record.start_time) = (process.pid, process.start_time);
        maps.common.instance.write(0, record);
        Ok(())
    }

    fn pin(&self, object: &Object, program: &ProgramMut<'_>) -> Result<()> {
        // a previous program's pin goes first: beside our maps it would be taken for one of l3afd's
        pins::remove(&self.pins.program())?;
        let names = pins::map_names(self.pins.id.direction);
        for name in &names {
            pins::pin(bpf::map(object, name)?.as_fd(), &self.pins.map(name))?;
        }
        // of another version
        self.pins.remove_maps_but(&names)?;
        pins::pin(program.as_fd(), &self.pins.program())
    }

    /// Attaches to the interface, or puts the program in place of the previous one there.
    fn attach(
        &self,
        program: &ProgramMut<'_>,
        common: &Common,
        previous: Option<&Instance>,
        netlink: &mut Netlink,
    ) -> Result<()> {
        let program = program.as_fd();
        let direction = self.pins.id.direction;
        // an interface that has another name by now keeps its link
        if let Some(link) = TcxLink::pinned(&self.pins.link())?
            && link.is_on(self.ifindex)
        {
            match link.replace(program) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    log::info!("attaching again, as the program cannot be replaced: {error:#}")
                }
            }
        }
        if let Some(previous) = previous
            && let Some(filter) = Filter::of(&previous.record(), direction)
        {
            if filter.ifindex == self.ifindex && filter.replace(program).is_ok() {
                let mut record = common.instance.read(0);
                filter.note_in(&mut record);
                record.made_clsact = previous.record().made_clsact;
                common.instance.write(0, record);
                return Ok(());
            }
            // its place in the record is needed for the next one
            let programs = previous.programs()?;
            filter.detach(program, |id| programs.contains(&id))?;
        }
        let records = [Some(common), previous.map(|previous| &previous.common)];
        let records: Vec<_> = records.into_iter().flatten().map(|maps| &maps.instance).collect();
        hook::attach(program, self.ifindex, self.pins, netlink, &records)
    }
}

/// What later commands have to know of an instance that mirrors the interface.
fn record_of(ifindex: u32, process: Option<Process>) -> bpf::Instance {
    bpf::Instance {
        start_time: process.map_or(0, |process| process.start_time),
        pid: process.map_or(0, |process| process.pid),
        ifindex,
        ..Default::default()
    }
}

/// Takes the place of the previous program in the chain that begins with the slot. Where there is none,
/// takes the slot: who stood there comes behind us, so that nobody drops out of the chain.
fn enter_chain(
    slot: &Slot,
    program: &ProgramMut<'_>,
    common: &Common,
    previous: Option<&Instance>,
) -> Result<()> {
    let programs = previous.map(Instance::programs).transpose()?.unwrap_or_default();
    if let Some(place) = slot.place_of(|id| programs.contains(&id))? {
        return place.put(program.as_fd());
    }
    if let Some(id) = slot.program()? {
        let successor = ProgramHandle::from_prog_id(id).context("cannot open the next program")?;
        Slot::of_jmp_table(&common.jmp_table)?.put(successor.as_fd())?;
    }
    slot.put(program.as_fd())
}
