//! From rules to masks. Rule i is bit i; each field has a table (an address field, two) from value to the rules that
//! accept it, so that the AND of the look-ups is the set of rules that a packet matches.

use anyhow::{Result, ensure};

use super::fields::Field;
use super::rule::{Action, Rule};
use super::tables::{Table, Tables};
use crate::abi;

/// The rules that one generation of the tc programs' masks has bits for.
pub const MAX_RULES: usize = abi::GENERATION_BITS as usize;

/// The masks that `bpf/mirroring.bpf.h` classifies by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompiledRules {
    /// The rules there are.
    pub live: u32,
    /// The rules that leave all rare fields open ([`Table::is_rare`]).
    pub any_more: u32,
    /// Of these, the rules that mirror every packet, whole.
    pub unconditional: u32,
    /// The rules that accept packets of protocols without ports.
    pub portless: u32,
    /// Which rules accept which values, one table for each field or, for addresses, two.
    pub tables: Tables,
    /// By bit.
    pub rules: Vec<CompiledRule>,
}

/// What a rule is called, and what becomes of the packets whose first match it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRule {
    /// The name as in [`Rule::name`]. A map holds its first 64 bytes.
    pub name: String,
    /// What becomes of those packets. From a map, the rate of a sample may come back rounded.
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
    let mut tables = Tables::default();
    for field in Field::all() {
        field.spec().compile(rules, &mut tables);
    }
    let live = mask_of(rules, |_| true);
    let rare = Table::all().filter(|table| table.is_rare());
    let any_more = rare.fold(live, |mask, table| mask & tables[table].any);
    let every_packet_whole = Action::Mirror { sample: None, snaplen: None };
    Ok(CompiledRules {
        live,
        any_more,
        unconditional: any_more & mask_of(rules, |rule| rule.action == every_packet_whole),
        portless: mask_of(rules, Rule::accepts_portless),
        tables,
        rules: rules
            .iter()
            .map(|rule| CompiledRule { name: rule.name.clone(), action: rule.action })
            .collect(),
    })
}

/// The rules that `holds` is true of.
fn mask_of(rules: &[Rule], holds: impl Fn(&Rule) -> bool) -> u32 {
    rules.iter().enumerate().fold(0, |mask, (bit, rule)| mask | u32::from(holds(rule)) << bit)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::entries::Entries;
    use super::super::rule::{IcmpType, Sample, SampleBy, Snaplen, TcpFlags, UNTAGGED};
    use super::super::tables::Masks;
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
                any_more: 1,
                unconditional: 1,
                portless: 1,
                tables: Tables::from_fn(|_| Masks { any: 1, ..Masks::default() }),
                rules: vec![CompiledRule { name: "all".to_owned(), action: Action::default() }],
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
        let port = Entries::only([80..=80]);
        let rules = [
            Rule { dst_port: port.clone(), ..Rule::default() },
            Rule { src_port: Entries::not([80..=80]), ..Rule::default() },
            Rule { dst_port: port.clone(), protocol: Entries::only([1, 6]), ..Rule::default() },
            Rule { dst_port: port, protocol: Entries::not([6]), ..Rule::default() },
            Rule { protocol: Entries::only([1]), ..Rule::default() },
            Rule::default(),
        ];
        assert_eq!(compile(&rules).unwrap().portless, 0b110100);
    }

    #[test]
    fn a_rule_with_one_further_field_is_not_among_those_with_none() {
        let rules = [
            Rule { tcp_flags: Entries::only([TcpFlags(2)]), ..Rule::default() },
            Rule { vlan: Entries::not([UNTAGGED..=UNTAGGED]), ..Rule::default() },
            Rule { icmp_type: Entries::only([IcmpType { v4: None, v6: None }]), ..Rule::default() },
            Rule { dscp: Entries::only([0]), ..Rule::default() },
            Rule { length: Entries::only([0..=65535]), ..Rule::default() },
            Rule { protocol: Entries::only([6]), ..Rule::default() },
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
            Rule { dscp: Entries::only([0]), ..Rule::default() },
            Rule { dst_port: Entries::only([80..=80]), ..Rule::default() },
        ];
        assert_eq!(compile(&rules).unwrap().unconditional, 0b10000);
    }

    #[test]
    fn tables_end_where_their_values_do() {
        let rule = Rule {
            protocol: Entries::not([255]),
            dst_port: Entries::not([65535..=65535]),
            vlan: Entries::not([0..=0]),
            icmp_type: Entries::not([IcmpType { v4: Some(0), v6: Some(255) }]),
            dscp: Entries::not([0]),
            tcp_flags: Entries::not([TcpFlags(0x80)]),
            ..Rule::default()
        };
        let set = compile(&[rule]).unwrap();
        assert_eq!(set.tables[Table::Protocol].values, [(0..=254, 1)]);
        assert_eq!(set.tables[Table::DstPort].values, [(0..=65534, 1)]);
        assert_eq!(set.tables[Table::Vlan].values, [(1..=4096, 1)]);
        assert_eq!(set.tables[Table::IcmpType].values, [(1..=510, 1)]);
        assert_eq!(set.tables[Table::Dscp].values, [(1..=63, 1)]);
        assert_eq!(set.tables[Table::TcpFlags].values, [(0..=127, 1)]);
    }
}
