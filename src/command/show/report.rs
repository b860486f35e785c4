//! The report that `--cmd=show` prints (pure).

use std::net::IpAddr;
use std::time::Instant;

use crate::bpf;
use crate::filter;
use crate::model::rate::Rate;
use crate::model::{InstanceId, LocalPort, Oversize};

/// An instance whose maps are pinned.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: InstanceId,
    /// The error says why the instance cannot be opened.
    pub found: Result<Instance, String>,
}

#[derive(Debug, Clone)]
pub struct Instance {
    /// Present name of the mirrored interface; `None` if it is gone.
    pub interface: Option<String>,
    pub state: State,
    /// The process that watches over it, alive or not.
    pub process: Option<Process>,
    pub launch_mode: LaunchMode,
    pub program: Option<Program>,
    /// Whether the program receives packets, in a chain or on the interface.
    pub attached: bool,
    /// Programs and filters in front, in the order in which packets pass them.
    pub previous: Vec<Neighbour>,
    /// Programs and filters behind.
    pub next: Vec<Neighbour>,
    /// The rules in force.
    pub rules: Vec<RuleReport>,
    /// Counters of rules that are no longer in force.
    pub retired: Outcomes<u64>,
    /// Packets a second over all rules; `None` before the second sample.
    pub rates: Option<Outcomes<f64>>,
    /// Where copies go; `None` if no rules are in force.
    pub tunnel: Option<Tunnel>,
    /// When the counters were read.
    pub read_at: Instant,
    /// Number of the rules in force. Rules installed earlier had lower ones.
    pub installation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything works.
    Running,
    /// The kernel still mirrors, but the process that should watch over the instance is gone.
    Unattended,
    /// No rules are in force, or the interface is gone.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub alive: bool,
}

/// Who loaded the program, and where it is attached.
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
    /// As the kernel stores it: at most 15 bytes.
    pub name: String,
}

/// A program or filter in front of ours or behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub by: By,
    /// `None` for a filter that is not a BPF program.
    pub id: Option<u32>,
    /// Name of the program, or kind of the filter.
    pub name: String,
}

/// How packets get from one program to the next.
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
    /// Packets a second; `None` before the second sample of these rules.
    pub rates: Option<Outcomes<f64>>,
}

/// What became of packets (`struct mirroring_outcomes` in `bpf/mirroring.h`), as counts or as packets a second.
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
    /// `None` if it is gone.
    pub device: Option<Device>,
    pub built_in: bool,
    /// UDP source port; only of a built-in tunnel.
    pub local_port: Option<LocalPort>,
    /// Address of the far end, if it is known.
    pub collector: Option<IpAddr>,
    /// UDP destination port, if the tunnel uses UDP.
    pub remote_port: Option<u16>,
    pub next_hop: Option<NextHop>,
    /// The interface that copies leave by, if it is known.
    pub nic: Option<Nic>,
    /// Longest packet whose copy fits one outer packet, in bytes from the IP header on.
    pub max_unfragmented_len: Option<u32>,
    /// Longest packet whose copy can be sent in full length.
    pub max_len: u32,
    pub oversize: Oversize,
    pub max_rate: Option<Rate>,
    /// What the built-in tunnel did with the copies.
    pub counters: Option<bpf::GueCounters>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// The kind, as in `ip link add type …`.
    pub kind: Option<String>,
    pub up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    pub address: IpAddr,
    pub state: HopState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopState {
    /// Its link-layer address is known, or not needed.
    Reachable,
    /// The kernel waits for its answer.
    Resolving,
    /// It did not answer.
    Unreachable,
    /// The kernel has not asked recently.
    Unknown,
}

impl Instance {
    /// The sum over all rules, former rules included.
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

    /// The reasons for which packets that matched were not sent.
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
