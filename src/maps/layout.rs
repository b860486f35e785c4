//! Which part of the compiled rules goes into which map, in one place.

use std::mem::offset_of;

use anyhow::Result;

use crate::bpf;
use crate::filter::{CompiledRules, Prefix, Segments};

/// From the values of a field to the rules that accept them.
pub struct Table {
    /// of the map, without its direction
    pub name: &'static str,
    pub entries: usize,
    pub of: fn(&CompiledRules) -> &Segments,
    pub of_mut: fn(&mut CompiledRules) -> &mut Segments,
}

macro_rules! table {
    ($name:literal, $entries:expr, $part:ident) => {
        Table {
            name: $name,
            entries: $entries,
            of: |rules| &rules.$part,
            of_mut: |rules| &mut rules.$part,
        }
    };
}

pub const TABLES: [Table; 12] = [
    table!("protocol", 256, protocols),
    table!("src_port", 1 << 16, src_ports),
    table!("dst_port", 1 << 16, dst_ports),
    table!("dscp", 64, dscps),
    table!("vlan", 4097, vlans),
    table!("length", 1 << 16, lengths),
    table!("tcp_flags", 256, tcp_flags),
    table!("icmp_type", 512, icmp_types),
    table!("src_net", 1 << 16, src_nets),
    table!("dst_net", 1 << 16, dst_nets),
    table!("src_net6", 1 << 16, src_nets6),
    table!("dst_net6", 1 << 16, dst_nets6),
];

/// Prefixes, each with the rules that accept all of it.
pub type Accepted = Vec<(Prefix, u32)>;

/// From prefixes to the rules that accept all of them, for longest matches.
pub struct Trie {
    pub name: &'static str,
    pub of: fn(&CompiledRules) -> Accepted,
    pub put: fn(&mut CompiledRules, Accepted) -> Result<()>,
}

macro_rules! trie {
    ($name:literal, $part:ident, $network:path) => {
        Trie {
            name: $name,
            of: |rules| {
                rules.$part.iter().map(|(network, mask)| ((*network).into(), *mask)).collect()
            },
            put: |rules, prefixes| {
                let networks =
                    prefixes.into_iter().map(|(prefix, mask)| Ok(($network(prefix)?, mask)));
                rules.$part = networks.collect::<Result<_>>()?;
                Ok(())
            },
        }
    };
}

pub const TRIES: [Trie; 4] = [
    trie!("src_prefix", src_prefixes, Prefix::v4),
    trie!("dst_prefix", dst_prefixes, Prefix::v4),
    trie!("src_prefix6", src_prefixes6, Prefix::v6),
    trie!("dst_prefix6", dst_prefixes6, Prefix::v6),
];

/// A mask in the config entry.
pub struct Mask {
    /// bytes from the start of `struct mirroring_config`
    pub offset: usize,
    pub of: fn(&CompiledRules) -> u32,
    pub of_mut: fn(&mut CompiledRules) -> &mut u32,
}

macro_rules! masks {
    ($($part:ident),*) => {
        [$(Mask {
            offset: offset_of!(bpf::Config, $part),
            of: |rules| rules.$part,
            of_mut: |rules| &mut rules.$part,
        }),*]
    };
}

/// All but `live`.
pub const MASKS: [Mask; 15] = masks![
    any_protocol,
    any_dst_port,
    any_src_port,
    any_dst_v4,
    any_src_v4,
    any_more,
    unconditional,
    portless,
    any_dst_v6,
    any_src_v6,
    any_dscp,
    any_vlan,
    any_length,
    any_tcp_flags,
    any_icmp_type
];
