//! `--cmd=update`: changes the rules, the cap, or both of a running instance, at one instant.

use std::rc::Rc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::pending_start;
use crate::filter;
use crate::instance::Instance;
use crate::instance::host::{Host, HostLock};
use crate::maps;
use crate::model::InstanceId;
use crate::request;
use crate::tunnel;

/// Replaces the rules, if the flags give any, and the cap, if they give one. What they do not give stays as it is,
/// and so does the tunnel.
///
/// l3afd runs an update after every start, with the update flags of its payload only. So an update without rules must
/// not touch the rules of that start.
pub fn update(host: &Host, update: &request::Update) -> Result<()> {
    let id = &update.id;
    let not_running =
        || format!("{id} is not mirrored, so there is nothing to update; start it first");
    if !host.is_mounted()? {
        bail!(not_running());
    }
    let rules = update.rules.as_deref().map(filter::compile).transpose()?;
    let (lock, instance) = started(host, update)?.with_context(not_running)?;
    match (&rules, update.max_rate) {
        (Some(rules), cap) => {
            let maps = instance.maps()?;
            let mut tunnel = maps.tunnel().with_context(not_running)?;
            tunnel::warn_of_whole_copies(&tunnel, rules);
            if let Some(cap) = cap {
                maps::set_cap(&mut tunnel, cap);
            }
            lock.apply(&maps, rules, tunnel)?;
            let cap = cap.map_or(String::new(), |cap| format!(", and the cap to {cap}"));
            log::info!("updated the rules of {id}{cap}");
        }
        (None, Some(cap)) => {
            lock.set_cap(&instance, cap)?;
            log::info!("updated the cap of {id} to {cap}; its rules are unchanged");
        }
        (None, None) => log::info!(
            "left {id} unchanged: neither rules (filter flags or --rules-file) nor --max-rate are given"
        ),
    }
    Ok(())
}

/// The lock and the running instance; `None` where it is not running. A start in progress is waited for, since l3afd
/// does not wait for a start that stays before it runs an update. (The start may be over the maps of a killed one,
/// whose rules are still in force.)
fn started<'a>(
    host: &'a Host,
    update: &request::Update,
) -> Result<Option<(HostLock<'a>, Rc<Instance>)>> {
    let deadline = Instant::now() + pending_start::PATIENCE;
    let mut told = false;
    loop {
        let lock = host.lock()?;
        let instance = lock.find(&update.id)?;
        let staying = instance.as_ref().map(|instance| instance.process());
        let is_it = |of: &InstanceId| of.is_same_as(&update.id);
        let is_pending = pending_start::is_on_its_way(is_it, host, staying.as_slice())?;
        if !is_pending || Instant::now() >= deadline {
            return Ok(instance.filter(|it| it.is_live()).map(|instance| (lock, instance)));
        }
        drop(lock);
        if !told {
            log::info!("waiting for the start of {}", update.id);
            told = true;
        }
        thread::sleep(pending_start::LOOK_AGAIN);
    }
}
