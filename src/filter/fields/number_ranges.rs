//! Numbers and ranges of numbers, as ports, VLAN IDs and lengths are given.

use std::ops::RangeInclusive;

use anyhow::{Result, bail, ensure};

use crate::model::number;

/// `80` or `8000-8100`.
pub fn parse(entry: &str, expected: &str, what: &str, last: u16) -> Result<RangeInclusive<u16>> {
    let (start, end) = entry.split_once('-').unwrap_or((entry, entry));
    let (Some(start), Some(end)) = (number::<u32>(start), number::<u32>(end)) else {
        bail!("{entry:?} is not {expected}");
    };
    ensure!(start <= end, "{entry:?} is a range whose end comes before its start");
    ensure!(end <= last.into(), "{entry:?} goes beyond the last {what}, {last}");
    Ok(start as u16..=end as u16)
}

pub fn text(numbers: &RangeInclusive<u16>) -> String {
    if numbers.start() == numbers.end() {
        numbers.start().to_string()
    } else {
        format!("{}-{}", numbers.start(), numbers.end())
    }
}
