//! A parent process that the program under test takes for l3afd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Runs a command as the child of a process that is named l3afd. That process holds these descriptors and no others. It
/// ends with the command's exit status. If it is killed, the command is killed as well.
pub fn by_l3afd(command: &mut Command, held: &[BorrowedFd<'_>]) {
    let mut held: Vec<RawFd> = held.iter().map(AsRawFd::as_raw_fd).collect();
    held.sort_unstable();
    // SAFETY: between fork and exec, nothing but system calls is made, and nothing is allocated
    unsafe { command.pre_exec(move || become_l3afd(&held)) };
}

fn become_l3afd(held: &[RawFd]) -> io::Result<()> {
    // SAFETY: no other thread is in this process
    let child = Errno::result(unsafe { libc::fork() })?;
    if child == 0 {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        return Ok(());
    }
    prctl::set_name(c"l3afd")?;
    // close the descriptors of other tests, and the pipe through which std waits for our exec
    let mut first = 3;
    for &fd in held {
        close(first, fd - 1);
        first = fd + 1;
    }
    close(first, RawFd::MAX);
    let mut status = 0;
    // SAFETY: an integer to write to; and nothing has to run at the exit
    unsafe {
        while libc::waitpid(child, &mut status, 0) < 0 {}
        libc::_exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 })
    }
}

fn close(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: integers; no code that runs in this process uses what it closes
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
