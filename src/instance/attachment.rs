//! Attaching an instance's program, detaching it, and handing over to a successor: in a chain, by TCX or by clsact.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use libbpf_rs::{Program, ProgramHandle};

use super::Instance;
use super::host::HostLock;
use crate::attach::chain::Slot;
use crate::attach::clsact::{self, ClsactFilter};
use crate::attach::tcx::TcxLink;
use crate::bpf;
use crate::bpf::loaded_programs;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::pins::{self, Pins};
use crate::maps::Common;
use crate::netlink::Netlink;

/// Puts a program in the place that the previous one has in the chain beginning with this slot. If it has none, the
/// program takes the slot itself, and the one that was there comes next, so that nobody drops out of the chain.
pub fn enter_chain(
    slot: &Slot,
    program: BorrowedFd<'_>,
    common: &Common,
    previous: Option<&Instance>,
) -> Result<()> {
    let dead = previous.map(Instance::programs).transpose()?.unwrap_or_default();
    if let Some(place) = slot.place_of(|id| dead.contains(&id))? {
        return place.put(program);
    }
    if let Some(id) = slot.program()? {
        let successor = ProgramHandle::from_prog_id(id).context("cannot open the next program")?;
        Slot::of_jmp_table(&common.jmp_table)?.put(successor.as_fd())?;
    }
    slot.put(program)
}

/// Attaches a program to the interface, or replaces the previous one there.
pub fn attach_or_replace(
    program: BorrowedFd<'_>,
    ifindex: u32,
    pins: &Pins,
    common: &Common,
    previous: Option<&Instance>,
    netlink: &mut Netlink,
) -> Result<()> {
    // also where the interface has been renamed since
    if let Some(link) = TcxLink::pinned(&pins.link())?.filter(|link| link.is_on(ifindex)) {
        match link.replace(program) {
            Ok(()) => return Ok(()),
            Err(error) => {
                log::info!("attaching again, as the program cannot be replaced: {error:#}")
            }
        }
    }
    let filter_of = |it: &Instance| ClsactFilter::of(&it.record(), pins.id.direction);
    if let Some((previous, filter)) = previous.and_then(|it| Some((it, filter_of(it)?))) {
        if filter.ifindex == ifindex && filter.replace(program).is_ok() {
            let mut record = common.instance.read(0);
            filter.note_in(&mut record);
            record.made_clsact = previous.record().made_clsact;
            common.instance.write(0, record);
            return Ok(());
        }
        // the record has room for one filter, and the next one needs it
        let programs = previous.programs()?;
        filter.detach(program, |id| programs.contains(&id))?;
    }
    let records = [Some(common), previous.map(|previous| &previous.common)];
    let records: Vec<_> = records.into_iter().flatten().map(|maps| &maps.instance).collect();
    attach(program, ifindex, pins, netlink, &records)
}

/// Attaches an instance's program to its interface once more, after that was deleted and created again.
pub fn attach_again(instance: &Instance, ifindex: u32, netlink: &mut Netlink) -> Result<()> {
    let program = Program::fd_from_pinned_path(instance.pins.program())
        .context("cannot open the pinned program")?;
    attach(program.as_fd(), ifindex, &instance.pins, netlink, &[&instance.common.instance])
}

/// Attaches a program to an interface: by a pinned TCX link where the kernel has TCX, else by a clsact filter, which
/// is noted in `records` before it is made.
fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    pins: &Pins,
    netlink: &mut Netlink,
    records: &[&MmapArray<bpf::Instance>],
) -> Result<()> {
    let direction = pins.id.direction;
    if let Some(link) = TcxLink::attach(program, ifindex, direction)? {
        return link.pin(&pins.link());
    }
    ClsactFilter::attach(program, ifindex, direction, netlink, |filter, made_clsact| {
        for record in records {
            let mut noted = record.read(0);
            filter.note_in(&mut noted);
            noted.made_clsact = made_clsact.into();
            record.write(0, noted);
        }
    })
}

/// Detaches all of an instance's programs. (A TCX link ends when its pin is removed.)
pub fn detach(instance: &Instance, netlink: &mut Netlink, lock: &HostLock<'_>) -> Result<()> {
    detach_all_but(None, instance, &instance.record(), netlink, lock)
}

/// Detaches a dead instance's programs, but not the successor, which uses the same jump table. `record` is the
/// instance's record from before the successor was attached.
pub fn detach_dead(
    instance: &Instance,
    record: &bpf::Instance,
    successor: u32,
    netlink: &mut Netlink,
    lock: &HostLock<'_>,
) -> Result<()> {
    detach_all_but(Some(successor), instance, record, netlink, lock)?;
    let link = instance.pins.link();
    if let Some(program) = TcxLink::program(&link).filter(|program| *program != successor) {
        if instance.programs()?.contains(&program) {
            pins::remove(&link)?;
        }
    }
    Ok(())
}

/// Detaches what a dead instance of ours left attached, after l3afd has loaded a program of its own over its maps.
pub fn hand_over_to_l3afd(
    instance: &Instance,
    netlink: &mut Netlink,
    lock: &HostLock<'_>,
) -> Result<()> {
    if instance.common.config.read(0).loader == bpf::Loader::MIRRORING_LOADER_L3AFD {
        return Ok(());
    }
    let successor = instance.program().unwrap_or(0);
    detach_dead(instance, &instance.record(), successor, netlink, lock)?;
    instance.common.config.give_to_l3afd();
    Ok(())
}

fn detach_all_but(
    successor: Option<u32>,
    instance: &Instance,
    record: &bpf::Instance,
    netlink: &mut Netlink,
    lock: &HostLock<'_>,
) -> Result<()> {
    let loaded: Vec<_> = loaded_programs::all().collect();
    let jump_table = instance.common.jmp_table_id()?;
    let ours: HashSet<u32> =
        loaded_programs::using(&loaded, jump_table).filter(|id| Some(*id) != successor).collect();
    let is_ours = |id| ours.contains(&id);
    let jump_tables: HashSet<u32> =
        lock.instances().iter().filter_map(|it| it.common.jmp_table_id().ok()).collect();
    let next = Slot::of_jmp_table(&instance.common.jmp_table)?;
    for slot in Slot::all_of(is_ours, record.previous_map, &loaded, &jump_tables) {
        slot.leave(&next)?;
    }
    let any = instance.common.jmp_table.as_fd();
    if let Some(filter) = ClsactFilter::of(record, instance.pins.id.direction) {
        filter.detach(any, is_ours)?;
        if record.made_clsact != 0 && !clsact::remove_qdisc(any, record.ifindex, netlink)? {
            hand_over_clsact(instance, lock);
        }
    }
    Ok(())
}

/// We made the clsact qdisc, but it is still in use. If the other direction's instance uses it, that one is to remove
/// it when it stops.
fn hand_over_clsact(instance: &Instance, lock: &HostLock<'_>) {
    for heir in lock.instances() {
        let mut record = heir.record();
        let same_interface = record.ifindex == instance.record().ifindex;
        if heir.pins != instance.pins && same_interface && record.filter_handle != 0 {
            record.made_clsact = 1;
            heir.common.instance.write(0, record);
            return;
        }
    }
}
