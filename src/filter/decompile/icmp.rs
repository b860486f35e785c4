//! Types of ICMP messages, by names and numbers that are mostly of two types.

use super::{both, shorter};
use crate::filter::ICMPV6;
use crate::filter::parse;
use crate::filter::ranges::Ranges;
use crate::filter::rule::{Field, IcmpType};

pub fn icmp_type(accepted: Ranges) -> Field<IcmpType> {
    let (only, not) = both(accepted, ICMPV6 + u16::from(u8::MAX));
    shorter(icmp_types(only), icmp_types(not))
}

/// Names and numbers for types of both families, if need be for one alone.
fn icmp_types(ranges: Ranges) -> Vec<IcmpType> {
    let (v6, v4): (Vec<u16>, Vec<u16>) =
        ranges.into_iter().flatten().partition(|index| *index >= ICMPV6);
    let v4: Vec<u8> = v4.into_iter().map(|kind| kind as u8).collect();
    let v6: Vec<u8> = v6.into_iter().map(|index| (index - ICMPV6) as u8).collect();
    let is_there = |kind: &IcmpType| {
        kind.v4.is_none_or(|kind| v4.contains(&kind))
            && kind.v6.is_none_or(|kind| v6.contains(&kind))
    };
    let of_both = |kind: &IcmpType| kind.v4.is_some() && kind.v6.is_some();
    let named = parse::icmp_names;
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
    // a name may have become of no use by the numbers behind it
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
