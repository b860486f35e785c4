//! The program under test, as a process in a namespace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Ns, by_l3afd, eventually, patient};
use crate::binary;

/// Within this time, the kernel has reported all events that follow from a change.
const CALM: Duration = Duration::from_millis(1500);

/// Runs `mirroring`, and waits until it ends.
pub fn mirroring<A: AsRef<OsStr>>(ns: &Ns, args: impl IntoIterator<Item = A>) -> Output {
    let mut command = ns.command(binary());
    command.args(args);
    let mut process = Daemon::start(command);
    let status = process.wait();
    Output {
        status,
        stdout: process.read("stdout").into_bytes(),
        stderr: process.read("stderr").into_bytes(),
    }
}

/// Waits until none of these processes has reconciled its instance for a while.
pub fn wait_until_calm(daemons: &[Daemon]) {
    let mut before = None;
    eventually("an end of what happens", || {
        let now: Vec<_> = daemons.iter().map(Daemon::reconciliations).collect();
        let is_calm = before.as_ref() == Some(&now);
        if !is_calm {
            thread::sleep(patient(CALM));
        }
        before = Some(now);
        is_calm
    });
}

/// A running process. Dropping it kills it. If a panic drops it, its output is printed.
pub struct Daemon {
    child: Child,
    /// Directory of the files `stdout`, `stderr` and, for `mirroring`, its log.
    dir: TempDir,
}

impl Daemon {
    /// Starts `mirroring` with a log directory of its own.
    pub fn mirroring<A: AsRef<OsStr>>(ns: &Ns, args: impl IntoIterator<Item = A>) -> Daemon {
        let dir = output_dir();
        let mut command = ns.command(binary());
        command.arg(format!("--log-dir={}", dir.path().display())).args(args);
        Daemon::start_in(dir, command)
    }

    /// The same, as the child of a process that is named l3afd; see [`by_l3afd`].
    pub fn mirroring_by_l3afd(ns: &Ns, held: &[BorrowedFd<'_>], args: &[&str]) -> Daemon {
        let dir = output_dir();
        let mut command = ns.command(binary());
        command.arg(format!("--log-dir={}", dir.path().display())).args(args);
        by_l3afd(&mut command, held);
        Daemon::start_in(dir, command)
    }

    /// Starts any other command, which [`Ns::command`] has made.
    pub fn start(command: Command) -> Daemon {
        Daemon::start_in(output_dir(), command)
    }

    fn start_in(dir: TempDir, mut command: Command) -> Daemon {
        let file = |name| File::create(dir.path().join(name)).expect("a file for output");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Daemon { child, dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the process has written so far: stdout, stderr and the log.
    pub fn output(&self) -> String {
        ["stdout", "stderr", "mirroring.log"].map(|name| self.read(name)).concat()
    }

    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// The log file of `mirroring`.
    pub fn log(&self) -> String {
        self.read("mirroring.log")
    }

    /// Waits for `text` in [`Daemon::output`].
    pub fn wait_ready(&mut self, text: &str) {
        let what = format!("{text:?} in the output");
        eventually(&what, || {
            // in this order: the text may be the last that the process writes
            let exited = self.child.try_wait().expect("the process");
            let said = self.output().contains(text);
            assert!(said || exited.is_none(), "{} before it said {text:?}", exited.unwrap());
            said
        });
    }

    /// How often the process has reconciled its instance, after an event or on its timer.
    pub fn reconciliations(&self) -> usize {
        self.log().matches("reconciling eth0").count()
    }

    /// Waits until the process exits by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut exited = None;
        eventually("an exit", || {
            exited = self.child.try_wait().expect("the process");
            exited.is_some()
        });
        exited.expect("an exit status")
    }

    /// Sends SIGTERM, and waits until the process has ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Kills the process, so that it cannot clean up. It must still be running.
    pub fn kill(mut self) {
        let status = self.end();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it had ended before");
    }

    /// Kills the process if it is still running.
    pub fn kill_now(&mut self) {
        self.end();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("the process to signal");
    }

    fn end(&mut self) -> ExitStatus {
        self.child.kill().expect("the process to kill");
        self.child.wait().expect("an exit status")
    }

    fn read(&self, name: &str) -> String {
        match fs::read(self.dir.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            bytes => String::from_utf8_lossy(&bytes.expect(name)).into_owned(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let status = self.end();
        if thread::panicking() {
            println!("process {} ({status}) said:\n{}", self.pid(), self.output());
        }
    }
}

/// A directory in the topology's own `/var/log`, which goes with the topology.
fn output_dir() -> TempDir {
    TempDir::new_in("/var/log").expect("a directory for output")
}
