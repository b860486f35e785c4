//! `--cmd=stop`: removes everything that we made, and nothing else.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::instance::Instance;
use crate::instance::host::{Host, HostLock};
use crate::maps;
use crate::model::{InterfaceName, Selection};
use crate::netlink::Netlink;
use crate::tunnel;

/// How long a process gets to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the selected instances, with or without a process.
pub fn stop(host: &Host, selection: &Selection) -> Result<()> {
    if !host.is_mounted()? {
        log::info!("nothing to stop: no BPF file system is mounted at {}", host.bpffs().display());
        return Ok(());
    }
    let mut lock = host.lock()?;
    let mut instances = selected(&lock, selection);
    if instances.is_empty() {
        ensure_not_renamed(host, selection.interface.as_ref())?;
        log::info!("nothing to stop: no such instance");
    }
    // a process needs the lock to stop its instance; another start may get it before us, so look again
    while instances.iter().any(|instance| instance.process().is_alive()) {
        drop(lock);
        end_processes(&instances)?;
        lock = host.lock()?;
        instances = selected(&lock, selection);
    }
    let mut netlink = Netlink::open()?;
    for instance in instances {
        instance.end(&mut netlink, &lock)?;
    }
    for pins in lock.pins() {
        if selection.includes(&pins.id) && maps::is_incomplete(&pins) {
            pins.remove()?;
            lock.forget(&pins.id);
            log::info!("removed the incomplete pins of {}", pins.id);
        }
    }
    tunnel::clean_up(&mut netlink, &lock)
}

/// An interface is known by the name that it had at the start.
fn ensure_not_renamed(host: &Host, name: Option<&InterfaceName>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    if let Some(instance) = host.renamed(name)? {
        let then = &instance.pins.id.interface;
        bail!(
            "\"{name}\" was called \"{then}\" when its mirroring was started; \
             --cmd=stop --iface={then} ends it"
        );
    }
    Ok(())
}

/// Ends the processes of the selected instances while the kernel keeps mirroring: l3afd is about to restart, and will
/// launch others.
pub fn stop_processes(host: &Host, selection: &Selection) -> Result<()> {
    if !host.is_mounted()? {
        return Ok(());
    }
    // while we hold the lock, none of them is in the middle of a change
    let lock = host.lock()?;
    for instance in selected(&lock, selection) {
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

fn end_processes(instances: &[Rc<Instance>]) -> Result<()> {
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

fn selected(lock: &HostLock<'_>, selection: &Selection) -> Vec<Rc<Instance>> {
    lock.instances_where(|id| selection.includes(id))
}
