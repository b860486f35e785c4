//! `--cmd=show`: what runs on this host, with rules, counters, programs in front and behind, and tunnel. `gather`,
//! with `attachment` and `tunnel`, reads it and changes nothing. Pure modules print it.

use std::ffi::CStr;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl;

use crate::instance::host::Host;
use crate::model::Selection;
use crate::request::{Format, Show};
use crate::signals::Signals;

mod attachment;
mod gather;
mod json;
mod prometheus;
mod rates;
mod report;
#[cfg(test)]
mod sample;
mod screen;
mod table;
mod tunnel;

use report::Entry;
use screen::Screen;

/// Of the process.
const NAME: &CStr = c"mirror-show";

/// Between the two samples that rates are made of.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints all that is selected, in one of three formats.
pub fn show(host: &Host, show: &Show) -> Result<()> {
    // l3afd, when it starts the package, kills every process that has `mirroring` in its name and is not its own:
    // a terminal would be left as we draw on it
    prctl::set_name(NAME).context("cannot take another name")?;
    // libbpf warns of everything that it does not find, which is normal here
    libbpf_rs::set_print(None);
    let look = || look(host, &show.selection);
    match show.format {
        Format::Table { watch: true } => watch(look),
        Format::Table { watch: false } => say(&table::text(&with_rates(look)?)),
        Format::Json => say(&json::text(&with_rates(look)?)),
        Format::Prometheus => say(&prometheus::text(&look()?)),
    }
}

fn look(host: &Host, selection: &Selection) -> Result<Vec<Entry>> {
    if !host.is_mounted()? {
        return Ok(Vec::new());
    }
    gather::gather(host, selection)
}

fn with_rates(look: impl Fn() -> Result<Vec<Entry>>) -> Result<Vec<Entry>> {
    let before = look()?;
    if before.is_empty() {
        return Ok(before);
    }
    thread::sleep(INTERVAL);
    let mut after = look()?;
    rates::fill_in(&before, &mut after);
    Ok(after)
}

/// Shows the table until a signal ends it.
fn watch(look: impl Fn() -> Result<Vec<Entry>>) -> Result<()> {
    let signals = Signals::block()?;
    let screen = Screen::enter().context("cannot draw on the terminal")?;
    let (mut before, mut gap) = (Vec::new(), "");
    loop {
        let mut now = look()?;
        rates::fill_in(&before, &mut now);
        let text = table::text(&now);
        match &screen {
            Some(screen) => screen.show(&text).context("cannot draw on the terminal")?,
            None => say(&format!("{gap}{text}"))?,
        }
        (before, gap) = (now, "\n");
        // a pause for other commands, which need the lock, too
        if signals.wait(INTERVAL)?.is_some() {
            return Ok(());
        }
    }
}

fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout();
    let said = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    said.context("cannot print what runs")
}
