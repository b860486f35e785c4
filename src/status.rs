//! `--cmd=status`: one word, as l3afd wants it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Result;

use crate::config::Selection;
use crate::host;
use crate::instance::Instance;

/// Prints `RUNNING` where any selected instance does all that it was started for, else `STOPPED`.
/// Returns which. l3afd takes the word for what it is only without a newline.
pub fn status(bpffs: &Path, selection: &Selection) -> Result<bool> {
    host::check_privileges()?;
    let running = host::check_bpffs(bpffs)?
        && Instance::all(bpffs)
            .iter()
            .any(|instance| selection.includes(&instance.pins.id) && instance.is_running());
    let mut stdout = io::stdout();
    write!(stdout, "{}", if running { "RUNNING" } else { "STOPPED" })?;
    if stdout.is_terminal() {
        writeln!(stdout)?;
    }
    stdout.flush()?;
    Ok(running)
}
