//! Compiled rules against the plain meaning of rules, on random rules and packets.

use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::fields::icmp_type::ICMPV6;
use traffic_mirroring::filter::{
    CompiledRules, Entries, MAX_RULES, Masks, Prefix, Rule, Segments, Table, UNTAGGED, compile,
};
use traffic_mirroring::maps::Layout;

use testkit::oracle::evaluate::{self, Packet, Ports};
use testkit::oracle::frame;
use testkit::oracle::random::Random;

/// Evaluates compiled rules as the tc programs do. Returns the rules that match.
fn classify(set: &CompiledRules, packet: &Packet) -> u32 {
    let any = |table: Table| set.tables[table].any;
    let masks = |table: Table, value: u16| any(table) | at(&set.tables[table].values, value);
    let mut rules = set.live & masks(Table::Protocol, packet.protocol.into());
    rules &= match packet.ports {
        Ports::Known { src, dst } => masks(Table::SrcPort, src) & masks(Table::DstPort, dst),
        Ports::None => set.portless,
        Ports::Unknown => any(Table::SrcPort) & any(Table::DstPort),
    };
    let [src, dst] = match packet.src {
        IpAddr::V4(_) => [Table::SrcV4, Table::DstV4],
        IpAddr::V6(_) => [Table::SrcV6, Table::DstV6],
    };
    rules &= address(&set.tables[src], packet.src) & address(&set.tables[dst], packet.dst);
    if rules & !set.any_more == 0 {
        return rules;
    }
    let family = if packet.src.is_ipv4() { 0 } else { ICMPV6 };
    let of = |table: Table, value: Option<u16>| match value {
        Some(value) => masks(table, value),
        None => any(table),
    };
    rules
        & of(Table::TcpFlags, packet.tcp_flags.map(u16::from))
        & masks(Table::Vlan, packet.vlan.unwrap_or(UNTAGGED))
        & of(Table::IcmpType, packet.icmp_type.map(|kind| family + u16::from(kind)))
        & masks(Table::Dscp, packet.dscp.into())
        & masks(Table::Length, packet.length)
}

fn at(segments: &Segments, value: u16) -> u32 {
    segments.iter().find(|(range, _)| range.contains(&value)).map_or(0, |(_, mask)| *mask)
}

fn address(masks: &Masks, address: IpAddr) -> u32 {
    let index = match address {
        IpAddr::V4(address) => (u32::from(address) >> 16) as u16,
        IpAddr::V6(address) => address.segments()[0] ^ address.segments()[1],
    };
    let longest = masks
        .prefixes
        .iter()
        .map(|&(prefix, mask)| (network(prefix), mask))
        .filter(|(network, _)| network.contains(address))
        .max_by_key(|(network, _)| network.prefix());
    (masks.any | at(&masks.values, index)) & (masks.any | longest.map_or(0, |(_, mask)| mask))
}

fn network(prefix: Prefix) -> IpNetwork {
    IpNetwork::new(prefix.address(), prefix.len).unwrap()
}

#[test]
fn masks_agree_with_what_the_rules_mean() {
    let mut random = Random(0x6d69_7272_6f72);
    let mut verdicts = [0_u32; 2];
    let mut first = [0_u32; 4];
    for _ in 0..1000 {
        let rules = random.rules(MAX_RULES);
        let set = compile(&rules).unwrap();
        check_form(&set);
        for _ in 0..50 {
            let frame = if random.one_in(8) { random.mutated_frame() } else { random.frame() };
            let Some(packet) = frame::packet(&frame) else { continue };
            let masks = classify(&set, &packet);
            for (bit, rule) in rules.iter().enumerate() {
                let matches = evaluate::matches(rule, &packet);
                assert_eq!(masks >> bit & 1 == 1, matches, "{rule:#?}\n{packet:#?}");
                verdicts[usize::from(matches)] += 1;
            }
            let verdict = (masks != 0).then(|| masks.trailing_zeros() as usize);
            assert_eq!(verdict, evaluate::verdict(&rules, &packet));
            first[verdict.map_or(0, |number| 1 + number.min(2))] += 1;
        }
    }
    assert!(verdicts.iter().all(|&count| count > 10_000), "lopsided: {verdicts:?}");
    assert!(first.iter().all(|&count| count > 1000), "lopsided: {first:?}");
}

/// Checks what the maps require beyond the values' meaning.
fn check_form(set: &CompiledRules) {
    for (table, masks) in &set.tables {
        let Masks { any, values, prefixes } = masks;
        assert!(values.is_sorted_by(|a, b| a.0.end() < b.0.start()), "{table:?}: {values:?}");
        assert!(values.iter().all(|(range, mask)| *mask != 0 && !range.is_empty()));
        let entries = Layout::of(table).values.entries as usize;
        let last = values.last().map_or(0, |(range, _)| usize::from(*range.end()));
        assert!(last < entries, "{table:?}: {last} is beyond the {entries} entries");
        assert!(prefixes.is_sorted_by(|a, b| a.0 < b.0), "{table:?}: {prefixes:?}");
        for &(prefix, mask) in prefixes {
            assert_eq!(network(prefix).ip(), network(prefix).network(), "host bits");
            assert_eq!(mask & any, 0, "a rule with an open field has no entries in its table");
        }
    }
    assert_eq!(set.rules.len(), set.live.count_ones() as usize);
}

/// Takes minutes if any step compares every prefix with every other one.
#[test]
fn a_hundred_thousand_prefixes_are_no_trouble() {
    let mut random = Random(1);
    let mut prefix = |_| {
        let address: IpAddr = if random.one_in(2) {
            (random.below(1 << 32) as u32).to_be_bytes().into()
        } else {
            [(); 16].map(|()| random.byte()).into()
        };
        let longest = IpNetwork::from(address).prefix();
        let len = 16 + random.below(usize::from(longest) - 15) as u8;
        Prefix::from(IpNetwork::new(address, len).unwrap())
    };
    let (only, not) = ((0..100_000).map(&mut prefix).collect(), (0..100_000).map(&mut prefix));
    let rule = Rule { src_address: Entries { only, not: not.collect() }, ..Rule::default() };
    let start = Instant::now();
    let set = compile(&[rule]).unwrap();
    println!("compiled 200,000 prefixes in {:?}", start.elapsed());
    let prefixes =
        set.tables[Table::SrcV4].prefixes.len() + set.tables[Table::SrcV6].prefixes.len();
    // prefixes that exclude addresses which no other prefix covers are left out
    assert!(prefixes > 80_000, "{prefixes}");
    check_form(&set);
}
