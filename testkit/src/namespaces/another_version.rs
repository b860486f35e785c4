//! Turns the pinned maps of an instance into those of another version of `mirroring`.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use traffic_mirroring::bpf::pins::{self, Pins};
use traffic_mirroring::model::{Direction as Way, InstanceId};

use super::Counter;

/// Gives the instance on `eth0` the pinned maps of another version: one map is missing, some have another size
/// (`changed` among them), and there is one that this version does not know. The program in the kernel keeps its own
/// maps and goes on mirroring.
pub fn make_another_version(direction: Way, changed: &[&str]) {
    let path = |name| path(direction, name);
    fs::remove_file(path("datagram")).expect("a pin");
    for name in ["outcomes", "rule", "protocol"].iter().chain(changed) {
        fs::remove_file(path(name)).expect("a pin");
    }
    for name in ["outcomes", "rule", "protocol", "unknown"].iter().chain(changed) {
        Counter::load().pin_counts(path(name).to_str().expect("a path"));
    }
}

/// Replaces the pinned record by one that is 4 bytes shorter, as an older version would have it.
pub fn shorten_record(direction: Way) {
    let path = path(direction, "instance");
    let whole = MapHandle::from_pinned_path(&path).expect("a pinned map");
    let value = whole.lookup(&[0; 4], MapFlags::ANY).expect("a look").expect("an entry");
    let value = &value[..value.len() - 4];
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        map_flags: libbpf_sys::BPF_F_MMAPABLE,
        ..Default::default()
    };
    let size = value.len() as u32;
    let short = MapHandle::create(MapType::Array, Some("short"), 4, size, 1, &options);
    let short = short.expect("a map");
    short.update(&[0; 4], value, MapFlags::ANY).expect("an entry");
    pins::pin(short.as_fd(), &path).expect("a pin");
}

fn path(direction: Way, name: &str) -> PathBuf {
    let id = InstanceId {
        interface: "eth0".parse().expect("a name"),
        direction,
        version: Default::default(),
    };
    Pins::new("/sys/fs/bpf".as_ref(), &id).map(&format!("{direction}_{name}"))
}
