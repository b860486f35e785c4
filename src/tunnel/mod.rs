//! The tunnel to the collector: an existing device, used as it is, or a built-in one.
//!
//! `Plan::new` looks at the host and decides. `Plan::carry_out` changes the host. `clean_up` removes what no instance
//! uses any more.

mod cleanup;
pub mod encap;
mod external;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;

use crate::bpf::{self, carries};
use crate::filter::{Action, CompiledRules};
use crate::instance::host::HostLock;
use crate::model;
use crate::netlink::{Link, Netlink};

pub use cleanup::clean_up;
use encap::BuiltIn;
use external::Existing;

/// How long a start waits for the next hop's link-layer address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a start is going to use, and to create where it is missing.
#[derive(Debug)]
pub enum Plan {
    /// A device that somebody else made and that is used as it is.
    Existing(Existing),
    /// A device of our own, made or to be made.
    BuiltIn(BuiltIn),
}

impl Plan {
    /// Decides how copies of `mirrored`'s packets reach the collector. Changes nothing.
    pub fn new(
        netlink: &mut Netlink,
        wanted: &model::Tunnel,
        mirrored: &Link,
        lock: &HostLock<'_>,
    ) -> Result<Self> {
        match netlink.link(wanted.name.as_str())? {
            Some(link) if !encap::is_ours(&link) && !encap::is_half_made(&link) => {
                Existing::plan(netlink, wanted, mirrored, link).map(Self::Existing)
            }
            found => BuiltIn::plan(netlink, wanted, mirrored, found, lock).map(Self::BuiltIn),
        }
    }

    /// Creates what is missing, and returns the tunnel entry for the mirroring program. `kept` is the plan that was
    /// carried out before, if any: what other instances have put into force since then stays.
    pub fn carry_out(&self, netlink: &mut Netlink, kept: Option<&Self>) -> Result<bpf::Tunnel> {
        match (self, kept) {
            (Self::Existing(existing), Some(_)) => existing.carry_out(netlink),
            (Self::Existing(existing), None) => {
                existing.warn_of_flags();
                existing.carry_out(netlink)
            }
            (Self::BuiltIn(built_in), Some(Self::BuiltIn(kept))) => {
                built_in.carry_out(netlink, Some(kept))
            }
            (Self::BuiltIn(built_in), _) => built_in.carry_out(netlink, None),
        }
    }

    /// Conditions that lose copies, or may lose them, a sentence for each.
    pub fn warnings(&self) -> Vec<String> {
        let (problems, limit) = match self {
            Self::Existing(existing) => (existing.problems.as_slice(), &existing.limit),
            Self::BuiltIn(built_in) => (built_in.problem.as_slice(), &built_in.limit),
        };
        problems.iter().chain(limit).cloned().collect()
    }

    /// Whether a warning is about a limit of the devices, which waiting does not change.
    pub fn is_limit(&self, warning: &str) -> bool {
        let limit = match self {
            Self::Existing(existing) => &existing.limit,
            Self::BuiltIn(built_in) => &built_in.limit,
        };
        limit.as_deref() == Some(warning)
    }

    /// The next hop of a built-in tunnel, and the device that it is on.
    pub fn next_hop(&self) -> Option<(u32, IpAddr)> {
        match self {
            Self::Existing(_) => None,
            Self::BuiltIn(built_in) => built_in.next_hop(),
        }
    }

    /// The collector's address; `None` where the far end of an existing device is not known.
    pub fn collector(&self) -> Option<IpAddr> {
        match self {
            Self::Existing(existing) => existing.collector(),
            Self::BuiltIn(built_in) => Some(built_in.collector()),
        }
    }

    /// Whether two plans of built-in tunnels send copies the same way. (An existing device decides about its way
    /// itself.)
    pub fn leads_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BuiltIn(built_in), Self::BuiltIn(other)) => built_in.leads_as(other),
            _ => true,
        }
    }

    /// For the log: how copies get there.
    pub fn way(&self) -> String {
        match self {
            Self::Existing(existing) => existing.to_string(),
            Self::BuiltIn(built_in) => built_in.way(),
        }
    }

    /// Resolves the next hop's link-layer address before the first copy, which then need not wait for ARP or NDP.
    /// Returns false if the next hop does not answer.
    pub fn resolve(&self, netlink: &mut Netlink) -> Result<bool> {
        match self.next_hop() {
            Some((ifindex, hop)) => netlink.resolve(ifindex, hop, RESOLVE_TIMEOUT),
            None => Ok(true),
        }
    }
}

/// The tunnel entry for another way to the collector, with the cap of the one in force; `None` where the way is the
/// same.
pub fn redirected(in_force: bpf::Tunnel, to: bpf::Tunnel) -> Option<bpf::Tunnel> {
    let way = |tunnel: bpf::Tunnel| {
        (
            (tunnel.ifindex, tunnel.collector, tunnel.port, tunnel.protocol),
            (tunnel.max_len, tunnel.max_segment_len, tunnel.cut_len, tunnel.overhead),
            (tunnel.carries, tunnel.oversize),
        )
    };
    let capped = bpf::Tunnel { rate: in_force.rate, burst: in_force.burst, ..to };
    (way(in_force) != way(to)).then_some(capped)
}

/// Whether the tunnel cuts copies to the length that their rules ask for.
pub fn cuts(tunnel: &bpf::Tunnel) -> bool {
    tunnel.carries & carries::CUT != 0
}

/// Warns of rules that want shorter copies than the tunnel makes.
pub fn warn_of_whole_copies(tunnel: &bpf::Tunnel, rules: &CompiledRules) {
    if cuts(tunnel) {
        return;
    }
    for rule in &rules.rules {
        if let Action::Mirror { snaplen: Some(_), .. } = rule.action {
            log::warn!(
                "the snaplen of rule {:?} has no effect: the tunnel interface exists, and takes whole \
                 packets; `ip link delete` it and let mirroring build its own",
                rule.name
            );
        }
    }
}

/// What is wrong with the NIC by which copies leave.
fn problem_with(nic: &Link) -> Option<String> {
    let state = match nic {
        Link { up: false, .. } => "is down",
        Link { carrier: false, .. } => "has no carrier",
        _ => return None,
    };
    Some(format!("the interface \"{}\" {state}: no copy leaves by it", nic.name))
}

/// For the log: where copies go.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existing(existing) => existing.fmt(f),
            Self::BuiltIn(built_in) => built_in.fmt(f),
        }
    }
}

/// The NIC of `--redirect-to`, by which copies leave.
fn nic(netlink: &mut Netlink, name: &model::InterfaceName) -> Result<Link> {
    netlink.link(name.as_str())?.with_context(|| {
        format!("--redirect-to: there is no interface \"{name}\"; `ip link` lists those there are")
    })
}

/// The NIC's addresses from which packets can be sent to the collector. It is an error to have none.
fn addresses(netlink: &mut Netlink, nic: &Link, collector: IpAddr) -> Result<Vec<IpNetwork>> {
    let addresses = netlink.addresses(nic.index, collector)?;
    let (family, but) = match collector {
        IpAddr::V4(_) => ("IPv4", ""),
        IpAddr::V6(_) => ("IPv6", " (a link-local or deprecated one is none)"),
    };
    ensure!(
        !addresses.is_empty(),
        "--redirect-to: the interface \"{}\" has no {family} address to send copies from{but}; \
         give it one, or name another interface",
        nic.name
    );
    Ok(addresses)
}

/// The next hop on `nic`: `--gtw-address`, else what `encap::template::next_hop` finds, else what the kernel's routes
/// through that NIC say.
fn next_hop(
    netlink: &mut Netlink,
    wanted: &model::Tunnel,
    collector: IpAddr,
    nic: &Link,
) -> Result<IpAddr> {
    if let Some(gateway) = wanted.gateway {
        return Ok(gateway);
    }
    if let Some(hop) = encap::template::next_hop(collector, &addresses(netlink, nic, collector)?) {
        return Ok(hop);
    }
    let route = netlink.route_to(collector, Some(nic.index)).ok();
    let (hop, why) = match collector {
        // without a route, the kernel takes the collector for on-link
        IpAddr::V4(_) => {
            (route.and_then(|it| it.gateway), "the first address of its network is its own")
        }
        IpAddr::V6(_) => {
            let hop = route.map(|route| route.gateway.unwrap_or(collector));
            (hop, "that is in none of its networks, and no route leads there")
        }
    };
    hop.with_context(|| {
        format!(
            "the next hop from \"{}\" towards the collector {collector} is unknown: {why}; give \
             --gtw-address",
            nic.name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_applied_only_where_it_leads_elsewhere() {
        let tunnel = bpf::Tunnel { ifindex: 7, max_len: 1468, ..Default::default() };
        let capped = bpf::Tunnel { rate: 1000, burst: 500, ..tunnel };
        assert!(redirected(capped, tunnel).is_none());
        let others = [
            bpf::Tunnel { ifindex: 9, ..tunnel },
            bpf::Tunnel { collector: [0, 0, 0, 1], ..tunnel },
            bpf::Tunnel { cut_len: 1468, ..tunnel },
            bpf::Tunnel { overhead: 50, ..tunnel },
        ];
        for other in others {
            let redirected = redirected(capped, other).unwrap();
            assert_eq!((redirected.ifindex, redirected.cut_len), (other.ifindex, other.cut_len));
            assert_eq!((redirected.rate, redirected.burst), (1000, 500));
        }
    }
}
