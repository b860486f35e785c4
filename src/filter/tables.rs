//! The tables that compiled rules consist of.

use enum_map::{Enum, EnumMap};

use super::prefix::Prefix;
use super::ranges::Segments;

/// The tables, of which a field has one or, where it is about addresses, one for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Table {
    /// By protocol number, from 0 to 255.
    Protocol,
    /// By source port, in host byte order.
    SrcPort,
    /// By destination port, in host byte order.
    DstPort,
    /// By source address of IPv4 packets. The index is the first 16 bits of the address.
    SrcV4,
    /// By destination address of IPv4 packets, with the same index.
    DstV4,
    /// By source address of IPv6 packets. The index is the first 16 bits XOR the next 16.
    SrcV6,
    /// By destination address of IPv6 packets, with the same index.
    DstV6,
    /// By the whole byte of TCP flags, from 0 to 255.
    TcpFlags,
    /// By VLAN ID, or by [`UNTAGGED`](super::UNTAGGED).
    Vlan,
    /// By type: ICMP from 0 on, ICMPv6 from [`ICMPV6`](super::fields::icmp_type::ICMPV6) on.
    IcmpType,
    /// By code point, from 0 to 63.
    Dscp,
    /// By length of the IP packet in bytes. Longer super-packets count as 65535.
    Length,
}

impl Table {
    /// Every table once, in the order of this list.
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

/// The tables of one list of rules.
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
