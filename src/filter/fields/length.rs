//! Lengths of packets.

use std::ops::RangeInclusive;

use anyhow::Result;

use super::values::{Values, accepted, others, range, shorter};
use super::{Spec, number_ranges};
use crate::filter::tables::Table;

pub(super) static LENGTH: Spec<RangeInclusive<u16>> = Spec {
    key: "length",
    flag: "--length",
    entries: |rule| &rule.length,
    entries_mut: |rule| &mut rule.length,
    parse,
    text: number_ranges::text,
    tables: &Values {
        table: Table::Length,
        accepted: |entries| accepted(entries, u16::MAX, range),
        entries: |only| {
            let not = others(&only, u16::MAX);
            shorter(only, not)
        },
    },
};

/// `40` or `1000-65535`.
pub fn parse(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    let expected = "a length in bytes or a range such as 1000-65535";
    number_ranges::parse(entry, expected, "length", u16::MAX).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use crate::filter::Entries;

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn lengths_are_bytes() {
        assert_eq!(parsed("0,40-100", parse).unwrap(), Entries::only([0..=0, 40..=100]));
        assert_eq!(error(parsed("65536", parse)), r#""65536" goes beyond the last length, 65535"#);
        assert!(error(parsed("1k", parse)).starts_with(r#""1k" is not a length in bytes"#));
    }
}
