//! The tunnel to the collector: an existing device as it is, or a built-in one.
//!
//! `Plan::new` looks at the host and decides, `Plan::carry_out` changes the host, `sweep` removes
//! what no instance needs any more.

mod built_in;
pub mod counters;
mod existing;
mod identity;
pub mod outer;
mod sweep;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bpf;
use crate::config;
use crate::netlink::{Link, Netlink};

use built_in::BuiltIn;
use existing::Existing;
pub use sweep::sweep;

/// How long a start waits for the next hop's link-layer address.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a start is going to use, and to make where it isn't there.
#[derive(Debug)]
pub enum Plan {
    Existing(Existing),
    BuiltIn(BuiltIn),
}

impl Plan {
    /// Decides how copies of `mirrored`'s packets reach the collector. Changes nothing.
    pub fn new(
        netlink: &mut Netlink,
        wanted: &config::Tunnel,
        mirrored: &Link,
        bpffs: &Path,
    ) -> Result<Self> {
        match netlink.link(wanted.name.as_str())? {
            Some(link) if !built_in::is_ours(&link) => {
                Existing::plan(netlink, wanted, mirrored, link).map(Self::Existing)
            }
            found => BuiltIn::plan(netlink, wanted, mirrored, found, bpffs).map(Self::BuiltIn),
        }
    }

    /// Makes what is missing, and returns what the mirroring program has to know.
    pub fn carry_out(&self, netlink: &mut Netlink) -> Result<bpf::Tunnel> {
        match self {
            Self::Existing(existing) => existing.carry_out(netlink),
            Self::BuiltIn(built_in) => built_in.carry_out(netlink),
        }
    }
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

/// The NIC that copies leave by, as `--redirect-to` names it.
fn nic(netlink: &mut Netlink, name: &config::InterfaceName) -> Result<Link> {
    netlink.link(name.as_str())?.with_context(|| {
        format!("--redirect-to: there is no interface \"{name}\"; `ip link` lists those there are")
    })
}

/// The NIC's IPv4 addresses; none is an error.
fn addresses(netlink: &mut Netlink, nic: &Link) -> Result<Vec<ipnetwork::Ipv4Network>> {
    let addresses = netlink.addresses(nic.index)?;
    ensure!(
        !addresses.is_empty(),
        "--redirect-to: the interface \"{}\" has no IPv4 address to send copies from; \
         give it one, or name another interface",
        nic.name
    );
    Ok(addresses)
}

/// The next hop out of `nic`: `--gtw-address`, or as `outer::next_hop` finds it, or else as the
/// kernel's routes through that NIC say.
fn next_hop(
    netlink: &mut Netlink,
    wanted: &config::Tunnel,
    collector: Ipv4Addr,
    nic: &Link,
) -> Result<Ipv4Addr> {
    if let Some(gateway) = wanted.gateway {
        return Ok(gateway);
    }
    if let Some(hop) = outer::next_hop(collector, &addresses(netlink, nic)?) {
        return Ok(hop);
    }
    let route = netlink.route_to(collector, Some(nic.index)).ok();
    route.and_then(|route| route.gateway).with_context(|| {
        format!(
            "the next hop from \"{}\" towards the collector {collector} is unknown: the first \
             address of its network is its own; give --gtw-address",
            nic.name
        )
    })
}
