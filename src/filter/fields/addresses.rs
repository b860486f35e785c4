//! Addresses and prefixes of both families.

use anyhow::{Result, bail};

use super::{InTables, Spec};
use crate::filter::entries::Entries;
use crate::filter::prefix::{Family, Prefix};
use crate::filter::prefixes;
use crate::filter::tables::{Table, Tables};

pub(super) static SRC: Spec<Prefix> = Spec {
    key: "src",
    flag: "--src-address",
    entries: |rule| &rule.src_address,
    entries_mut: |rule| &mut rule.src_address,
    parse,
    text,
    tables: &Addresses([Table::SrcV4, Table::SrcV6]),
};

pub(super) static DST: Spec<Prefix> = Spec {
    key: "dst",
    flag: "--dst-address",
    entries: |rule| &rule.dst_address,
    entries_mut: |rule| &mut rule.dst_address,
    parse,
    text,
    tables: &Addresses([Table::DstV4, Table::DstV6]),
};

/// `0.0.0.0` and an IPv4 `/0` are all of IPv4, `::` and an IPv6 `/0` all of IPv6. Host bits do not
/// matter: `10.1.2.3/8` is 10.0.0.0/8.
pub fn parse(entry: &str) -> Result<Option<Prefix>> {
    let Ok(prefix) = entry.parse::<Prefix>() else {
        bail!(
            "{entry:?} is not an address or a prefix such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"
        )
    };
    let is_all = prefix.bits == 0 && !entry.contains('/');
    Ok(Some(if is_all { Prefix::all(prefix.family) } else { prefix }))
}

fn text(prefix: &Prefix) -> String {
    let is_one_host = prefix.len == prefix.family.bits();
    if prefix.len == 0 || is_one_host && prefix.bits != 0 {
        prefix.address().to_string()
    } else {
        prefix.to_string()
    }
}

/// The tables of a field: IPv4's, then IPv6's.
struct Addresses([Table; 2]);

impl InTables<Prefix> for Addresses {
    fn compile(&self, rules: &[&Entries<Prefix>], tables: &mut Tables) {
        for (table, family) in self.0.into_iter().zip(Family::BOTH) {
            tables[table] = prefixes::compile(rules, family);
        }
    }

    fn decompile(&self, tables: &Tables, rules: usize) -> Vec<Entries<Prefix>> {
        let any = self.0.map(|table| tables[table].any);
        let named = self.0.map(|table| named(&tables[table].prefixes));
        let entries = |rule: usize| {
            entries(any.map(|any| any >> rule & 1 == 1), [&named[0][rule], &named[1][rule]])
        };
        (0..rules).map(entries).collect()
    }
}

/// The prefixes of one family that a rule names and excludes.
#[derive(Debug, Clone, Default)]
struct Named {
    only: Vec<Prefix>,
    not: Vec<Prefix>,
}

/// For each rule: it names a prefix whose mask has it while the mask of the covering prefix has not. The other way
/// round, it excludes the prefix.
fn named(prefixes: &[(Prefix, u32)]) -> Vec<Named> {
    let mut rules = vec![Named::default(); u32::BITS as usize];
    // the prefixes that cover the current one, the longest last
    let mut covering: Vec<(Prefix, u32)> = Vec::new();
    for &(prefix, mask) in prefixes {
        while covering.last().is_some_and(|(outer, _)| !outer.covers(prefix)) {
            covering.pop();
        }
        let before = covering.last().map_or(0, |&(_, mask)| mask);
        covering.push((prefix, mask));
        for (index, rule) in rules.iter_mut().enumerate() {
            match (before >> index & 1, mask >> index & 1) {
                (0, 1) => rule.only.push(prefix),
                (1, 0) => rule.not.push(prefix),
                _ => {}
            }
        }
    }
    rules
}

/// `is_any` and `named` are IPv4's, then IPv6's.
fn entries(is_any: [bool; 2], named: [&Named; 2]) -> Entries<Prefix> {
    let all = Family::BOTH.map(Prefix::all);
    let is_all = [0, 1].map(|family| is_any[family] || named[family].only.contains(&all[family]));
    let mut entries = Entries::default();
    // a field that names nothing accepts both families
    if is_all != [true, true] {
        for family in [0, 1] {
            match is_all[family] {
                true => entries.only.push(all[family]),
                false => entries.only.extend(&named[family].only),
            }
        }
        if entries.only.is_empty() {
            return Entries { only: vec![all[0]], not: vec![all[0]] };
        }
    }
    entries.not.extend(named.iter().flat_map(|named| &named.not));
    entries
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use crate::filter::entries::Entries;

    fn networks(list: &[&str]) -> Entries<Prefix> {
        Entries::only(list.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn each_address_keeps_its_own_prefix_length() {
        assert_eq!(
            parsed("10.0.0.0/8,1.2.3.4", parse).unwrap(),
            networks(&["10.0.0.0/8", "1.2.3.4/32"])
        );
    }

    #[test]
    fn both_families_mix() {
        assert_eq!(
            parsed("2001:db8::/32,1.2.3.4,::1,::ffff:1.2.3.4", parse).unwrap(),
            networks(&["2001:db8::/32", "1.2.3.4/32", "::1/128", "::ffff:1.2.3.4/128"])
        );
    }

    #[test]
    fn host_bits_of_a_prefix_are_dropped() {
        assert_eq!(parsed("10.1.2.3/8", parse).unwrap(), networks(&["10.0.0.0/8"]));
        assert_eq!(parsed("10.1.2.3/255.255.0.0", parse).unwrap(), networks(&["10.1.0.0/16"]));
        assert_eq!(parsed("2001:db8::1/33", parse).unwrap(), networks(&["2001:db8::/33"]));
    }

    #[test]
    fn the_unspecified_address_is_any_of_its_family() {
        for list in ["0.0.0.0", "0.0.0.0/0", "1.2.3.4/0"] {
            assert_eq!(parsed(list, parse).unwrap(), networks(&["0.0.0.0/0"]), "{list}");
        }
        for list in ["::", "::/0", "2001:db8::/0", "0:0:0:0:0:0:0:0"] {
            assert_eq!(parsed(list, parse).unwrap(), networks(&["::/0"]), "{list}");
        }
        // these are not open
        assert_eq!(parsed("0.0.0.0/8", parse).unwrap(), networks(&["0.0.0.0/8"]));
        assert_eq!(parsed("0.0.0.0/32", parse).unwrap(), networks(&["0.0.0.0/32"]));
        assert_eq!(parsed("::/128", parse).unwrap(), networks(&["::/128"]));
        assert!(parsed("any", parse).unwrap().is_any());
    }

    #[test]
    fn malformed_addresses_are_named() {
        for entry in [
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/8/8",
            "host",
            "1.2.3.4-5",
            "2001:db8::/129",
            "2001:db8",
            "fe80::1%eth0",
            "[::1]",
            ":::",
        ] {
            let error = parsed(&format!("any,{entry},1.2.3.4"), parse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not an address or a ")), "{error}");
        }
    }
}
