//! The tables that compiled rules consist of.

use enum_map::{Enum, EnumMap};

use super::prefix::Prefix;
use super::ranges::Segments;

/// The tables, of which a field has one or, where it is about addresses, one for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Table {
    Protocol,
    SrcPort,
    DstPort,
    SrcV4,
    DstV4,
    SrcV6,
    DstV6,
    TcpFlags,
    Vlan,
    IcmpType,
    Dscp,
    Length,
}

impl Table {
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::LENGTH).map(Self::from_usize)
    }

    /// Whether the programs look it up last, and only if a rule is left that closes one of these fields. A field
    /// that few rules close belongs here: then it costs other packets nothing.
    pub const fn is_rare(self) -> bool {
        match self {
            Self::Protocol | Self::SrcPort | Self::DstPort => false,
            Self::SrcV4 | Self::DstV4 | Self::SrcV6 | Self::DstV6 => false,
            Self::TcpFlags | Self::Vlan | Self::IcmpType | Self::Dscp | Self::Length => true,
        }
    }
}

pub type Tables = EnumMap<Table, Masks>;

/// From the values of a field to the rules that accept them, each rule a bit. Values that no rule accepts have
/// no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masks {
    /// The rules that accept every value, and stand nowhere else in here.
    pub any: u32,
    /// Values. In a table of addresses, an index of 16 bits in front of the prefixes, to the rules that may accept
    /// some address with that index.
    pub values: Segments,
    /// In a table of addresses: every prefix once, ascending. The longest one that covers an address has the whole
    /// answer, as a trie of longest matches needs it; it may be a mask of no rules.
    pub prefixes: Vec<(Prefix, u32)>,
}
