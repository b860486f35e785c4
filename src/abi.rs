//! The types and constants that the BPF programs and this program share: those of `bpf/mirroring.h` and `bpf/gue.h`.
//! `build.rs` generates them from the BTF of `bpf/shared_types.bpf.c`, so no size, offset or value is written twice.

/// A skeleton of which only the types are used.
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    unused_imports,
    dead_code
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/shared_types.skel.rs"));
}

pub use skeleton::types::{
    gue_counters as GueCounters, gue_mark as GueMark, gue_piece as GuePiece, gue_size as GueSize,
    gue_template as GueTemplate, mirroring_action as Action, mirroring_config as Config,
    mirroring_endpoint as Endpoint, mirroring_endpoints as Endpoints,
    mirroring_instance as Instance, mirroring_loader as Loader, mirroring_mark as Mark,
    mirroring_outcomes as Outcomes, mirroring_oversize as Oversize, mirroring_prefix as Prefix,
    mirroring_prefix6 as Prefix6, mirroring_rule as RuleEntry, mirroring_sample as SampleBelow,
    mirroring_sample_by as SampleBy, mirroring_size as Size, mirroring_snaplen as Snaplen,
    mirroring_tunnel as Tunnel,
};

/// Bits of `mirroring_tunnel.carries`.
pub mod carries {
    use super::skeleton::types::mirroring_carries as Carries;

    /// The device takes IPv6 packets, not only IPv4 ones.
    pub const IPV6: u8 = Carries::MIRRORING_CARRIES_IPV6.0 as u8;
    /// The device takes packets with VLAN tags. The built-in tunnel removes the tags.
    pub const TAGS: u8 = Carries::MIRRORING_CARRIES_TAGS.0 as u8;
    /// The device cuts copies to the length that their rule asks for. Only the built-in tunnel does.
    pub const CUT: u8 = Carries::MIRRORING_CARRIES_CUT.0 as u8;
    /// The device takes whole Ethernet frames, so tags are part of the length that it limits.
    pub const FRAMES: u8 = Carries::MIRRORING_CARRIES_FRAMES.0 as u8;
}

/// The bits of a mask: the rules of all generations.
pub const MASK_BITS: u32 = Size::MIRRORING_RULES.0;

/// Rules of one generation.
pub const GENERATION_BITS: u32 = MASK_BITS / Size::MIRRORING_GENERATIONS.0;

const _: () = assert!(MASK_BITS == u64::BITS && GENERATION_BITS == u32::BITS);
