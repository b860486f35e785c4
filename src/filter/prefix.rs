//! Prefixes of addresses, in one form from the text of a flag to the key of a trie.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::{IpNetwork, IpNetworkError};

/// The version of IP that an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4: prefixes of 0 to 32 bits.
    V4,
    /// IPv6: prefixes of 0 to 128 bits.
    V6,
}

impl Family {
    /// Both versions, in the order in which prefixes are sorted.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A prefix of addresses of one family. Sorted, a prefix comes directly before those that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The version of IP. A prefix never covers addresses of the other one, not even with length 0.
    pub family: Family,
    /// The address, whose first bit is the highest one in both families. Bits behind the length are 0.
    pub bits: u128,
    /// Length in bits: at most 32 for IPv4, 128 for IPv6.
    pub len: u8,
}

impl Prefix {
    /// All addresses of a family.
    pub const fn all(family: Family) -> Self {
        Self { family, bits: 0, len: 0 }
    }

    /// Whether all addresses of `other` are addresses of this one.
    pub fn covers(self, other: Self) -> bool {
        let behind = 128 - u32::from(self.len);
        self.family == other.family
            && self.len <= other.len
            && (self.bits ^ other.bits).checked_shr(behind).unwrap_or(0) == 0
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from((self.bits >> 96) as u32).into(),
            Family::V6 => Ipv6Addr::from(self.bits).into(),
        }
    }

    /// 16 bits from `at` on, and how many of them the prefix determines.
    pub fn word(self, at: u8) -> (u16, u8) {
        ((self.bits >> (112 - at)) as u16, self.len.saturating_sub(at).min(16))
    }
}

/// Host bits do not matter.
impl From<IpNetwork> for Prefix {
    fn from(network: IpNetwork) -> Self {
        let len = network.prefix();
        match network.network() {
            IpAddr::V4(address) => {
                Self { family: Family::V4, bits: u128::from(u32::from(address)) << 96, len }
            }
            IpAddr::V6(address) => Self { family: Family::V6, bits: address.into(), len },
        }
    }
}

impl FromStr for Prefix {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        text.parse::<IpNetwork>().map(Self::from)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_dropped() {
        for (text, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/255.255.0.0", "10.1.0.0/16"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::1/33", "2001:db8::/33"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_prefix_covers_longer_ones_of_its_family() {
        let covers = |outer: &str, inner: &str| {
            outer.parse::<Prefix>().unwrap().covers(inner.parse().unwrap())
        };
        assert!(covers("10.0.0.0/8", "10.1.0.0/16") && covers("10.0.0.0/8", "10.0.0.0/8"));
        assert!(covers("0.0.0.0/0", "255.255.255.255") && covers("::/0", "2001:db8::/32"));
        assert!(!covers("10.1.0.0/16", "10.0.0.0/8") && !covers("10.0.0.0/8", "11.0.0.0/8"));
        assert!(!covers("0.0.0.0/0", "::/0") && !covers("::/0", "1.2.3.4"));
    }
}
