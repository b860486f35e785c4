//! bpf filters on an interface's clsact qdisc, for kernels without TCX.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, anyhow, ensure};
use libbpf_rs::{ErrorKind, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};

use crate::bpf;
use crate::model::Direction;
use crate::netlink::Netlink;

/// Handle of our filters. It is fixed, so that a filter can be recorded before it is made, and found after a SIGKILL.
const FILTER_HANDLE: u32 = 0x6d69;

/// Priorities that we try, in order: one that another kind of filter has cannot be used.
const FILTER_PRIORITIES: std::ops::RangeInclusive<u32> = 1..=32;

/// A filter of ours on an interface's clsact qdisc.
#[derive(Clone, Copy, Debug)]
pub struct ClsactFilter {
    /// The interface that has the qdisc.
    pub ifindex: u32,
    /// The hook of the qdisc that runs the filter.
    pub direction: Direction,
    /// The number of the filter among those of its priority (tc-bpf(8)). A record with 0 means that there is no
    /// filter.
    pub handle: u32,
    /// The place of the filter: the kernel runs filters in ascending order of priority.
    pub priority: u32,
}

impl ClsactFilter {
    /// The filter that an instance's record tells of.
    pub fn of(record: &bpf::Instance, direction: Direction) -> Option<Self> {
        (record.filter_handle != 0).then_some(Self {
            ifindex: record.ifindex,
            direction,
            handle: record.filter_handle,
            priority: record.filter_priority,
        })
    }

    /// Writes the filter into the record of an instance, from which [`of`](Self::of) reads it back.
    pub fn note_in(&self, record: &mut bpf::Instance) {
        record.ifindex = self.ifindex;
        record.filter_handle = self.handle;
        record.filter_priority = self.priority;
    }

    /// Attaches a program in front of the filters that are there, as far as priorities allow. `note` is told of each
    /// filter before it is made, and whether we made the clsact qdisc.
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
        make_qdisc(&mut filter.hook(program))?;
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
            remove_qdisc(program, ifindex, netlink)?;
        }
        let error = refused.expect("there are priorities to try");
        Err(error.context(format!("cannot attach to {direction} (clsact)")))
    }

    /// Replaces the program of our filter atomically.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        let mut hook = self.hook(program);
        hook.replace(true);
        hook.attach().context("cannot replace the clsact filter")?;
        Ok(())
    }

    /// Removes the filter if it runs a program of ours. `any` is any open descriptor, which libbpf's builder requires.
    pub fn detach(&self, any: BorrowedFd<'_>, is_ours: impl Fn(u32) -> bool) -> Result<()> {
        let mut hook = self.hook(any);
        // no such filter (any more): nothing to do
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

/// Makes the clsact qdisc on the hook's interface, unless it is there.
pub fn make_qdisc(hook: &mut TcHook) -> Result<()> {
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

/// Explains ENOENT, by which the kernel says that it does not have a kind of qdisc or filter (`qdisc_create` and
/// `tc_new_tfilter` in net/sched). Other errors stay as they are.
fn or_missing(error: libbpf_rs::Error, what: &str, option: &str, module: &str) -> anyhow::Error {
    if error.kind() != ErrorKind::NotFound {
        return error.into();
    }
    anyhow!(
        "the kernel has no {what} ({option}, module {module}); `modprobe {module}` says why, or take \
         Linux 6.6 or later, where none is needed"
    )
}

/// Removes a clsact qdisc that we made, unless there are filters on it. Returns whether it is gone, possibly together
/// with its interface. `any` is any open descriptor.
pub fn remove_qdisc(any: BorrowedFd<'_>, ifindex: u32, netlink: &mut Netlink) -> Result<bool> {
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
