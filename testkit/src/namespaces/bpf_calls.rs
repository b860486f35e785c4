//! The calls of bpf(2) that a command makes, recorded with ptrace(2).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The calls of one run of a command.
#[derive(Debug, Default)]
pub struct BpfCalls {
    /// The first argument of each call, in their order (enum bpf_cmd in linux/bpf.h).
    pub commands: Vec<u32>,
    /// How often each pin was opened.
    pub opened: BTreeMap<String, usize>,
}

impl BpfCalls {
    /// Runs a command to its end, and fails if the command does. No other code may wait for children of this thread
    /// meanwhile.
    #[expect(clippy::zombie_processes, reason = "waitpid(2) takes its exit status")]
    pub fn of(mut command: Command) -> BpfCalls {
        let be_traced = || Ok(ptrace::traceme()?);
        // SAFETY: one system call between fork and exec
        unsafe { command.pre_exec(be_traced) };
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pid = Pid::from_raw(child.id() as i32);
        let mut calls = BpfCalls::default();
        // a traced child stops right after exec
        let executed = waitpid(pid, None).expect("the child");
        assert_eq!(executed, WaitStatus::Stopped(pid, Signal::SIGTRAP), "{command:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).expect("options");
        let mut signal = None;
        loop {
            ptrace::syscall(pid, signal).expect("to go on");
            signal = match waitpid(pid, None).expect("the child") {
                WaitStatus::PtraceSyscall(_) => {
                    calls.note(pid);
                    None
                }
                WaitStatus::Stopped(_, signal) => Some(signal),
                status => {
                    assert_eq!(status, WaitStatus::Exited(pid, 0), "{command:?}");
                    return calls;
                }
            };
        }
    }

    /// How many calls there were, without those of the commands `left_out`.
    pub fn but(&self, left_out: &[u32]) -> usize {
        self.commands.iter().filter(|command| !left_out.contains(command)).count()
    }

    /// Records the system call that the process is about to make, if it is bpf(2).
    fn note(&mut self, pid: Pid) {
        let info = ptrace::syscall_info(pid).expect("a system call");
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return;
        }
        // SAFETY: `op` says which member of the union is set
        let call = unsafe { info.u.entry };
        if call.nr != libc::SYS_bpf as u64 {
            return;
        }
        let [command, attributes, ..] = call.args;
        let command = command as u32;
        self.commands.push(command);
        if command == libbpf_sys::BPF_OBJ_GET {
            let path = pathname(pid, attributes).expect("the memory of the child");
            *self.opened.entry(path).or_default() += 1;
        }
    }
}

/// The path in the attributes of BPF_OBJ_GET, which are at this address of the process. Their first 8 bytes point to
/// it.
fn pathname(pid: Pid, attributes: u64) -> io::Result<String> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut pointer = [0; 8];
    memory.read_exact_at(&mut pointer, attributes)?;
    let mut path = Vec::new();
    let mut byte = [0];
    let mut at = u64::from_ne_bytes(pointer);
    loop {
        memory.read_exact_at(&mut byte, at)?;
        match byte {
            [0] => return Ok(String::from_utf8_lossy(&path).into_owned()),
            [byte] => path.push(byte),
        }
        at += 1;
    }
}
