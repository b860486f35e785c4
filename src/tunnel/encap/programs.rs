//! The programs on both ends of a built-in device: on TCX hooks (since Linux 6.6), else as clsact filters. No process
//! holds them. They stay for as long as the device exists.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use libbpf_rs::Program;
use nix::errno::Errno;

use crate::attach::clsact::{self, ClsactFilter};
use crate::attach::tcx;
use crate::model::Direction;

/// Our filter on each end of the device.
const FILTER_HANDLE: u32 = 1;
const FILTER_PRIORITY: u32 = 1;

/// Puts a program on a device's hook, atomically in place of those that are there.
pub fn put(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> Result<()> {
    let before = tcx::programs(ifindex, direction);
    if !put_in_front(program, ifindex, direction)? {
        let mut hook = filter(ifindex, direction).hook(program);
        hook.replace(true);
        clsact::make_qdisc(&mut hook)?;
        clsact::add(&mut hook)?;
    }
    // they come after the new one, and see no packet any more
    for id in before {
        take_off(id, ifindex, direction);
    }
    Ok(())
}

/// Id of the program that the device's hook runs; `None` where there is none.
pub fn program(ifindex: u32, direction: Direction) -> Option<u32> {
    let first = tcx::programs(ifindex, direction).first().copied();
    first.or_else(|| filter(ifindex, direction).hook(io::stdin().as_fd()).query().ok())
}

/// Attaches to TCX; `false` where the kernel has none.
fn put_in_front(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> Result<bool> {
    let options = libbpf_sys::bpf_prog_attach_opts {
        sz: size_of::<libbpf_sys::bpf_prog_attach_opts>() as _,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    // SAFETY: a descriptor that is open, and options that say their size
    let result = unsafe {
        let hook = tcx::attach_type(direction);
        libbpf_sys::bpf_prog_attach_opts(program.as_raw_fd(), ifindex as i32, hook, &options)
    };
    match result {
        0 => Ok(true),
        // an attach type that the kernel does not know
        error if error == -(Errno::EINVAL as i32) => Ok(false),
        error => Err(Errno::from_raw(-error)).context("the kernel refuses the program (TCX)"),
    }
}

/// Takes a program off a TCX hook, if it is still there.
fn take_off(id: u32, ifindex: u32, direction: Direction) {
    let Ok(program) = Program::fd_from_id(id) else { return };
    let (program, hook) = (program.as_raw_fd(), tcx::attach_type(direction));
    // SAFETY: a descriptor that is open, and null for options that there are none of
    unsafe {
        libbpf_sys::bpf_prog_detach_opts(program, ifindex as i32, hook, std::ptr::null());
    }
}

/// Where the program is without TCX.
fn filter(ifindex: u32, direction: Direction) -> ClsactFilter {
    ClsactFilter { ifindex, direction, handle: FILTER_HANDLE, priority: FILTER_PRIORITY }
}
