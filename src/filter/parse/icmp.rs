//! Types of ICMP messages.

use anyhow::{Context, Result};

use crate::filter::rule::IcmpType;
use crate::model::number;

/// Names of IANA's registries, with the number in ICMP and in ICMPv6.
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
pub fn icmp_type(entry: &str) -> Result<Option<IcmpType>> {
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

/// All that have a name.
pub fn names() -> impl Iterator<Item = IcmpType> {
    NAMES.iter().map(|&(_, v4, v6)| IcmpType { v4, v6 })
}

/// The name or the number; what is of one family alone and has no name is no entry of a list.
pub fn icmp_type_text(kind: &IcmpType) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::icmp_types;
    use super::*;
    use crate::filter::Field;

    #[test]
    fn names_know_both_numbers_and_numbers_count_for_both() {
        assert_eq!(
            icmp_types("Echo-Request,8,packet-too-big,source-quench").unwrap(),
            Field::only([
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
            let error = icmp_types(entry).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a type of ICMP ")), "{error}");
        }
    }

    #[test]
    fn every_name_has_itself_as_text() {
        for (name, ..) in NAMES {
            assert_eq!(icmp_type_text(&icmp_type(name).unwrap().unwrap()), name);
        }
        assert_eq!(icmp_type_text(&icmp_type("8").unwrap().unwrap()), "8");
    }
}
