//! From masks back to rules: what is in force is stored nowhere else.
//!
//! The rules have one form for all that accept the same values: of the entries that a field names and
//! those that it excludes, the shorter list; ranges joined. Prefixes are those of the longest matches,
//! as they were typed but for what had no effect.

use std::ops::RangeInclusive;

use super::compile::{CompiledRule, CompiledRules};
use super::ranges::{Ranges, Segments, difference};
use super::rule::{Field, Rule, UNTAGGED};

mod addresses;
mod icmp;
mod tcp_flags;

use addresses::{addresses, named};
use icmp::icmp_type;
use tcp_flags::tcp_flags;

/// Rules that compile to the same masks (but for the arrays of networks, which say no more than where
/// a trie is worth asking).
pub fn decompile(set: &CompiledRules) -> Vec<Rule> {
    let [src, dst] = [&set.src_prefixes, &set.dst_prefixes].map(|it| named(it));
    let [src6, dst6] = [&set.src_prefixes6, &set.dst_prefixes6].map(|it| named(it));
    let rule = |(index, entry): (usize, &CompiledRule)| {
        let bit = 1 << index;
        let is_in = |mask: u32| mask & bit != 0;
        let is_any_src = [is_in(set.any_src_v4), is_in(set.any_src_v6)];
        let is_any_dst = [is_in(set.any_dst_v4), is_in(set.any_dst_v6)];
        let protocol = |accepted| {
            let are_ports_open = is_in(set.any_src_port & set.any_dst_port);
            protocol(accepted, are_ports_open, is_in(set.portless))
        };
        Rule {
            name: entry.name.clone(),
            action: entry.action,
            protocol: field(set.any_protocol, &set.protocols, bit, protocol),
            src_address: addresses(is_any_src, [&src[index], &src6[index]]),
            dst_address: addresses(is_any_dst, [&dst[index], &dst6[index]]),
            src_port: field(set.any_src_port, &set.src_ports, bit, ports),
            dst_port: field(set.any_dst_port, &set.dst_ports, bit, ports),
            tcp_flags: field(set.any_tcp_flags, &set.tcp_flags, bit, tcp_flags),
            vlan: field(set.any_vlan, &set.vlans, bit, vlan),
            icmp_type: field(set.any_icmp_type, &set.icmp_types, bit, icmp_type),
            dscp: field(set.any_dscp, &set.dscps, bit, dscp),
            length: field(set.any_length, &set.lengths, bit, length),
        }
    };
    set.rules.iter().enumerate().map(rule).collect()
}

fn field<T>(any: u32, table: &Segments, bit: u32, of: impl FnOnce(Ranges) -> Field<T>) -> Field<T> {
    if any & bit != 0 { Field::default() } else { of(joined(table, bit)) }
}

/// The values of a table that a rule accepts.
fn joined(table: &Segments, bit: u32) -> Ranges {
    let mut ranges = Ranges::new();
    for (range, _) in table.iter().filter(|(_, mask)| mask & bit != 0) {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*range.start()) => {
                *last = *last.start()..=*range.end();
            }
            _ => ranges.push(range.clone()),
        }
    }
    ranges
}

/// What is accepted, and what is not.
fn both(only: Ranges, last: u16) -> (Ranges, Ranges) {
    let not = difference(vec![0..=last], only.clone());
    (only, not)
}

/// A field that is not open, as the shorter list. One that accepts nothing excludes what it names.
fn shorter<T: Clone>(only: Vec<T>, not: Vec<T>) -> Field<T> {
    match (only.len(), not.len()) {
        (0, 2..) => Field { only: vec![not[0].clone()], not: vec![not[0].clone()] },
        (0, _) => Field::not(not),
        (_, 0) => Field::only(only),
        (named, excluded) if named <= excluded => Field::only(only),
        _ => Field::not(not),
    }
}

fn singles(ranges: Ranges) -> Vec<u8> {
    // the tables of bytes end there
    ranges.into_iter().flatten().map(|value| value as u8).collect()
}

/// Whether packets without ports match where ports are named hangs on the form: see
/// [`Rule::accepts_portless`].
fn protocol(accepted: Ranges, are_ports_open: bool, accepts_portless: bool) -> Field<u8> {
    let (only, not) = both(accepted, u8::MAX.into());
    let (only, not) = (singles(only), singles(not));
    match (only.is_empty(), accepts_portless) {
        (false, true) if !are_ports_open => Field::only(only),
        (_, false) => Field::not(not),
        _ => shorter(only, not),
    }
}

/// Port 0 alone is no entry: its text means any.
fn ports(accepted: Ranges) -> Field<RangeInclusive<u16>> {
    let (only, not) = both(accepted, u16::MAX);
    if only.contains(&(0..=0)) {
        Field::not(not)
    } else if not.contains(&(0..=0)) {
        Field::only(only)
    } else {
        shorter(only, not)
    }
}

/// No tag is an entry of its own.
fn vlan(accepted: Ranges) -> Field<RangeInclusive<u16>> {
    let apart = |ranges: Ranges| -> Ranges {
        let apart = ranges.into_iter().flat_map(|range| match range.into_inner() {
            (start, UNTAGGED) if start < UNTAGGED => {
                vec![start..=UNTAGGED - 1, UNTAGGED..=UNTAGGED]
            }
            (start, end) => vec![start..=end],
        });
        apart.collect()
    };
    let (only, not) = both(accepted, UNTAGGED);
    shorter(apart(only), apart(not))
}

fn dscp(accepted: Ranges) -> Field<u8> {
    let (only, not) = both(accepted, 63);
    shorter(singles(only), singles(not))
}

fn length(accepted: Ranges) -> Field<RangeInclusive<u16>> {
    let (only, not) = both(accepted, u16::MAX);
    shorter(only, not)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{compile, file, render};

    /// The fields of the only rule, as text, of what this text of a rule compiles to.
    fn canonical(rule: &str) -> String {
        let rules = file::rules(format!(r#"{{"rules": [{rule}]}}"#).as_bytes()).unwrap();
        let rules = decompile(&compile(&rules).unwrap());
        assert_eq!(rules.len(), 1);
        let fields = render::fields(&rules[0]).into_iter().filter(|(_, list)| !list.is_empty());
        let fields: Vec<_> =
            fields.map(|(key, list)| format!("{key} {}", list.join(","))).collect();
        fields.join("; ")
    }

    fn check(cases: &[(&str, &str)]) {
        for (rule, expected) in cases {
            assert_eq!(canonical(&format!("{{{rule}}}")), *expected, "{rule}");
        }
    }

    #[test]
    fn an_open_rule_stays_open() {
        check(&[("", ""), (r#""src": ["any"], "dst_port": [0], "vlan": ["any"]"#, "")]);
    }

    #[test]
    fn the_shorter_list_is_the_form() {
        check(&[
            (r#""dst_port": [80, 443]"#, "dst_port 80,443"),
            (r#""dst_port": ["not 22"]"#, "dst_port not 22"),
            (r#""dst_port": ["10-20", "15-30", 31]"#, "dst_port 10-31"),
            (r#""dst_port": ["not 0-79"]"#, "dst_port 80-65535"),
            (r#""length": ["0-65535"]"#, "length 0-65535"),
            (r#""length": ["5", "not 5"]"#, "length not 0-65535"),
            (r#""dscp": ["ef", "not ef"]"#, "dscp cs0,not cs0"),
            (r#""dscp": ["not ef"]"#, "dscp not ef"),
        ]);
    }

    #[test]
    fn port_0_is_never_an_entry_of_its_own() {
        check(&[
            (r#""src_port": ["not 1-65535"]"#, "src_port not 1-65535"),
            (r#""src_port": ["1-65535"]"#, "src_port 1-65535"),
            (r#""src_port": ["0-9", "not 1-4"]"#, "src_port not 1-4,not 10-65535"),
            (r#""src_port": ["not 0-9", "not 20"]"#, "src_port 10-19,21-65535"),
            (r#""src_port": ["1-4", "10-65535"]"#, "src_port 1-4,10-65535"),
        ]);
    }

    #[test]
    fn named_protocols_stay_named_where_ports_are() {
        check(&[
            (r#""protocol": ["tcp"]"#, "protocol tcp"),
            (r#""protocol": ["not tcp"]"#, "protocol not tcp"),
            (r#""protocol": ["not tcp"], "dst_port": [80]"#, "protocol not tcp; dst_port 80"),
            (r#""protocol": ["tcp", "not tcp"]"#, "protocol hopopt,not hopopt"),
        ]);
        let most: Vec<_> = (1..=255).map(|number| number.to_string()).collect();
        let most = format!(r#""protocol": [{}]"#, most.join(","));
        check(&[(most.as_str(), "protocol not hopopt")]);
        let beside_ports = canonical(&format!(r#"{{{most}, "dst_port": [80]}}"#));
        assert!(beside_ports.starts_with("protocol icmp,igmp,"), "{beside_ports}");
    }

    #[test]
    fn no_tag_is_an_entry_of_its_own() {
        check(&[
            (r#""vlan": ["none"]"#, "vlan none"),
            (r#""vlan": ["not none"]"#, "vlan 0-4095"),
            (r#""vlan": ["100-4095", "none"]"#, "vlan not 0-99"),
            (r#""vlan": ["none", "7", "9"]"#, "vlan 7,9,none"),
        ]);
    }

    #[test]
    fn flags_are_the_least_sets() {
        check(&[
            (r#""tcp_flags": ["syn"]"#, "tcp_flags syn"),
            (r#""tcp_flags": ["syn", "syn+ack"]"#, "tcp_flags syn"),
            (r#""tcp_flags": ["syn", "not ack"]"#, "tcp_flags syn,not ack"),
            (r#""tcp_flags": ["not rst"]"#, "tcp_flags not rst"),
            (r#""tcp_flags": ["fin", "syn", "not fin+syn"]"#, "tcp_flags fin,syn,not fin+syn"),
            (r#""tcp_flags": ["syn+ack", "not ack"]"#, "tcp_flags fin,not fin"),
        ]);
    }

    #[test]
    fn types_of_icmp_have_names_where_both_families_do() {
        check(&[
            (r#""icmp_type": ["echo-request"]"#, "icmp_type echo-request"),
            (r#""icmp_type": [8]"#, "icmp_type 8"),
            (r#""icmp_type": [1, 2, 3]"#, "icmp_type 1,2,3"),
            (r#""icmp_type": ["echo-request", 8]"#, "icmp_type echo-request,8"),
            (
                r#""icmp_type": ["packet-too-big", "source-quench"]"#,
                "icmp_type packet-too-big,source-quench",
            ),
            (
                r#""icmp_type": ["time-exceeded", "destination-unreachable"]"#,
                "icmp_type destination-unreachable,time-exceeded",
            ),
            (r#""icmp_type": ["not redirect"]"#, "icmp_type not redirect"),
            (r#""icmp_type": ["echo-request", "not 128"]"#, "icmp_type 8 of icmp"),
            (r#""icmp_type": ["echo-request", "not 8"]"#, "icmp_type 128 of icmpv6"),
        ]);
    }

    #[test]
    fn families_of_addresses_are_told_apart() {
        check(&[
            (r#""src": ["0.0.0.0"]"#, "src 0.0.0.0"),
            (r#""src": ["::"]"#, "src ::"),
            (r#""src": ["0.0.0.0", "::"]"#, ""),
            (r#""src": ["not ::"]"#, "src 0.0.0.0"),
            (r#""src": ["not 10.0.0.0/8"]"#, "src not 10.0.0.0/8"),
            (r#""src": ["0.0.0.0", "not 10.0.0.0/8"]"#, "src 0.0.0.0,not 10.0.0.0/8"),
            (r#""src": ["::", "10.0.0.0/8"]"#, "src 10.0.0.0/8,::"),
            (r#""src": ["10.0.0.0/8", "not 10.0.0.0/8"]"#, "src 0.0.0.0,not 0.0.0.0"),
            (
                r#""dst": ["10.0.0.0/8", "10.2.0.0/16", "not 10.1.0.0/16", "not 11.0.0.1", "::1"]"#,
                "dst 10.0.0.0/8,::1,not 10.1.0.0/16",
            ),
        ]);
    }

    #[test]
    fn rules_keep_their_names_and_what_becomes_of_copies() {
        let text = br#"{"rules": [{"name": "a", "action": "exclude", "dst_port": [80]},
            {"sample": {"one_in": 7, "by": "flow"}, "snaplen": "headers", "dst_port": ["1-100"]}]}"#;
        let rules = file::rules(text).unwrap();
        assert_eq!(decompile(&compile(&rules).unwrap()), rules);
    }
}
