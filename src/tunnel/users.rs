//! Which instance sends its copies where.

use std::path::Path;

use anyhow::{Context, Result};

use crate::bpf;
use crate::bpf::pins::Pins;
use crate::instance::Instance;
use crate::model::InstanceId;

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
