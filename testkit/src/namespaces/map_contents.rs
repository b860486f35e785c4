//! The contents of all pinned maps of an instance.

use std::collections::BTreeMap;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use traffic_mirroring::bpf::{map_defs, pins};
use traffic_mirroring::model::Direction as Way;

/// The entries of each map, by its name: from key to value. The value of a per-CPU map is that of all CPUs, one after
/// the other. The jump table is not among the maps: its values only say which program is there.
pub type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The contents of the maps of the instance on `eth0`.
pub fn map_contents(direction: Way) -> Contents {
    let jmp_table = map_defs::JMP_TABLE.name(direction);
    let names = pins::map_names(direction).into_iter().filter(|name| *name != jmp_table);
    let contents = names.map(|name| {
        let path = format!("/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/{name}");
        let map = MapHandle::from_pinned_path(path).expect("a pinned map");
        let of_each_cpu = map.map_type() == MapType::PercpuArray;
        let value = |key: &[u8]| {
            let value = if of_each_cpu {
                map.lookup_percpu(key, MapFlags::ANY).map(|cpus| cpus.map(|cpus| cpus.concat()))
            } else {
                map.lookup(key, MapFlags::ANY)
            };
            value.expect("a value to read").expect("a value")
        };
        let entries = map.keys().map(|key| (key.clone(), value(&key)));
        (name, entries.collect())
    });
    contents.collect()
}
