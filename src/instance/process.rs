//! The process that stays with an instance: whether it is alive, and how to end it.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process. The start time tells it from a later process with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id, in the PID namespace of this process. 0 stands for no process.
    pub pid: u32,
    /// clock ticks since boot (proc_pid_stat(5), field 22)
    pub start_time: u64,
}

impl Process {
    /// This process. Fails where /proc is not mounted.
    pub fn current() -> Result<Self> {
        let pid = std::process::id();
        let start_time =
            start_time(pid).context("cannot read /proc/self/stat; is /proc mounted?")?;
        Ok(Self { pid, start_time })
    }

    /// The process that has this id now; `None` where there is none, or it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        start_time(pid).map(|start_time| Self { pid, start_time })
    }

    /// Whether this very process runs. A zombie counts as ended, and so does a later process with the same id.
    pub fn is_alive(self) -> bool {
        self.pid != 0 && Self::of(self.pid) == Some(self)
    }

    /// Whether it has a pending SIGKILL, or is exiting already.
    pub fn is_dying(self) -> bool {
        const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
        // linux/sched.h
        const PF_EXITING: u64 = 4;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let killed = ["SigPnd:", "ShdPnd:"].iter().any(|set| {
            let mask = status.lines().find_map(|line| line.strip_prefix(set));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .is_some_and(|mask| mask & SIGKILL != 0)
        });
        // proc_pid_stat(5), field 9; field 2 ends with a parenthesis
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let flags = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(6));
        let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
        killed || flags.is_none_or(|flags| flags & PF_EXITING != 0)
    }

    /// Sends SIGTERM and waits up to `patience` for the process to end. Returns whether it has.
    pub fn terminate(self, patience: Duration) -> Result<bool> {
        self.end(Signal::TERM, patience)
    }

    /// The same with SIGKILL.
    pub fn kill(self, patience: Duration) -> Result<bool> {
        self.end(Signal::KILL, patience)
    }

    fn end(self, signal: Signal, patience: Duration) -> Result<bool> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(pidfd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            return Ok(!self.is_alive());
        };
        if !self.is_alive() {
            return Ok(true);
        }
        // by descriptor, since the id may belong to another process by now
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => bail!("cannot signal process {}: {error}", self.pid),
        }
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut ended, timeout)? > 0)
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may contain anything; field 3 follows the last parenthesis
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    // a zombie has ended, but its parent has not waited for it yet
    (state != "Z").then_some(start_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn another_process_that_got_our_id_later_is_not_us() {
        let us = Process::current().unwrap();
        assert!(us.is_alive());
        let earlier = Process { start_time: us.start_time - 1, ..us };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn who_is_killed_is_dying_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!process.is_dying());
        child.kill().unwrap();
        while process.is_alive() {
            assert!(process.is_dying() || !process.is_alive());
        }
        child.wait().unwrap();
    }

    #[test]
    fn terminate_waits_until_the_process_has_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process { pid: child.id(), start_time: start_time(child.id()).unwrap() };
        assert!(process.terminate(Duration::from_secs(10)).unwrap());
        assert!(!process.is_alive());
        child.wait().unwrap();
    }
}
