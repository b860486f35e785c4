//! Several rules: which of them a packet meets, and what each of them counts.

use traffic_mirroring::bpf::{self, carries};

use testkit::test_run::harness::{Fate, Harness, exclude, nowhere, rule};
use testkit::test_run::packets::{Packet, tagged, tcp, udp};
use testkit::test_run::packets_ipv6::tcp6;

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";

fn to_port(port: usize) -> Vec<u8> {
    tcp(A, &format!("192.0.2.1:{port}")).frame()
}

#[test]
fn needs_root_the_first_rule_that_matches_decides() {
    let (mirror, not) = (rule("protocol=tcp"), exclude("dst-port=80-89"));
    let everything_else = exclude("");
    let cases = [
        (vec![not.clone(), mirror.clone()], Fate::Excluded, 0, Fate::Failed, 1),
        (vec![mirror.clone(), not.clone()], Fate::Failed, 0, Fate::Failed, 0),
        (vec![not.clone(), everything_else.clone()], Fate::Excluded, 0, Fate::Excluded, 1),
        (vec![everything_else, mirror.clone(), not.clone()], Fate::Excluded, 0, Fate::Excluded, 0),
        (vec![rule("protocol=udp"), not, mirror], Fate::Excluded, 1, Fate::Failed, 2),
    ];
    Harness::each(|harness| {
        for (rules, in_both, met_by_it, in_one, met_by_that) in &cases {
            harness.install(rules);
            for (port, fate, rule) in [(80, in_both, met_by_it), (443, in_one, met_by_that)] {
                let before = harness.met(*rule);
                assert_eq!(harness.fate(&to_port(port)), *fate, "{port} {rules:?}");
                assert_eq!(harness.met(*rule), before + 1, "{port} {rules:?}");
            }
        }
    });
}

#[test]
fn needs_root_an_exclusion_alone_mirrors_nothing() {
    Harness::each(|harness| {
        harness.install(&[exclude("dst-port=80")]);
        assert_eq!(harness.fate(&to_port(80)), Fate::Excluded);
        assert_eq!(harness.fate(&to_port(81)), Fate::NoMatch);
    });
}

#[test]
fn needs_root_each_of_32_rules_counts_its_own() {
    let rules: Vec<_> = (0..32).map(|n| rule(&format!("dst-port={}-100", 1 + n))).collect();
    let rules: Vec<_> = rules.into_iter().rev().collect();
    Harness::each(|harness| {
        // in one generation, in the other one, and in the first one again
        for _ in 0..3 {
            harness.install(&rules);
            for port in 1..=32 {
                for _ in 0..port {
                    harness.fate(&to_port(port));
                }
            }
            let met: Vec<_> = (0..32).map(|rule| harness.met(rule)).collect();
            assert_eq!(met, (1..=32).rev().collect::<Vec<_>>());
        }
    });
}

#[test]
fn needs_root_what_was_counted_stays_when_rules_go() {
    Harness::each(|harness| {
        let mut expected = [0; 9];
        for (round, rules) in
            [[rule(""), exclude("")], [exclude(""), rule("")]].iter().cycle().take(6).enumerate()
        {
            harness.install(rules);
            assert_eq!((harness.met(0), harness.met(1)), (0, 0), "a rule begins at 0");
            assert_eq!(harness.counts(), expected, "after {round} updates");
            for _ in 0..=round {
                let fate = harness.fate(&to_port(80));
                expected[0] += 1;
                expected[fate as usize] += 1;
            }
            assert_eq!(harness.counts(), expected);
        }
        harness.maps.disable();
        assert_eq!(harness.counts(), expected);
    });
}

#[test]
fn needs_root_what_the_tunnel_cannot_carry_is_unsupported() {
    let v4 = tcp(A, B).frame();
    let v6 = tcp6("[2001:db8::1]:1000", "[2001:db8::2]:80").frame();
    let tag = [(0x8100, 7)];
    let frames = [v4.clone(), v6.clone(), tagged(&tag, &v4), tagged(&tag, &v6)];
    let (yes, no) = (Fate::Failed, Fate::Unsupported);
    Harness::each(|harness| {
        for (carries, expected) in [
            (0, [yes, no, no, no]),
            (carries::IPV6, [yes, yes, no, no]),
            (carries::TAGS, [yes, no, yes, no]),
            (carries::IPV6 | carries::TAGS, [yes, yes, yes, yes]),
        ] {
            harness.install_to(&[rule("")], bpf::Tunnel { carries, ..nowhere() });
            assert_eq!([0, 1, 2, 3].map(|n| harness.fate(&frames[n])), expected, "{carries}");
        }
    });
}

/// A packet that is not mirrored for several reasons is counted under the first of them.
#[test]
fn needs_root_what_is_not_mirrored_has_one_reason() {
    let copy = udp(A, "203.0.113.9:6080");
    let fate = |harness: &Harness, packet: &Packet| harness.fate(&packet.frame());
    Harness::each(|harness| {
        harness.install(&[exclude("dst-port=6080")]);
        assert_eq!(fate(harness, &copy), Fate::Excluded);
        harness.install(&[rule("one-in-packets=4294967295")]);
        assert_eq!(fate(harness, &copy), Fate::LoopGuard);
        assert_eq!(fate(harness, &udp(A, B)), Fate::NotSampled);
        let nothing = bpf::Tunnel { carries: 0, max_len: 20, ..nowhere() };
        harness.install_to(&[rule("")], nothing);
        let tag = tagged(&[(0x8100, 7)], &udp(A, B).frame());
        assert_eq!(harness.fate(&tag), Fate::Unsupported);
        assert_eq!(fate(harness, &udp(A, B)), Fate::Oversize);
    });
}
