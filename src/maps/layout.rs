//! Which part of the compiled rules goes into which map: the only list of that.

use std::mem::offset_of;

use crate::bpf;
use crate::bpf::map_defs::{self, MapDef};
use crate::filter::{CompiledRules, Table};

/// Where the masks of a table are.
pub struct Layout {
    /// The map from values to masks; of addresses, from indices.
    pub values: MapDef,
    /// Of addresses: the map from prefixes to masks.
    pub prefixes: Option<MapDef>,
    /// The mask of the rules that accept every value: bytes from the start of `struct mirroring_config`.
    pub any: usize,
}

impl Layout {
    /// The maps of a table, and the place of its mask in the config entry.
    pub const fn of(table: Table) -> Self {
        use map_defs as maps;
        let (values, prefixes, any) = match table {
            Table::Protocol => (maps::PROTOCOL, None, offset_of!(bpf::Config, any_protocol)),
            Table::SrcPort => (maps::SRC_PORT, None, offset_of!(bpf::Config, any_src_port)),
            Table::DstPort => (maps::DST_PORT, None, offset_of!(bpf::Config, any_dst_port)),
            Table::SrcV4 => {
                (maps::SRC_NET, Some(maps::SRC_PREFIX), offset_of!(bpf::Config, any_src_v4))
            }
            Table::DstV4 => {
                (maps::DST_NET, Some(maps::DST_PREFIX), offset_of!(bpf::Config, any_dst_v4))
            }
            Table::SrcV6 => {
                (maps::SRC_NET6, Some(maps::SRC_PREFIX6), offset_of!(bpf::Config, any_src_v6))
            }
            Table::DstV6 => {
                (maps::DST_NET6, Some(maps::DST_PREFIX6), offset_of!(bpf::Config, any_dst_v6))
            }
            Table::TcpFlags => (maps::TCP_FLAGS, None, offset_of!(bpf::Config, any_tcp_flags)),
            Table::Vlan => (maps::VLAN, None, offset_of!(bpf::Config, any_vlan)),
            Table::IcmpType => (maps::ICMP_TYPE, None, offset_of!(bpf::Config, any_icmp_type)),
            Table::Dscp => (maps::DSCP, None, offset_of!(bpf::Config, any_dscp)),
            Table::Length => (maps::LENGTH, None, offset_of!(bpf::Config, any_length)),
        };
        Self { values, prefixes, any }
    }
}

/// A mask in the config entry that is of no table.
pub struct Mask {
    /// bytes from the start of `struct mirroring_config`
    pub offset: usize,
    pub of: fn(&CompiledRules) -> u32,
    pub of_mut: fn(&mut CompiledRules) -> &mut u32,
}

/// All but `live`.
pub const MASKS: [Mask; 3] = [
    Mask {
        offset: offset_of!(bpf::Config, any_more),
        of: |rules| rules.any_more,
        of_mut: |rules| &mut rules.any_more,
    },
    Mask {
        offset: offset_of!(bpf::Config, unconditional),
        of: |rules| rules.unconditional,
        of_mut: |rules| &mut rules.unconditional,
    },
    Mask {
        offset: offset_of!(bpf::Config, portless),
        of: |rules| rules.portless,
        of_mut: |rules| &mut rules.portless,
    },
];
