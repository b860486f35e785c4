//! Starts in progress. l3afd runs an update and asks for the status right after it has launched a start that stays.
//! Both commands wait for that start.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::instance::host::Host;
use crate::instance::process::Process;
use crate::model::InstanceId;
use crate::request::args::{self, Cli};
use crate::request::{Command, Request};
use crate::rules_file;

/// How long a command waits for a start in progress.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two looks whether it is still in progress.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whether a process is about to start an instance that `is_meant`. The processes in `staying` have already started
/// theirs.
pub fn is_on_its_way(
    is_meant: impl Fn(&InstanceId) -> bool,
    host: &Host,
    staying: &[Process],
) -> Result<bool> {
    let processes = fs::read_dir("/proc").context("cannot list /proc; is it mounted?")?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter(|pid| is_one_of_ours(*pid))
        .filter(|pid| Process::of(*pid).is_some_and(|process| !staying.contains(&process)))
        .any(|pid| starts(pid, &is_meant, host)))
}

/// Whether the process has our name and user, and is in our network and mount namespaces.
fn is_one_of_ours(pid: u32) -> bool {
    let comm = |who: &str| fs::read(format!("/proc/{who}/comm")).ok();
    let namespace = |who: &str, kind| fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
    let it = pid.to_string();
    let user = |who: &str| fs::metadata(format!("/proc/{who}")).ok().map(|of| of.uid());
    comm(&it) == comm("self")
        && user(&it) == user("self")
        && ["net", "mnt"].iter().all(|kind| namespace(&it, kind) == namespace("self", kind))
}

fn starts(pid: u32, is_meant: impl Fn(&InstanceId) -> bool, host: &Host) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // each word ends with a 0
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    let request = Cli::try_parse_from(args::normalize(words))
        .map(|cli| Request::from_cli(&cli, rules_file::read));
    let Ok(Ok(request)) = request else { return false };
    matches!(&request.command, Command::Start(start) if is_meant(&start.id))
        && request.bpffs == host.bpffs()
}
