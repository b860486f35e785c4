//! What a rule says: a conjunction over the fields of a packet, and what becomes of its copy.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use crate::abi;

/// In place of a VLAN ID: the packet has no tag.
pub const UNTAGGED: u16 = abi::Size::MIRRORING_UNTAGGED.0 as u16;

/// What a rule accepts in one field: what at least one entry of `only` is or contains (everything,
/// where there are none), less what an entry of `not` is or contains. Entries may overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<T> {
    pub only: Vec<T>,
    pub not: Vec<T>,
}

// not derived: that would ask T for a default
impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { only: Vec::new(), not: Vec::new() }
    }
}

impl<T> Field<T> {
    /// What at least one of the entries is or contains.
    pub fn only(entries: impl Into<Vec<T>>) -> Self {
        Self { only: entries.into(), not: Vec::new() }
    }

    /// Everything but what one of the entries is or contains.
    pub fn not(entries: impl Into<Vec<T>>) -> Self {
        Self { only: Vec::new(), not: entries.into() }
    }

    /// Whether the rule leaves the field open.
    pub fn is_any(&self) -> bool {
        self.only.is_empty() && self.not.is_empty()
    }
}

/// The packets that every field accepts, and what becomes of them. The default rule accepts all
/// packets and mirrors them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub action: Action,
    /// Of IPv4, the protocol field; of IPv6, the protocol behind the extension headers.
    pub protocol: Field<u8>,
    /// Host bits are zero. Where `only` names networks of one family, nothing of the other is
    /// accepted.
    pub src_address: Field<IpNetwork>,
    pub dst_address: Field<IpNetwork>,
    /// Ports of the protocols that have them, in host byte order.
    pub src_port: Field<RangeInclusive<u16>>,
    pub dst_port: Field<RangeInclusive<u16>>,
    pub tcp_flags: Field<TcpFlags>,
    /// IDs of the outermost tag, or [`UNTAGGED`].
    pub vlan: Field<RangeInclusive<u16>>,
    pub icmp_type: Field<IcmpType>,
    /// The upper six bits of the TOS or traffic class byte.
    pub dscp: Field<u8>,
    /// Bytes from the IP header on, that included.
    pub length: Field<RangeInclusive<u16>>,
}

impl Rule {
    /// Whether packets of protocols without ports can match: a protocol that is named and has no
    /// ports (ICMP) matches whatever the ports say; where only ports are named, only packets with
    /// ports match.
    pub fn accepts_portless(&self) -> bool {
        !self.protocol.only.is_empty() || (self.src_port.is_any() && self.dst_port.is_any())
    }

    /// Copies are not cut.
    pub fn leave_whole(&mut self) {
        if let Action::Mirror { snaplen, .. } = &mut self.action {
            *snaplen = None;
        }
    }
}

/// What becomes of a packet whose first matching rule this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Mirror { sample: Option<Sample>, snaplen: Option<Snaplen> },
    Exclude,
}

impl Default for Action {
    fn default() -> Self {
        Self::Mirror { sample: None, snaplen: None }
    }
}

/// Only one in so many is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub one_in: NonZeroU32,
    pub by: SampleBy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SampleBy {
    #[default]
    Packet,
    /// All packets of a flow, in both directions, or none of them.
    Flow,
}

/// How much of a packet its copy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snaplen {
    /// So many bytes from the IP header on, that included; at least [`MIN_SNAPLEN`].
    Bytes(u16),
    /// Everything up to the end of the header behind IP.
    Headers,
}

/// What holds an IPv6 header and a TCP header without options; less would be of no use.
pub const MIN_SNAPLEN: u16 = 64;

/// Bits of byte 13 of the TCP header (RFC 9293, section 3.1); a packet that has all of them set is
/// accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpFlags(pub u8);

/// Types of ICMP and of ICMPv6 messages that go by one number or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpType {
    pub v4: Option<u8>,
    pub v6: Option<u8>,
}
