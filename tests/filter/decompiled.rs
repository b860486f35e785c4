//! Compiled masks are read back as rules without loss.

use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{
    CompiledRules, Entries, Field, MAX_RULES, Prefix, Rule, Segments, Table, compile, decompile,
};

use testkit::oracle::random::Random;

const ADDRESSES: [Table; 4] = [Table::SrcV4, Table::DstV4, Table::SrcV6, Table::DstV6];

/// The set without its address indices. They say where a trie lookup is needed, and equal masks may
/// come with a narrower index.
fn without_indices(set: &CompiledRules) -> CompiledRules {
    let mut set = set.clone();
    for table in ADDRESSES {
        set.tables[table].values.clear();
    }
    set
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
        assert_eq!(without_indices(&again), without_indices(&set), "{round}: {rules:#?}");
        // the result is canonical
        assert_eq!(decompile(&again), back, "{round}");
        for table in ADDRESSES {
            let [less, more] = [&again, &set].map(|set| &set.tables[table].values);
            assert!(is_within(less, more), "{round}: {less:?} in {more:?}");
        }
    }
}

fn is_within(less: &Segments, more: &Segments) -> bool {
    let mask = |value: u16| {
        more.iter().find(|(range, _)| range.contains(&value)).map_or(0, |(_, mask)| *mask)
    };
    less.iter().all(|(range, rules)| {
        // masks change only where a segment begins
        let begins = more.iter().flat_map(|(it, _)| [*it.start(), it.end().saturating_add(1)]);
        let mut begins = begins.filter(|value| range.contains(value)).chain([*range.start()]);
        begins.all(|value| rules & !mask(value) == 0)
    })
}

/// The result depends on what the rules accept, not on how they were written.
#[test]
fn rules_that_accept_the_same_have_the_same_form() {
    let mut random = Random(0x666f_726d);
    for _ in 0..500 {
        let rules = random.rules(4);
        let mut turned = rules.clone();
        for rule in &mut turned {
            let Rule {
                name: _,
                action: _,
                protocol,
                src_address,
                dst_address,
                src_port,
                dst_port,
                tcp_flags,
                vlan,
                icmp_type,
                dscp,
                length,
            } = rule;
            turn(protocol);
            turn(src_address);
            turn(dst_address);
            turn(src_port);
            turn(dst_port);
            turn(tcp_flags);
            turn(vlan);
            turn(icmp_type);
            turn(dscp);
            turn(length);
        }
        assert_eq!(
            decompile(&compile(&turned).unwrap()),
            decompile(&compile(&rules).unwrap()),
            "{rules:#?}"
        );
    }
}

/// Makes another list that accepts the same.
fn turn<T: Clone>(entries: &mut Entries<T>) {
    entries.only.reverse();
    entries.not.reverse();
    entries.not.extend_from_within(..);
}

/// ICMP types of one IP version alone have no such text, so that field is left out.
#[test]
fn the_form_is_one_that_can_be_typed() {
    let mut random = Random(0x7479_7065);
    for _ in 0..500 {
        for rule in decompile(&compile(&random.rules(4)).unwrap()) {
            let mut typed = Rule { icmp_type: rule.icmp_type.clone(), ..Rule::default() };
            (typed.name, typed.action) = (rule.name.clone(), rule.action);
            for field in Field::all().filter(|field| *field != Field::IcmpType) {
                field.spec().parse(&mut typed, &list(&field.spec().texts(&rule))).unwrap();
            }
            assert_eq!(typed, rule);
        }
    }
}

fn list(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Takes minutes if any step compares every prefix with every other one.
#[test]
fn a_hundred_thousand_prefixes_come_back() {
    let host = |number: u32| Prefix::from(IpNetwork::from(IpAddr::V4((number << 8).into())));
    let rule = Rule {
        name: "many".to_owned(),
        src_address: Entries { only: (0..99_999).map(host).collect(), not: Vec::new() },
        ..Rule::default()
    };
    let set = compile(std::slice::from_ref(&rule)).unwrap();
    let start = Instant::now();
    assert_eq!(decompile(&set), [rule]);
    println!("read 99,999 prefixes back in {:?}", start.elapsed());
}
