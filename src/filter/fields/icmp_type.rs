//! Types of ICMP messages.

use anyhow::{Context, Result};

use super::Spec;
use super::values::{Values, accepted, others, shorter};
use crate::abi;
use crate::filter::ranges::Ranges;
use crate::filter::rule::IcmpType;
use crate::filter::tables::Table;
use crate::model::number;

/// In the table, this is added to a type of ICMPv6.
pub const ICMPV6: u16 = abi::Size::MIRRORING_ICMPV6.0 as u16;
/// In the table, the last type of ICMPv6.
const LAST: u16 = ICMPV6 + u8::MAX as u16;

pub(super) static ICMP_TYPE: Spec<IcmpType> = Spec {
    key: "icmp_type",
    flag: "--icmp-type",
    entries: |rule| &rule.icmp_type,
    entries_mut: |rule| &mut rule.icmp_type,
    parse,
    text,
    tables: &Values {
        table: Table::IcmpType,
        accepted: |entries| accepted(entries, LAST, indices),
        entries: |only| {
            let not = others(&only, LAST);
            shorter(types(only), types(not))
        },
    },
};

/// Names from IANA's registries, with their numbers in ICMP and in ICMPv6.
const NAMES: [(&str, Option<u8>, Option<u8>); 20] = [
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("packet-too-big", None, Some(2)),
    ("redirect", Some(5), Some(137)),
    ("router-advertisement", Some(9), Some(134)),
    ("router-solicitation", Some(10), Some(133)),
    ("neighbor-solicitation", None, Some(135)),
    ("neighbor-advertisement", None, Some(136)),
    ("source-quench", Some(4), None),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("address-mask-request", Some(17), None),
    ("address-mask-reply", Some(18), None),
    ("multicast-listener-query", None, Some(130)),
    ("multicast-listener-report", None, Some(131)),
    ("multicast-listener-done", None, Some(132)),
    ("multicast-listener-report-v2", None, Some(143)),
];

/// `echo-request` means the right number of ICMP and of ICMPv6; `8` means that number of both.
pub fn parse(entry: &str) -> Result<Option<IcmpType>> {
    let by_number = || number(entry).map(|number| IcmpType { v4: Some(number), v6: Some(number) });
    let named = NAMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(entry));
    let named = named.map(|&(_, v4, v6)| IcmpType { v4, v6 });
    named.or_else(by_number).map(Some).with_context(|| {
        format!(
            "{entry:?} is not a type of ICMP messages; give a name such as echo-request, \
             echo-reply, destination-unreachable or time-exceeded, or a number from 0 to 255"
        )
    })
}

/// The types that have a name.
pub fn names() -> impl Iterator<Item = IcmpType> {
    NAMES.iter().map(|&(_, v4, v6)| IcmpType { v4, v6 })
}

/// The name or the number. A type of one family alone that has no name gets a description, which no list accepts.
pub fn text(kind: &IcmpType) -> String {
    let named = NAMES.iter().find(|&&(_, v4, v6)| (v4, v6) == (kind.v4, kind.v6));
    match (named, kind.v4, kind.v6) {
        (Some((name, ..)), ..) => (*name).to_owned(),
        (None, Some(v4), Some(v6)) if v4 == v6 => v4.to_string(),
        (None, v4, v6) => {
            let of = |number: Option<u8>, family| number.map(|it| format!("{it} of {family}"));
            [of(v4, "icmp"), of(v6, "icmpv6")].into_iter().flatten().collect::<Vec<_>>().join(",")
        }
    }
}

fn indices(kind: &IcmpType) -> Ranges {
    let v4 = kind.v4.map(u16::from);
    let v6 = kind.v6.map(|kind| ICMPV6 + u16::from(kind));
    v4.into_iter().chain(v6).map(|index| index..=index).collect()
}

/// Entries for these types: names and numbers for both families where possible, else for one.
fn types(ranges: Ranges) -> Vec<IcmpType> {
    let (v6, v4): (Vec<u16>, Vec<u16>) =
        ranges.into_iter().flatten().partition(|index| *index >= ICMPV6);
    let v4: Vec<u8> = v4.into_iter().map(|kind| kind as u8).collect();
    let v6: Vec<u8> = v6.into_iter().map(|index| (index - ICMPV6) as u8).collect();
    let is_there = |kind: &IcmpType| {
        kind.v4.is_none_or(|kind| v4.contains(&kind))
            && kind.v6.is_none_or(|kind| v6.contains(&kind))
    };
    let of_both = |kind: &IcmpType| kind.v4.is_some() && kind.v6.is_some();
    let named = names;
    let by_number = (0..=u8::MAX).map(|kind| IcmpType { v4: Some(kind), v6: Some(kind) });
    let alone4 = v4.iter().map(|&kind| IcmpType { v4: Some(kind), v6: None });
    let alone6 = v6.iter().map(|&kind| IcmpType { v4: None, v6: Some(kind) });
    let candidates = named()
        .filter(of_both)
        .chain(by_number)
        .chain(named().filter(|kind| !of_both(kind)))
        .chain(alone4)
        .chain(alone6);

    let mut chosen: Vec<IcmpType> = Vec::new();
    for kind in candidates.filter(is_there) {
        if !is_covered(&kind, &chosen) {
            chosen.push(kind);
        }
    }
    // entries chosen later may have made an earlier one redundant
    for index in (0..chosen.len()).rev() {
        let kind = chosen.remove(index);
        if !is_covered(&kind, &chosen) {
            chosen.insert(index, kind);
        }
    }
    chosen
}

fn is_covered(kind: &IcmpType, by: &[IcmpType]) -> bool {
    kind.v4.is_none_or(|v4| by.iter().any(|other| other.v4 == Some(v4)))
        && kind.v6.is_none_or(|v6| by.iter().any(|other| other.v6 == Some(v6)))
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use crate::filter::entries::Entries;

    #[test]
    fn names_know_both_numbers_and_numbers_count_for_both() {
        assert_eq!(
            parsed("Echo-Request,8,packet-too-big,source-quench", parse).unwrap(),
            Entries::only([
                IcmpType { v4: Some(8), v6: Some(128) },
                IcmpType { v4: Some(8), v6: Some(8) },
                IcmpType { v4: None, v6: Some(2) },
                IcmpType { v4: Some(4), v6: None },
            ])
        );
    }

    #[test]
    fn unknown_types_are_named() {
        for entry in ["ping", "256", "-1", "3-5"] {
            let error = parsed(entry, parse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a type of ICMP ")), "{error}");
        }
    }

    #[test]
    fn every_name_has_itself_as_text() {
        for (name, ..) in NAMES {
            assert_eq!(text(&parse(name).unwrap().unwrap()), name);
        }
        assert_eq!(text(&parse("8").unwrap().unwrap()), "8");
    }
}
