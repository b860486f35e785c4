//! The text of a rule's fields, and back: comma lists in flags, lists of entries in a file.
//!
//! `not` in front of an entry makes it an exclusion. An entry that means "any" opens the field,
//! less the exclusions; the others must be well-formed all the same. Spaces around entries are
//! ignored. Errors name the entry; the caller names the flag, or the rule and the key.

use std::ops::RangeInclusive;

use anyhow::{Result, bail, ensure};
use ipnetwork::IpNetwork;

use super::rule::{Field, IcmpType, TcpFlags};

mod addresses;
mod copies;
mod dscp;
mod icmp;
mod protocols;
mod ranges;
mod tcp_flags;

pub use addresses::{address, address_text};
pub use copies::{one_in, sample_by, sample_by_text, snaplen, snaplen_text};
pub use dscp::{code_point, dscp, dscp_text};
pub use icmp::{icmp_type, icmp_type_text, names as icmp_names};
pub use protocols::{protocol, protocol_text};
pub use ranges::{length, length_text, port, port_text, vlan, vlan_text};
pub use tcp_flags::{tcp_flags as tcp_flag_set, tcp_flags_text};

/// Addresses and prefixes of both families: `10.0.0.0/8, not 10.1.2.3, 2001:db8::/32`.
pub fn addresses(list: &str) -> Result<Field<IpNetwork>> {
    comma_list(list, address)
}

/// Ports and ranges: `80, 8000-8100`. `0` means any.
pub fn ports(list: &str) -> Result<Field<RangeInclusive<u16>>> {
    comma_list(list, port)
}

/// Protocols by name or number: `tcp, icmp, 47`.
pub fn protocols(list: &str) -> Result<Field<u8>> {
    comma_list(list, protocol)
}

/// Flags of TCP that are all set: `syn, fin+ack, not rst`.
pub fn tcp_flags(list: &str) -> Result<Field<TcpFlags>> {
    comma_list(list, tcp_flag_set)
}

/// VLAN IDs and ranges: `100, 200-299, none`.
pub fn vlans(list: &str) -> Result<Field<RangeInclusive<u16>>> {
    comma_list(list, vlan)
}

/// Types of ICMP messages by name or number: `echo-request, 3`.
pub fn icmp_types(list: &str) -> Result<Field<IcmpType>> {
    comma_list(list, icmp_type)
}

/// Differentiated services code points by name or number: `ef, cs1, 18`.
pub fn dscps(list: &str) -> Result<Field<u8>> {
    comma_list(list, dscp)
}

/// Lengths of packets and ranges: `40, 1000-65535`.
pub fn lengths(list: &str) -> Result<Field<RangeInclusive<u16>>> {
    comma_list(list, length)
}

fn comma_list<T>(list: &str, parse: impl Fn(&str) -> Result<Option<T>>) -> Result<Field<T>> {
    for entry in list.split(',') {
        ensure!(!entry.trim().is_empty(), "there is an empty entry in {list:?}");
    }
    entries(list.split(','), parse)
}

/// A field of these entries. `parse` gives `None` for one that means any.
pub fn entries<'a, T>(
    entries: impl IntoIterator<Item = &'a str>,
    parse: impl Fn(&str) -> Result<Option<T>>,
) -> Result<Field<T>> {
    let mut field = Field::default();
    let mut any = false;
    for entry in entries.into_iter().map(str::trim) {
        ensure!(!entry.is_empty(), "there is an empty entry");
        let excluded = excluded(entry);
        let value = excluded.unwrap_or(entry);
        let value = if value.eq_ignore_ascii_case("any") { None } else { parse(value)? };
        match (value, excluded) {
            (Some(value), None) => field.only.push(value),
            (Some(value), Some(_)) => field.not.push(value),
            (None, None) => any = true,
            (None, Some(excluded)) => {
                bail!("{entry:?} leaves nothing, because {excluded:?} means any")
            }
        }
    }
    if any {
        field.only.clear();
    }
    Ok(field)
}

/// What stands behind `not`.
fn excluded(entry: &str) -> Option<&str> {
    let (word, rest) = entry.split_once(char::is_whitespace)?;
    word.eq_ignore_ascii_case("not").then(|| rest.trim_start())
}

/// A field as text, entry for entry; none where it is open.
pub fn field_text<T>(field: &Field<T>, text: impl Fn(&T) -> String) -> Vec<String> {
    let mut only: Vec<String> = field.only.iter().map(&text).collect();
    only.extend(field.not.iter().map(|entry| format!("not {}", text(entry))));
    only
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn spaces_around_entries_are_ignored() {
        assert_eq!(ports(" 80 ,\t90 ").unwrap(), Field::only([80..=80, 90..=90]));
    }

    #[test]
    fn not_in_front_of_an_entry_excludes_it() {
        let expected = Field { only: vec![1..=100], not: vec![22..=22, 80..=90] };
        assert_eq!(ports("not 22,1-100, NOT \t80-90").unwrap(), expected);
        assert_eq!(ports("not 22").unwrap(), Field::not([22..=22]));
    }

    #[test]
    fn one_entry_that_means_any_opens_the_field() {
        for list in ["any", "ANY", "80,any", "Any,80"] {
            assert!(ports(list).unwrap().is_any(), "{list}");
        }
        assert_eq!(ports("80,any,not 22").unwrap(), Field::not([22..=22]));
    }

    #[test]
    fn an_exclusion_of_everything_is_refused() {
        for entry in ["not any", "not 0", "NOT  Any"] {
            let error = error(ports(&format!("80,{entry}")));
            assert!(error.starts_with(&format!("{entry:?} leaves nothing")), "{error}");
        }
    }

    #[test]
    fn not_belongs_to_an_entry() {
        for entry in ["not", "not80", "not not 80", "80 not"] {
            let error = error(ports(entry));
            assert!(error.contains(" is not a port "), "{error}");
        }
    }

    #[test]
    fn empty_entries_are_refused() {
        assert_eq!(error(ports("80,,90")), r#"there is an empty entry in "80,,90""#);
        assert_eq!(error(addresses("10.0.0.0/8,")), r#"there is an empty entry in "10.0.0.0/8,""#);
        assert_eq!(error(protocols(" ")), r#"there is an empty entry in " ""#);
        assert_eq!(error(entries([" "], port)), "there is an empty entry");
    }

    /// Text that is canonical already, in each kind of list.
    #[test]
    fn text_and_back_is_the_same() {
        let ports_back = |list: &str| field_text(&ports(list).unwrap(), port_text).join(",");
        assert_eq!(ports_back("80,8000-8100,not 8080"), "80,8000-8100,not 8080");
        let back = |list: &str| field_text(&addresses(list).unwrap(), address_text).join(",");
        let list = "10.0.0.0/8,192.0.2.1,0.0.0.0/32,2001:db8::/32,::1,not 10.1.0.0/16";
        assert_eq!(back(list), list);
        assert_eq!(back("0.0.0.0,::"), "0.0.0.0,::");
        let back = |list: &str| field_text(&protocols(list).unwrap(), protocol_text).join(",");
        assert_eq!(back("tcp,icmp,icmpv6,gre,not sctp,200"), "tcp,icmp,icmpv6,gre,200,not sctp");
        let back = |list: &str| field_text(&tcp_flags(list).unwrap(), tcp_flags_text).join(",");
        assert_eq!(back("syn,syn+ack,not rst"), "syn,syn+ack,not rst");
        let back = |list: &str| field_text(&vlans(list).unwrap(), vlan_text).join(",");
        assert_eq!(back("none,0,100-200,not 150"), "none,0,100-200,not 150");
        let back = |list: &str| field_text(&icmp_types(list).unwrap(), icmp_type_text).join(",");
        assert_eq!(back("echo-request,8,not redirect"), "echo-request,8,not redirect");
        let back = |list: &str| field_text(&dscps(list).unwrap(), dscp_text).join(",");
        assert_eq!(back("ef,cs0,af11,63,not cs7"), "ef,cs0,af11,63,not cs7");
        let back = |list: &str| field_text(&lengths(list).unwrap(), length_text).join(",");
        assert_eq!(back("40,1000-65535"), "40,1000-65535");
    }
}
