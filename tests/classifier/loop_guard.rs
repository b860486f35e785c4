//! The tunnels' own packets are never mirrored.

use std::net::IpAddr;

use traffic_mirroring::bpf::address::words_of;
use traffic_mirroring::bpf::{self, Mark};
use traffic_mirroring::maps::endpoints::{Endpoint, Endpoints};

use testkit::test_run::harness::{Context, Fate, Harness, rule, tunnel};
use testkit::test_run::packets::{Packet, icmp_error, ping, tcp, udp};
use testkit::test_run::packets_ipv6::{DESTINATION, Packet6, icmp6_error, tcp6, udp6};

const HOST: &str = "10.0.0.1:6080";
/// The tunnel's far end, and addresses next to it.
const COLLECTOR: &str = "203.0.113.9:6080";
const OTHER_PORT: &str = "203.0.113.9:6081";
const OTHER_HOST: &str = "203.0.113.8:6080";

/// `MIRRORING_MARK_0` and `MIRRORING_MARK_1` of `bpf/mirroring.h`.
pub const MARK: [u32; 2] = [Mark::MIRRORING_MARK_0.0, Mark::MIRRORING_MARK_1.0];

fn check(cases: &[(&str, Packet, Fate)]) {
    Harness::each(|harness| {
        harness.install(&[rule("")]);
        for (name, packet, expected) in cases {
            assert_eq!(harness.fate(&packet.frame()), *expected, "{name}");
        }
    });
}

#[test]
fn needs_root_packets_to_the_collector_are_guarded() {
    let copy = udp(HOST, COLLECTOR);
    check(&[
        ("a copy", copy.clone(), Fate::LoopGuard),
        ("a copy with IP options", copy.clone().with_options(3), Fate::LoopGuard),
        ("a copy's first fragment", copy.clone().fragment(0, true), Fate::LoopGuard),
        ("a copy's later fragment", copy.clone().fragment(185, false), Fate::LoopGuard),
        ("a later fragment to another host", udp(HOST, OTHER_HOST).fragment(9, true), Fate::Failed),
        ("another port of the collector", udp(HOST, OTHER_PORT), Fate::Failed),
        ("the same port elsewhere", udp(HOST, OTHER_HOST), Fate::Failed),
        ("from the collector's port", udp(COLLECTOR, HOST), Fate::Failed),
        ("TCP to that port", tcp(HOST, COLLECTOR), Fate::Failed),
        ("a ping to the collector", ping(HOST, COLLECTOR), Fate::Failed),
    ]);
}

#[test]
fn needs_root_icmp_errors_about_copies_are_guarded() {
    let copy = udp(HOST, COLLECTOR);
    let mut cut_short = icmp_error(3, 3, &copy);
    cut_short.payload.truncate(8 + 20 + 3);
    check(&[
        ("port unreachable", icmp_error(3, 3, &copy), Fate::LoopGuard),
        ("fragmentation needed", icmp_error(3, 4, &copy), Fate::LoopGuard),
        ("source quench", icmp_error(4, 0, &copy), Fate::LoopGuard),
        ("redirect", icmp_error(5, 1, &copy), Fate::LoopGuard),
        ("time exceeded", icmp_error(11, 0, &copy), Fate::LoopGuard),
        ("parameter problem", icmp_error(12, 0, &copy), Fate::LoopGuard),
        ("an error with IP options", icmp_error(3, 3, &copy).with_options(4), Fate::LoopGuard),
        (
            "an error about a copy with IP options",
            icmp_error(3, 3, &copy.clone().with_options(4)),
            Fate::LoopGuard,
        ),
        ("about another port", icmp_error(3, 3, &udp(HOST, OTHER_PORT)), Fate::Failed),
        ("about another host", icmp_error(3, 3, &udp(HOST, OTHER_HOST)), Fate::Failed),
        ("about TCP", icmp_error(3, 3, &tcp(HOST, COLLECTOR)), Fate::Failed),
        ("an echo that holds a copy's header", icmp_error(8, 0, &copy), Fate::Failed),
        ("cut within the quoted ports", cut_short, Fate::Failed),
        ("about nothing", ping(HOST, OTHER_HOST).of_length(28), Fate::Failed),
    ]);
}

#[test]
fn needs_root_all_packets_to_a_portless_collector_are_guarded() {
    const GRE: u8 = 47;
    let copy = Packet::new(GRE, HOST, COLLECTOR);
    let cases = [
        ("a copy", copy.clone(), Fate::LoopGuard),
        ("a copy's later fragment", copy.clone().fragment(9, true), Fate::LoopGuard),
        ("an error about one", icmp_error(3, 2, &copy), Fate::LoopGuard),
        ("another host", Packet::new(GRE, HOST, OTHER_HOST), Fate::Sent),
        ("another protocol", udp(HOST, COLLECTOR), Fate::Sent),
    ];
    testkit::test_run::harness::in_namespace(|| {
        Harness::each(|harness| {
            harness.install_to(&[rule("")], bpf::Tunnel { protocol: GRE, ..tunnel() });
            for (name, packet, expected) in &cases {
                assert_eq!(harness.fate(&packet.frame()), *expected, "{name}");
            }
        });
    });
}

#[test]
fn needs_root_marked_copies_are_guarded_wherever_they_go() {
    let frame = tcp("10.0.0.1:1000", "192.0.2.1:80").frame();
    let with_cb = |cb| Context { cb, ..Context::default() };
    Harness::each(|harness| {
        harness.install(&[rule("")]);
        let marked = with_cb([MARK[0], MARK[1], 0, 0, 0]);
        assert_eq!(harness.fate_with(&frame, marked), Fate::LoopGuard);
        for half in [[MARK[0], 0, 0, 0, 0], [0, MARK[1], 0, 0, 0], [0, MARK[0], MARK[1], 0, 0]] {
            assert_eq!(harness.fate_with(&frame, with_cb(half)), Fate::Failed, "{half:?}");
        }
    });
}

#[test]
fn needs_root_what_no_rule_matches_is_not_counted_as_guarded() {
    Harness::each(|harness| {
        harness.install(&[rule("protocol=tcp")]);
        assert_eq!(harness.fate(&udp(HOST, COLLECTOR).frame()), Fate::NoMatch);
    });
}

/// Other instances' tunnels: UDP to one host, GRE to another.
fn tunnels_of_others() -> [bpf::Tunnel; 2] {
    let to = |address: [u8; 4], protocol, port: u16| bpf::Tunnel {
        collector: words_of(IpAddr::from(address)),
        protocol,
        port: port.to_be(),
        ..tunnel()
    };
    [to([198, 51, 100, 7], 17, 4789), to([198, 51, 100, 8], 47, 0)]
}

#[test]
fn needs_root_packets_of_other_instances_tunnels_are_guarded() {
    let vxlan = udp(HOST, "198.51.100.7:4789");
    let gre = Packet::new(47, HOST, "198.51.100.8:0");
    let cases = [
        ("a copy of our own", udp(HOST, COLLECTOR), true),
        ("a copy of another", vxlan.clone(), true),
        ("its later fragment", vxlan.clone().fragment(9, false), true),
        ("an error about it", icmp_error(3, 3, &vxlan), true),
        ("a copy of a third", gre.clone(), true),
        ("an error about that", icmp_error(11, 0, &gre), true),
        ("another port", udp(HOST, "198.51.100.7:4790"), false),
        ("an error about another port", icmp_error(3, 3, &udp(HOST, "198.51.100.7:6080")), false),
        ("another protocol", tcp(HOST, "198.51.100.7:4789"), false),
        ("UDP to where GRE goes", udp(HOST, "198.51.100.8:4789"), false),
        ("a tunnel that nobody has", Packet::new(4, HOST, "198.51.100.8:0"), false),
    ];
    let others: Endpoints = tunnels_of_others().iter().map(Endpoint::of).collect();
    Harness::each(|harness| {
        harness.install(&[rule("")]);
        for (name, packet, _) in &cases[1..6] {
            assert_eq!(harness.fate(&packet.frame()), Fate::Failed, "{name}, not known yet");
        }
        harness.maps.endpoints.write(Endpoint::of(&tunnel()), &others).unwrap();
        for (name, packet, guarded) in &cases {
            let expected = if *guarded { Fate::LoopGuard } else { Fate::Failed };
            assert_eq!(harness.fate(&packet.frame()), expected, "{name}");
        }
    });
}

#[test]
fn needs_root_the_last_of_a_full_list_is_guarded_too() {
    let port = |n: u16| bpf::Tunnel { port: (7000 + n).to_be(), ..tunnel() };
    let others: Endpoints = (0..31).map(|n| Endpoint::of(&port(n))).collect();
    Harness::each(|harness| {
        harness.install(&[rule("")]);
        harness.maps.endpoints.write(Endpoint::of(&tunnel()), &others).unwrap();
        for n in 0..31 {
            let copy = udp(HOST, &format!("203.0.113.9:{}", 7000 + n));
            assert_eq!(harness.fate(&copy.frame()), Fate::LoopGuard, "{n}");
        }
        assert_eq!(harness.fate(&udp(HOST, "203.0.113.9:7031").frame()), Fate::Failed);
    });
}

#[test]
fn needs_root_others_are_guarded_with_the_own_tunnel_unknown() {
    let nowhere = bpf::Tunnel {
        collector: [0; 4],
        port: 0,
        protocol: 0,
        ..testkit::test_run::harness::nowhere()
    };
    let others: Endpoints = tunnels_of_others().iter().map(Endpoint::of).collect();
    Harness::each(|harness| {
        harness.install_to(&[rule("")], nowhere);
        harness.maps.endpoints.write(Endpoint::of(&nowhere), &others).unwrap();
        let fate = |packet: Packet| harness.fate(&packet.frame());
        assert_eq!(fate(udp(HOST, "198.51.100.7:4789")), Fate::LoopGuard);
        assert_eq!(fate(Packet::new(255, HOST, "0.0.0.0:0")), Fate::Failed);
        assert_eq!(fate(udp(HOST, COLLECTOR)), Fate::Failed);
    });
}

const HOST6: &str = "[2001:db8::1]:6080";
const COLLECTOR6: &str = "[2001:db8::9]:6080";

/// Checks which packets are guarded. The tunnel leads to [`COLLECTOR6`], and other instances'
/// tunnels to `others`.
fn check6(protocol: u8, others: &[bpf::Tunnel], cases: &[(&str, Vec<u8>, bool)]) {
    let port = if protocol == 17 { 6080_u16.to_be() } else { 0 };
    let collector = words_of("2001:db8::9".parse().unwrap());
    let to = bpf::Tunnel { collector, protocol, port, ..testkit::test_run::harness::nowhere() };
    let others: Endpoints = others.iter().map(Endpoint::of).collect();
    Harness::each(|harness| {
        harness.install_to(&[rule("")], to);
        harness.maps.endpoints.write(Endpoint::of(&to), &others).unwrap();
        for (name, frame, guarded) in cases {
            let expected = if *guarded { Fate::LoopGuard } else { Fate::Failed };
            assert_eq!(harness.fate(frame), expected, "{name}");
        }
    });
}

#[test]
fn needs_root_packets_to_an_ipv6_collector_are_guarded() {
    let copy = udp6(HOST6, COLLECTOR6);
    let other_port = udp6(HOST6, "[2001:db8::9]:6081");
    let error = |kind, packet: &Packet6| icmp6_error(kind, packet).frame();
    let mut cut_short = icmp6_error(1, &copy);
    cut_short = cut_short.of_length(40 + 8 + 40 + 3);
    check6(
        17,
        &tunnels_of_others(),
        &[
            ("a copy", copy.frame(), true),
            ("behind an extension header", copy.clone().behind(DESTINATION, 0).frame(), true),
            ("a first fragment", copy.clone().fragment(1, 0, true).frame(), true),
            ("a later fragment", copy.clone().fragment(1, 1448, false).frame(), true),
            ("another port", other_port.frame(), false),
            ("another port's fragment", other_port.clone().fragment(1, 0, true).frame(), false),
            ("another host", udp6(HOST6, "[2001:db8::8]:6080").frame(), false),
            ("TCP to that port", tcp6(HOST6, COLLECTOR6).frame(), false),
            ("from the collector", udp6(COLLECTOR6, HOST6).frame(), false),
            // only the last word equals that of the collector's address
            ("other upper bits", udp6(HOST6, "[2001:db8:1::9]:6080").frame(), false),
            ("GRE there", Packet6::new(47, HOST6, COLLECTOR6).frame(), false),
            ("what looks like another's", udp6(HOST6, "[::ffff:198.51.100.7]:80").frame(), false),
            ("a copy of another", udp(HOST, "198.51.100.7:4789").frame(), true),
            ("unreachable", error(1, &copy), true),
            ("too big", error(2, &copy), true),
            ("time exceeded", error(3, &copy), true),
            ("parameter problem", error(4, &copy), true),
            ("about a first fragment", error(1, &copy.clone().fragment(1, 0, true)), true),
            ("about a later fragment", error(2, &copy.clone().fragment(1, 1448, false)), true),
            ("an echo that holds a copy's header", error(128, &copy), false),
            ("about another port", error(1, &other_port), false),
            ("about another port's", error(1, &other_port.clone().fragment(1, 0, true)), false),
            ("about TCP", error(1, &tcp6(HOST6, COLLECTOR6)), false),
            ("cut within the quoted ports", cut_short.frame(), false),
        ],
    );
}

/// Packets of an ip6tnl or GRE device, of both IP versions. Over IPv6 there is an option that
/// limits nesting.
#[test]
fn needs_root_packets_of_devices_over_ipv6_are_guarded() {
    let within = |protocol| Packet6::new(protocol, HOST6, COLLECTOR6);
    check6(
        41,
        &[],
        &[
            ("IPv6", within(41).frame(), true),
            ("IPv4", within(4).frame(), true),
            ("with its option", within(41).behind(DESTINATION, 0).frame(), true),
            ("an error", icmp6_error(1, &within(4).behind(DESTINATION, 0)).frame(), true),
            ("GRE", within(47).frame(), false),
            ("UDP", udp6(HOST6, COLLECTOR6).frame(), false),
        ],
    );
    check6(
        47,
        &[],
        &[
            ("GRE", within(47).behind(DESTINATION, 0).frame(), true),
            ("an error", icmp6_error(3, &within(47).behind(DESTINATION, 0)).frame(), true),
            ("IPv4", within(4).frame(), false),
        ],
    );
}
