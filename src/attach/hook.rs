//! The hook on an interface, for a program that is attached on its own: TCX (Linux 6.6), else a
//! clsact filter.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use libbpf_rs::{ErrorKind, Link, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};
use nix::errno::Errno;

use crate::bpf;
use crate::bpf::mmap_array::Mapped;
use crate::bpf::pins::{self, Pins};
use crate::model::Direction;
use crate::netlink::Netlink;

/// Of our clsact filters. Noted before it is used, a filter is found whenever we are killed.
const FILTER_HANDLE: u32 = 0x6d69;

/// Priorities that we try: the first that no other kind of filter has.
const FILTER_PRIORITIES: std::ops::RangeInclusive<u32> = 1..=32;

/// A TCX link, which attaches its program for as long as somebody holds it: its pin, here.
#[derive(Debug)]
pub struct TcxLink(OwnedFd);

impl TcxLink {
    /// Attaches in front of the programs that are there, one of which may end the way of its
    /// packets, while ours never does. `None` where the kernel has no TCX.
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
                tcx(direction),
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

    /// Whether the link attaches its program to this interface. (One whose interface is gone attaches
    /// it to none.)
    pub fn is_on(&self, ifindex: u32) -> bool {
        LinkInfo::from_fd(self.0.as_fd()).is_ok_and(|info| match info.info {
            LinkTypeInfo::Tcx(tcx) => tcx.ifindex == ifindex,
            _ => false,
        })
    }

    pub fn pin(&self, path: &Path) -> Result<()> {
        pins::pin(self.0.as_fd(), path)
    }

    /// Puts another program in place of the one that is attached, at one instant. Fails where the
    /// interface is gone.
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

pub fn tcx(direction: Direction) -> libbpf_sys::bpf_attach_type {
    match direction {
        Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
    }
}

/// Ids of the programs that are attached by TCX, in the order in which they run; none where the kernel
/// has no TCX, or the interface is gone.
pub fn tcx_programs(ifindex: u32, direction: Direction) -> Vec<u32> {
    // as many as the kernel lets be (`bpf_mprog_max` in linux/bpf_mprog.h)
    let mut ids = [0; 64];
    let mut query = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    query.__bindgen_anon_1.count = ids.len() as u32;
    // SAFETY: there is room for as many ids as it says, and both live until the call returns
    let result =
        unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, tcx(direction), &mut query) };
    // SAFETY: both names of the union are an integer of the same size
    let count = if result == 0 { unsafe { query.__bindgen_anon_1.count } } else { 0 };
    ids[..count as usize].to_vec()
}

/// What libbpf returns for a descriptor or an error.
fn owned(fd: i32) -> Result<OwnedFd, Errno> {
    if fd < 0 {
        return Err(Errno::from_raw(-fd));
    }
    // SAFETY: just opened, and nobody else's
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A filter of ours on an interface's clsact qdisc.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    pub ifindex: u32,
    pub direction: Direction,
    pub handle: u32,
    pub priority: u32,
}

impl Filter {
    /// The filter that an instance's record tells of.
    pub fn of(record: &bpf::Instance, direction: Direction) -> Option<Self> {
        (record.filter_handle != 0).then_some(Self {
            ifindex: record.ifindex,
            direction,
            handle: record.filter_handle,
            priority: record.filter_priority,
        })
    }

    pub fn note_in(&self, record: &mut bpf::Instance) {
        record.ifindex = self.ifindex;
        record.filter_handle = self.handle;
        record.filter_priority = self.priority;
    }

    /// Attaches a program in front of the filters that are there, as far as priorities allow.
    /// Before it makes a filter, `note` learns of it, and whether the clsact qdisc is our work, too.
    pub fn attach(
        program: BorrowedFd<'_>,
        ifindex: u32,
        direction: Direction,
        netlink: &mut Netlink,
        note: impl Fn(&Self, bool),
    ) -> Result<()> {
        let had_clsact = netlink.has_clsact(ifindex)?;
        let priority = *FILTER_PRIORITIES.start();
        let mut filter = Self { ifindex, direction, handle: FILTER_HANDLE, priority };
        note(&filter, !had_clsact);
        make_clsact(&mut filter.hook(program))?;
        // the older ingress qdisc may stand in its place: that has one hook, whichever is named
        let has_clsact = netlink.has_clsact(ifindex)?;
        ensure!(
            has_clsact || direction == Direction::Ingress,
            "cannot attach to {direction} (clsact): an ingress qdisc stands where a clsact qdisc \
             would; `tc qdisc delete … ingress`, and then start again"
        );
        let made_clsact = has_clsact && !had_clsact;
        // a priority is for one kind of filter: where another has it, the next one
        let mut refused = None;
        for priority in FILTER_PRIORITIES {
            filter.priority = priority;
            note(&filter, made_clsact);
            match add(&mut filter.hook(program)) {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        if made_clsact {
            remove_clsact(program, ifindex, netlink)?;
        }
        let error = refused.expect("there are priorities to try");
        Err(error.context(format!("cannot attach to {direction} (clsact)")))
    }

    /// Puts another program in place of ours, at one instant.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        let mut hook = self.hook(program);
        hook.replace(true);
        hook.attach().context("cannot replace the clsact filter")?;
        Ok(())
    }

    /// Removes the filter, if it runs a program of ours. `any` is any open descriptor: libbpf's
    /// builder wants one.
    pub fn detach(&self, any: BorrowedFd<'_>, is_ours: impl Fn(u32) -> bool) -> Result<()> {
        let mut hook = self.hook(any);
        // where there is no such filter (any more), nothing is left to do
        if !hook.query().is_ok_and(is_ours) {
            return Ok(());
        }
        hook.detach().context("cannot remove the clsact filter")
    }

    /// libbpf's handle for the filter. Where nothing is attached by it, `program` is any open descriptor.
    pub fn hook(&self, program: BorrowedFd<'_>) -> TcHook {
        let point = match self.direction {
            Direction::Ingress => TC_INGRESS,
            Direction::Egress => TC_EGRESS,
        };
        TcHookBuilder::new(program)
            .ifindex(self.ifindex as i32)
            .handle(self.handle)
            .priority(self.priority)
            .hook(point)
    }
}

/// Attaches an instance's program to an interface: by a TCX link, which is pinned, else by a clsact
/// filter, of which the `records` tell before it is made.
pub fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    pins: &Pins,
    netlink: &mut Netlink,
    records: &[&Mapped<bpf::Instance>],
) -> Result<()> {
    let direction = pins.id.direction;
    if let Some(link) = TcxLink::attach(program, ifindex, direction)? {
        return link.pin(&pins.link());
    }
    Filter::attach(program, ifindex, direction, netlink, |filter, made_clsact| {
        for record in records {
            let mut noted = record.read(0);
            filter.note_in(&mut noted);
            noted.made_clsact = made_clsact.into();
            record.write(0, noted);
        }
    })
}

/// Makes the clsact qdisc on the hook's interface, unless it is there.
pub fn make_clsact(hook: &mut TcHook) -> Result<()> {
    let made = hook.create().map(drop).map_err(|error| {
        or_missing(error, "clsact qdisc", "CONFIG_NET_SCH_INGRESS", "sch_ingress")
    });
    made.context("cannot make the clsact qdisc")
}

/// Adds the hook's filter.
pub fn add(hook: &mut TcHook) -> Result<()> {
    let added = hook.attach().map(drop);
    added.map_err(|error| or_missing(error, "bpf filter", "CONFIG_NET_CLS_BPF", "cls_bpf"))
}

/// The error, or that the kernel does not know what it was asked for, which it says by the same errno as
/// it says that a file is missing (`qdisc_create` and `tc_new_tfilter` in net/sched).
fn or_missing(error: libbpf_rs::Error, what: &str, option: &str, module: &str) -> anyhow::Error {
    if error.kind() != ErrorKind::NotFound {
        return error.into();
    }
    anyhow!(
        "the kernel has no {what} ({option}, module {module}); `modprobe {module}` says why, or take \
         Linux 6.6 or later, where none is needed"
    )
}

/// Removes a clsact qdisc that we made, unless somebody has a filter on it by now. Returns whether
/// it is gone, be it with its interface. `any` is any open descriptor.
pub fn remove_clsact(any: BorrowedFd<'_>, ifindex: u32, netlink: &mut Netlink) -> Result<bool> {
    if !netlink.has_clsact(ifindex)? {
        return Ok(true);
    }
    if netlink.has_filters(ifindex)? {
        return Ok(false);
    }
    TcHookBuilder::new(any)
        .ifindex(ifindex as i32)
        .hook(TC_INGRESS | TC_EGRESS)
        .destroy()
        .context("cannot remove the clsact qdisc")?;
    Ok(true)
}
