//! Clearing away: l3afd does not tell us when it unloads a program, so every start and stop removes
//! the devices and routes of ours that no live instance needs, and guards against the tunnels of
//! live instances only.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::built_in;
use super::existing::ROUTE_PROTOCOL;
use crate::bpf;
use crate::config::InstanceId;
use crate::guard;
use crate::instance::Instance;
use crate::netlink::Netlink;
use crate::pins::Pins;

/// Who sends copies where. Fails where that is not known of somebody, who may be of another version.
pub(super) fn in_use(bpffs: &Path) -> Result<Vec<(InstanceId, bpf::Tunnel)>> {
    let mut tunnels = Vec::new();
    for pins in Pins::all(bpffs) {
        let id = pins.id.clone();
        let unknown = || format!("it is not known where {id} sends its copies");
        let instance = Instance::open(pins).with_context(unknown)?;
        if let Some(tunnel) = instance.map_or(Ok(None), |it| it.tunnel()).with_context(unknown)? {
            tunnels.push((id, tunnel));
        }
    }
    Ok(tunnels)
}

/// Removes built-in devices, those that were not finished included, and routes, that no live instance of this BPF file system refers to.
pub fn sweep(netlink: &mut Netlink, bpffs: &Path) -> Result<()> {
    guard::retire(bpffs)?;
    let tunnels = match in_use(bpffs) {
        Ok(tunnels) => tunnels,
        Err(error) => {
            log::warn!("leaving tunnels and routes, which somebody may need: {error:#}");
            return Ok(());
        }
    };
    let devices: HashSet<_> = tunnels.iter().map(|(_, tunnel)| tunnel.ifindex).collect();
    let collectors: HashSet<_> =
        tunnels.iter().map(|(_, tunnel)| guard::address_of(tunnel.collector)).collect();
    for link in netlink.links()? {
        let idle = built_in::is_of(&link, bpffs) && !devices.contains(&link.index);
        if idle || built_in::is_half_made(&link) {
            built_in::remove(netlink, &link)?;
        }
    }
    for route in netlink.routes()? {
        if route.protocol == ROUTE_PROTOCOL && !collectors.contains(&route.destination.ip()) {
            netlink.delete_route(&route)?;
            log::info!("removed the route to {}, which nobody needs any more", route.destination);
        }
    }
    Ok(())
}
