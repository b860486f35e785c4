//! What a rule says: which packets match it, and what becomes of them.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use super::entries::Entries;
use super::prefix::Prefix;

use crate::abi;

/// In place of a VLAN ID: the packet has no tag.
pub const UNTAGGED: u16 = abi::Size::MIRRORING_UNTAGGED.0 as u16;

/// A packet matches if each field accepts it. The default rule matches all packets, and mirrors them.
///
/// What is known of each field stands in [`super::fields`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Unique within a list of rules. In a file of rules: 1 to 64 printable ASCII characters.
    pub name: String,
    /// What becomes of packets that match this rule and none before it.
    pub action: Action,
    /// IPv4: the protocol field. IPv6: the protocol behind the extension headers.
    pub protocol: Entries<u8>,
    /// Where `only` names prefixes of one family, nothing of the other is accepted.
    pub src_address: Entries<Prefix>,
    /// Destinations, in the same form as `src_address`.
    pub dst_address: Entries<Prefix>,
    /// Ports of the protocols that have them, in host byte order.
    pub src_port: Entries<RangeInclusive<u16>>,
    /// Destination ports, in the same form as `src_port`.
    pub dst_port: Entries<RangeInclusive<u16>>,
    /// Sets of flags. If there are any, packets without a readable TCP header do not match.
    pub tcp_flags: Entries<TcpFlags>,
    /// IDs of the outermost tag, or [`UNTAGGED`].
    pub vlan: Entries<RangeInclusive<u16>>,
    /// Types of messages. If there are any, only ICMP in IPv4 and ICMPv6 in IPv6 match.
    pub icmp_type: Entries<IcmpType>,
    /// The upper six bits of the TOS or traffic class byte.
    pub dscp: Entries<u8>,
    /// Bytes from the start of the IP header on.
    pub length: Entries<RangeInclusive<u16>>,
}

impl Rule {
    /// Whether packets of protocols without ports can match. A protocol that is named and has no ports (ICMP)
    /// matches whatever the ports say. Where only ports are named, only packets with ports match.
    pub fn accepts_portless(&self) -> bool {
        !self.protocol.only.is_empty() || (self.src_port.is_any() && self.dst_port.is_any())
    }

    /// Has copies keep the whole packet.
    pub fn leave_whole(&mut self) {
        if let Action::Mirror { snaplen, .. } = &mut self.action {
            *snaplen = None;
        }
    }
}

/// What becomes of a packet whose first matching rule this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is copied to the tunnel.
    Mirror {
        /// `None`: every packet is copied.
        sample: Option<Sample>,
        /// `None`: copies keep the whole packet.
        snaplen: Option<Snaplen>,
    },
    /// There is no copy, and later rules are not asked.
    Exclude,
}

impl Default for Action {
    fn default() -> Self {
        Self::Mirror { sample: None, snaplen: None }
    }
}

/// One in so many is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Chance of 1 in so many. 1 mirrors every packet.
    pub one_in: NonZeroU32,
    /// What the chance is of: a packet or a flow.
    pub by: SampleBy,
}

/// What a sample chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SampleBy {
    /// Each packet by itself, except that all fragments of a datagram share one choice.
    #[default]
    Packet,
    /// All packets of a flow, in both directions, or none of them.
    Flow,
}

/// How much of a packet its copy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snaplen {
    /// So many bytes from the start of the IP header on; at least [`MIN_SNAPLEN`].
    Bytes(u16),
    /// Everything up to the end of the header behind IP.
    Headers,
}

/// Room for an IPv6 header and a TCP header without options.
pub const MIN_SNAPLEN: u16 = 64;

/// Bits of byte 13 of the TCP header (RFC 9293, section 3.1). A packet is accepted if all of them are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpFlags(pub u8);

/// One entry of the field: a type of ICMP and one of ICMPv6, which share a name or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpType {
    /// Type in ICMP (RFC 792); `None`: no ICMP message is accepted.
    pub v4: Option<u8>,
    /// Type in ICMPv6 (RFC 4443); `None`: no ICMPv6 message is accepted.
    pub v6: Option<u8>,
}
