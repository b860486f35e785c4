//! All that the pinned maps of an instance hold.

use std::collections::BTreeMap;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use traffic_mirroring::bpf::{map_defs, pins};
use traffic_mirroring::model::Direction as Way;

/// Key to value, of all CPUs where each has its own, by the name of the map; that of the jump table,
/// whose values only say which program is there, left out.
pub type Contents = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Of the instance on `eth0`.
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
