//! Starts that are on their way: l3afd runs an update right behind a start that is to stay.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;

use crate::instance::process::Process;
use crate::model::InstanceId;
use crate::request::args::{self, Cli};
use crate::request::{Command, Config};
use crate::rules_file;

/// Whether some process is to start the instance. One that has done so is none: `staying` is what the
/// instance says of it.
pub fn is_on_its_way(id: &InstanceId, bpffs: &Path, staying: Option<Process>) -> Result<bool> {
    let processes = fs::read_dir("/proc").context("cannot list /proc; is it mounted?")?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter(|pid| is_one_of_ours(*pid))
        .filter(|pid| Process::of(*pid).is_some_and(|process| Some(process) != staying))
        .any(|pid| starts(pid, id, bpffs)))
}

/// Whether the process has our name, and sees the interfaces and the BPF file system that we see.
fn is_one_of_ours(pid: u32) -> bool {
    let comm = |who: &str| fs::read(format!("/proc/{who}/comm")).ok();
    let namespace = |who: &str, kind| fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
    let it = pid.to_string();
    comm(&it) == comm("self")
        && ["net", "mnt"].iter().all(|kind| namespace(&it, kind) == namespace("self", kind))
}

fn starts(pid: u32, id: &InstanceId, bpffs: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // each word ends with a 0
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let config = Cli::try_parse_from(args::normalize(words))
        .map(|cli| Config::from_cli(&cli, rules_file::read));
    let Ok(Ok(config)) = config else { return false };
    let is_it = |of: &InstanceId| {
        // named or not, it is the same version
        (&of.interface, of.direction, of.version.as_str())
            == (&id.interface, id.direction, id.version.as_str())
    };
    matches!(&config.command, Command::Start(start) if is_it(&start.id)) && config.bpffs == bpffs
}
