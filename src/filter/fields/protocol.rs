//! Protocols by name and number.

use anyhow::{Context, Result};
use etherparse::IpNumber;

use super::Spec;
use super::values::{Values, accepted, one, others, shorter, singles};
use crate::filter::entries::Entries;
use crate::filter::ranges::Ranges;
use crate::filter::tables::Table;
use crate::model::number;

pub(super) static PROTOCOL: Spec<u8> = Spec {
    key: "protocol",
    flag: "--protocol",
    entries: |rule| &rule.protocol,
    entries_mut: |rule| &mut rule.protocol,
    parse,
    text,
    tables: &Values { table: Table::Protocol, accepted: values, entries },
};

/// Names in common use that differ from IANA's or are missing there. They take precedence over IANA's.
const ALIASES: [(&str, u8); 9] = [
    ("icmpv6", 58),
    ("icmp6", 58),
    // IANA's IPIP is 94, which nothing speaks; Linux's IPPROTO_IPIP, and `ip link … type ipip`, is 4
    ("ipip", 4),
    ("ipencap", 4),
    ("isis", 124),
    ("mobility-header", 135),
    ("mpls", 137),
    ("ospf", 89),
    ("udp-lite", 136),
];

/// `tcp` or `6`.
pub fn parse(entry: &str) -> Result<Option<u8>> {
    number(entry).or_else(|| by_name(entry)).map(Some).with_context(|| {
        format!(
            "{entry:?} is not a protocol; give a name such as tcp, udp, icmp, icmpv6, sctp, gre or \
             esp, or a number from 0 to 255"
        )
    })
}

/// The name in common use; the number where there is none.
pub fn text(protocol: &u8) -> String {
    let alias = ALIASES.iter().find(|(_, number)| number == protocol);
    alias
        .map(|(alias, _)| (*alias).to_owned())
        .or_else(|| by_iana(*protocol).map(str::to_ascii_lowercase))
        .filter(|name| by_name(name) == Some(*protocol))
        .unwrap_or_else(|| protocol.to_string())
}

fn by_name(name: &str) -> Option<u8> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    alias.map(|&(_, protocol)| protocol).or_else(|| {
        (0..=u8::MAX).find(|&protocol| {
            by_iana(protocol).is_some_and(|keyword| keyword.eq_ignore_ascii_case(name))
        })
    })
}

fn by_iana(protocol: u8) -> Option<&'static str> {
    // some names carry a remark: "SWIPE (deprecated)"
    IpNumber(protocol).keyword_str().and_then(|keyword| keyword.split(" (").next())
}

fn values(entries: &Entries<u8>) -> Ranges {
    accepted(entries, u8::MAX.into(), |protocol| one(*protocol))
}

fn entries(only: Ranges) -> Entries<u8> {
    let not = others(&only, u8::MAX.into());
    shorter(singles(only), singles(not))
}

/// Accepts the same protocols in the other form: excludes the others instead of naming these, or the other way round.
/// The form decides whether packets without ports match ([`crate::filter::Rule::accepts_portless`]).
pub fn other_form(form: &Entries<u8>) -> Entries<u8> {
    let accepted = values(form);
    if form.only.is_empty() {
        Entries::only(singles(accepted))
    } else {
        Entries::not(singles(others(&accepted, u8::MAX.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;
    use crate::filter::entries::Entries;

    #[test]
    fn protocols_go_by_name_and_number() {
        assert_eq!(parsed("tcp, UDP ,icmp", parse).unwrap(), Entries::only([6, 17, 1]));
        assert_eq!(parsed("0,47,255", parse).unwrap(), Entries::only([0, 47, 255]));
        let named = [
            ("gre", 47),
            ("esp", 50),
            ("sctp", 132),
            ("ospf", 89),
            ("ospfigp", 89),
            ("icmpv6", 58),
            ("icmp6", 58),
            ("ipv6-icmp", 58),
            ("ipip", 4),
            ("ipv4", 4),
            ("swipe", 53),
        ];
        for (name, protocol) in named {
            assert_eq!(parsed(name, parse).unwrap(), Entries::only([protocol]), "{name}");
        }
        assert!(parsed("tcp,any", parse).unwrap().is_any());
    }

    #[test]
    fn unknown_protocols_are_named() {
        for entry in ["tpc", "256", "-1", "+6", "tcp udp"] {
            let error = parsed(&format!("tcp,{entry}"), parse).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not a protocol; ")), "{error}");
        }
    }

    #[test]
    fn every_protocol_has_a_text_that_means_it() {
        for number in 0..=u8::MAX {
            let text = text(&number);
            assert_eq!(parse(&text).unwrap(), Some(number), "{text}");
        }
        assert_eq!(text(&6), "tcp");
        assert_eq!(text(&58), "icmpv6");
        assert_eq!(text(&200), "200");
    }
}
