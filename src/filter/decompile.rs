//! From masks back to rules: what is in force is stored nowhere else.
//!
//! The rules have one form for all that accept the same values: of the entries that a field names and
//! those that it excludes, the shorter list; ranges joined. Prefixes are those of the longest matches,
//! as they were typed but for what had no effect.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::compile::{ICMPV6, RuleSet};
use super::networks::{Family, Prefix};
use super::parse;
use super::ranges::{Ranges, Segments, difference};
use super::rule::{Field, IcmpType, Rule, TcpFlags, UNTAGGED};

/// Rules that compile to the same masks (but for the arrays of networks, which say no more than where
/// a trie is worth asking).
pub fn decompile(set: &RuleSet) -> Vec<Rule> {
    let [src4, dst4] = [&set.src_prefixes, &set.dst_prefixes].map(|it| named(it, Family::V4));
    let [src6, dst6] = [&set.src_prefixes6, &set.dst_prefixes6].map(|it| named(it, Family::V6));
    let rule = |(index, entry): (usize, &super::RuleEntry)| {
        let bit = 1 << index;
        let is_in = |mask: u32| mask & bit != 0;
        let values = |table| joined(table, bit);
        let ports = |any, table| if is_in(any) { Field::default() } else { ports(values(table)) };
        Rule {
            name: entry.name.clone(),
            action: entry.action,
            protocol: if is_in(set.any_protocol) {
                Field::default()
            } else {
                let are_ports_open = is_in(set.any_src_port & set.any_dst_port);
                protocol(values(&set.protocols), are_ports_open, is_in(set.portless))
            },
            src_address: addresses(
                [is_in(set.any_src_v4), is_in(set.any_src_v6)],
                [&src4[index], &src6[index]],
            ),
            dst_address: addresses(
                [is_in(set.any_dst_v4), is_in(set.any_dst_v6)],
                [&dst4[index], &dst6[index]],
            ),
            src_port: ports(set.any_src_port, &set.src_ports),
            dst_port: ports(set.any_dst_port, &set.dst_ports),
            tcp_flags: if is_in(set.any_tcp_flags) {
                Field::default()
            } else {
                tcp_flags(&values(&set.tcp_flags))
            },
            vlan: if is_in(set.any_vlan) { Field::default() } else { vlan(values(&set.vlans)) },
            icmp_type: if is_in(set.any_icmp_type) {
                Field::default()
            } else {
                icmp_type(values(&set.icmp_types))
            },
            dscp: if is_in(set.any_dscp) {
                Field::default()
            } else {
                let (only, not) = both(values(&set.dscps), 63);
                shorter(singles(only), singles(not))
            },
            length: if is_in(set.any_length) {
                Field::default()
            } else {
                let (only, not) = both(values(&set.lengths), u16::MAX);
                shorter(only, not)
            },
        }
    };
    set.rules.iter().enumerate().map(rule).collect()
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
fn ports(accepted: Ranges) -> Field<std::ops::RangeInclusive<u16>> {
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
fn vlan(accepted: Ranges) -> Field<std::ops::RangeInclusive<u16>> {
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

/// The least sets of flags: what has all of one of them was named, but for what has all of an excluded
/// one.
fn tcp_flags(accepted: &Ranges) -> Field<TcpFlags> {
    const FIN: TcpFlags = TcpFlags(1);
    let is_accepted = |value: u8| accepted.iter().any(|range| range.contains(&value.into()));
    let mut sets: Vec<u8> = (0..=u8::MAX).collect();
    sets.sort_by_key(|set| (set.count_ones(), *set));
    let has_one = |value: u8, found: &[u8]| found.iter().any(|set| value & set == *set);

    let mut only = Vec::new();
    for &set in sets.iter().filter(|set| is_accepted(**set)) {
        if !has_one(set, &only) {
            only.push(set);
        }
    }
    if only.is_empty() {
        return Field { only: vec![FIN], not: vec![FIN] };
    }
    let mut not = Vec::new();
    for &value in sets.iter().filter(|value| !is_accepted(**value) && has_one(**value, &only)) {
        let excludes_accepted =
            |set: u8| (0..=u8::MAX).any(|value| value & set == set && is_accepted(value));
        let is_of_value = |set: &&u8| value & **set == **set;
        if !has_one(value, &not) {
            // at the latest, the value itself
            not.extend(sets.iter().filter(is_of_value).find(|set| !excludes_accepted(**set)));
        }
    }
    if !not.is_empty() && only == [0] {
        only.clear();
    }
    let flags = |sets: Vec<u8>| sets.into_iter().map(TcpFlags).collect();
    Field { only: flags(only), not: flags(not) }
}

fn icmp_type(accepted: Ranges) -> Field<IcmpType> {
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

/// What one rule names and excludes of a family.
#[derive(Debug, Clone, Default)]
struct Named {
    only: Vec<IpNetwork>,
    not: Vec<IpNetwork>,
}

/// For each rule: where an answer has a rule that the one for what covers it has not, it was named;
/// where it has lost one, it was excluded.
fn named<N: Copy + Into<IpNetwork>>(prefixes: &[(N, u32)], family: Family) -> Vec<Named> {
    let mut rules = vec![Named::default(); u32::BITS as usize];
    let mut covering: Vec<(Prefix, u32)> = Vec::new();
    for &(network, mask) in prefixes {
        let network: IpNetwork = network.into();
        let Some(prefix) = Prefix::of(&network, family) else { continue };
        while covering.pop_if(|(outer, _)| !outer.covers(prefix)).is_some() {}
        let before = covering.last().map_or(0, |&(_, mask)| mask);
        covering.push((prefix, mask));
        for (index, rule) in rules.iter_mut().enumerate() {
            match (before >> index & 1, mask >> index & 1) {
                (0, 1) => rule.only.push(network),
                (1, 0) => rule.not.push(network),
                _ => {}
            }
        }
    }
    rules
}

/// `is_any` and `named` are of IPv4, then of IPv6.
fn addresses(is_any: [bool; 2], named: [&Named; 2]) -> Field<IpNetwork> {
    let all: [IpNetwork; 2] = [
        Ipv4Network::new(0.into(), 0).expect("a length").into(),
        Ipv6Network::new(0.into(), 0).expect("a length").into(),
    ];
    let is_all = [0, 1].map(|family| is_any[family] || named[family].only.contains(&all[family]));
    let mut field = Field::default();
    // where nothing is named, both families are
    if is_all != [true, true] {
        for family in [0, 1] {
            match is_all[family] {
                true => field.only.push(all[family]),
                false => field.only.extend(&named[family].only),
            }
        }
        if field.only.is_empty() {
            return Field { only: vec![all[0]], not: vec![all[0]] };
        }
    }
    field.not.extend(named.iter().flat_map(|named| &named.not));
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{compile, file, show};

    /// The fields of the only rule, as text, of what this text of a rule compiles to.
    fn canonical(rule: &str) -> String {
        let rules = file::rules(format!(r#"{{"rules": [{rule}]}}"#).as_bytes()).unwrap();
        let rules = decompile(&compile(&rules).unwrap());
        assert_eq!(rules.len(), 1);
        let fields = show::fields(&rules[0]).into_iter().filter(|(_, list)| !list.is_empty());
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
