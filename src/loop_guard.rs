//! What no instance mirrors: packets to the far end of any instance's tunnel, and ICMP errors about
//! those. Two instances that did not know each other's would mirror each other's copies without end.
//!
//! So each has a list of all far ends, its own one first, in a map of its own. Whoever starts puts
//! itself into everybody's list before its first copy leaves; the next start or stop of anybody
//! takes out those who have gone. A list can be read without the instance's other maps, so that
//! versions that differ in those can still guard against each other.

use anyhow::{Result, ensure};

use crate::instance::host::HostLock;
use crate::maps::endpoints::{Endpoint, Endpoints, LENGTH};
use crate::model::InstanceId;

/// Puts the far end of a tunnel that is about to be used into the list of every instance. Returns
/// them all.
pub fn register(lock: &HostLock<'_>, starting: Endpoint) -> Result<Endpoints> {
    write_lists(lock, Some(starting), |id, error| {
        log::warn!(
            "{id} was started by another version and guards against its own tunnel only: where copies \
             leave by a mirrored interface, the two instances may mirror each other's copies; stop \
             it and start it again with this version ({error:#})"
        );
    })
}

/// Takes out of every list the far ends that no instance has any more.
pub fn unregister_unused(lock: &HostLock<'_>) -> Result<()> {
    write_lists(lock, None, |_, _| {}).map(drop)
}

fn write_lists(
    lock: &HostLock<'_>,
    starting: Option<Endpoint>,
    cannot_open: impl Fn(&InstanceId, anyhow::Error),
) -> Result<Endpoints> {
    let mut lists = Vec::new();
    for pins in lock.pins() {
        match lock.endpoints(&pins) {
            Ok(list) => lists.extend(list.own().map(|own| (own, list))),
            Err(error) => cannot_open(&pins.id, error),
        }
    }
    let all: Endpoints = lists.iter().map(|(own, _)| *own).chain(starting).collect();
    ensure!(
        all.len() <= LENGTH,
        "the tunnels of all instances would lead to {} collectors or ports, more than the {LENGTH} \
         that each can guard against; send the copies of some to the same one",
        all.len()
    );
    for (own, list) in &lists {
        list.write(*own, &all)?;
    }
    Ok(all)
}
