//! Clearing away: l3afd does not tell us when it unloads a program, so every start and stop removes
//! the devices and routes of ours that no live instance needs, and guards against the tunnels of
//! live instances only.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;

use super::built_in;
use super::existing::ROUTE_PROTOCOL;
use crate::guard;
use crate::instance::Instance;
use crate::netlink::Netlink;
use crate::pins::Pins;

/// Removes built-in devices, those that were not finished included, and routes, that no live instance of this BPF file system refers to.
pub fn sweep(netlink: &mut Netlink, bpffs: &Path) -> Result<()> {
    guard::retire(bpffs)?;
    let mut devices = HashSet::new();
    let mut collectors = HashSet::new();
    for pins in Pins::all(bpffs) {
        let id = pins.id.clone();
        let instance = match Instance::open(pins) {
            Ok(instance) => instance,
            // one of another version, say: what it needs is not known
            Err(error) => {
                log::warn!("leaving tunnels and routes, in case {id} needs them: {error:#}");
                return Ok(());
            }
        };
        if let Some(tunnel) = instance.and_then(|instance| instance.maps.tunnel()) {
            devices.insert(tunnel.ifindex);
            collectors.insert(guard::address_of(tunnel.collector));
        }
    }
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
