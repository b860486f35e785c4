//! VLAN IDs.

use std::ops::RangeInclusive;

use anyhow::Result;

use super::values::{Values, accepted, others, range, shorter};
use super::{Spec, number_ranges};
use crate::filter::ranges::Ranges;
use crate::filter::rule::UNTAGGED;
use crate::filter::tables::Table;

const LAST_ID: u16 = 4095;

pub(super) static VLAN: Spec<RangeInclusive<u16>> = Spec {
    key: "vlan",
    flag: "--vlan",
    entries: |rule| &rule.vlan,
    entries_mut: |rule| &mut rule.vlan,
    parse,
    text,
    tables: &Values {
        table: Table::Vlan,
        accepted: |entries| accepted(entries, UNTAGGED, range),
        entries: |only| {
            let not = others(&only, UNTAGGED);
            shorter(apart(only), apart(not))
        },
    },
};

/// `100` or `200-299`; `none` is a packet without a tag.
pub fn parse(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    if entry.eq_ignore_ascii_case("none") {
        return Ok(Some(UNTAGGED..=UNTAGGED));
    }
    let expected = "a VLAN ID, a range of them such as 100-199, or none";
    number_ranges::parse(entry, expected, "VLAN ID", LAST_ID).map(Some)
}

fn text(ids: &RangeInclusive<u16>) -> String {
    if *ids.start() == UNTAGGED { "none".to_owned() } else { number_ranges::text(ids) }
}

/// Makes "no tag" an entry of its own.
fn apart(ranges: Ranges) -> Ranges {
    let apart = ranges.into_iter().flat_map(|range| match range.into_inner() {
        (start, UNTAGGED) if start < UNTAGGED => {
            vec![start..=UNTAGGED - 1, UNTAGGED..=UNTAGGED]
        }
        (start, end) => vec![start..=end],
    });
    apart.collect()
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
    fn vlans_have_ids_or_none() {
        assert_eq!(
            parsed("0,100-4095,None", parse).unwrap(),
            Entries::only([0..=0, 100..=4095, UNTAGGED..=UNTAGGED])
        );
        assert_eq!(parsed("not none", parse).unwrap(), Entries::not([UNTAGGED..=UNTAGGED]));
        assert_eq!(error(parsed("4096", parse)), r#""4096" goes beyond the last VLAN ID, 4095"#);
        assert!(error(parsed("none-5", parse)).starts_with(r#""none-5" is not a VLAN ID"#));
    }
}
