//! Sets of TCP flags.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::Spec;
use super::values::Values;
use crate::filter::entries::Entries;
use crate::filter::ranges::Ranges;
use crate::filter::rule::TcpFlags;
use crate::filter::tables::Table;

pub(super) static TCP_FLAGS: Spec<TcpFlags> = Spec {
    key: "tcp_flags",
    flag: "--tcp-flags",
    entries: |rule| &rule.tcp_flags,
    entries_mut: |rule| &mut rule.tcp_flags,
    parse,
    text,
    tables: &Values { table: Table::TcpFlags, accepted, entries },
};

/// From the lowest bit on (RFC 9293, section 3.1).
const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// `syn`, or `syn+ack` for packets with both.
pub fn parse(entry: &str) -> Result<Option<TcpFlags>> {
    let mut set = 0;
    for name in entry.split('+') {
        let bit = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim()));
        let bit = bit.with_context(|| {
            format!(
                "{entry:?} is not a set of TCP flags such as syn or syn+ack; the flags are {}",
                NAMES.join(", ")
            )
        })?;
        set |= 1 << bit;
    }
    Ok(Some(TcpFlags(set)))
}

/// The names of the flags, from the lowest bit on, with `+` in between. [`parse`] reads them back.
pub fn text(flags: &TcpFlags) -> String {
    let names = NAMES.iter().enumerate().filter(|(bit, _)| flags.0 >> bit & 1 == 1);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}

/// A set accepts each byte of flags that has all of its bits, so the bytes are tried one by one.
fn accepted(entries: &Entries<TcpFlags>) -> Ranges {
    let sets = |list: &[TcpFlags]| -> BTreeSet<u8> { list.iter().map(|set| set.0).collect() };
    let has_one = |value: u8, sets: &BTreeSet<u8>| sets.iter().any(|set| value & set == *set);
    let (only, not) = (sets(&entries.only), sets(&entries.not));
    (0..=u8::MAX)
        .filter(|value| (only.is_empty() || has_one(*value, &only)) && !has_one(*value, &not))
        .map(|value| value.into()..=value.into())
        .collect()
}

const FIN: TcpFlags = TcpFlags(1);

/// The smallest sets that accept these bytes, and the smallest that exclude the others from them.
fn entries(accepted: Ranges) -> Entries<TcpFlags> {
    let mut is_accepted = [false; 256];
    for value in accepted.into_iter().flatten() {
        is_accepted[usize::from(value)] = true;
    }
    let is_accepted = |value: u8| is_accepted[usize::from(value)];
    let has_one = |value: u8, sets: &[u8]| sets.iter().any(|set| value & set == *set);
    // smaller sets first
    let mut sets: Vec<u8> = (0..=u8::MAX).collect();
    sets.sort_by_key(|set| (set.count_ones(), *set));

    let (mut only, mut not) = (Vec::new(), Vec::new());
    for &set in sets.iter().filter(|set| is_accepted(**set)) {
        if !has_one(set, &only) {
            only.push(set);
        }
    }
    let holes = sets.iter().filter(|value| !is_accepted(**value) && has_one(**value, &only));
    for &value in holes {
        if !has_one(value, &not) {
            let excludes_accepted =
                |set: u8| (0..=u8::MAX).any(|value| value & set == set && is_accepted(value));
            let mut subsets = sets.iter().filter(|set| value & **set == **set);
            // there is one: the value itself is a subset
            not.extend(subsets.find(|set| !excludes_accepted(**set)));
        }
    }
    if only.is_empty() {
        return Entries { only: vec![FIN], not: vec![FIN] };
    }
    if only == [0] && !not.is_empty() {
        only.clear();
    }
    let flags = |sets: Vec<u8>| sets.into_iter().map(TcpFlags).collect();
    Entries { only: flags(only), not: flags(not) }
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;

    #[test]
    fn flags_are_bits_of_the_header() {
        assert_eq!(
            parsed("fin,SYN,rst,psh,ack,urg,ece,cwr", parse).unwrap(),
            Entries::only([0, 1, 2, 3, 4, 5, 6, 7].map(|bit| TcpFlags(1 << bit)))
        );
        assert_eq!(
            parsed("syn+ack, fin + ack", parse).unwrap(),
            Entries::only([TcpFlags(18), TcpFlags(17)])
        );
        assert_eq!(
            parsed("syn,not ack", parse).unwrap(),
            Entries { only: vec![TcpFlags(2)], not: vec![TcpFlags(16)] }
        );
    }

    #[test]
    fn unknown_flags_are_named() {
        for entry in ["sin", "syn+", "+", "syn ack", "2", "syn+syn+x"] {
            let error = parsed(entry, parse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a set of TCP flags ")), "{error}");
        }
    }
}
