//! The maps of the programs that run on a built-in device.

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle};

use super::programs;
use crate::bpf::GueTemplate;
use crate::bpf::loaded_programs;
use crate::bpf::mmap_array::MmapArray;
use crate::model::Direction;

/// The map with this name and size of values; `None` where no program of this version is on the device.
pub fn map(ifindex: u32, name: &str, value_size: usize) -> Result<Option<MapHandle>> {
    let encapsulator = programs::program(ifindex, Direction::Egress);
    for id in encapsulator.map_or(Vec::new(), loaded_programs::maps_of) {
        let map = MapHandle::from_map_id(id).context("cannot open a map of the tunnel")?;
        if map.name() == name && map.value_size() as usize == value_size {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// The template of the headers in use.
pub fn template(ifindex: u32) -> Option<MmapArray<GueTemplate>> {
    let map = map(ifindex, "gue_template", size_of::<GueTemplate>()).ok()??;
    MmapArray::new(&map, 1).ok()
}
