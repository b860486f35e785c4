//! The built-in tunnel: a veth pair. On its egress hook, `gue_tunnel.bpf.c` adds the outer headers and hands copies
//! to the NIC. A copy that does not fit there crosses the pair, and is cut at the far end. The kernel needs no tunnel
//! module.

pub mod alias;
pub mod counters;
pub mod live_maps;
mod lookups;
mod programs;
pub mod template;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use etherparse::IpNumber;

use self::alias::Identity;
use super::{addresses, next_hop, nic, problem_with, users};
use crate::bpf::address;
use crate::bpf::mmap_array::MmapArray;
use crate::bpf::{self, carries};
use crate::instance::host::{Host, HostLock};
use crate::model;
use crate::model::{Direction, Oversize};
use crate::netlink::{Link, Netlink, VethPair};

/// Link-layer address of both ends of all our devices. It identifies a device until it has its alias, and has no
/// other use. (The second bit: locally administered.)
const ADDRESS: [u8; 6] = [2, b'm', b'i', b'r', b'r', b'o'];

/// Longest IPv4 packet: only the NIC limits what the device takes.
const MTU: u32 = 65535;

/// Whether the device is a built-in tunnel of this program, by its alias. One that [is half made](is_half_made) has
/// no alias yet.
pub fn is_ours(link: &Link) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.starts_with(alias::PREFIX))
}

/// Whether the device is incomplete: a start of ours was killed while it made it.
pub fn is_half_made(link: &Link) -> bool {
    link.alias.is_none() && link.address == Some(ADDRESS) && link.kind.as_deref() == Some("veth")
}

/// Whether an instance with pins in this BPF file system made the device.
pub fn is_of(link: &Link, host: &Host) -> bool {
    is_ours(link)
        && link.alias.as_deref().and_then(|alias| alias.split_once(", ")).map(|parts| parts.1)
            == Some(&bpffs_tag(host))
}

/// The part of an alias that names the BPF file system. A host may have several.
fn bpffs_tag(host: &Host) -> String {
    format!("bpffs {}", host.device())
}

/// Removes a device of ours, and logs its counters.
pub fn remove(netlink: &mut Netlink, link: &Link) -> Result<()> {
    // remove it even if they cannot be read
    let counters = counters::of_device(link.index)
        .and_then(|map| map.map(|map| counters::read(&map)).transpose());
    netlink.delete_link(link.index)?;
    let what = format!("removed the unused tunnel \"{}\"", link.name);
    match counters {
        Ok(Some(counters)) => log::info!("{what}: {counters}"),
        Ok(None) => log::info!("{what}"),
        Err(error) => log::warn!("{what}; its counters cannot be read: {error:#}"),
    }
    Ok(())
}

/// A plan for a built-in tunnel: the device, made or to be made, and the path of its copies.
#[derive(Debug)]
pub struct BuiltIn {
    name: String,
    path: template::Path,
    nic: Link,
    identity: Identity,
    host: Host,
    oversize: Oversize,
    /// a device with this name that is another tunnel and unused
    replaces: Option<Link>,
    /// What is wrong with the NIC now, so that no copy leaves. It may pass by itself.
    pub problem: Option<String>,
    /// why not every copy gets through whole; waiting does not change it
    pub limit: Option<String>,
}

impl BuiltIn {
    /// Looks for the path to the collector, and changes nothing. `found` is the device that has the wanted name, if
    /// there is one. Fails where no collector is given, where no path leads there, or where `found` is another tunnel
    /// that is or may be in use.
    pub fn plan(
        netlink: &mut Netlink,
        wanted: &model::Tunnel,
        mirrored: &Link,
        found: Option<Link>,
        lock: &HostLock<'_>,
    ) -> Result<Self> {
        let name = wanted.name.to_string();
        let collector = wanted.remote_address.with_context(|| {
            format!(
                "the tunnel interface \"{name}\" does not exist and there is no \
                 --tunnel-remote-address to build one to; give the collector's address, or create \
                 the device first"
            )
        })?;
        let identity = Identity::new(wanted, collector);
        let (nic, path) = way(netlink, wanted, &identity)?;
        let replaces = match found {
            Some(link) => to_replace(link, &identity, lock)?,
            None => None,
        };

        let problem = problem_with(&nic);
        let whole = path.sizes.whole;
        let outcome = match wanted.oversize {
            Oversize::Fragment => None,
            Oversize::Truncate => Some("are cut to that"),
            Oversize::Drop => Some("are left out and counted as oversize"),
        };
        let some_do_not_fit = mirrored.mtu > whole && !nic.loopback;
        let limit = outcome.filter(|_| some_do_not_fit).map(|outcome| {
            format!(
                "copies of packets longer than {whole} bytes do not fit \"{}\" (MTU {}): they \
                 {outcome}; an MTU of {} there carries them, and --oversize=fragment does so anyway",
                nic.name,
                path.sizes.mtu,
                mirrored.mtu + template::overhead(collector)
            )
        });
        let oversize = wanted.oversize;
        Ok(Self {
            name,
            path,
            nic,
            identity,
            host: lock.host().clone(),
            oversize,
            replaces,
            problem,
            limit,
        })
    }

    /// The next hop and the NIC that it is on; `None` where the kernel's routes decide for each copy.
    pub fn next_hop(&self) -> Option<(u32, IpAddr)> {
        self.path.next_hop.map(|hop| (self.path.ifindex, hop))
    }

    /// The address that copies are sent to, of either family.
    pub fn collector(&self) -> IpAddr {
        self.path.collector
    }

    /// Whether both plans have the same [`Path`](template::Path). The names of their devices may differ.
    pub fn leads_as(&self, other: &Self) -> bool {
        self.path == other.path
    }

    /// For the log: the NIC, the source address, the next hop and the longest outer packet.
    pub fn way(&self) -> String {
        let template::Path { source, next_hop, sizes, .. } = &self.path;
        let by = next_hop.map_or(String::new(), |hop| format!(" by way of {hop}"));
        format!(
            "copies leave \"{}\" from {source}{by}, in packets of up to {} bytes",
            self.nic.name, sizes.mtu
        )
    }

    /// Makes the device if it is missing, sets it up and puts the programs on it. Returns the tunnel entry for the
    /// mirroring program. `kept` is as in [`Plan::carry_out`](super::Plan::carry_out). Fails where somebody else has
    /// made a device of this name since the plan, or where the kernel refuses the device or its programs.
    pub fn carry_out(&self, netlink: &mut Netlink, kept: Option<&Self>) -> Result<bpf::Tunnel> {
        if let Some(link) = &self.replaces {
            remove(netlink, link)?;
        }
        let device = match netlink.link(&self.name)? {
            Some(link) if is_ours(&link) => link,
            Some(_) => bail!("somebody else made \"{}\" meanwhile; try again", self.name),
            None => {
                let device = self.make(netlink)?;
                if kept.is_some() {
                    log::info!("rebuilt the tunnel \"{}\"", self.name);
                }
                device
            }
        };
        self.set_up(netlink, &device)?;
        lookups::allow(&self.name, self.path.collector);
        if !self.is_in_force(device.index, kept) {
            self.attach(netlink, device.index)?;
        }
        Ok(bpf::Tunnel {
            ifindex: device.index,
            collector: address::words_of(self.path.collector),
            port: self.path.remote_port.to_be(),
            protocol: IpNumber::UDP.0,
            oversize: match self.oversize {
                Oversize::Truncate => bpf::Oversize::MIRRORING_TRUNCATE,
                Oversize::Fragment | Oversize::Drop => bpf::Oversize::MIRRORING_FRAGMENT,
            },
            overhead: template::overhead(self.path.collector),
            // tags are removed, since the tunnel carries IP packets
            carries: carries::IPV6 | carries::TAGS | carries::CUT,
            cut_len: match self.oversize {
                Oversize::Truncate => self.path.sizes.whole,
                Oversize::Fragment | Oversize::Drop => 0,
            },
            max_len: match self.oversize {
                Oversize::Fragment => self.path.sizes.longest,
                Oversize::Truncate => 0,
                Oversize::Drop => self.path.sizes.whole,
            },
            // the encapsulator shortens the segments of a TCP super-packet by its headers
            max_segment_len: match self.oversize {
                Oversize::Fragment | Oversize::Truncate => 0,
                Oversize::Drop => self.path.sizes.mtu,
            },
            ..Default::default()
        })
    }

    fn make(&self, netlink: &mut Netlink) -> Result<Link> {
        netlink.create_veth(&VethPair {
            name: &self.name,
            peer: &peer_name(&self.name),
            address: ADDRESS,
            // only now: a start plans the tunnel before it mounts the BPF file system
            alias: &format!("{}, {}", self.identity, bpffs_tag(&self.host)),
            peer_alias: &format!("mirroring: far end of {}", self.name),
            mtu: MTU,
        })?;
        let link = netlink.link(&self.name)?;
        link.with_context(|| format!("the new device \"{}\" is gone", self.name))
    }

    /// Sets both ends up, if somebody has set one down.
    fn set_up(&self, netlink: &mut Netlink, device: &Link) -> Result<()> {
        let far = netlink.link(&peer_name(&self.name))?;
        for end in far.iter().chain([device]).filter(|end| !end.up) {
            netlink.set_up(end.index)?;
            log::info!("the device \"{}\" was down and is set up again", end.name);
        }
        Ok(())
    }

    /// True if the device already uses this path, or if our own path has not changed since `kept`: then another
    /// instance may have set a different one. (Otherwise instances that share a device and disagree would overwrite
    /// each other's path without end.)
    fn is_in_force(&self, ifindex: u32, kept: Option<&Self>) -> bool {
        let (Some(kept), Some(in_force)) = (kept, live_maps::template(ifindex)) else {
            return false;
        };
        self.leads_as(kept) || in_force.holds(0, &self.path.template(ifindex))
    }

    /// Puts the programs on both ends of the device, each atomically in place of an older one. The sending end comes
    /// first: an older far end takes what a newer near end marks, but not the other way round.
    fn attach(&self, netlink: &mut Netlink, ifindex: u32) -> Result<()> {
        let peer = peer_name(&self.name);
        let far = netlink.link(&peer)?.with_context(|| {
            format!("the far end \"{peer}\" of \"{}\" is gone; remove the device", self.name)
        })?;
        // the new programs continue the counters of the old ones
        let counters = counters::of_device(ifindex)?;
        let counters = counters.as_ref().map(|map| (counters::MAP, map));
        let load = |bytes| bpf::load(bytes, counters.as_slice());
        let object = load(bpf::gue_tunnel_taps_bytes()).or_else(|error| {
            log::debug!("no packet socket will see copies on \"{}\": {error:#}", self.name);
            load(bpf::gue_tunnel_bytes())
        })?;
        let template = self.path.template(ifindex);
        MmapArray::new(&bpf::map(&object, "gue_template")?, 1)?.write(0, template);
        programs::put(bpf::program(&object).as_fd(), ifindex, Direction::Egress)
            .with_context(|| format!("cannot attach the encapsulator to \"{}\"", self.name))?;
        programs::put(bpf::cutter(&object).as_fd(), far.index, Direction::Ingress)
            .with_context(|| format!("cannot attach the cutter to \"{peer}\""))
    }
}

/// The device of this name if it has to be replaced: it is another tunnel, and unused.
fn to_replace(link: Link, identity: &Identity, lock: &HostLock<'_>) -> Result<Option<Link>> {
    if is_half_made(&link) {
        return Ok(Some(link));
    }
    let alias = link.alias.as_deref().unwrap_or_default();
    let theirs = alias.split(", ").next().unwrap_or_default().parse::<Identity>();
    let difference = match theirs {
        Ok(theirs) if theirs == *identity => return Ok(None),
        Ok(theirs) => theirs.differences(identity),
        // probably of a version that says more
        Err(_) => "another meaning".to_owned(),
    };
    let tunnels = users::in_use(lock).with_context(|| {
        format!(
            "the tunnel \"{}\" has {difference} ({alias}), and may be in use; give this one another \
             --tunnel-interface-name",
            link.name
        )
    })?;
    if let Some((user, _)) = tunnels.iter().find(|(_, tunnel)| tunnel.ifindex == link.index) {
        bail!(
            "the tunnel \"{}\" of {user} has {difference} ({alias}); give this one another \
             --tunnel-interface-name, or stop that instance",
            link.name
        );
    }
    // we cannot know whether it is in use there, so we must not replace it
    ensure!(
        is_of(&link, lock.host()),
        "the tunnel \"{0}\" of instances in another BPF file system has {difference} ({alias}); \
         give this one another --tunnel-interface-name, or, where they are gone, \
         `ip link delete {0}`",
        link.name
    );
    Ok(Some(link))
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "copies go to {} (GUE, built-in tunnel \"{}\") by \"{}\"",
            SocketAddr::new(self.path.collector, self.path.remote_port),
            self.name,
            self.nic.name
        )
    }
}

/// The way to the collector: through `--redirect-to`, or as the kernel routes.
fn way(
    netlink: &mut Netlink,
    wanted: &model::Tunnel,
    identity: &Identity,
) -> Result<(Link, template::Path)> {
    let collector = identity.collector;
    let (nic, source, hop) = match &wanted.redirect_to {
        Some(name) => {
            let nic = nic(netlink, name)?;
            let addresses = addresses(netlink, &nic, collector)?;
            let hop = next_hop(netlink, wanted, collector, &nic)?;
            (nic, template::source(Some(hop), &addresses), hop)
        }
        None => {
            let route = netlink.route_to(collector, None).with_context(|| {
                format!("no route leads to the collector {collector}; give --redirect-to")
            })?;
            let nic = netlink.links()?.into_iter().find(|link| link.index == route.ifindex);
            let nic = nic.context("the interface towards the collector is gone")?;
            let hop = wanted.gateway.or(route.gateway).unwrap_or(collector);
            (nic, route.source, hop)
        }
    };
    let source =
        source.with_context(|| format!("\"{}\" has no address to send copies from", nic.name))?;
    let mut mtu = nic.mtu;
    if collector.is_ipv6() {
        // routers do not fragment IPv6, and only routes know the path MTU
        let route = netlink.route_to(collector, Some(nic.index)).ok();
        mtu = mtu.min(route.and_then(|route| route.mtu).unwrap_or(mtu));
    }
    let path = template::Path {
        source,
        collector,
        local_port: identity.local_port,
        remote_port: identity.remote_port,
        dscp: identity.dscp,
        ttl: identity.ttl,
        ifindex: nic.index,
        // on a loopback device, only a route tells the kernel where to deliver a packet
        next_hop: (!nic.loopback).then_some(hop),
        sizes: template::Sizes::of(mtu, collector),
    };
    Ok((nic, path))
}

/// Name of the far end of the pair: 15 bytes at most.
fn peer_name(name: &str) -> String {
    format!("{name:.13}-p")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_end_is_named_after_the_device_within_15_bytes() {
        assert_eq!(peer_name("gue1"), "gue1-p");
        assert_eq!(peer_name("fifteen-letters"), "fifteen-lette-p");
    }
}
