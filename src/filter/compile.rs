//! From rules to masks. Rule i is bit i; each field gets a table from value to the rules that
//! accept it, so that the AND of the look-ups is the set of rules that a packet matches.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::abi;

use super::networks::{Family, Networks, Prefix};
use super::ranges::{Ranges, Segments, difference, segments};
use super::rule::{Action, Field, IcmpType, Rule, TcpFlags, UNTAGGED};

/// The rules that one generation of the tc programs' masks has bits for.
pub const MAX_RULES: usize = abi::GENERATION_BITS as usize;

/// In the table of ICMP types, this is added to a type of ICMPv6.
pub const ICMPV6: u16 = abi::Size::MIRRORING_ICMPV6.0 as u16;

/// The masks that `bpf/mirroring.bpf.h` classifies by. A rule that leaves a field open stands in
/// the field's `any_` mask and in none of its tables. Values that no rule accepts have no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompiledRules {
    /// The rules there are.
    pub live: u32,
    pub any_protocol: u32,
    pub any_src_port: u32,
    pub any_dst_port: u32,
    /// The rules that accept every address of a family. One that accepts none stands nowhere.
    pub any_src_v4: u32,
    pub any_dst_v4: u32,
    pub any_src_v6: u32,
    pub any_dst_v6: u32,
    pub any_tcp_flags: u32,
    pub any_vlan: u32,
    pub any_icmp_type: u32,
    pub any_dscp: u32,
    pub any_length: u32,
    /// The rules that leave all of the last five open.
    pub any_more: u32,
    /// Of these, the rules that mirror every packet, whole.
    pub unconditional: u32,
    /// The rules that accept packets of protocols without ports.
    pub portless: u32,
    pub protocols: Segments,
    pub src_ports: Segments,
    pub dst_ports: Segments,
    /// Values of the whole byte of flags.
    pub tcp_flags: Segments,
    /// IDs, and [`UNTAGGED`].
    pub vlans: Segments,
    /// Types of ICMP; of ICMPv6, [`ICMPV6`] is added.
    pub icmp_types: Segments,
    pub dscps: Segments,
    pub lengths: Segments,
    /// The upper 16 bits of addresses, to the rules that accept some address that begins so.
    pub src_nets: Segments,
    pub dst_nets: Segments,
    /// The upper 16 bits of addresses XOR the next 16, to the rules that may accept some address
    /// where that is so.
    pub src_nets6: Segments,
    pub dst_nets6: Segments,
    /// Every prefix once, ascending. The longest one that covers an address has the whole answer,
    /// as a trie of longest matches needs it, be it a mask of no rules; where there is none, no
    /// rule accepts it.
    pub src_prefixes: Vec<(Ipv4Network, u32)>,
    pub dst_prefixes: Vec<(Ipv4Network, u32)>,
    pub src_prefixes6: Vec<(Ipv6Network, u32)>,
    pub dst_prefixes6: Vec<(Ipv6Network, u32)>,
    /// By bit.
    pub rules: Vec<CompiledRule>,
}

/// What a rule is called, and what becomes of the packets whose first match it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRule {
    pub name: String,
    pub action: Action,
}

/// Compiles up to [`MAX_RULES`] rules, in O(n log n) of the values that they name.
///
/// # Errors
/// There are more rules than bits.
pub fn compile(rules: &[Rule]) -> Result<CompiledRules> {
    ensure!(
        rules.len() <= MAX_RULES,
        "there are {} rules, and room for {MAX_RULES}; merge some of them",
        rules.len()
    );
    let networks =
        |field: fn(&Rule) -> &Field<_>, family| Networks::compile(rules.iter().map(field), family);
    let [src, src6] = [Family::V4, Family::V6].map(|family| networks(|r| &r.src_address, family));
    let [dst, dst6] = [Family::V4, Family::V6].map(|family| networks(|r| &r.dst_address, family));
    let mut set = CompiledRules {
        live: mask_of(rules, |_| true),
        any_protocol: mask_of(rules, |rule| rule.protocol.is_any()),
        any_src_port: mask_of(rules, |rule| rule.src_port.is_any()),
        any_dst_port: mask_of(rules, |rule| rule.dst_port.is_any()),
        any_src_v4: src.any,
        any_dst_v4: dst.any,
        any_src_v6: src6.any,
        any_dst_v6: dst6.any,
        any_tcp_flags: mask_of(rules, |rule| rule.tcp_flags.is_any()),
        any_vlan: mask_of(rules, |rule| rule.vlan.is_any()),
        any_icmp_type: mask_of(rules, |rule| rule.icmp_type.is_any()),
        any_dscp: mask_of(rules, |rule| rule.dscp.is_any()),
        any_length: mask_of(rules, |rule| rule.length.is_any()),
        any_more: 0,
        unconditional: 0,
        portless: mask_of(rules, Rule::accepts_portless),
        protocols: table(rules, |r| &r.protocol, |v| one(*v), u8::MAX.into()),
        src_ports: table(rules, |r| &r.src_port, |v| vec![v.clone()], u16::MAX),
        dst_ports: table(rules, |r| &r.dst_port, |v| vec![v.clone()], u16::MAX),
        tcp_flags: tcp_flags(rules),
        vlans: table(rules, |r| &r.vlan, |v| vec![v.clone()], UNTAGGED),
        icmp_types: table(rules, |r| &r.icmp_type, icmp_type, ICMPV6 + u16::from(u8::MAX)),
        dscps: table(rules, |r| &r.dscp, |v| one(*v), 63),
        lengths: table(rules, |r| &r.length, |v| vec![v.clone()], u16::MAX),
        src_nets: src.indices,
        dst_nets: dst.indices,
        src_nets6: src6.indices,
        dst_nets6: dst6.indices,
        src_prefixes: networks_of(src.prefixes, Prefix::v4)?,
        dst_prefixes: networks_of(dst.prefixes, Prefix::v4)?,
        src_prefixes6: networks_of(src6.prefixes, Prefix::v6)?,
        dst_prefixes6: networks_of(dst6.prefixes, Prefix::v6)?,
        rules: rules
            .iter()
            .map(|rule| CompiledRule { name: rule.name.clone(), action: rule.action })
            .collect(),
    };
    set.any_more =
        set.any_tcp_flags & set.any_vlan & set.any_icmp_type & set.any_dscp & set.any_length;
    let every_packet_whole = Action::Mirror { sample: None, snaplen: None };
    set.unconditional = set.any_more & mask_of(rules, |rule| rule.action == every_packet_whole);
    Ok(set)
}

/// The rules that `holds` is true of.
fn mask_of(rules: &[Rule], holds: impl Fn(&Rule) -> bool) -> u32 {
    rules.iter().enumerate().fold(0, |mask, (bit, rule)| mask | u32::from(holds(rule)) << bit)
}

/// The table of a field whose values go from 0 to `last`; `values` has those of one entry.
fn table<T: 'static>(
    rules: &[Rule],
    field: fn(&Rule) -> &Field<T>,
    values: impl Fn(&T) -> Ranges,
    last: u16,
) -> Segments {
    let accepted = |field: &Field<T>| -> Ranges {
        if field.is_any() {
            return Ranges::new();
        }
        let only = if field.only.is_empty() {
            vec![0..=last]
        } else {
            field.only.iter().flat_map(&values).collect()
        };
        difference(only, field.not.iter().flat_map(&values).collect())
    };
    let ranges = rules
        .iter()
        .enumerate()
        .flat_map(|(bit, rule)| accepted(field(rule)).into_iter().map(move |range| (range, bit)));
    segments(ranges)
}

fn one(value: u8) -> Ranges {
    vec![value.into()..=value.into()]
}

fn icmp_type(kind: &IcmpType) -> Ranges {
    let v4 = kind.v4.map(u16::from);
    let v6 = kind.v6.map(|kind| ICMPV6 + u16::from(kind));
    v4.into_iter().chain(v6).map(|index| index..=index).collect()
}

/// An entry accepts every value that has its bits, so values are tried one by one.
fn tcp_flags(rules: &[Rule]) -> Segments {
    let sets = |list: &[TcpFlags]| -> BTreeSet<u8> { list.iter().map(|set| set.0).collect() };
    let has_one = |value: u8, sets: &BTreeSet<u8>| sets.iter().any(|set| value & set == *set);
    let accepted = rules.iter().enumerate().flat_map(|(bit, rule)| {
        let field = &rule.tcp_flags;
        let (only, not) = (sets(&field.only), sets(&field.not));
        let is_named = !field.is_any();
        (0..=u8::MAX)
            .filter(move |value| {
                is_named && (only.is_empty() || has_one(*value, &only)) && !has_one(*value, &not)
            })
            .map(move |value| (u16::from(value)..=u16::from(value), bit))
    });
    segments(accepted)
}

fn networks_of<N>(
    prefixes: Vec<(Prefix, u32)>,
    network: fn(Prefix) -> Result<N>,
) -> Result<Vec<(N, u32)>> {
    prefixes.into_iter().map(|(prefix, mask)| Ok((network(prefix)?, mask))).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::rule::{Sample, SampleBy, Snaplen};
    use super::*;

    #[test]
    fn no_rules_are_no_masks() {
        assert_eq!(compile(&[]).unwrap(), CompiledRules::default());
    }

    #[test]
    fn an_open_rule_writes_no_tables() {
        let rule = Rule { name: "all".to_owned(), ..Rule::default() };
        assert_eq!(
            compile(&[rule]).unwrap(),
            CompiledRules {
                live: 1,
                any_protocol: 1,
                any_src_port: 1,
                any_dst_port: 1,
                any_src_v4: 1,
                any_dst_v4: 1,
                any_src_v6: 1,
                any_dst_v6: 1,
                any_tcp_flags: 1,
                any_vlan: 1,
                any_icmp_type: 1,
                any_dscp: 1,
                any_length: 1,
                any_more: 1,
                unconditional: 1,
                portless: 1,
                rules: vec![CompiledRule { name: "all".to_owned(), action: Action::default() }],
                ..CompiledRules::default()
            }
        );
    }

    #[test]
    fn a_generation_holds_32_rules_and_no_more() {
        assert_eq!(compile(&vec![Rule::default(); 32]).unwrap().live, u32::MAX);
        let error = compile(&vec![Rule::default(); 33]).unwrap_err().to_string();
        assert_eq!(error, "there are 33 rules, and room for 32; merge some of them");
    }

    #[test]
    fn ports_shut_out_portless_protocols_unless_they_are_named() {
        let port = Field::only([80..=80]);
        let rules = [
            Rule { dst_port: port.clone(), ..Rule::default() },
            Rule { src_port: Field::not([80..=80]), ..Rule::default() },
            Rule { dst_port: port.clone(), protocol: Field::only([1, 6]), ..Rule::default() },
            Rule { dst_port: port, protocol: Field::not([6]), ..Rule::default() },
            Rule { protocol: Field::only([1]), ..Rule::default() },
            Rule::default(),
        ];
        assert_eq!(compile(&rules).unwrap().portless, 0b110100);
    }

    #[test]
    fn a_rule_with_one_further_field_is_not_among_those_with_none() {
        let rules = [
            Rule { tcp_flags: Field::only([TcpFlags(2)]), ..Rule::default() },
            Rule { vlan: Field::not([UNTAGGED..=UNTAGGED]), ..Rule::default() },
            Rule { icmp_type: Field::only([IcmpType { v4: None, v6: None }]), ..Rule::default() },
            Rule { dscp: Field::only([0]), ..Rule::default() },
            Rule { length: Field::only([0..=65535]), ..Rule::default() },
            Rule { protocol: Field::only([6]), ..Rule::default() },
        ];
        assert_eq!(compile(&rules).unwrap().any_more, 0b100000);
    }

    #[test]
    fn a_rule_that_excludes_something_is_not_unconditional() {
        let mirror = |sample, snaplen| Rule {
            action: Action::Mirror { sample, snaplen },
            ..Rule::default()
        };
        let one_in_two = Sample { one_in: NonZeroU32::new(2).unwrap(), by: SampleBy::Packet };
        let rules = [
            Rule { action: Action::Exclude, ..Rule::default() },
            mirror(Some(one_in_two), None),
            mirror(None, Some(Snaplen::Headers)),
            Rule { dscp: Field::only([0]), ..Rule::default() },
            Rule { dst_port: Field::only([80..=80]), ..Rule::default() },
        ];
        assert_eq!(compile(&rules).unwrap().unconditional, 0b10000);
    }

    #[test]
    fn tables_end_where_their_values_do() {
        let rule = Rule {
            protocol: Field::not([255]),
            dst_port: Field::not([65535..=65535]),
            vlan: Field::not([0..=0]),
            icmp_type: Field::not([IcmpType { v4: Some(0), v6: Some(255) }]),
            dscp: Field::not([0]),
            tcp_flags: Field::not([TcpFlags(0x80)]),
            ..Rule::default()
        };
        let set = compile(&[rule]).unwrap();
        assert_eq!(set.protocols, [(0..=254, 1)]);
        assert_eq!(set.dst_ports, [(0..=65534, 1)]);
        assert_eq!(set.vlans, [(1..=4096, 1)]);
        assert_eq!(set.icmp_types, [(1..=510, 1)]);
        assert_eq!(set.dscps, [(1..=63, 1)]);
        assert_eq!(set.tcp_flags, [(0..=127, 1)]);
    }
}
