//! The compiled tc programs: loading them, their maps and pins, and what the kernel offers for them.

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{AsRawLibbpf, MapCore, MapHandle, Object, ObjectBuilder, ProgramMut};

use crate::model::Direction;

pub mod address;
pub mod bpffs;
pub mod features;
pub mod loaded_programs;
#[allow(missing_docs, reason = "build.rs generates a constant for each map, with the map's name")]
pub mod map_defs;
pub mod mmap_array;
pub mod pins;

pub use crate::abi::{
    Action, Config, Endpoint, Endpoints, GueCounters, GueMark, GuePiece, GueTemplate, Instance,
    Loader, Mark, Outcomes, Oversize, RuleEntry, SampleBy, Tunnel, carries,
};

/// The object file of a direction, which the package also ships for l3afd to load.
pub fn object_bytes(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Ingress => {
            include_bytes!(concat!(env!("OUT_DIR"), "/mirroring_ingress.bpf.o"))
        }
        Direction::Egress => include_bytes!(concat!(env!("OUT_DIR"), "/mirroring_egress.bpf.o")),
    }
}

/// The object of the built-in tunnel that also lets packet sockets on the device see copies. A kernel without BTF
/// refuses it.
pub fn gue_tunnel_taps_bytes() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/gue_tunnel_taps.bpf.o"))
}

/// The object of the built-in tunnel for kernels without BTF.
pub fn gue_tunnel_bytes() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/gue_tunnel.bpf.o"))
}

/// Loads an object into the kernel. The maps that `reuse` names exist already and are used instead of new ones.
pub fn load(bytes: &[u8], reuse: &[(&str, &MapHandle)]) -> Result<Object> {
    let mut object = ObjectBuilder::default()
        .open_memory(bytes)
        .context("cannot open the built-in BPF object")?;
    for mut map in object.maps_mut() {
        // LIBBPF_PIN_BY_NAME is for l3afd's loader: this program reuses and pins maps explicitly
        // SAFETY: a map of an open object; null means no path
        unsafe {
            libbpf_sys::bpf_map__set_pin_path(map.as_libbpf_object().as_ptr(), std::ptr::null());
        }
        if let Some((name, existing)) = reuse.iter().find(|(name, _)| map.name() == *name) {
            use std::os::fd::AsFd;
            map.reuse_fd(existing.as_fd())
                .with_context(|| format!("cannot reuse the existing map \"{name}\""))?;
        }
    }
    object.load().map_err(|error| {
        let reason = features::reason(&error);
        let reason = reason.unwrap_or_else(|| "libbpf's messages in the log say why".to_owned());
        anyhow!(error).context("the kernel refuses the BPF program").context(reason)
    })
}

/// The second program of a tunnel object, on the far end of its device.
const GUE_CUT: &str = "gue_cut";

/// The program of a mirroring object, or `gue_encapsulate` of a tunnel object.
pub fn program(object: &Object) -> ProgramMut<'_> {
    object.progs_mut().find(|it| it.name() != GUE_CUT).expect("every object has one")
}

/// The other program of a tunnel object, `gue_cut`.
pub fn cutter(object: &Object) -> ProgramMut<'_> {
    object.progs_mut().find(|it| it.name() == GUE_CUT).expect("the tunnel has one")
}

/// Opens one of the object's maps; the handle outlives the object.
pub fn map(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name() == name);
    let map = map.with_context(|| format!("the BPF object has no map \"{name}\""))?;
    MapHandle::try_from(&map).with_context(|| format!("cannot open the map \"{name}\""))
}
