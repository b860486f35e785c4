//! `--cmd=update`: other rules, and another cap, for an instance that runs, at one instant.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::bpf;
use crate::bpf::bpffs::{self, Turn};
use crate::bpf::pins::Pins;
use crate::command::pending_start;
use crate::filter;
use crate::instance::Instance;
use crate::maps::{self, Maps};
use crate::model::InstanceId;
use crate::request;
use crate::tunnel;

/// Puts the rules that are given in place of those in force, and the cap on the rate, if there is one
/// among the flags. What is not given stays as it is, and the tunnel does.
///
/// l3afd runs an update after every start, with the flags that its payload has for updates and no
/// others: one that says nothing of packets is not about the rules of that start.
pub fn update(bpffs: &Path, update: &request::Update) -> Result<()> {
    bpffs::check_privileges()?;
    let id = &update.id;
    let not_running =
        || format!("{id} is not mirrored, so there is nothing to update; start it first");
    if !bpffs::check_bpffs(bpffs)? {
        bail!(not_running());
    }
    let rules = update.rules.as_deref().map(filter::compile).transpose()?;
    let (maps, mut tunnel, _turn) = started(bpffs, update)?.with_context(not_running)?;
    if let Some(rules) = &rules {
        tunnel::warn_of_whole_copies(&tunnel, rules);
    }
    if let Some(rate) = update.max_rate {
        maps::set_cap(&mut tunnel, rate);
    }
    match (&rules, update.max_rate) {
        (Some(rules), cap) => {
            maps.install(rules, tunnel)?;
            let cap = cap.map_or(String::new(), |cap| format!(", and the cap to {cap}"));
            log::info!("updated the rules of {id}{cap}");
        }
        (None, Some(cap)) => {
            maps.redirect(tunnel)?;
            log::info!("updated the cap of {id} to {cap}; its rules are unchanged");
        }
        (None, None) => log::info!(
            "left {id} unchanged: neither rules (filter flags or --rules-file) nor --max-rate are given"
        ),
    }
    Ok(())
}

/// The maps of the instance that is mirrored, and its tunnel, in our turn. l3afd does not wait for a start
/// that is to stay before it calls us: so we do. (It may be over the maps of one that was killed, which
/// are in force.)
fn started(bpffs: &Path, update: &request::Update) -> Result<Option<(Maps, bpf::Tunnel, Turn)>> {
    let deadline = Instant::now() + pending_start::PATIENCE;
    let mut told = false;
    loop {
        let turn = Turn::take(bpffs)?;
        let instance = Instance::open(Pins::find(bpffs, &update.id))?;
        let staying = instance.as_ref().map(Instance::process);
        let is_it = |of: &InstanceId| of.is_same_as(&update.id);
        let is_pending = pending_start::is_on_its_way(is_it, bpffs, staying.as_slice())?;
        if !is_pending || Instant::now() >= deadline {
            let Some(instance) = instance.filter(Instance::is_live) else { return Ok(None) };
            let maps = instance.maps()?;
            return Ok(maps.tunnel().map(|tunnel| (maps, tunnel, turn)));
        }
        drop(turn);
        if !told {
            log::info!("waiting for the start of {}", update.id);
            told = true;
        }
        thread::sleep(pending_start::LOOK_AGAIN);
    }
}
