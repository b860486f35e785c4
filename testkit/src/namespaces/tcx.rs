//! Attaches TCX programs as other users do: by links, at a named place (Linux 6.6, `BPF_F_BEFORE` and others in
//! linux/bpf.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use libbpf_rs::Program;
use libbpf_sys::{BPF_F_AFTER, BPF_F_BEFORE, BPF_F_ID, BPF_TCX_EGRESS, BPF_TCX_INGRESS};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use traffic_mirroring::model::Direction as Way;

use super::bpf_programs::owned;
use super::{Ns, has_tcx};

/// The place of a program among those of the hook. The number is the id of another program there.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    InFront,
    Behind,
    Before(u32),
    After(u32),
}

/// The programs that are attached to a hook.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Ids of the programs and of their links, in the order in which they run.
    pub attached: Vec<(u32, u32)>,
    /// The kernel increments it with each change.
    pub revision: u64,
}

/// The TCX programs on a hook of `eth0`.
pub fn programs(way: Way) -> Attached {
    query(eth0(), hook(way))
}

/// The programs on any hook; none on kernels before 6.6.
pub fn query(ifindex: i32, hook: libbpf_sys::bpf_attach_type) -> Attached {
    let (mut programs, mut links) = ([0; 64], [0; 64]);
    let mut query = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: programs.as_mut_ptr(),
        link_ids: links.as_mut_ptr(),
        ..Default::default()
    };
    query.__bindgen_anon_1.count = programs.len() as u32;
    // SAFETY: there is room for `count` ids of each kind, and all live until the call returns
    let result = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex, hook, &mut query) };
    match -result {
        0 => {
            // SAFETY: the kernel has set the count; both names of the union are a u32
            let count = unsafe { query.__bindgen_anon_1.count } as usize;
            let attached = programs.into_iter().zip(links).take(count).collect();
            Attached { attached, revision: query.revision }
        }
        libc::ENOENT | libc::EINVAL => Attached::default(),
        error => panic!("TCX programs of {ifindex}: {}", io::Error::from_raw_os_error(error)),
    }
}

/// Detaches the programs that are attached without a link, as `bpftool net detach` does. Before Linux 6.6, deletes the
/// clsact qdisc with its filters.
pub fn detach_all(ns: &Ns, ifname: &str, way: Way) {
    if !has_tcx() {
        ns.sh(&format!("tc qdisc del dev {ifname} clsact"));
        return;
    }
    ns.run(|| {
        let ifindex = if_nametoindex(ifname).expect("an interface") as i32;
        for (id, _) in query(ifindex, hook(way)).attached {
            let program = Program::fd_from_id(id).expect("a program");
            let (fd, hook) = (program.as_raw_fd(), hook(way));
            // SAFETY: an open descriptor, and null for options that there are none of
            let result =
                unsafe { libbpf_sys::bpf_prog_detach_opts(fd, ifindex, hook, ptr::null()) };
            assert_eq!(result, 0, "program {id} is taken off {ifname}");
        }
    });
}

/// Attaches a program to `eth0` for as long as the returned link is open.
pub fn attach(program: BorrowedFd<'_>, way: Way, place: Place) -> OwnedFd {
    owned(create_link(program, way, place, 0))
}

/// The same, if the hook still has this revision. Otherwise the kernel refuses it.
pub fn attach_at_revision(
    program: BorrowedFd<'_>,
    way: Way,
    place: Place,
    revision: u64,
) -> Result<OwnedFd, Errno> {
    match create_link(program, way, place, revision) {
        fd if fd < 0 => Err(Errno::from_raw(-fd)),
        fd => Ok(owned(fd)),
    }
}

fn create_link(program: BorrowedFd<'_>, way: Way, place: Place, revision: u64) -> i32 {
    let (flags, relative_id) = match place {
        Place::InFront => (BPF_F_BEFORE, 0),
        Place::Behind => (BPF_F_AFTER, 0),
        Place::Before(id) => (BPF_F_BEFORE | BPF_F_ID, id),
        Place::After(id) => (BPF_F_AFTER | BPF_F_ID, id),
    };
    let mut options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags,
        ..Default::default()
    };
    options.__bindgen_anon_1.tcx.relative_id = relative_id;
    options.__bindgen_anon_1.tcx.expected_revision = revision;
    // SAFETY: open descriptors, and options that say their size
    unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), eth0(), hook(way), &options) }
}

fn hook(way: Way) -> libbpf_sys::bpf_attach_type {
    match way {
        Way::Ingress => BPF_TCX_INGRESS,
        Way::Egress => BPF_TCX_EGRESS,
    }
}

fn eth0() -> i32 {
    nix::net::if_::if_nametoindex("eth0").expect("eth0") as i32
}
