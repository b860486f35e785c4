//! What the programs on a built-in device do, as the kernel has them.

use std::os::fd::AsFd;

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapHandle, TC_EGRESS, TcHookBuilder};

use super::built_in::{FILTER_HANDLE, FILTER_PRIORITY};
use crate::bpf::GueTemplate;
use crate::mapped::Mapped;

/// The template of the encapsulator on a device; `None` where there is none.
pub fn template(ifindex: u32) -> Option<Mapped<GueTemplate>> {
    // libbpf's builder wants a descriptor, of which a query makes no use
    let mut hook = TcHookBuilder::new(std::io::stdin().as_fd())
        .ifindex(ifindex as i32)
        .handle(FILTER_HANDLE)
        .priority(FILTER_PRIORITY)
        .hook(TC_EGRESS);
    let id = hook.query().ok()?;
    let with_maps = ProgInfoQueryOptions::default().include_map_ids(true);
    let program = ProgInfoIter::with_query_opts(with_maps).find(|program| program.id == id)?;
    let mut maps = program.map_ids.iter().flat_map(|id| MapHandle::from_map_id(*id));
    let map = maps.find(|map| map.name() == "gue_template")?;
    Mapped::new(&map, 1).ok()
}
