//! `--cmd=stop`, and the end of a process that stays: everything that we made goes, nothing else.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::attach::chain::Slot;
use crate::attach::hook::{Filter, TcxLink, remove_clsact};
use crate::bpf;
use crate::bpf::bpffs::{self, Turn};
use crate::bpf::pins::{self, Pins};
use crate::instance::Instance;
use crate::instance::process::Process;
use crate::maps;
use crate::model::{InstanceId, Selection};
use crate::netlink::Netlink;
use crate::tunnel;

/// How long a process gets to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the instances that are selected, with or without a process.
pub fn stop(bpffs: &Path, selection: &Selection) -> Result<()> {
    bpffs::check_privileges()?;
    if !bpffs::check_bpffs(bpffs)? {
        log::info!("nothing to stop: no BPF file system is mounted at {}", bpffs.display());
        return Ok(());
    }
    if selected(bpffs, selection).is_empty() {
        if let Some(name) = &selection.interface
            && let Some(instance) = Instance::of_renamed(bpffs, name)?
        {
            let then = &instance.pins.id.interface;
            bail!(
                "\"{name}\" was called \"{then}\" when its mirroring was started; \
                 --cmd=stop --iface={then} ends it"
            );
        }
        log::info!("nothing to stop: no such instance");
    }
    // A process takes a turn to end, so it is told before we take ours. While we wait for that, a
    // start may come to its end.
    let _turn = loop {
        end_processes(&selected(bpffs, selection))?;
        let turn = Turn::take(bpffs)?;
        if !selected(bpffs, selection).iter().any(|instance| instance.process().is_alive()) {
            break turn;
        }
    };
    let mut netlink = Netlink::open()?;
    for instance in selected(bpffs, selection) {
        end(&instance, &mut netlink, bpffs)?;
    }
    for pins in Pins::all(bpffs) {
        if selection.includes(&pins.id) && maps::are_remains(&pins) {
            pins.remove()?;
            log::info!("removed the incomplete pins of {}", pins.id);
        }
    }
    tunnel::sweep(&mut netlink, bpffs)
}

/// Ends the processes of the instances that are selected. The kernel mirrors on: l3afd is about to restart,
/// and starts others then.
pub fn stop_processes(bpffs: &Path, selection: &Selection) -> Result<()> {
    bpffs::check_privileges()?;
    if !bpffs::check_bpffs(bpffs)? {
        return Ok(());
    }
    // in our turn none of them is at work
    let _turn = Turn::take(bpffs)?;
    for instance in selected(bpffs, selection) {
        let (id, process) = (&instance.pins.id, instance.process());
        if process.is_alive() {
            ensure!(process.kill(PATIENCE)?, "process {} of {id} does not end", process.pid);
            log::info!(
                "ended process {} of {id}, which stays in the kernel while l3afd restarts",
                process.pid
            );
        }
    }
    Ok(())
}

/// Ends the instance that this process stayed with.
pub fn end_own(bpffs: &Path, id: &InstanceId) -> Result<()> {
    let _turn = Turn::take(bpffs)?;
    let mut netlink = Netlink::open()?;
    if let Some(instance) = Instance::open(Pins::new(bpffs, id))?
        && instance.process() == Process::current()?
    {
        end(&instance, &mut netlink, bpffs)?;
    }
    tunnel::sweep(&mut netlink, bpffs)
}

fn end_processes(instances: &[Instance]) -> Result<()> {
    for instance in instances {
        let process = instance.process();
        ensure!(
            !process.is_alive() || process.terminate(PATIENCE)?,
            "process {0} of {1} does not end; `kill -9 {0}` and run --cmd=stop once more",
            process.pid,
            instance.pins.id
        );
    }
    Ok(())
}

fn selected(bpffs: &Path, selection: &Selection) -> Vec<Instance> {
    let mut instances = Instance::all(bpffs);
    instances.retain(|instance| selection.includes(&instance.pins.id));
    instances
}

fn end(instance: &Instance, netlink: &mut Netlink, bpffs: &Path) -> Result<()> {
    let id = &instance.pins.id;
    // the kernel takes its time to end a link, and others soon stop to guard against our copies
    instance.common.disable();
    // an older version's list may be another
    if let Ok(list) = maps::endpoints::List::pinned(&instance.pins) {
        list.clear();
    }
    let outcomes = instance.counters().and_then(|counters| {
        counters.publish()?;
        counters.total()
    });
    if instance.is_self_loaded() {
        let programs = instance.programs()?;
        detach(instance, &instance.record(), |id| programs.contains(&id), netlink, bpffs)?;
        instance.pins.remove()?;
    } else {
        // the program and its pins are l3afd's
        instance.common.instance.write(0, bpf::Instance::default());
    }
    match outcomes {
        Ok(outcomes) => log::info!("stopped {id}: {}", in_words(&outcomes)),
        Err(error) => log::warn!("stopped {id}; its counters cannot be read: {error:#}"),
    }
    Ok(())
}

/// What became of the packets.
fn in_words(it: &bpf::Outcomes) -> String {
    // named only where they occur: rules ask for the first two, and only foreign tunnels lead to the last
    let if_any = |name: &str, count: u64| match count {
        0 => String::new(),
        _ => format!(", {name} {count}"),
    };
    format!(
        "matched {}, sent {}{}{}, dropped {} (loop guard {}, oversize {}, rate limit {}, device {}{})",
        it.matched,
        it.sent,
        if_any("excluded", it.excluded),
        if_any("not sampled", it.not_sampled),
        it.guarded + it.oversize + it.over_rate + it.failed + it.unsupported,
        it.guarded,
        it.oversize,
        it.over_rate,
        it.failed,
        if_any("unsupported", it.unsupported),
    )
}

/// Takes away what a dead instance of ours left attached, over whose maps l3afd has loaded a program
/// of its own since.
pub fn make_way_for_l3afd(instance: &Instance, netlink: &mut Netlink, bpffs: &Path) -> Result<()> {
    if instance.common.config.read(0).loader == bpf::Loader::MIRRORING_LOADER_L3AFD {
        return Ok(());
    }
    let successor = instance.program().unwrap_or(0);
    detach_dead(instance, &instance.record(), successor, netlink, bpffs)?;
    instance.common.config.give_to_l3afd();
    Ok(())
}

/// Takes a dead instance's programs away from their packets, wherever the successor, which leads on
/// through the same jump table, has not taken their place. `record` is what was known before that.
pub fn detach_dead(
    instance: &Instance,
    record: &bpf::Instance,
    successor: u32,
    netlink: &mut Netlink,
    bpffs: &Path,
) -> Result<()> {
    let programs = instance.programs()?;
    let is_dead = |program| program != successor && programs.contains(&program);
    detach(instance, record, is_dead, netlink, bpffs)?;
    let link = instance.pins.link();
    if TcxLink::program(&link).is_some_and(is_dead) {
        pins::remove(&link)?;
    }
    Ok(())
}

/// Takes the program away from its packets. (A TCX link ends with its pin.)
fn detach(
    instance: &Instance,
    record: &bpf::Instance,
    is_ours: impl Fn(u32) -> bool,
    netlink: &mut Netlink,
    bpffs: &Path,
) -> Result<()> {
    let next = Slot::of_jmp_table(&instance.common.jmp_table)?;
    for slot in Slot::all_of(&is_ours) {
        slot.leave(&next)?;
    }
    let any = instance.common.jmp_table.as_fd();
    if let Some(filter) = Filter::of(record, instance.pins.id.direction) {
        filter.detach(any, is_ours)?;
        if record.made_clsact != 0 && !remove_clsact(any, record.ifindex, netlink)? {
            bequeath_clsact(instance, bpffs);
        }
    }
    Ok(())
}

/// The clsact qdisc that we made is in use: where it is the other direction's instance that uses
/// it, that one removes it when it ends.
fn bequeath_clsact(instance: &Instance, bpffs: &Path) {
    for heir in Instance::all(bpffs) {
        let mut record = heir.record();
        let same_interface = record.ifindex == instance.record().ifindex;
        if heir.pins != instance.pins && same_interface && record.filter_handle != 0 {
            record.made_clsact = 1;
            heir.common.instance.write(0, record);
            return;
        }
    }
}
