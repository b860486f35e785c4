//! What runs here, as `--cmd=show` tells it (pure).

use std::net::IpAddr;
use std::time::Instant;

use crate::bpf;
use crate::filter;
use crate::model::rate::Rate;
use crate::model::{InstanceId, LocalPort, Oversize};

/// An instance that has its maps pinned.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: InstanceId,
    /// Or why it cannot be opened.
    pub found: Result<Instance, String>,
}

#[derive(Debug, Clone)]
pub struct Instance {
    /// What the mirrored interface is called now; `None` where it is gone.
    pub interface: Option<String>,
    pub state: State,
    /// The process that stays with it, or did.
    pub process: Option<Process>,
    pub launch_mode: LaunchMode,
    pub program: Option<Program>,
    /// Packets come to the program: it stands in a chain, or on the interface.
    pub attached: bool,
    /// Whose packets come to us, in the order in which they see them.
    pub previous: Vec<Neighbour>,
    /// Who is behind us.
    pub next: Vec<Neighbour>,
    /// Those in force.
    pub rules: Vec<RuleReport>,
    /// What rules counted that are no longer in force.
    pub retired: Outcomes<u64>,
    /// Packets a second of all rules, once two samples have been taken.
    pub rates: Option<Outcomes<f64>>,
    /// Of the rules in force; `None` where none are.
    pub tunnel: Option<Tunnel>,
    /// When the counters were read.
    pub read_at: Instant,
    /// A number that no rules had that were in force before.
    pub installation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does all that it was started for.
    Running,
    /// The kernel mirrors on; the process that was to stay is gone.
    Unattended,
    /// No rules are in force, or the interface is gone.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub alive: bool,
}

/// Who loaded the program, and what brings it its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchMode {
    L3afd,
    Chain,
    Tcx,
    Clsact,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub id: u32,
    /// As the kernel keeps it: 15 bytes at most.
    pub name: String,
}

/// Another program, or a filter, that the same packets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub by: By,
    /// `None` for a filter that is no program.
    pub id: Option<u32>,
    /// Of the program, or the kind of the filter.
    pub name: String,
}

/// By what packets go from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    TailCall,
    Tcx,
    Clsact,
}

/// A rule in force, and what became of its packets.
#[derive(Debug, Clone)]
pub struct RuleReport {
    pub rule: filter::Rule,
    pub outcomes: Outcomes<u64>,
    /// Packets a second, once two samples of these rules have been taken.
    pub rates: Option<Outcomes<f64>>,
}

/// `struct mirroring_outcomes` in `bpf/mirroring.h`: packets, or packets a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcomes<T> {
    pub matched: T,
    pub sent: T,
    pub excluded: T,
    pub loop_guard: T,
    pub not_sampled: T,
    pub unsupported: T,
    pub oversize: T,
    pub rate_limited: T,
    pub failed: T,
}

#[derive(Debug, Clone)]
pub struct Tunnel {
    /// `None` where it is gone.
    pub device: Option<Device>,
    pub built_in: bool,
    /// UDP source port, of a built-in tunnel.
    pub local_port: Option<LocalPort>,
    /// The far end, where it is known.
    pub collector: Option<IpAddr>,
    /// UDP destination port, where there is UDP.
    pub remote_port: Option<u16>,
    pub next_hop: Option<NextHop>,
    /// What the copies leave by, where it is known.
    pub nic: Option<Nic>,
    /// Longest packet whose copy leaves in one outer packet, bytes from the IP header on.
    pub max_unfragmented_len: Option<u32>,
    /// Longest packet whose copy arrives whole.
    pub max_len: u32,
    pub oversize: Oversize,
    pub max_rate: Option<Rate>,
    /// What a built-in device did with the copies.
    pub counters: Option<bpf::GueCounters>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// As in `ip link add type …`.
    pub kind: Option<String>,
    pub up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub mtu: u32,
    /// And has a carrier.
    pub up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    pub address: IpAddr,
    pub state: HopState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopState {
    /// Its link-layer address is known, or it needs none.
    Reachable,
    /// The kernel has asked for it, and waits.
    Resolving,
    /// It did not answer.
    Unreachable,
    /// Nobody has asked of late.
    Unknown,
}

impl Instance {
    /// What all rules counted, those that are no longer in force included.
    pub fn total(&self) -> Outcomes<u64> {
        let of_rules = self.rules.iter().map(|rule| rule.outcomes);
        of_rules.fold(self.retired, |sum, it| sum.zip(it, |sum, count| sum + count))
    }
}

impl<T: Copy> Outcomes<T> {
    pub fn zip<U: Copy, V>(self, other: Outcomes<U>, with: impl Fn(T, U) -> V) -> Outcomes<V> {
        Outcomes {
            matched: with(self.matched, other.matched),
            sent: with(self.sent, other.sent),
            excluded: with(self.excluded, other.excluded),
            loop_guard: with(self.loop_guard, other.loop_guard),
            not_sampled: with(self.not_sampled, other.not_sampled),
            unsupported: with(self.unsupported, other.unsupported),
            oversize: with(self.oversize, other.oversize),
            rate_limited: with(self.rate_limited, other.rate_limited),
            failed: with(self.failed, other.failed),
        }
    }

    /// Why packets that matched were not sent.
    pub fn left_out(&self) -> [(&'static str, T); 7] {
        [
            ("excluded", self.excluded),
            ("loop_guard", self.loop_guard),
            ("not_sampled", self.not_sampled),
            ("unsupported", self.unsupported),
            ("oversize", self.oversize),
            ("rate_limited", self.rate_limited),
            ("failed", self.failed),
        ]
    }
}

impl From<bpf::Outcomes> for Outcomes<u64> {
    fn from(it: bpf::Outcomes) -> Self {
        Self {
            matched: it.matched,
            sent: it.sent,
            excluded: it.excluded,
            loop_guard: it.loop_guard,
            not_sampled: it.not_sampled,
            unsupported: it.unsupported,
            oversize: it.oversize,
            rate_limited: it.rate_limited,
            failed: it.failed,
        }
    }
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Unattended => "unattended",
            Self::Stopped => "stopped",
        }
    }
}

impl LaunchMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L3afd => "l3afd",
            Self::Chain => "chain",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl By {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TailCall => "tail_call",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl Tunnel {
    /// `up`, `down` or `gone`.
    pub fn state(&self) -> &'static str {
        match &self.device {
            Some(device) if device.up => "up",
            Some(_) => "down",
            None => "gone",
        }
    }
}

impl HopState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Resolving => "resolving",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}
