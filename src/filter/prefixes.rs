//! The addresses that rules name, compiled for one family: prefixes for a trie of longest matches, and
//! an index of 16 bits in front of it.

use super::entries::Entries;
use super::prefix::{Family, Prefix};
use super::ranges::{Ranges, difference, segments};
use super::tables::Masks;

/// The indices of the addresses that a prefix covers. IPv4: the upper 16 bits. IPv6: the upper 16 bits, which are
/// nearly the same everywhere, XOR the next 16.
fn indices(prefix: Prefix) -> std::ops::RangeInclusive<u16> {
    let (upper, upper_len) = prefix.word(0);
    let (index, len) = match prefix.family {
        Family::V4 => (upper, upper_len),
        Family::V6 if upper_len < 16 => (0, 0),
        Family::V6 => {
            let (next, next_len) = prefix.word(16);
            (upper ^ next, next_len)
        }
    };
    // a block of 2^(16-len) numbers, XORed with a constant, is such a block again
    let free = (u32::from(u16::MAX) >> len) as u16;
    index & !free..=index | free
}

/// One address field of all rules, compiled for one family.
pub fn compile(rules: &[&Entries<Prefix>], family: Family) -> Masks {
    let mut any = 0_u32;
    // prefix, rules that name it, rules that exclude it
    let mut named: Vec<(Prefix, u32, u32)> = Vec::new();
    let mut indices = Vec::new();
    for (bit, entries) in rules.iter().enumerate() {
        let of_family = |list: &[Prefix]| -> Vec<Prefix> {
            list.iter().copied().filter(|prefix| prefix.family == family).collect()
        };
        let (mut only, not) = (of_family(&entries.only), of_family(&entries.not));
        let rule = 1 << bit;
        if entries.only.is_empty() || only.iter().any(|prefix| prefix.len == 0) {
            if not.is_empty() {
                any |= rule;
                continue;
            }
            // every address, less the exclusions
            only = vec![Prefix::all(family)];
        }
        let ranges = index_ranges(&only, &not, family);
        indices.extend(ranges.into_iter().map(|range| (range, bit)));
        named.extend(only.into_iter().map(|prefix| (prefix, rule, 0)));
        named.extend(not.into_iter().map(|prefix| (prefix, 0, rule)));
    }
    Masks { any, values: segments(indices.into_iter()), prefixes: longest_matches(named) }
}

/// The indices of the addresses that a rule may accept.
fn index_ranges(only: &[Prefix], not: &[Prefix], family: Family) -> Ranges {
    let only = only.iter().map(|prefix| indices(*prefix)).collect();
    // an exclusion removes an index if it covers all addresses with that index; never for IPv6, where unrelated
    // networks share an index
    let not = match family {
        Family::V4 => not.iter().filter(|prefix| prefix.len <= 16).collect(),
        Family::V6 => Vec::new(),
    };
    difference(only, not.into_iter().map(|prefix| indices(*prefix)).collect())
}

/// Every prefix once, with the rules that accept the addresses whose longest match it is. Leaves out prefixes with
/// the same rules as their longest covering prefix.
fn longest_matches(mut named: Vec<(Prefix, u32, u32)>) -> Vec<(Prefix, u32)> {
    named.sort_unstable_by_key(|&(prefix, ..)| prefix);
    let mut answers = Vec::new();
    // prefix; the rules that name it or a prefix that covers it; the rules that exclude one of these
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

    fn field(only: &[&str], not: &[&str]) -> Entries<Prefix> {
        let parse = |list: &[&str]| list.iter().map(|prefix| prefix.parse().unwrap()).collect();
        Entries { only: parse(only), not: parse(not) }
    }

    fn prefixes(networks: &Masks) -> Vec<(String, u32)> {
        networks.prefixes.iter().map(|&(prefix, mask)| (prefix.to_string(), mask)).collect()
    }

    fn v4(fields: &[Entries<Prefix>]) -> Masks {
        compile(&fields.iter().collect::<Vec<_>>(), Family::V4)
    }

    fn check(fields: &[Entries<Prefix>], any: u32, expected: &[(&str, u32)]) {
        let networks = v4(fields);
        let found = prefixes(&networks);
        let found: Vec<_> = found.iter().map(|(prefix, mask)| (prefix.as_str(), *mask)).collect();
        assert_eq!((networks.any, found.as_slice()), (any, expected), "{fields:?}");
    }

    #[test]
    fn open_fields_write_no_tables() {
        for open in [field(&[], &[]), field(&["0.0.0.0/0", "10.0.0.0/8"], &[])] {
            let networks = v4(&[open]);
            assert_eq!((networks.any, networks.prefixes.len(), networks.values.len()), (1, 0, 0));
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
            v4(&fields).values,
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
            let networks = compile(&[&field], Family::V6);
            assert_eq!(networks.values, [(expected, 1)], "{network}");
        }
        // another network of the same index is still there
        let field = field(&["2001:db8::/32", "db8:2001::/32"], &["2001:db8::/32"]);
        let networks = compile(&[&field], Family::V6);
        assert_eq!(networks.values, [(0x2db9..=0x2db9, 1)]);
    }
}
