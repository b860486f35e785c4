//! The text of filter flags: comma lists of addresses, ports and protocols.
//!
//! Spaces around entries are ignored. One entry that means "any" makes the whole list any; the
//! others must be well-formed all the same. Errors name the entry; the caller names the flag.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail, ensure};
use etherparse::IpNumber;
use ipnetwork::Ipv4Network;

use super::rule::Field;

/// What people type for protocols that IANA calls something else, or for which it has no word.
/// These come before IANA's names.
const PROTOCOL_ALIASES: [(&str, u8); 9] = [
    ("icmp6", 58),
    ("icmpv6", 58),
    // IANA's IPIP is 94, which nothing speaks; Linux's IPPROTO_IPIP, and `ip link … type ipip`, is 4
    ("ipip", 4),
    ("ipencap", 4),
    ("isis", 124),
    ("mobility-header", 135),
    ("mpls", 137),
    ("ospf", 89),
    ("udp-lite", 136),
];

/// Addresses and prefixes: `10.0.0.0/8, 192.0.2.1`. `0.0.0.0`, `any` and a `/0` mean any. Host
/// bits do not matter: `10.1.2.3/8` is 10.0.0.0/8.
pub fn addresses(list: &str) -> Result<Field<Ipv4Network>> {
    field(list, |entry| {
        if entry.parse() == Ok(Ipv4Addr::UNSPECIFIED) {
            return Ok(None);
        }
        let given: Ipv4Network = match entry.parse() {
            Ok(given) => given,
            Err(_) if is_ipv6(entry) => {
                bail!("{entry:?} is an IPv6 address; only IPv4 is supported")
            }
            Err(_) => bail!(
                "{entry:?} is not an IPv4 address or a prefix such as 192.0.2.1 or 10.0.0.0/8"
            ),
        };
        let network = Ipv4Network::new(given.network(), given.prefix())?;
        Ok((network.prefix() > 0).then_some(network))
    })
}

/// Ports and ranges: `80, 8000-8100`. `0` and `any` mean any.
pub fn ports(list: &str) -> Result<Field<RangeInclusive<u16>>> {
    field(list, |entry| {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let (Some(first), Some(last)) = (number::<u32>(first), number::<u32>(last)) else {
            bail!("{entry:?} is not a port or a range of ports such as 8000-8100");
        };
        ensure!(first <= last, "{entry:?} is a range whose end comes before its start");
        let last = u16::try_from(last)
            .ok()
            .with_context(|| format!("{entry:?} goes beyond the last port, 65535"))?;
        Ok((last > 0).then_some(first as u16..=last))
    })
}

/// Protocols by name or number: `tcp, icmp, 47`. `any` means any.
pub fn protocols(list: &str) -> Result<Field<u8>> {
    field(list, |entry| {
        number(entry).or_else(|| protocol_by_name(entry)).map(Some).with_context(|| {
            format!(
                "{entry:?} is not a protocol; give a name such as tcp, udp, icmp, sctp, gre or \
                 esp, or a number from 0 to 255"
            )
        })
    })
}

/// Splits a list. `parse` gives `None` for an entry that means any.
fn field<T>(list: &str, parse: impl Fn(&str) -> Result<Option<T>>) -> Result<Field<T>> {
    let mut values = Vec::new();
    let mut any = false;
    for entry in list.split(',').map(str::trim) {
        ensure!(!entry.is_empty(), "there is an empty entry in {list:?}");
        if entry.eq_ignore_ascii_case("any") {
            any = true;
            continue;
        }
        match parse(entry)? {
            Some(value) => values.push(value),
            None => any = true,
        }
    }
    Ok(if any { Field::Any } else { Field::OneOf(values) })
}

/// A decimal number, without the sign that `str::parse` would take.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_ipv6(entry: &str) -> bool {
    let address = entry.split_once('/').map_or(entry, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

fn protocol_by_name(name: &str) -> Option<u8> {
    let alias = PROTOCOL_ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    alias.map(|&(_, protocol)| protocol).or_else(|| {
        (0..=u8::MAX).find(|&protocol| {
            IpNumber(protocol)
                .keyword_str()
                // some names carry a remark: "SWIPE (deprecated)"
                .and_then(|keyword| keyword.split(" (").next())
                .is_some_and(|keyword| keyword.eq_ignore_ascii_case(name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Field<Ipv4Network> {
        Field::OneOf(list.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn each_address_keeps_its_own_prefix_length() {
        assert_eq!(
            addresses("10.0.0.0/8,1.2.3.4").unwrap(),
            networks(&["10.0.0.0/8", "1.2.3.4/32"])
        );
        assert_eq!(
            addresses(" 1.2.3.4 ,\t10.0.0.0/8 ").unwrap(),
            networks(&["1.2.3.4/32", "10.0.0.0/8"])
        );
    }

    #[test]
    fn host_bits_of_a_prefix_are_dropped() {
        assert_eq!(addresses("10.1.2.3/8").unwrap(), networks(&["10.0.0.0/8"]));
        assert_eq!(addresses("10.1.2.3/255.255.0.0").unwrap(), networks(&["10.1.0.0/16"]));
    }

    #[test]
    fn one_open_entry_makes_the_addresses_any() {
        for list in ["0.0.0.0", "any", "ANY", "0.0.0.0/0", "1.2.3.4/0", "10.0.0.0/8, any"] {
            assert_eq!(addresses(list).unwrap(), Field::Any, "{list}");
        }
        // these two are not open
        assert_eq!(addresses("0.0.0.0/8").unwrap(), networks(&["0.0.0.0/8"]));
        assert_eq!(addresses("0.0.0.0/32").unwrap(), networks(&["0.0.0.0/32"]));
    }

    #[test]
    fn malformed_addresses_are_named() {
        for entry in ["1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/8/8", "host", "1.2.3.4-5"] {
            let error = error(addresses(&format!("any,{entry},1.2.3.4")));
            assert!(error.starts_with(&format!("{entry:?} is not an IPv4 address")), "{error}");
        }
    }

    #[test]
    fn ipv6_addresses_are_refused_as_such() {
        for entry in ["::1", "2001:db8::/32", "::ffff:1.2.3.4"] {
            assert_eq!(
                error(addresses(entry)),
                format!("{entry:?} is an IPv6 address; only IPv4 is supported")
            );
        }
    }

    #[test]
    fn ports_and_ranges_mix() {
        assert_eq!(
            ports("80, 8000-8100 ,65535,0-1").unwrap(),
            Field::OneOf(vec![80..=80, 8000..=8100, 65535..=65535, 0..=1])
        );
        assert_eq!(ports("1-65535").unwrap(), Field::OneOf(vec![1..=65535]));
    }

    #[test]
    fn one_open_entry_makes_the_ports_any() {
        for list in ["0", "any", "80,0", "Any,80"] {
            assert_eq!(ports(list).unwrap(), Field::Any, "{list}");
        }
    }

    #[test]
    fn malformed_ports_are_named() {
        for entry in ["80-x", "x", "-", "80-", "-80", "1-2-3", "+80", "8 0", "99999999999"] {
            assert_eq!(
                error(ports(&format!("443,{entry}"))),
                format!("{entry:?} is not a port or a range of ports such as 8000-8100")
            );
        }
        assert_eq!(error(ports("90-80")), r#""90-80" is a range whose end comes before its start"#);
        assert_eq!(error(ports("65536")), r#""65536" goes beyond the last port, 65535"#);
        assert_eq!(error(ports("1-70000")), r#""1-70000" goes beyond the last port, 65535"#);
    }

    #[test]
    fn protocols_go_by_name_and_number() {
        assert_eq!(protocols("tcp, UDP ,icmp").unwrap(), Field::OneOf(vec![6, 17, 1]));
        assert_eq!(protocols("0,47,255").unwrap(), Field::OneOf(vec![0, 47, 255]));
        let named = [
            ("gre", 47),
            ("esp", 50),
            ("sctp", 132),
            ("ospf", 89),
            ("ospfigp", 89),
            ("icmpv6", 58),
            ("ipv6-icmp", 58),
            ("ipip", 4),
            ("ipv4", 4),
            ("swipe", 53),
        ];
        for (name, protocol) in named {
            assert_eq!(protocols(name).unwrap(), Field::OneOf(vec![protocol]), "{name}");
        }
        assert_eq!(protocols("tcp,any").unwrap(), Field::Any);
    }

    #[test]
    fn unknown_protocols_are_named() {
        for entry in ["tpc", "256", "-1", "+6", "tcp udp"] {
            let error = error(protocols(&format!("tcp,{entry}")));
            assert!(error.starts_with(&format!("{entry:?} is not a protocol; ")), "{error}");
        }
    }

    #[test]
    fn empty_entries_are_refused() {
        assert_eq!(error(ports("80,,90")), r#"there is an empty entry in "80,,90""#);
        assert_eq!(error(addresses("10.0.0.0/8,")), r#"there is an empty entry in "10.0.0.0/8,""#);
        assert_eq!(error(protocols(" ")), r#"there is an empty entry in " ""#);
    }
}
