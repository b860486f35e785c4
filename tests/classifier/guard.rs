//! The tunnel's own packets are never mirrored.

use traffic_mirroring::bpf;

use crate::harness::{Context, Fate, Harness, rule, tunnel};
use crate::packets::{Packet, icmp_error, ping, tcp, udp};

const HOST: &str = "10.0.0.1:6080";
/// The tunnel's other end, and its neighbours.
const COLLECTOR: &str = "203.0.113.9:6080";
const OTHER_PORT: &str = "203.0.113.9:6081";
const OTHER_HOST: &str = "203.0.113.8:6080";

/// `MIRRORING_MARK_0` and `MIRRORING_MARK_1` of `bpf/mirroring.h`.
pub const MARK: [u32; 2] = [0x4d69_7272, 0x6f72_e8a7];

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
        ("a copy", copy.clone(), Fate::Guarded),
        ("a copy with IP options", copy.clone().with_options(3), Fate::Guarded),
        ("a copy's first fragment", copy.clone().fragment(0, true), Fate::Guarded),
        ("a copy's later fragment", copy.clone().fragment(185, false), Fate::Guarded),
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
        ("port unreachable", icmp_error(3, 3, &copy), Fate::Guarded),
        ("fragmentation needed", icmp_error(3, 4, &copy), Fate::Guarded),
        ("source quench", icmp_error(4, 0, &copy), Fate::Guarded),
        ("redirect", icmp_error(5, 1, &copy), Fate::Guarded),
        ("time exceeded", icmp_error(11, 0, &copy), Fate::Guarded),
        ("parameter problem", icmp_error(12, 0, &copy), Fate::Guarded),
        ("an error with IP options", icmp_error(3, 3, &copy).with_options(4), Fate::Guarded),
        (
            "an error about a copy with IP options",
            icmp_error(3, 3, &copy.clone().with_options(4)),
            Fate::Guarded,
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
fn needs_root_of_a_tunnel_without_ports_all_packets_to_the_collector_are_guarded() {
    const GRE: u8 = 47;
    let copy = Packet::new(GRE, HOST, COLLECTOR);
    let cases = [
        ("a copy", copy.clone(), Fate::Guarded),
        ("a copy's later fragment", copy.clone().fragment(9, true), Fate::Guarded),
        ("an error about one", icmp_error(3, 2, &copy), Fate::Guarded),
        ("another host", Packet::new(GRE, HOST, OTHER_HOST), Fate::Sent),
        ("another protocol", udp(HOST, COLLECTOR), Fate::Sent),
    ];
    crate::harness::in_namespace(|| {
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
        assert_eq!(harness.fate_with(&frame, marked), Fate::Guarded);
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
