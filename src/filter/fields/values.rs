//! Fields whose values are numbers of 16 bits at most, each with a table from values to rules.

use std::ops::RangeInclusive;

use super::InTables;
use crate::filter::entries::Entries;
use crate::filter::ranges::{Ranges, Segments, difference, segments};
use crate::filter::tables::{Masks, Table, Tables};

/// How a field is compiled to its table and back.
pub struct Values<T: 'static> {
    pub table: Table,
    /// The values that a closed field accepts.
    pub accepted: fn(&Entries<T>) -> Ranges,
    /// Entries that accept these values, and no others.
    pub entries: fn(Ranges) -> Entries<T>,
}

impl<T> InTables<T> for Values<T> {
    fn compile(&self, rules: &[&Entries<T>], tables: &mut Tables) {
        let mut any = 0;
        let mut accepted = Vec::new();
        for (bit, entries) in rules.iter().enumerate() {
            if entries.is_any() {
                any |= 1 << bit;
            } else {
                accepted.extend((self.accepted)(entries).into_iter().map(|range| (range, bit)));
            }
        }
        let values = segments(accepted.into_iter());
        tables[self.table] = Masks { any, values, prefixes: Vec::new() };
    }

    fn decompile(&self, tables: &Tables, rules: usize) -> Vec<Entries<T>> {
        let Masks { any, values, .. } = &tables[self.table];
        let entries = |bit: usize| match any >> bit & 1 {
            1 => Entries::default(),
            _ => (self.entries)(joined(values, bit)),
        };
        (0..rules).map(entries).collect()
    }
}

/// The values of a table that a rule accepts.
fn joined(table: &Segments, bit: usize) -> Ranges {
    let mut ranges = Ranges::new();
    for (range, _) in table.iter().filter(|(_, mask)| mask >> bit & 1 == 1) {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*range.start()) => {
                *last = *last.start()..=*range.end();
            }
            _ => ranges.push(range.clone()),
        }
    }
    ranges
}

/// The values from 0 to `last` that a closed field accepts; `values` has those of one entry.
pub fn accepted<T>(entries: &Entries<T>, last: u16, values: impl Fn(&T) -> Ranges) -> Ranges {
    let only = if entries.only.is_empty() {
        vec![0..=last]
    } else {
        entries.only.iter().flat_map(&values).collect()
    };
    difference(only, entries.not.iter().flat_map(&values).collect())
}

/// The values from 0 to `last` that are in no range.
pub fn others(ranges: &Ranges, last: u16) -> Ranges {
    difference(vec![0..=last], ranges.clone())
}

/// The shorter of two lists: the entries to accept, or those to exclude. A field that accepts nothing names an entry
/// and excludes it.
pub fn shorter<T: Clone>(only: Vec<T>, not: Vec<T>) -> Entries<T> {
    match (only.len(), not.len()) {
        (0, 2..) => Entries { only: vec![not[0].clone()], not: vec![not[0].clone()] },
        (0, _) => Entries::not(not),
        (_, 0) => Entries::only(only),
        (named, excluded) if named <= excluded => Entries::only(only),
        _ => Entries::not(not),
    }
}

/// The ranges that hold one value.
pub fn one(value: u8) -> Ranges {
    vec![value.into()..=value.into()]
}

/// Single values, of a table whose last value is 255 at most.
pub fn singles(ranges: Ranges) -> Vec<u8> {
    ranges.into_iter().flatten().map(|value| value as u8).collect()
}

/// The ranges that hold one range.
pub fn range(numbers: &RangeInclusive<u16>) -> Ranges {
    vec![numbers.clone()]
}
