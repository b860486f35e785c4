//! Attaching an instance's program to its packets, detaching it, and handing over to whoever comes next:
//! in a chain, by TCX, by clsact.

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

/// Takes the place of the previous program in the chain that begins with the slot. Where there is none,
/// takes the slot: who stood there comes behind us, so that nobody drops out of the chain.
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

/// Attaches a program to the interface, or puts it in place of the previous one there.
pub fn attach_or_replace(
    program: BorrowedFd<'_>,
    ifindex: u32,
    pins: &Pins,
    common: &Common,
    previous: Option<&Instance>,
    netlink: &mut Netlink,
) -> Result<()> {
    // an interface that has another name by now keeps its link
    if let Some(link) = TcxLink::pinned(&pins.link())?
        && link.is_on(ifindex)
    {
        match link.replace(program) {
            Ok(()) => return Ok(()),
            Err(error) => {
                log::info!("attaching again, as the program cannot be replaced: {error:#}")
            }
        }
    }
    if let Some(previous) = previous
        && let Some(filter) = ClsactFilter::of(&previous.record(), pins.id.direction)
    {
        if filter.ifindex == ifindex && filter.replace(program).is_ok() {
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
    attach(program, ifindex, pins, netlink, &records)
}

/// Attaches an instance's program to an interface that has been made anew.
pub fn attach_again(instance: &Instance, ifindex: u32, netlink: &mut Netlink) -> Result<()> {
    let program = Program::fd_from_pinned_path(instance.pins.program())
        .context("cannot open the pinned program")?;
    attach(program.as_fd(), ifindex, &instance.pins, netlink, &[&instance.common.instance])
}

/// Attaches a program to an interface: by a TCX link, which is pinned, else by a clsact filter, of which the
/// `records` tell before it is made.
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

/// Takes all of an instance's programs away from their packets. (A TCX link ends with its pin.)
pub fn detach(instance: &Instance, netlink: &mut Netlink, lock: &HostLock<'_>) -> Result<()> {
    detach_all_but(None, instance, &instance.record(), netlink, lock)
}

/// Takes a dead instance's programs away from their packets, wherever the successor, which leads on
/// through the same jump table, has not taken their place. `record` is what was known before that.
pub fn detach_dead(
    instance: &Instance,
    record: &bpf::Instance,
    successor: u32,
    netlink: &mut Netlink,
    lock: &HostLock<'_>,
) -> Result<()> {
    detach_all_but(Some(successor), instance, record, netlink, lock)?;
    let link = instance.pins.link();
    if let Some(program) = TcxLink::program(&link)
        && program != successor
        && instance.programs()?.contains(&program)
    {
        pins::remove(&link)?;
    }
    Ok(())
}

/// Takes away what a dead instance of ours left attached, over whose maps l3afd has loaded a program
/// of its own since.
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

/// The clsact qdisc that we made is in use: where it is the other direction's instance that uses
/// it, that one removes it when it ends.
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
