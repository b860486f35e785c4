//! Which part of the compiled rules goes into which map: the only list of that.

use std::mem::offset_of;

use anyhow::Result;

use crate::bpf;
use crate::bpf::map_defs::{self, MapDef};
use crate::filter::{CompiledRules, Prefix, Segments};

/// From the values of a field to the rules that accept them.
pub struct Table {
    pub map: MapDef,
    pub of: fn(&CompiledRules) -> &Segments,
    pub of_mut: fn(&mut CompiledRules) -> &mut Segments,
}

macro_rules! table {
    ($map:ident, $part:ident) => {
        Table { map: map_defs::$map, of: |rules| &rules.$part, of_mut: |rules| &mut rules.$part }
    };
}

pub const TABLES: [Table; 12] = [
    table!(PROTOCOL, protocols),
    table!(SRC_PORT, src_ports),
    table!(DST_PORT, dst_ports),
    table!(DSCP, dscps),
    table!(VLAN, vlans),
    table!(LENGTH, lengths),
    table!(TCP_FLAGS, tcp_flags),
    table!(ICMP_TYPE, icmp_types),
    table!(SRC_NET, src_nets),
    table!(DST_NET, dst_nets),
    table!(SRC_NET6, src_nets6),
    table!(DST_NET6, dst_nets6),
];

/// Prefixes, each with the rules that accept all of it.
pub type Accepted = Vec<(Prefix, u32)>;

/// From prefixes to the rules that accept all of them, for longest matches.
pub struct Trie {
    pub map: MapDef,
    pub of: fn(&CompiledRules) -> Accepted,
    pub put: fn(&mut CompiledRules, Accepted) -> Result<()>,
}

macro_rules! trie {
    ($map:ident, $part:ident, $network:path) => {
        Trie {
            map: map_defs::$map,
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
    trie!(SRC_PREFIX, src_prefixes, Prefix::v4),
    trie!(DST_PREFIX, dst_prefixes, Prefix::v4),
    trie!(SRC_PREFIX6, src_prefixes6, Prefix::v6),
    trie!(DST_PREFIX6, dst_prefixes6, Prefix::v6),
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
