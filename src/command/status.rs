//! `--cmd=status`: prints one word, as l3afd expects.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::command::pending_start;
use crate::instance::Instance;
use crate::instance::host::Host;
use crate::model::{InstanceId, Selection};

/// Prints `RUNNING` if any selected instance does what it was started for, else `STOPPED`. Returns which. There is no
/// newline unless on a terminal: l3afd compares the output with the bare word.
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

/// Whether it is running, or is about to be. l3afd asks during a start, and if the answer is no it launches another
/// process.
fn is_running_soon(host: &Host, selection: &Selection) -> Result<bool> {
    if is_running(host, selection)? {
        return Ok(true);
    }
    let deadline = Instant::now() + pending_start::PATIENCE;
    loop {
        let staying: Vec<_> = host.instances_unlocked().iter().map(Instance::process).collect();
        let is_meant = |id: &InstanceId| selection.includes(id);
        // in this order: a start that ends in between is then seen as running
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
    // the interface may have been renamed since the start
    let Some(name) = &selection.interface else {
        return Ok(false);
    };
    let renamed = host.renamed(name)?;
    Ok(renamed.is_some_and(|instance| {
        let id = InstanceId { interface: name.clone(), ..instance.pins.id.clone() };
        selection.includes(&id) && instance.is_running()
    }))
}

/// Publishes the counters of instances without a process. l3afd asks for the status regularly, so this keeps them
/// current.
fn publish(instances: &[Instance], host: &Host) {
    let Some(lock) = host.try_lock() else { return };
    for instance in instances.iter().filter(|it| !it.process().is_alive()) {
        if let Err(error) = instance.counters().and_then(|it| lock.publish(it)) {
            log::debug!("cannot publish the counters of {}: {error:#}", instance.pins.id);
        }
    }
}
