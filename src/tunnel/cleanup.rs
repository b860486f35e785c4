//! Cleaning up. l3afd does not tell us when it unloads a program, so every start and stop removes our devices and
//! routes that no instance uses any more, and their endpoints from the lists of the loop guard.

use std::collections::HashSet;

use anyhow::Result;

use super::encap;
use super::external::ROUTE_PROTOCOL;
use super::users::in_use;
use crate::bpf::address;
use crate::instance::host::HostLock;
use crate::loop_guard;
use crate::netlink::Netlink;

/// Removes built-in devices, also incomplete ones, and routes of ours that no mirroring instance of this BPF file
/// system uses.
pub fn clean_up(netlink: &mut Netlink, lock: &HostLock<'_>) -> Result<()> {
    loop_guard::unregister_unused(lock)?;
    let tunnels = match in_use(lock) {
        Ok(tunnels) => tunnels,
        Err(error) => {
            log::warn!(
                "unused tunnels and routes are not removed, as it is unknown which ones are in use: {error:#}"
            );
            return Ok(());
        }
    };
    let devices: HashSet<_> = tunnels.iter().map(|(_, tunnel)| tunnel.ifindex).collect();
    let collectors: HashSet<_> =
        tunnels.iter().map(|(_, tunnel)| address::address_of(tunnel.collector)).collect();
    for link in netlink.links()? {
        let idle = encap::is_of(&link, lock.host()) && !devices.contains(&link.index);
        if idle || encap::is_half_made(&link) {
            encap::remove(netlink, &link)?;
        }
    }
    for route in netlink.routes()? {
        if route.protocol == ROUTE_PROTOCOL && !collectors.contains(&route.destination.ip()) {
            netlink.delete_route(&route)?;
            log::info!("removed the unused route to {}", route.destination);
        }
    }
    Ok(())
}
