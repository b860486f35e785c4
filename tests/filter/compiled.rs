//! Compiled rules against the plain meaning of rules, on random rules and packets.

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{
    CompiledRules, Field, ICMPV6, MAX_RULES, Rule, Segments, UNTAGGED, compile,
};

use testkit::oracle::evaluate::{self, Packet, Ports};
use testkit::oracle::frame;
use testkit::oracle::random::Random;

/// What the tc programs are to do with compiled rules: the rules that match.
fn classify(set: &CompiledRules, packet: &Packet) -> u32 {
    let mut rules = set.live & (set.any_protocol | at(&set.protocols, packet.protocol.into()));
    rules &= match packet.ports {
        Ports::Known { src, dst } => {
            (set.any_src_port | at(&set.src_ports, src))
                & (set.any_dst_port | at(&set.dst_ports, dst))
        }
        Ports::None => set.portless,
        Ports::Unknown => set.any_src_port & set.any_dst_port,
    };
    rules &= match (packet.src, packet.dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            address(set.any_src_v4, &set.src_nets, &set.src_prefixes, packet.src)
                & address(set.any_dst_v4, &set.dst_nets, &set.dst_prefixes, packet.dst)
        }
        _ => {
            address(set.any_src_v6, &set.src_nets6, &set.src_prefixes6, packet.src)
                & address(set.any_dst_v6, &set.dst_nets6, &set.dst_prefixes6, packet.dst)
        }
    };
    if rules & !set.any_more == 0 {
        return rules;
    }
    let family = if packet.src.is_ipv4() { 0 } else { ICMPV6 };
    let icmp_type =
        packet.icmp_type.map_or(0, |kind| at(&set.icmp_types, family + u16::from(kind)));
    let tcp_flags = packet.tcp_flags.map_or(0, |flags| at(&set.tcp_flags, flags.into()));
    rules
        & (set.any_tcp_flags | tcp_flags)
        & (set.any_vlan | at(&set.vlans, packet.vlan.unwrap_or(UNTAGGED)))
        & (set.any_icmp_type | icmp_type)
        & (set.any_dscp | at(&set.dscps, packet.dscp.into()))
        & (set.any_length | at(&set.lengths, packet.length))
}

fn at(segments: &Segments, value: u16) -> u32 {
    segments.iter().find(|(range, _)| range.contains(&value)).map_or(0, |(_, mask)| *mask)
}

fn address<N: Copy + Into<IpNetwork>>(
    any: u32,
    nets: &Segments,
    prefixes: &[(N, u32)],
    address: IpAddr,
) -> u32 {
    let index = match address {
        IpAddr::V4(address) => (u32::from(address) >> 16) as u16,
        IpAddr::V6(address) => address.segments()[0] ^ address.segments()[1],
    };
    let longest = prefixes
        .iter()
        .map(|&(prefix, mask)| (prefix.into(), mask))
        .filter(|(prefix, _)| prefix.contains(address))
        .max_by_key(|(prefix, _)| prefix.prefix());
    (any | at(nets, index)) & (any | longest.map_or(0, |(_, mask)| mask))
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

/// What the maps ask for, beyond what the values mean.
fn check_form(set: &CompiledRules) {
    for segments in [
        &set.protocols,
        &set.src_ports,
        &set.dst_ports,
        &set.tcp_flags,
        &set.vlans,
        &set.icmp_types,
        &set.dscps,
        &set.lengths,
        &set.src_nets,
        &set.dst_nets,
        &set.src_nets6,
        &set.dst_nets6,
    ] {
        assert!(segments.is_sorted_by(|a, b| a.0.end() < b.0.start()), "{segments:?}");
        assert!(segments.iter().all(|(range, mask)| *mask != 0 && !range.is_empty()));
    }
    for (segments, last) in
        [(&set.protocols, 255), (&set.tcp_flags, 255), (&set.vlans, 4096), (&set.icmp_types, 511)]
    {
        assert!(segments.last().is_none_or(|(range, _)| *range.end() <= last), "{segments:?}");
    }
    check_prefixes(&set.src_prefixes, set.any_src_v4);
    check_prefixes(&set.dst_prefixes, set.any_dst_v4);
    check_prefixes(&set.src_prefixes6, set.any_src_v6);
    check_prefixes(&set.dst_prefixes6, set.any_dst_v6);
    assert_eq!(set.rules.len(), set.live.count_ones() as usize);
}

fn check_prefixes<N: Ord + Copy + Debug + Into<IpNetwork>>(prefixes: &[(N, u32)], any: u32) {
    assert!(prefixes.is_sorted_by(|a, b| a.0 < b.0), "{prefixes:?}");
    for &(prefix, mask) in prefixes {
        let network: IpNetwork = prefix.into();
        assert_eq!(network.ip(), network.network(), "host bits");
        assert_eq!(mask & any, 0, "open rules stand in no table");
    }
}

/// Would take minutes if any step compared every prefix with every other.
#[test]
fn a_hundred_thousand_prefixes_are_no_trouble() {
    let mut random = Random(1);
    let mut network = |_| {
        let address: IpAddr = if random.one_in(2) {
            (random.below(1 << 32) as u32).to_be_bytes().into()
        } else {
            [(); 16].map(|()| random.byte()).into()
        };
        let longest = IpNetwork::from(address).prefix();
        let len = 16 + random.below(usize::from(longest) - 15) as u8;
        IpNetwork::new(IpNetwork::new(address, len).unwrap().network(), len).unwrap()
    };
    let (only, not) = ((0..100_000).map(&mut network).collect(), (0..100_000).map(&mut network));
    let rule = Rule { src_address: Field { only, not: not.collect() }, ..Rule::default() };
    let start = Instant::now();
    let set = compile(&[rule]).unwrap();
    println!("compiled 200,000 prefixes in {:?}", start.elapsed());
    let prefixes = set.src_prefixes.len() + set.src_prefixes6.len();
    // those that exclude what no other covers are left out
    assert!(prefixes > 80_000, "{prefixes}");
    check_form(&set);
}
