//! Which instance sends its copies where.

use anyhow::{Context, Result};

use crate::bpf;
use crate::instance::host::HostLock;
use crate::model::InstanceId;

/// Every mirroring instance with its tunnel. Fails where the tunnel of an instance cannot be read, as it may be of
/// another version.
pub(super) fn in_use(lock: &HostLock<'_>) -> Result<Vec<(InstanceId, bpf::Tunnel)>> {
    let mut tunnels = Vec::new();
    for pins in lock.pins() {
        let unknown = || format!("it is not known where {} sends its copies", pins.id);
        let instance = lock.instance(&pins).with_context(unknown)?;
        let tunnel = instance.map_or(Ok(None), |it| it.tunnel()).with_context(unknown)?;
        tunnels.extend(tunnel.map(|tunnel| (pins.id, tunnel)));
    }
    Ok(tunnels)
}
