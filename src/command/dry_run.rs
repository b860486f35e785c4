//! `--dry-run`: shows what a start or an update would put into force, and what would change. It only reads.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::bpf::bpffs;
use crate::filter::{self, Rule, diff, render};
use crate::instance::host::Host;
use crate::maps;
use crate::model::InstanceId;
use crate::model::rate::Rate;
use crate::request::{Start, Update};

/// What is in force, or would be.
struct InForce {
    rules: Vec<Rule>,
    cap: Option<Rate>,
}

/// Prints the rules of a start, and what they would change of those in force. Fails where the rules do not compile,
/// or where the rules in force cannot be read. Without privileges it prints only the rules.
pub fn start(bpffs: &Path, start: &Start) -> Result<()> {
    let cap = |_| start.max_rate;
    show(bpffs, &start.id, Some(&start.rules), cap, "all of these are new")
}

/// The same for an update, which may change the rules, the cap or both.
pub fn update(bpffs: &Path, update: &Update) -> Result<()> {
    let cap = |as_it_is| update.max_rate.or(as_it_is);
    let refused = "there is nothing to update; start it first";
    show(bpffs, &update.id, update.rules.as_deref(), cap, refused)
}

fn show(
    bpffs: &Path,
    id: &InstanceId,
    rules: Option<&[Rule]>,
    cap: impl FnOnce(Option<Rate>) -> Option<Rate>,
    if_nothing: &str,
) -> Result<()> {
    let new = rules.map(filter::compile).transpose()?;
    match rules.zip(new.as_ref()) {
        Some((rules, new)) => say(&render::table(rules, new))?,
        None => say("No rules are given: those in force stay as they are.\n")?,
    }
    // showing the rules themselves takes no privileges
    if let Err(error) = bpffs::check_privileges() {
        return say(&format!("\nWhat would change is not known: {error:#}.\n"));
    }
    let Some(before) = in_force(bpffs, id)? else {
        return say(&format!("\nNo rules are in force on {id}: {if_nothing}.\n"));
    };
    // compare both in the form that rules have when they are read back
    let after = InForce {
        rules: match new {
            Some(new) => filter::decompile(&maps::as_read_back(new)),
            None => before.rules.clone(),
        },
        cap: cap(before.cap).map(|cap| Rate::from_bytes(cap.bytes())),
    };
    let changes = changes(&before, &after);
    if changes.is_empty() {
        say(&format!("\nNo change: these rules are in force on {id}.\n"))
    } else {
        say(&format!("\nAgainst the rules in force on {id}:\n{changes}"))
    }
}

fn say(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot print the rules")
}

fn in_force(bpffs: &Path, id: &InstanceId) -> Result<Option<InForce>> {
    let host = Host::open(bpffs)?;
    if !host.is_mounted()? {
        return Ok(None);
    }
    // while we read, nobody may change them
    let lock = host.lock()?;
    let Some(instance) = lock.find(id)? else { return Ok(None) };
    let maps = instance.maps()?;
    let Some(tunnel) = maps.tunnel() else { return Ok(None) };
    let rules = filter::decompile(&maps.rules_in_force()?);
    Ok(Some(InForce { rules, cap: maps::cap(&tunnel) }))
}

/// One line for each.
fn changes(before: &InForce, after: &InForce) -> String {
    let mut changes = diff::text(&diff::between(&before.rules, &after.rules));
    if before.cap != after.cap {
        let [old, new] = [before, after]
            .map(|it| it.cap.map_or_else(|| "(none)".to_owned(), |cap| cap.to_string()));
        changes += &format!("~ max-rate {old} -> {new}\n");
    }
    changes
}
