//! The compiled tc programs, and the types they share with user space (`bpf/mirroring.h`,
//! `bpf/gue.h`).

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{AsRawLibbpf, MapCore, MapHandle, Object, ObjectBuilder, ProgramMut};

use crate::model::Direction;

pub mod address;
pub mod bpffs;
pub mod features;
pub mod loaded_programs;
pub mod mmap_array;
pub mod pins;

/// Skeletons: only their types are used, which come from the objects' BTF. The objects are loaded
/// by name, so that one code path serves both directions.
#[allow(clippy::all, unused_imports, dead_code)]
mod skeleton {
    pub mod mirroring {
        include!(concat!(env!("OUT_DIR"), "/mirroring_ingress.skel.rs"));
    }
    pub mod gue {
        include!(concat!(env!("OUT_DIR"), "/gue_tunnel.skel.rs"));
    }
}

pub use skeleton::gue::types::{
    gue_counters as GueCounters, gue_piece as GuePiece, gue_template as GueTemplate,
};
pub use skeleton::mirroring::types::{
    mirroring_action as Action, mirroring_config as Config, mirroring_instance as Instance,
    mirroring_loader as Loader, mirroring_outcomes as Outcomes, mirroring_oversize as Oversize,
    mirroring_rule as Rule, mirroring_sample_by as SampleBy, mirroring_tunnel as Tunnel,
};

/// `enum mirroring_carries`, which no struct has in it, and so the objects' BTF neither.
pub mod carries {
    pub const IPV6: u8 = 1;
    pub const TAGS: u8 = 2;
    pub const CUT: u8 = 4;
    pub const FRAMES: u8 = 8;
}

/// The programs as files: what the package ships for l3afd to load.
pub fn object_bytes(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Ingress => {
            include_bytes!(concat!(env!("OUT_DIR"), "/mirroring_ingress.bpf.o"))
        }
        Direction::Egress => include_bytes!(concat!(env!("OUT_DIR"), "/mirroring_egress.bpf.o")),
    }
}

/// The two programs of the built-in tunnel that let packet sockets on the device see copies. A kernel without BTF
/// refuses them.
pub fn gue_tunnel_taps_bytes() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/gue_tunnel_taps.bpf.o"))
}

/// The same without that.
pub fn gue_tunnel_bytes() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/gue_tunnel.bpf.o"))
}

/// Loads an object into the kernel. `reuse` names maps that exist already, to take in place of
/// new ones.
pub fn load(bytes: &[u8], reuse: &[(&str, &MapHandle)]) -> Result<Object> {
    let mut object = ObjectBuilder::default()
        .open_memory(bytes)
        .context("cannot open the built-in BPF object")?;
    for mut map in object.maps_mut() {
        // pinning by name is a word to l3afd's loader: what we take up and pin, and when, we say
        // SAFETY: a map of an open object, and null for no path
        unsafe {
            libbpf_sys::bpf_map__set_pin_path(map.as_libbpf_object().as_ptr(), std::ptr::null());
        }
        if let Some((name, existing)) = reuse.iter().find(|(name, _)| map.name() == *name) {
            use std::os::fd::AsFd;
            map.reuse_fd(existing.as_fd())
                .with_context(|| format!("cannot use the existing map \"{name}\" again"))?;
        }
    }
    object.load().map_err(|error| {
        let reason = features::reason(&error);
        let reason = reason.unwrap_or_else(|| "libbpf's messages in the log say why".to_owned());
        anyhow!(error).context("the kernel refuses the BPF program").context(reason)
    })
}

/// The program of a mirroring object; of the tunnel's, the encapsulator.
pub fn program(object: &Object) -> ProgramMut<'_> {
    object.progs_mut().find(|it| it.name() != "gue_cut").expect("every object has one")
}

/// The other program of the tunnel, which cuts what does not fit.
pub fn cutter(object: &Object) -> ProgramMut<'_> {
    object.progs_mut().find(|it| it.name() == "gue_cut").expect("the tunnel has one")
}

/// A handle of its own on one of the object's maps.
pub fn map(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name() == name);
    let map = map.with_context(|| format!("the BPF object has no map \"{name}\""))?;
    MapHandle::try_from(&map).with_context(|| format!("cannot open the map \"{name}\""))
}
