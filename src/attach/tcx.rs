//! TCX (since Linux 6.6): attaching a program to an interface by a BPF link.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use nix::errno::Errno;

use crate::bpf::pins;
use crate::model::Direction;

/// A TCX link. It keeps its program attached for as long as a descriptor or a pin holds it.
#[derive(Debug)]
pub struct TcxLink(OwnedFd);

impl TcxLink {
    /// Attaches in front of the programs that are there: they may end the processing of a packet, ours never does.
    /// `None` where the kernel has no TCX.
    pub fn attach(
        program: BorrowedFd<'_>,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Option<Self>> {
        // not bpf_program__attach_tcx: it wants an expected_attach_type, with which the program
        // could not be in a chain (kernel 6.18, bpf_prog_map_compatible)
        let options = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
            // relative to none: in front of all
            flags: libbpf_sys::BPF_F_BEFORE,
            ..Default::default()
        };
        // SAFETY: descriptors that are open, and options that say their size
        let fd = unsafe {
            libbpf_sys::bpf_link_create(
                program.as_raw_fd(),
                ifindex as i32,
                attach_type(direction),
                &options,
            )
        };
        match owned(fd) {
            Ok(fd) => Ok(Some(Self(fd))),
            // an attach type that the kernel does not know
            Err(Errno::EINVAL) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot attach to {direction} (TCX)")),
        }
    }

    /// The link that is pinned at `path`; `None` where there is none.
    pub fn pinned(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let link = Link::open(path)
            .with_context(|| format!("cannot open the pinned link {}", path.display()))?;
        Ok(Some(Self(link.as_fd().try_clone_to_owned()?)))
    }

    /// Id of the program that the link pinned at `path` attaches.
    pub fn program(path: &Path) -> Option<u32> {
        Link::open(path).ok()?.info().ok().map(|info| info.prog_id)
    }

    /// Whether the link is on this interface. (If its interface is gone, it is on none.)
    pub fn is_on(&self, ifindex: u32) -> bool {
        LinkInfo::from_fd(self.0.as_fd()).is_ok_and(|info| match info.info {
            LinkTypeInfo::Tcx(tcx) => tcx.ifindex == ifindex,
            _ => false,
        })
    }

    /// Pins the link, which keeps the program attached when this process has ended. An older pin at `path` is
    /// replaced atomically.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pins::pin(self.0.as_fd(), path)
    }

    /// Replaces the attached program atomically. Fails where the interface is gone.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        // SAFETY: descriptors that are open, and null for options that there are none of
        let result = unsafe {
            libbpf_sys::bpf_link_update(self.0.as_raw_fd(), program.as_raw_fd(), std::ptr::null())
        };
        match result {
            0 => Ok(()),
            error => Err(Errno::from_raw(-error)).context("cannot replace the attached program"),
        }
    }
}

/// The number of a direction's TCX hook (`enum bpf_attach_type` in linux/bpf.h, since Linux 6.6).
pub fn attach_type(direction: Direction) -> libbpf_sys::bpf_attach_type {
    match direction {
        Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
    }
}

/// Ids of the programs that are attached by TCX, in the order in which they run; none where the kernel
/// has no TCX, or the interface is gone.
pub fn programs(ifindex: u32, direction: Direction) -> Vec<u32> {
    // as many as the kernel lets be (`bpf_mprog_max` in linux/bpf_mprog.h)
    let mut ids = [0; 64];
    let mut query = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    query.__bindgen_anon_1.count = ids.len() as u32;
    // SAFETY: there is room for as many ids as it says, and both live until the call returns
    let result = unsafe {
        libbpf_sys::bpf_prog_query_opts(ifindex as i32, attach_type(direction), &mut query)
    };
    // SAFETY: both names of the union are an integer of the same size
    let count = if result == 0 { unsafe { query.__bindgen_anon_1.count } } else { 0 };
    ids[..count as usize].to_vec()
}

/// Converts what libbpf returns: a descriptor, or an error as a negative number.
fn owned(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::from_raw(-fd));
    }
    // SAFETY: just opened, and nobody else's
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
