//! Differentiated services code points.

use anyhow::{Context, Result};

use super::Spec;
use super::values::{Values, accepted, one, others, shorter, singles};
use crate::filter::tables::Table;
use crate::model::number;

const LAST: u8 = 63;

pub(super) static DSCP: Spec<u8> = Spec {
    key: "dscp",
    flag: "--dscp",
    entries: |rule| &rule.dscp,
    entries_mut: |rule| &mut rule.dscp,
    parse,
    text,
    tables: &Values {
        table: Table::Dscp,
        accepted: |entries| accepted(entries, LAST.into(), |value| one(*value)),
        entries: |only| {
            let not = others(&only, LAST.into());
            shorter(singles(only), singles(not))
        },
    },
};

/// Names of code points (RFC 2474, 2597, 3246, 5865, 8622), as `tc` and `iptables` take them.
const NAMES: [(&str, u8); 24] = [
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("ef", 46),
    ("va", 44),
    ("le", 1),
    // what people say for 0
    ("be", 0),
];

/// `ef` or `46`.
pub fn parse(entry: &str) -> Result<Option<u8>> {
    code_point(entry).map(Some).with_context(|| {
        format!(
            "{entry:?} is not a DSCP; give a name (cs0 to cs7, af11 to af43, ef, va, le), or a \
             number from 0 to {LAST}"
        )
    })
}

/// By number or name.
pub fn code_point(text: &str) -> Option<u8> {
    let named = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|&(_, value)| value).or_else(|| number(text)).filter(|&value| value <= LAST)
}

/// The name of a code point if it has one, else its number. [`code_point`] reads both back.
pub fn text(value: &u8) -> String {
    let named = NAMES.iter().find(|(_, number)| number == value);
    named.map_or_else(|| value.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use crate::filter::entries::Entries;

    #[test]
    fn code_points_go_by_name_and_number() {
        assert_eq!(
            parsed("EF,cs1,af43,be,63,0", parse).unwrap(),
            Entries::only([46, 8, 38, 0, 63, 0])
        );
    }

    #[test]
    fn unknown_code_points_are_named() {
        for entry in ["64", "256", "cs8", "af44", "-1", "0x2e"] {
            let error = parsed(entry, parse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a DSCP; ")), "{error}");
        }
    }

    /// Class selectors are multiples of 8, assured forwarding is 8 × class + 2 × drop precedence.
    #[test]
    fn the_names_follow_the_rules_of_their_rfcs() {
        for (name, dscp) in NAMES {
            let digits: Vec<u8> =
                name.bytes().filter(u8::is_ascii_digit).map(|d| d - b'0').collect();
            match digits[..] {
                [class] => assert_eq!(dscp, 8 * class, "{name}"),
                [class, precedence] => assert_eq!(dscp, 8 * class + 2 * precedence, "{name}"),
                _ => assert!(["be", "ef", "le", "va"].contains(&name), "{name}"),
            }
        }
    }

    #[test]
    fn every_code_point_has_a_text_that_means_it() {
        for value in 0..=LAST {
            assert_eq!(parse(&text(&value)).unwrap(), Some(value));
        }
    }
}
