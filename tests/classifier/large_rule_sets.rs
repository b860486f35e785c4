//! Lists of 100,000 prefixes and of every port load and match correctly, also after an update.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{self, Entries, Prefix, Rule};
use traffic_mirroring::model::Direction;

use testkit::oracle::evaluate;
use testkit::oracle::frame;
use testkit::oracle::random::Random;
use testkit::test_run::harness::{Harness, TC_ACT_OK, nowhere};
use testkit::test_run::packets::udp;
use testkit::test_run::packets_ipv6::udp6;

/// Rules in each set. No port is in two of them, and in practice no prefix either.
const RULES: usize = 8;

/// Packets tried on each set.
const PACKETS: usize = 500;

fn prefix(random: &mut Random) -> Prefix {
    let (address, len) = if random.one_in(2) {
        let address = Ipv4Addr::from(random.below(1 << 32) as u32);
        (IpAddr::V4(address), 20 + random.below(13) as u8)
    } else {
        let (high, low) = (random.below(1 << 32) as u128, random.below(1 << 32) as u128);
        let address = Ipv6Addr::from(0x2001 << 112 | high << 80 | low << 48 | low);
        (IpAddr::V6(address), 40 + random.below(89) as u8)
    };
    IpNetwork::new(address, len).unwrap().into()
}

/// Rules with `prefixes` prefixes in total, half of them of sources. Each of the `ports` ports is a
/// range of its own, in one of the rules.
fn rules(random: &mut Random, prefixes: usize, ports: u32) -> Vec<Rule> {
    let ports = |rule: usize| -> Vec<RangeInclusive<u16>> {
        (0..ports).map(|port| port as u16).skip(rule).step_by(RULES).map(|p| p..=p).collect()
    };
    let rule = |rule| {
        let mut list = || (0..prefixes / RULES).map(|_| prefix(random)).collect::<Vec<_>>();
        let mut one = Rule { name: format!("rule {rule}"), ..Rule::default() };
        if rule % 2 == 0 {
            (one.src_address, one.src_port) = (Entries::only(list()), Entries::only(ports(rule)));
        } else {
            (one.dst_address, one.dst_port) = (Entries::only(list()), Entries::only(ports(rule)));
        }
        one
    };
    (0..RULES).map(rule).collect()
}

/// The first address of the prefix, or the one before it.
fn address_at(prefix: Prefix, is_in: bool) -> IpAddr {
    match (prefix.address(), is_in) {
        (address, true) => address,
        (IpAddr::V4(address), false) => Ipv4Addr::from(u32::from(address).wrapping_sub(1)).into(),
        (IpAddr::V6(address), false) => Ipv6Addr::from(u128::from(address).wrapping_sub(1)).into(),
    }
}

/// A packet that matches the rule or just misses it.
fn frame_for(random: &mut Random, rule: &Rule) -> Vec<u8> {
    let is_source = !rule.src_address.is_any();
    let (prefixes, ports) = if is_source {
        (&rule.src_address.only, &rule.src_port.only)
    } else {
        (&rule.dst_address.only, &rule.dst_port.only)
    };
    let prefix = prefixes[random.below(prefixes.len())];
    let port = *ports[random.below(ports.len())].start() ^ u16::from(random.one_in(4));
    let named = SocketAddr::new(address_at(prefix, !random.one_in(4)), port);
    let other: IpAddr =
        if named.is_ipv4() { [192, 0, 2, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
    let other = SocketAddr::new(other, 7);
    let (src, dst) = if is_source { (named, other) } else { (other, named) };
    let [src, dst] = [src, dst].map(|end| end.to_string());
    if named.is_ipv4() { udp(&src, &dst).frame() } else { udp6(&src, &dst).frame() }
}

/// Expects the program to match what the rules mean.
fn check(harness: &Harness, random: &mut Random, rules: &[Rule]) {
    let mut met = 0;
    for _ in 0..PACKETS {
        let rule = random.below(rules.len());
        let frame = frame_for(random, &rules[rule]);
        let packet = frame::packet(&frame).expect("a packet");
        let expected = evaluate::verdict(rules, &packet).is_some();
        let is_met = harness.matches(&frame);
        assert_eq!(is_met, expected, "{packet:?}");
        met += usize::from(is_met);
    }
    assert!((PACKETS / 4..PACKETS).contains(&met), "lopsided: {met} of {PACKETS}");
}

#[test]
fn needs_root_100000_prefixes_and_every_port_match_correctly() {
    let harness = Harness::new(Direction::Ingress, TC_ACT_OK);
    let mut random = Random(0x6d69_7272_6f72);
    for (prefixes, ports) in [(10_000, 8), (100_000, 65_536)] {
        let sets = [(); 2].map(|()| rules(&mut random, prefixes, ports));
        harness.install(&sets[1]);
        for rules in &sets {
            harness.install(rules);
            check(&harness, &mut random, rules);
        }
    }
}

/// The tries have room for 262,144 prefixes in both generations together.
#[test]
fn needs_root_an_update_without_room_changes_nothing() {
    const MANY: u32 = 140_000;
    let hosts = |first: u8| -> Vec<Prefix> {
        let host = |n: u32| Ipv4Addr::from(u32::from(first) << 24 | n << 4);
        (0..MANY).map(|n| IpNetwork::from(IpAddr::V4(host(n))).into()).collect()
    };
    let rule = |first| Rule { src_address: Entries::only(hosts(first)), ..Rule::default() };
    let from = |address: &str| udp(&format!("{address}:1"), "192.0.2.1:2").frame();
    let harness = Harness::new(Direction::Ingress, TC_ACT_OK);
    harness.install(&[rule(10)]);
    for _ in 0..2 {
        let too_many = filter::compile(&[rule(20)]).unwrap();
        let error = harness.maps.apply(&too_many, nowhere()).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot write prefixes (280000 with those still in force, and room for 262144): \
             No space left on device (os error 28)"
        );
        assert!(harness.matches(&from("10.0.0.16")) && !harness.matches(&from("20.0.0.16")));
    }
    let fits = "30.0.0.0/8".parse().unwrap();
    harness.install(&[Rule { src_address: Entries::only([fits]), ..Rule::default() }]);
    assert!(harness.matches(&from("30.0.0.16")) && !harness.matches(&from("10.0.0.16")));
}
