//! `--cmd=status`: one word, as l3afd wants it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::bpf::bpffs::{self, Turn};
use crate::command::pending_start;
use crate::instance::Instance;
use crate::model::{InstanceId, Selection};

/// Prints `RUNNING` where any selected instance does all that it was started for, else `STOPPED`.
/// Returns which. l3afd takes the word for what it is only without a newline.
pub fn status(bpffs: &Path, selection: &Selection) -> Result<bool> {
    bpffs::check_privileges()?;
    let running = bpffs::check_bpffs(bpffs)? && is_running_soon(bpffs, selection)?;
    let mut stdout = io::stdout();
    write!(stdout, "{}", if running { "RUNNING" } else { "STOPPED" })?;
    if stdout.is_terminal() {
        writeln!(stdout)?;
    }
    stdout.flush()?;
    Ok(running)
}

/// Also of a start that is on its way: l3afd asks meanwhile, and takes a no for a reason to start another process.
fn is_running_soon(bpffs: &Path, selection: &Selection) -> Result<bool> {
    if is_running(bpffs, selection)? {
        return Ok(true);
    }
    let deadline = Instant::now() + pending_start::PATIENCE;
    loop {
        let staying: Vec<_> = Instance::all(bpffs).iter().map(Instance::process).collect();
        let is_meant = |id: &InstanceId| selection.includes(id);
        // asked first: one that has ended before is seen to run
        let is_pending = pending_start::is_on_its_way(is_meant, bpffs, &staying)?;
        if is_running(bpffs, selection)? {
            return Ok(true);
        }
        if !is_pending || Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(pending_start::LOOK_AGAIN);
    }
}

fn is_running(bpffs: &Path, selection: &Selection) -> Result<bool> {
    let all = Instance::all(bpffs);
    publish(&all, bpffs);
    if all.iter().any(|it| selection.includes(&it.pins.id) && it.is_running()) {
        return Ok(true);
    }
    // the interface may have had another name when it was started
    let Some(name) = &selection.interface else {
        return Ok(false);
    };
    let of_renamed = Instance::of_renamed(bpffs, name)?;
    Ok(of_renamed.is_some_and(|instance| {
        let id = InstanceId { interface: name.clone(), ..instance.pins.id.clone() };
        selection.includes(&id) && instance.is_running()
    }))
}

/// l3afd asks for the status now and then: an occasion to publish the counters of instances that have no
/// process to do so.
fn publish(instances: &[Instance], bpffs: &Path) {
    let Some(_turn) = Turn::take_if_free(bpffs) else { return };
    for instance in instances.iter().filter(|it| !it.process().is_alive()) {
        if let Err(error) = instance.counters().and_then(|counters| counters.publish()) {
            log::debug!("cannot publish the counters of {}: {error:#}", instance.pins.id);
        }
    }
}
