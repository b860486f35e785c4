//! `--cmd=status`: one word, as l3afd wants it.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::command::pending_start;
use crate::instance::Instance;
use crate::instance::host::Host;
use crate::model::{InstanceId, Selection};

/// Prints `RUNNING` where any selected instance does all that it was started for, else `STOPPED`.
/// Returns which. l3afd takes the word for what it is only without a newline.
pub fn status(host: &Host, selection: &Selection) -> Result<bool> {
    let running = host.is_mounted()? && is_running_soon(host, selection)?;
    let mut stdout = io::stdout();
    write!(stdout, "{}", if running { "RUNNING" } else { "STOPPED" })?;
    if stdout.is_terminal() {
        writeln!(stdout)?;
    }
    stdout.flush()?;
    Ok(running)
}

/// Also of a start that is on its way: l3afd asks meanwhile, and takes a no for a reason to start another process.
fn is_running_soon(host: &Host, selection: &Selection) -> Result<bool> {
    if is_running(host, selection)? {
        return Ok(true);
    }
    let deadline = Instant::now() + pending_start::PATIENCE;
    loop {
        let staying: Vec<_> = host.instances_unlocked().iter().map(Instance::process).collect();
        let is_meant = |id: &InstanceId| selection.includes(id);
        // asked first: one that has ended before is seen to run
        let is_pending = pending_start::is_on_its_way(is_meant, host, &staying)?;
        if is_running(host, selection)? {
            return Ok(true);
        }
        if !is_pending || Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(pending_start::LOOK_AGAIN);
    }
}

fn is_running(host: &Host, selection: &Selection) -> Result<bool> {
    let all = host.instances_unlocked();
    publish(&all, host);
    if all.iter().any(|it| selection.includes(&it.pins.id) && it.is_running()) {
        return Ok(true);
    }
    // the interface may have had another name when it was started
    let Some(name) = &selection.interface else {
        return Ok(false);
    };
    let renamed = host.renamed(name)?;
    Ok(renamed.is_some_and(|instance| {
        let id = InstanceId { interface: name.clone(), ..instance.pins.id.clone() };
        selection.includes(&id) && instance.is_running()
    }))
}

/// l3afd asks for the status now and then: an occasion to publish the counters of instances that have no
/// process to do so.
fn publish(instances: &[Instance], host: &Host) {
    let Some(lock) = host.try_lock() else { return };
    for instance in instances.iter().filter(|it| !it.process().is_alive()) {
        if let Err(error) = instance.counters().and_then(|it| lock.publish(it)) {
            log::debug!("cannot publish the counters of {}: {error:#}", instance.pins.id);
        }
    }
}
