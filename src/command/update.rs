//! `--cmd=update`: other rules, and another cap, for an instance that runs, at one instant.

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

/// Puts the rules that are given in place of those in force, and the cap on the rate, if there is one
/// among the flags. What is not given stays as it is, and the tunnel does.
///
/// l3afd runs an update after every start, with the flags that its payload has for updates and no
/// others: one that says nothing of packets is not about the rules of that start.
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

/// The instance that is mirrored, and the lock. l3afd does not wait for a start that is to stay before it calls
/// us: so we do. (It may be over the maps of one that was killed, which are in force.)
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
