//! What a rule says: a conjunction over five fields of an IPv4 packet.

use std::ops::RangeInclusive;

use ipnetwork::Ipv4Network;

/// What a rule accepts in one field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Everything: the field is open.
    #[default]
    Any,
    /// What at least one of these is or contains. They may overlap.
    OneOf(Vec<T>),
}

impl<T> Field<T> {
    /// Whether the rule leaves the field open.
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// What the rule names; nothing where it leaves the field open.
    pub fn named(&self) -> &[T] {
        match self {
            Self::Any => &[],
            Self::OneOf(values) => values,
        }
    }
}

/// The packets to mirror: those that every field accepts. The default rule accepts them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Values of the IPv4 protocol field.
    pub protocol: Field<u8>,
    /// Host bits are zero.
    pub src_address: Field<Ipv4Network>,
    pub dst_address: Field<Ipv4Network>,
    /// Ports of the protocols that have them, in host byte order.
    pub src_port: Field<RangeInclusive<u16>>,
    pub dst_port: Field<RangeInclusive<u16>>,
}

impl Rule {
    /// Whether packets of protocols without ports can match: a protocol that is named and has no
    /// ports (ICMP) matches whatever the ports say; where only ports are named, only packets with
    /// ports match.
    pub fn accepts_portless(&self) -> bool {
        !self.protocol.is_any() || (self.src_port.is_any() && self.dst_port.is_any())
    }
}
