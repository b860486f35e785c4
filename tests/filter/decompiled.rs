//! Masks read back as rules: nothing is lost on the way.

use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{
    CompiledRules, Field, MAX_RULES, Rule, Segments, compile, decompile, parse, render,
};

use testkit::oracle::random::Random;

/// Without the arrays of networks, which may say less of the same masks: where a trie is worth asking.
fn without_networks(set: &CompiledRules) -> CompiledRules {
    let none = Segments::new;
    CompiledRules {
        src_nets: none(),
        dst_nets: none(),
        src_nets6: none(),
        dst_nets6: none(),
        ..set.clone()
    }
}

#[test]
fn rules_that_were_read_back_compile_to_the_same_masks() {
    let mut random = Random(0x6465_636f_6d70);
    for round in 0..500 {
        let most = random.one_of(&[1, 4, MAX_RULES]);
        let rules = random.rules(most);
        let set = compile(&rules).unwrap();
        let back = decompile(&set);
        let again = compile(&back).unwrap();
        assert_eq!(without_networks(&again), without_networks(&set), "{round}: {rules:#?}");
        // there is one form
        assert_eq!(decompile(&again), back, "{round}");
        for (less, more) in [
            (&again.src_nets, &set.src_nets),
            (&again.dst_nets, &set.dst_nets),
            (&again.src_nets6, &set.src_nets6),
            (&again.dst_nets6, &set.dst_nets6),
        ] {
            assert!(is_within(less, more), "{round}: {less:?} in {more:?}");
        }
    }
}

fn is_within(less: &Segments, more: &Segments) -> bool {
    let mask = |value: u16| {
        more.iter().find(|(range, _)| range.contains(&value)).map_or(0, |(_, mask)| *mask)
    };
    less.iter().all(|(range, rules)| {
        // masks change where segments begin
        let begins = more.iter().flat_map(|(it, _)| [*it.start(), it.end().saturating_add(1)]);
        let mut begins = begins.filter(|value| range.contains(value)).chain([*range.start()]);
        begins.all(|value| rules & !mask(value) == 0)
    })
}

/// The form is that of the rules, not of how they were typed.
#[test]
fn rules_that_accept_the_same_have_the_same_form() {
    let mut random = Random(0x666f_726d);
    for _ in 0..500 {
        let rules = random.rules(4);
        let mut turned = rules.clone();
        for rule in &mut turned {
            macro_rules! turn {
                ($($field:ident),*) => {
                    $(rule.$field.only.reverse();
                    rule.$field.not.reverse();
                    rule.$field.not.extend_from_within(..);)*
                };
            }
            turn!(protocol, src_address, dst_address, src_port, dst_port);
            turn!(tcp_flags, vlan, icmp_type, dscp, length);
        }
        assert_eq!(
            decompile(&compile(&turned).unwrap()),
            decompile(&compile(&rules).unwrap()),
            "{rules:#?}"
        );
    }
}

/// Types of ICMP that are of one family alone have no such text.
#[test]
fn the_form_is_one_that_can_be_typed() {
    let mut random = Random(0x7479_7065);
    for _ in 0..500 {
        for rule in decompile(&compile(&random.rules(4)).unwrap()) {
            let mut typed = Rule { icmp_type: rule.icmp_type.clone(), ..Rule::default() };
            (typed.name, typed.action) = (rule.name.clone(), rule.action);
            for (key, list) in render::fields(&rule).into_iter().filter(|it| !it.1.is_empty()) {
                let list = list.join(",");
                match key {
                    "protocol" => typed.protocol = parse::protocols(&list).unwrap(),
                    "src" => typed.src_address = parse::addresses(&list).unwrap(),
                    "dst" => typed.dst_address = parse::addresses(&list).unwrap(),
                    "src_port" => typed.src_port = parse::ports(&list).unwrap(),
                    "dst_port" => typed.dst_port = parse::ports(&list).unwrap(),
                    "tcp_flags" => typed.tcp_flags = parse::tcp_flags(&list).unwrap(),
                    "vlan" => typed.vlan = parse::vlans(&list).unwrap(),
                    "dscp" => typed.dscp = parse::dscps(&list).unwrap(),
                    "length" => typed.length = parse::lengths(&list).unwrap(),
                    key => assert_eq!(key, "icmp_type"),
                }
            }
            assert_eq!(typed, rule);
        }
    }
}

/// Would take minutes if any step compared every prefix with every other.
#[test]
fn a_hundred_thousand_prefixes_come_back() {
    let host = |number: u32| IpNetwork::from(IpAddr::V4((number << 8).into()));
    let rule = Rule {
        name: "many".to_owned(),
        src_address: Field { only: (0..99_999).map(host).collect(), not: Vec::new() },
        ..Rule::default()
    };
    let set = compile(std::slice::from_ref(&rule)).unwrap();
    let start = Instant::now();
    assert_eq!(decompile(&set), [rule]);
    println!("read 99,999 prefixes back in {:?}", start.elapsed());
}
