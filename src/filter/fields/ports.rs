//! Ports.

use std::ops::RangeInclusive;

use anyhow::Result;

use super::values::{Values, accepted, others, range, shorter};
use super::{Spec, number_ranges};
use crate::filter::entries::Entries;
use crate::filter::ranges::Ranges;
use crate::filter::tables::Table;

pub(super) static SRC_PORT: Spec<RangeInclusive<u16>> = Spec {
    key: "src_port",
    flag: "--src-port",
    entries: |rule| &rule.src_port,
    entries_mut: |rule| &mut rule.src_port,
    parse,
    text: number_ranges::text,
    tables: &in_table(Table::SrcPort),
};

pub(super) static DST_PORT: Spec<RangeInclusive<u16>> = Spec {
    key: "dst_port",
    flag: "--dst-port",
    entries: |rule| &rule.dst_port,
    entries_mut: |rule| &mut rule.dst_port,
    parse,
    text: number_ranges::text,
    tables: &in_table(Table::DstPort),
};

const fn in_table(table: Table) -> Values<RangeInclusive<u16>> {
    Values { table, accepted: |entries| accepted(entries, u16::MAX, range), entries }
}

/// `80` or `8000-8100`; `0` means any.
pub fn parse(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    let expected = "a port or a range of ports such as 8000-8100";
    let ports = number_ranges::parse(entry, expected, "port", u16::MAX)?;
    Ok((*ports.end() > 0).then_some(ports))
}

/// Never has port 0 as an entry: that text means any port.
fn entries(only: Ranges) -> Entries<RangeInclusive<u16>> {
    let not = others(&only, u16::MAX);
    if only.contains(&(0..=0)) {
        Entries::not(not)
    } else if not.contains(&(0..=0)) {
        Entries::only(only)
    } else {
        shorter(only, not)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn ports_and_ranges_mix() {
        assert_eq!(
            parsed("80, 8000-8100 ,65535,0-1", parse).unwrap(),
            Entries::only([80..=80, 8000..=8100, 65535..=65535, 0..=1])
        );
        assert_eq!(parsed("1-65535", parse).unwrap(), Entries::only([1..=65535]));
    }

    #[test]
    fn port_0_is_any() {
        for list in ["0", "80,0"] {
            assert!(parsed(list, parse).unwrap().is_any(), "{list}");
        }
    }

    #[test]
    fn malformed_ports_are_named() {
        for entry in ["80-x", "x", "-", "80-", "-80", "1-2-3", "+80", "8 0", "99999999999"] {
            assert_eq!(
                error(parsed(&format!("443,{entry}"), parse)),
                format!("{entry:?} is not a port or a range of ports such as 8000-8100")
            );
        }
        assert_eq!(
            error(parsed("90-80", parse)),
            r#""90-80" is a range whose end comes before its start"#
        );
        assert_eq!(error(parsed("65536", parse)), r#""65536" goes beyond the last port, 65535"#);
        assert_eq!(
            error(parsed("1-70000", parse)),
            r#""1-70000" goes beyond the last port, 65535"#
        );
    }
}
