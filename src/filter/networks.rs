//! The address fields of rules, compiled for one family: prefixes for a trie of longest matches,
//! and a 16-bit index in front of it. An address is its bits at the upper end of 128, whatever its
//! family, so that one algorithm serves both.

use anyhow::Result;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::ranges::{Ranges, Segments, difference, segments};
use super::rule::Field;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A prefix: its first bit is the highest, and what lies behind its length is 0. Sorted, one comes
/// after those that cover it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    pub bits: u128,
    pub len: u8,
}

impl Prefix {
    fn of(network: &IpNetwork, family: Family) -> Option<Self> {
        match (network, family) {
            (IpNetwork::V4(network), Family::V4) => Some((*network).into()),
            (IpNetwork::V6(network), Family::V6) => Some((*network).into()),
            _ => None,
        }
    }

    /// # Errors
    /// It is longer than an address of IPv4.
    pub fn v4(self) -> Result<Ipv4Network> {
        Ok(Ipv4Network::new(((self.bits >> 96) as u32).into(), self.len)?)
    }

    /// # Errors
    /// It is longer than an address.
    pub fn v6(self) -> Result<Ipv6Network> {
        Ok(Ipv6Network::new(self.bits.into(), self.len)?)
    }

    pub fn covers(self, other: Self) -> bool {
        let behind = 128 - u32::from(self.len);
        self.len <= other.len && (self.bits ^ other.bits).checked_shr(behind).unwrap_or(0) == 0
    }

    /// 16 bits from `at` on, and how many of them the prefix determines.
    fn word(self, at: u8) -> (u16, u8) {
        ((self.bits >> (112 - at)) as u16, self.len.saturating_sub(at).min(16))
    }

    /// The indices of the addresses that it covers: the upper 16 bits of IPv4; of IPv6, whose upper
    /// 16 bits are much the same everywhere, those XOR the next 16.
    fn indices(self, family: Family) -> std::ops::RangeInclusive<u16> {
        let (upper, upper_len) = self.word(0);
        let (index, len) = match family {
            Family::V4 => (upper, upper_len),
            Family::V6 if upper_len < 16 => (0, 0),
            Family::V6 => {
                let (next, next_len) = self.word(16);
                (upper ^ next, next_len)
            }
        };
        // a block of 2^(16-len) numbers, XORed with a constant, is such a block again
        let free = (u32::from(u16::MAX) >> len) as u16;
        index & !free..=index | free
    }
}

impl From<Ipv4Network> for Prefix {
    fn from(network: Ipv4Network) -> Self {
        Self { bits: u128::from(u32::from(network.network())) << 96, len: network.prefix() }
    }
}

impl From<Ipv6Network> for Prefix {
    fn from(network: Ipv6Network) -> Self {
        Self { bits: network.network().into(), len: network.prefix() }
    }
}

/// One address field of all rules, for one family.
#[derive(Debug, Default)]
pub struct Networks {
    /// The rules that accept every address of the family, and stand in no table.
    pub any: u32,
    /// Every prefix once, ascending, to the rules that accept the addresses that it is the longest
    /// match of.
    pub prefixes: Vec<(Prefix, u32)>,
    /// Indices, to the rules that may accept some address that has it.
    pub indices: Segments,
}

impl Networks {
    pub fn compile<'a>(fields: impl Iterator<Item = &'a Field<IpNetwork>>, family: Family) -> Self {
        let mut networks = Self::default();
        // rules that accept every address, less their exclusions
        let mut everything = 0_u32;
        // prefix, rules that name it, rules that exclude it
        let mut named: Vec<(Prefix, u32, u32)> = Vec::new();
        let mut indices = Vec::new();
        for (bit, field) in fields.enumerate() {
            let of_family = |list: &[IpNetwork]| -> Vec<Prefix> {
                list.iter().filter_map(|network| Prefix::of(network, family)).collect()
            };
            let (mut only, not) = (of_family(&field.only), of_family(&field.not));
            let rule = 1 << bit;
            if field.only.is_empty() || only.iter().any(|prefix| prefix.len == 0) {
                only.clear();
                if not.is_empty() {
                    networks.any |= rule;
                    continue;
                }
                everything |= rule;
                only.push(Prefix { bits: 0, len: 0 });
            }
            let ranges = index_ranges(&only, &not, family);
            indices.extend(ranges.into_iter().map(|range| (range, bit)));
            named.extend(only.into_iter().map(|prefix| (prefix, rule, 0)));
            named.extend(not.into_iter().map(|prefix| (prefix, 0, rule)));
        }
        debug_assert_eq!(networks.any & everything, 0);
        networks.indices = segments(indices.into_iter());
        networks.prefixes = longest_matches(named);
        networks
    }
}

/// The indices that a rule may accept an address of.
fn index_ranges(only: &[Prefix], not: &[Prefix], family: Family) -> Ranges {
    let only = only.iter().map(|prefix| prefix.indices(family)).collect();
    // an exclusion takes an index away where it holds all addresses that have it; an index of IPv6
    // is one of addresses all over the place
    let not = match family {
        Family::V4 => not.iter().filter(|prefix| prefix.len <= 16).collect(),
        Family::V6 => Vec::new(),
    };
    difference(only, not.into_iter().map(|prefix| prefix.indices(family)).collect())
}

/// Joins equal prefixes, and has each answer for all that cover it. One that would answer as the
/// longest of those does is left out.
fn longest_matches(mut named: Vec<(Prefix, u32, u32)>) -> Vec<(Prefix, u32)> {
    named.sort_unstable_by_key(|&(prefix, ..)| prefix);
    let mut answers = Vec::new();
    // prefix, and over it and all that cover it: rules that name one, rules that exclude one
    let mut covering: Vec<(Prefix, u32, u32)> = Vec::new();
    for same in named.chunk_by(|a, b| a.0 == b.0) {
        let prefix = same[0].0;
        while covering.last().is_some_and(|(outer, ..)| !outer.covers(prefix)) {
            covering.pop();
        }
        let (only, not) = covering.last().map_or((0, 0), |&(_, only, not)| (only, not));
        let before = only & !not;
        let (only, not) =
            same.iter().fold((only, not), |(all, none), (_, one, other)| (all | one, none | other));
        covering.push((prefix, only, not));
        if only & !not != before {
            answers.push((prefix, only & !not));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(only: &[&str], not: &[&str]) -> Field<IpNetwork> {
        let parse = |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect();
        Field { only: parse(only), not: parse(not) }
    }

    fn prefixes(networks: &Networks) -> Vec<(String, u32)> {
        let text = |prefix: Prefix| {
            let address = std::net::Ipv4Addr::from((prefix.bits >> 96) as u32);
            format!("{address}/{}", prefix.len)
        };
        networks.prefixes.iter().map(|&(prefix, mask)| (text(prefix), mask)).collect()
    }

    fn v4(fields: &[Field<IpNetwork>]) -> Networks {
        Networks::compile(fields.iter(), Family::V4)
    }

    fn check(fields: &[Field<IpNetwork>], any: u32, expected: &[(&str, u32)]) {
        let networks = v4(fields);
        let found = prefixes(&networks);
        let found: Vec<_> = found.iter().map(|(prefix, mask)| (prefix.as_str(), *mask)).collect();
        assert_eq!((networks.any, found.as_slice()), (any, expected), "{fields:?}");
    }

    #[test]
    fn open_fields_write_no_tables() {
        for open in [field(&[], &[]), field(&["0.0.0.0/0", "10.0.0.0/8"], &[])] {
            let networks = v4(&[open]);
            assert_eq!((networks.any, networks.prefixes.len(), networks.indices.len()), (1, 0, 0));
        }
    }

    #[test]
    fn a_field_of_one_family_accepts_nothing_of_the_other() {
        for other in [field(&["::/0"], &[]), field(&["2001:db8::/32"], &[])] {
            check(&[other], 0, &[]);
        }
        check(&[field(&[], &["::/0"])], 1, &[]);
        check(&[field(&["2001:db8::/32"], &["10.0.0.0/8"])], 0, &[]);
    }

    #[test]
    fn longer_prefixes_inherit_from_those_that_cover_them() {
        check(
            &[
                field(&["10.0.0.0/8", "192.0.2.1/32"], &[]),
                field(&["10.1.0.0/16", "10.1.0.0/16", "192.0.2.0/24"], &[]),
                field(&["10.1.2.0/24", "10.0.0.0/8"], &[]),
                field(&["10.2.0.0/16"], &[]),
            ],
            0,
            // 10.1.2.0/24 would answer as 10.1.0.0/16 does
            &[
                ("10.0.0.0/8", 0b0101),
                ("10.1.0.0/16", 0b0111),
                ("10.2.0.0/16", 0b1101),
                ("192.0.2.0/24", 0b0010),
                ("192.0.2.1/32", 0b0011),
            ],
        );
    }

    #[test]
    fn exclusions_leave_holes_that_nothing_fills() {
        check(
            &[
                field(&["10.0.0.0/8", "10.1.1.0/24"], &["10.1.0.0/16"]),
                field(&["10.1.1.1/32"], &["11.0.0.0/8"]),
            ],
            0,
            &[("10.0.0.0/8", 1), ("10.1.0.0/16", 0), ("10.1.1.1/32", 2)],
        );
    }

    #[test]
    fn everything_but_is_the_answer_of_the_shortest_prefix() {
        check(
            &[
                field(&[], &["10.0.0.0/8"]),
                field(&["0.0.0.0/0"], &["10.1.0.0/16"]),
                field(&[], &[]),
            ],
            0b100,
            &[("0.0.0.0/0", 0b11), ("10.0.0.0/8", 0b10), ("10.1.0.0/16", 0)],
        );
        check(&[field(&[], &["0.0.0.0/0"])], 0, &[]);
    }

    #[test]
    fn indices_of_ipv4_are_the_upper_half_of_addresses() {
        let fields = [
            field(&["10.0.0.0/8", "10.1.2.3/32"], &["10.5.5.0/24", "10.6.0.0/16"]),
            field(&["10.1.2.0/24", "0.0.0.0/32"], &[]),
            field(&[], &["0.0.0.0/1", "192.0.0.0/2"]),
        ];
        assert_eq!(
            v4(&fields).indices,
            [
                (0..=0, 2),
                (0x0a00..=0x0a00, 1),
                (0x0a01..=0x0a01, 3),
                (0x0a02..=0x0a05, 1),
                (0x0a07..=0x0aff, 1),
                (0x8000..=0xbfff, 4),
            ]
        );
    }

    #[test]
    fn indices_of_ipv6_are_two_words_in_one() {
        let cases: [(&str, std::ops::RangeInclusive<u16>); 6] = [
            ("2001:db8::/32", 0x2db9..=0x2db9),
            ("2001:db8:1::1/128", 0x2db9..=0x2db9),
            ("2001:db8::/31", 0x2db8..=0x2db9),
            ("2001:d00::/24", 0x2d00..=0x2dff),
            ("2001::/16", 0..=65535),
            ("2000::/3", 0..=65535),
        ];
        for (network, expected) in cases {
            let field = field(&[network], &[]);
            let networks = Networks::compile([field].iter(), Family::V6);
            assert_eq!(networks.indices, [(expected, 1)], "{network}");
        }
        // another network of the same index is still there
        let field = field(&["2001:db8::/32", "db8:2001::/32"], &["2001:db8::/32"]);
        let networks = Networks::compile([field].iter(), Family::V6);
        assert_eq!(networks.indices, [(0x2db9..=0x2db9, 1)]);
    }
}
