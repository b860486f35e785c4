//! An existing tunnel device, which somebody else made. Copies are handed to it. All that we add is a route to the
//! collector where there is none.

use std::fmt;
use std::net::IpAddr;

use anyhow::Result;
use etherparse::IpNumber;
use ipnetwork::IpNetwork;

use super::{addresses, next_hop, nic, problem_with};
use crate::bpf::address;
use crate::bpf::{self, carries};
use crate::model;
use crate::model::LocalPort;
use crate::netlink::{Link, Netlink, Route, TunnelRemote};

/// Marks our routes (`ip route` shows `proto 109`). Neither rtnetlink.h nor iproute2's rt_protos assign this number.
pub const ROUTE_PROTOCOL: u8 = 109;

#[derive(Debug)]
pub struct Existing {
    device: Link,
    /// the remote endpoint, if known: by it the loop guard recognizes the tunnel's own packets
    remote: Option<TunnelRemote>,
    /// longest packet that the device sends in one piece, in bytes
    longest: u32,
    /// the route to the collector that is missing
    route: Option<Route>,
    /// flags that were given although they only apply to a built-in tunnel
    without_effect: Vec<&'static str>,
    pub problems: Vec<String>,
    /// why not every copy gets through; waiting does not change it
    pub limit: Option<String>,
}

impl Existing {
    pub fn plan(
        netlink: &mut Netlink,
        wanted: &model::Tunnel,
        mirrored: &Link,
        device: Link,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        if !device.up {
            problems.push(format!(
                "the tunnel interface \"{0}\" is down: no copy gets through until \
                 `ip link set {0} up`",
                device.name
            ));
        }
        if let Some(name) = &wanted.redirect_to {
            problems.extend(problem_with(&nic(netlink, name)?));
        }
        let remote = device.remote.or_else(|| {
            let address = wanted.remote_address?;
            Some(TunnelRemote {
                address,
                protocol: IpNumber::UDP.0,
                port: wanted.remote_port,
                overhead: 0,
            })
        });
        let route = missing_route(netlink, wanted)?;
        let longest = longest_packet(netlink, wanted, &device, remote);
        let limit = (longest < mirrored.mtu).then(|| {
            format!(
                "the tunnel interface \"{}\" cannot carry packets longer than {longest} bytes: \
                 copies of those are left out and counted as oversize; raise the MTU on the way \
                 to the collector, or remove the device and let mirroring build its own",
                device.name
            )
        });
        let without_effect = flags_without_effect(wanted);
        Ok(Self { device, remote, longest, route, without_effect, problems, limit })
    }

    pub fn collector(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.address)
    }

    pub fn carry_out(&self, netlink: &mut Netlink) -> Result<bpf::Tunnel> {
        if let Some(route) = &self.route {
            netlink.add_route(route)?;
            log::info!("added a route to {}", route.destination);
        }
        let remote = self.remote;
        Ok(bpf::Tunnel {
            ifindex: self.device.index,
            collector: remote.map_or([0; 4], |remote| address::words_of(remote.address)),
            port: remote.map_or(0, |remote| remote.port.to_be()),
            protocol: remote.map_or(0, |remote| remote.protocol),
            overhead: remote.map_or(0, |remote| remote.overhead),
            carries: carries(&self.device),
            max_len: self.longest,
            max_segment_len: self.longest,
            ..Default::default()
        })
    }

    /// Warns of flags that have no effect.
    pub fn warn_of_flags(&self) {
        for flag in &self.without_effect {
            log::warn!(
                "{flag} has no effect: the tunnel interface \"{0}\" exists, and is used as it is; \
                 set it there, or `ip link delete {0}` and let mirroring build its own",
                self.device.name
            );
        }
    }
}

impl fmt::Display for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copies go to the device \"{}\"", self.device.name)?;
        match self.remote {
            Some(remote) => write!(f, ", which leads to {}", remote.address),
            None => Ok(()),
        }
    }
}

fn flags_without_effect(wanted: &model::Tunnel) -> Vec<&'static str> {
    let flags = [
        (wanted.dscp.is_some(), "--tunnel-dscp"),
        (wanted.ttl.is_some(), "--tunnel-ttl"),
        (wanted.local_port == LocalPort::OfFlow, "--tunnel-local-port=auto"),
    ];
    flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag).collect()
}

/// What a device takes beside IPv4: anything if it carries Ethernet frames, else both versions of IP unless the
/// device is known to be for one of them.
fn carries(device: &Link) -> u8 {
    match device.kind.as_deref() {
        _ if device.ethernet => carries::IPV6 | carries::TAGS | carries::FRAMES,
        Some("ipip") => 0,
        _ => carries::IPV6,
    }
}

/// For a longer packet, the kernel would tell the sender, which is production, to send shorter ones.
fn longest_packet(
    netlink: &mut Netlink,
    wanted: &model::Tunnel,
    device: &Link,
    remote: Option<TunnelRemote>,
) -> u32 {
    let path_mtu = remote.and_then(|remote| {
        let route = netlink.route_to(remote.address, None).ok();
        let nic_index = route.as_ref().map(|route| route.ifindex);
        let nic = match &wanted.redirect_to {
            Some(name) => netlink.link(name.as_str()).ok()?,
            None => netlink.links().ok()?.into_iter().find(|link| Some(link.index) == nic_index),
        };
        let mtu = route.and_then(|route| route.mtu).unwrap_or(u32::MAX);
        Some(mtu.min(nic?.mtu).saturating_sub(remote.overhead))
    });
    path_mtu.unwrap_or(u32::MAX).min(device.mtu)
}

/// The host route to the collector through `--redirect-to`, if it is missing.
fn missing_route(netlink: &mut Netlink, wanted: &model::Tunnel) -> Result<Option<Route>> {
    let (Some(collector), Some(name)) = (wanted.remote_address, &wanted.redirect_to) else {
        return Ok(None);
    };
    let nic = nic(netlink, name)?;
    // the kernel accepts no route through a device that is down
    if !nic.up {
        return Ok(None);
    }
    let local = addresses(netlink, &nic, collector)?;
    if nic.loopback || local.iter().any(|address| address.ip() == collector) {
        return Ok(None);
    }
    let destination = IpNetwork::from(collector);
    if netlink.routes()?.iter().any(|route| route.destination == destination) {
        return Ok(None);
    }
    let hop = next_hop(netlink, wanted, collector, &nic)?;
    Ok(Some(Route {
        destination,
        ifindex: Some(nic.index),
        gateway: (hop != collector).then_some(hop),
        protocol: ROUTE_PROTOCOL,
    }))
}
