//! The loop guard: no instance mirrors packets to the remote endpoint of any instance's tunnel, or ICMP errors about
//! them. Otherwise two instances could mirror each other's copies without end.
//!
//! Each instance has a list of all endpoints in a map of its own. A start adds its endpoint to the lists of all instances
//! before its first copy leaves. The next start or stop removes the endpoints of instances that have ended. The list can
//! be used without the other maps, so instances of different versions can guard against each other.

use anyhow::{Result, ensure};

use crate::instance::host::HostLock;
use crate::maps::endpoints::{Endpoint, Endpoints, LENGTH};
use crate::model::InstanceId;

/// Adds the endpoint of a starting instance's tunnel to the list of every instance. Returns all endpoints.
pub fn register(lock: &HostLock<'_>, starting: Endpoint) -> Result<Endpoints> {
    write_lists(lock, Some(starting), |id, error| {
        log::warn!(
            "{id} was started by another version and guards against its own tunnel only: where copies \
             leave by a mirrored interface, the two instances may mirror each other's copies; stop \
             it and start it again with this version ({error:#})"
        );
    })
}

/// Removes endpoints that no instance uses any more from every list.
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
