//! The maps of a mirroring object: the only list of them in Rust. `build.rs` generates it from the compiled object,
//! so a map is defined only in `bpf/mirroring_maps.bpf.h`. `ALL` is in the order in which maps are pinned: the config
//! first and the jump table last.

use crate::model::Direction;

/// A map as the object defines it. Names contain the direction, because l3afd pins the maps of both objects into one
/// directory.
#[derive(Clone, Copy, Debug)]
pub struct MapDef {
    before: &'static str,
    after: &'static str,
    /// `max_entries`: the length of an array, and the most that a hash or a trie can hold.
    pub entries: u32,
}

impl MapDef {
    /// The name of the map in the object of this direction, and the name of its pin: `ingress_config`, for example.
    pub fn name(&self, direction: Direction) -> String {
        format!("{}{direction}{}", self.before, self.after)
    }
}

include!(concat!(env!("OUT_DIR"), "/map_defs.rs"));
