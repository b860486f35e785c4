//! Reads from the kernel where the copies of an instance go.

use std::net::IpAddr;

use anyhow::Result;

use super::report::{Device, HopState, NextHop, Nic, Tunnel};
use crate::bpf;
use crate::bpf::address;
use crate::maps;
use crate::model::Oversize;
use crate::netlink::{Answer, Link, Netlink};
use crate::tunnel;
use crate::tunnel::encap::alias::Identity;
use crate::tunnel::encap::{counters, live_maps, template};

/// Describes the tunnel of the rules in force.
pub fn of(tunnel: &bpf::Tunnel, links: &[Link], netlink: &mut Netlink) -> Result<Tunnel> {
    let device = links.iter().find(|link| link.index == tunnel.ifindex);
    let collector = Some(address::address_of(tunnel.collector)).filter(|it| !it.is_unspecified());
    let common = Tunnel {
        device: device.map(|link| Device {
            name: link.name.clone(),
            kind: link.kind.clone(),
            up: link.up,
        }),
        built_in: false,
        local_port: None,
        collector,
        remote_port: Some(u16::from_be(tunnel.port)).filter(|port| *port != 0),
        next_hop: None,
        nic: None,
        max_unfragmented_len: None,
        max_len: tunnel.max_len,
        oversize: Oversize::Drop,
        max_rate: maps::cap(tunnel),
        counters: None,
    };
    // it alone cuts copies
    if tunnel::cuts(tunnel) {
        built_in(common, tunnel, device, links, netlink)
    } else {
        Ok(existing(common, links, netlink))
    }
}

fn built_in(
    common: Tunnel,
    tunnel: &bpf::Tunnel,
    device: Option<&Link>,
    links: &[Link],
    netlink: &mut Netlink,
) -> Result<Tunnel> {
    let template = live_maps::template(tunnel.ifindex).map(|template| template.read(0));
    let alias = device.and_then(|link| link.alias.as_deref()).unwrap_or_default();
    let identity: Option<Identity> = alias.split(", ").next().and_then(|it| it.parse().ok());
    let (oversize, max_len) = match tunnel.oversize {
        bpf::Oversize::MIRRORING_TRUNCATE => (Oversize::Truncate, tunnel.cut_len),
        // where nothing is cut, segments of a super-packet have to fit, too
        _ if tunnel.max_segment_len != 0 => (Oversize::Drop, tunnel.max_len),
        _ => (Oversize::Fragment, tunnel.max_len),
    };
    let counters = counters::of_device(tunnel.ifindex)?;
    Ok(Tunnel {
        built_in: true,
        local_port: identity.map(|identity| identity.local_port),
        next_hop: template.and_then(|template| {
            let address = template::next_hop_of(&template)?;
            Some(next_hop(template.ifindex, address, netlink))
        }),
        nic: template.and_then(|template| nic(template.ifindex, links)),
        max_unfragmented_len: template.map(|template| template.whole_len),
        max_len,
        oversize,
        counters: counters.map(|map| counters::read(&map)).transpose()?,
        ..common
    })
}

/// The kernel routes what such a device sends.
fn existing(common: Tunnel, links: &[Link], netlink: &mut Netlink) -> Tunnel {
    let collector = common.collector;
    let route = collector.and_then(|it| Some((it, netlink.route_to(it, None).ok()?)));
    Tunnel {
        next_hop: route.map(|(collector, route)| {
            next_hop(route.ifindex, route.gateway.unwrap_or(collector), netlink)
        }),
        nic: route.and_then(|(_, route)| nic(route.ifindex, links)),
        ..common
    }
}

fn next_hop(ifindex: u32, address: IpAddr, netlink: &mut Netlink) -> NextHop {
    let state = match netlink.answer(ifindex, address) {
        Ok(Some(Answer::Known)) => HopState::Reachable,
        Ok(Some(Answer::Awaited)) => HopState::Resolving,
        Ok(Some(Answer::None)) => HopState::Unreachable,
        // nor can anybody be asked on a device that is gone
        Ok(None) | Err(_) => HopState::Unknown,
    };
    NextHop { address, state }
}

fn nic(ifindex: u32, links: &[Link]) -> Option<Nic> {
    let link = links.iter().find(|link| link.index == ifindex)?;
    Some(Nic { name: link.name.clone(), mtu: link.mtu, up: link.up && link.carrier })
}
