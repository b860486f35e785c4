//! `--cmd=update`: other rules, and another cap, for an instance that runs, at one instant.

use std::path::Path;

use anyhow::{Context, Result};

use crate::config;
use crate::filter;
use crate::host::{self, Turn};
use crate::instance::Instance;
use crate::pins::Pins;
use crate::tunnel;

/// Puts the rules of the flags in place of those in force, and the cap on the rate if there is one
/// among them; the tunnel stays as it is.
pub fn update(bpffs: &Path, update: &config::Update) -> Result<()> {
    host::check_privileges()?;
    let not_running =
        || format!("{} is not mirrored, so there is nothing to update; start it first", update.id);
    if !host::check_bpffs(bpffs)? {
        anyhow::bail!(not_running());
    }
    let rules = filter::compile(&update.rules)?;
    let _turn = Turn::take(bpffs)?;
    let instance = Instance::open(Pins::new(bpffs, &update.id))?.with_context(not_running)?;
    let mut tunnel = instance.maps.tunnel().with_context(not_running)?;
    tunnel::warn_of_whole_copies(&tunnel, &rules);
    if let Some(rate) = update.max_rate {
        rate.limit(&mut tunnel);
    }
    instance.maps.install(&rules, tunnel)?;
    let cap = update.max_rate.map_or(String::new(), |rate| format!(", and the cap to {rate}"));
    log::info!("updated the rules of {}{cap}", update.id);
    Ok(())
}
