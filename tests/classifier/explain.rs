//! Explanations come from the mirroring program itself, which is run on the packet.

use traffic_mirroring::command::explain;
use traffic_mirroring::filter::explanation::{Explanation, Verdict};
use traffic_mirroring::filter::{Entries, Field, Rule};
use traffic_mirroring::model::Direction;
use traffic_mirroring::packet;

use testkit::oracle::evaluate;
use testkit::oracle::frame;
use testkit::oracle::random::Random;
use testkit::test_run::harness::{exclude, rule, side_by_side};
use testkit::test_run::packets::{tagged, tcp, udp};
use testkit::test_run::packets_ipv6::{Packet6, tcp6, udp6};

const WEB: &str = "10.0.0.1:1234 > 192.0.2.5:443 tcp syn dscp ef length 100 vlan 7";
const PING6: &str = "2001:db8::1 > 2001:db8::2 echo-request";

fn by_rules(rules: &[Rule], frame: &[u8]) -> Explanation {
    explain::by_rules(Direction::Ingress, rules, frame).unwrap()
}

fn explained(rules: &[Rule], text: &str) -> Explanation {
    by_rules(rules, &packet::frame(text).unwrap())
}

#[test]
fn needs_root_each_field_is_named_that_refuses_a_packet() {
    let cases: [(&str, &str, &[&str]); 20] = [
        ("protocol=udp,gre", WEB, &["protocol"]),
        ("protocol=not tcp", WEB, &["protocol"]),
        ("src-address=10.0.0.2", WEB, &["src"]),
        ("src-address=::", WEB, &["src"]),
        ("dst-address=192.0.2.0/24,not 192.0.2.5", WEB, &["dst"]),
        ("src-port=1-1233", WEB, &["src_port"]),
        ("dst-port=not 443", WEB, &["dst_port"]),
        ("tcp-flags=not syn", WEB, &["tcp_flags"]),
        ("vlan=none", WEB, &["vlan"]),
        ("icmp-type=echo-request", WEB, &["icmp_type"]),
        ("dscp=not ef", WEB, &["dscp"]),
        ("length=101-65535", WEB, &["length"]),
        ("src-address=10.0.0.0/8 dst-port=80 dscp=cs0 length=100", WEB, &["dst_port", "dscp"]),
        ("src-address=0.0.0.0", PING6, &["src"]),
        ("dst-address=2001:db8::3", PING6, &["dst"]),
        ("icmp-type=8", PING6, &["icmp_type"]),
        ("tcp-flags=syn", PING6, &["tcp_flags"]),
        // a packet without ports passes port fields if the rule names its protocol, and otherwise
        // fails them
        ("protocol=tcp src-port=1 dst-port=443", PING6, &["protocol"]),
        ("src-port=1 dst-port=443", PING6, &["src_port", "dst_port"]),
        ("protocol=not icmpv6 dst-port=443", PING6, &["protocol", "dst_port"]),
    ];
    side_by_side([&cases[..10], &cases[10..]], |cases| {
        for (flags, packet, refusing) in cases {
            let expected =
                Explanation { is_looked_at: true, met: None, refused: vec![refusing.to_vec()] };
            assert_eq!(explained(&[rule(flags)], packet), expected, "{flags}");
        }
    });
}

#[test]
fn needs_root_the_first_rule_that_matches_is_the_one_explained() {
    let udp_only = rule("protocol=udp");
    let not_web = exclude("dst-port=443");
    let refused = vec![vec!["protocol"]];
    let cases = [
        (vec![udp_only.clone(), not_web.clone(), rule("")], (1, Verdict::Excluded)),
        (vec![udp_only.clone(), rule(""), not_web], (1, Verdict::Mirrored)),
        (
            vec![udp_only.clone(), rule("one-in-packets=4294967295 snaplen=64")],
            (1, Verdict::Mirrored),
        ),
        (vec![udp_only, rule("one-in-flows=4294967295")], (1, Verdict::NotSampled)),
    ];
    for (rules, met) in cases {
        let expected = Explanation { is_looked_at: true, met: Some(met), refused: refused.clone() };
        assert_eq!(explained(&rules, WEB), expected, "{rules:?}");
    }
}

/// More trial rules than one generation has bits for.
#[test]
fn needs_root_32_rules_are_explained_one_by_one() {
    let mut rules: Vec<_> = (0..31)
        .map(|number| rule(&format!("protocol=tcp dst-port={} vlan=8 dscp=ef", 400 + number)))
        .collect();
    rules.push(rule("vlan=7"));
    let explanation = explained(&rules, WEB);
    assert_eq!(explanation.met, Some((31, Verdict::Mirrored)));
    assert_eq!(explanation.refused, vec![vec!["dst_port", "vlan"]; 31]);
}

#[test]
fn needs_root_fragments_tags_and_ipv6_extensions_are_explained() {
    let rules = [rule("dst-port=53"), rule("protocol=udp")];
    let met = |frame: &[u8]| by_rules(&rules, frame);
    let (a, b) = ("10.0.0.1:1000", "192.0.2.1:53");
    let first = udp(a, b).fragment(0, true).frame();
    assert_eq!(met(&first).met, Some((0, Verdict::Mirrored)));
    let later = met(&udp(a, b).fragment(185, false).frame());
    assert_eq!((later.met, later.refused), (Some((1, Verdict::Mirrored)), vec![vec!["dst_port"]]));
    let double = tagged(&[(0x88a8, 7), (0x8100, 8)], &udp(a, b).frame());
    assert_eq!(met(&double).met, Some((0, Verdict::Mirrored)));

    let (a, b) = ("[2001:db8::1]:1000", "[2001:db8::2]:53");
    let behind = udp6(a, b).behind(60, 1).behind(0, 0);
    assert_eq!(met(&behind.frame()).met, Some((0, Verdict::Mirrored)));
    let later = met(&udp6(a, b).fragment(1, 1480, true).frame());
    assert_eq!((later.met, later.refused), (Some((1, Verdict::Mirrored)), vec![vec!["dst_port"]]));
}

#[test]
fn needs_root_unreadable_packets_are_told_from_unmatched_ones() {
    let whole = tcp("10.0.0.1:1000", "192.0.2.1:53");
    let three_tags = tagged(&[(0x8100, 1), (0x8100, 2), (0x8100, 3)], &whole.frame());
    let many_headers = (0..9).fold(tcp6("[::1]:1", "[::2]:2"), |packet, _| packet.behind(60, 0));
    let frames = [whole.frame_cut_to(22), whole.frame_saying(19), three_tags, many_headers.frame()];
    for frame in frames {
        let explanation = by_rules(&[rule("protocol=udp"), rule("")], &frame);
        assert!(!explanation.is_looked_at && explanation.met.is_none(), "{frame:02x?}");
    }
    assert!(by_rules(&[rule("protocol=udp")], &whole.frame()).is_looked_at);
}

/// The packet is longer than a test run takes. The headers are given with their real length.
#[test]
fn needs_root_a_long_packet_is_tried_by_its_beginning() {
    let rules = [rule("length=0-64999"), rule("length=65000 dst-port=2")];
    let explanation = explained(&rules, "10.0.0.1:1 > 10.0.0.2:2 udp length 65000");
    assert_eq!(explanation.met, Some((1, Verdict::Mirrored)));
    assert_eq!(explanation.refused, [["length"]]);
    let longest = Packet6::new(17, "[::1]:1", "[::2]:2").of_length(40 + 60_000).frame();
    assert_eq!(by_rules(&[rule("length=60040")], &longest).met, Some((0, Verdict::Mirrored)));
}

/// The rule with some fields open. A packet without ports must pass the other fields as before.
fn opened(rule: &Rule, keys: &[&str]) -> Rule {
    let mut rule = rule.clone();
    for key in keys {
        let field = Field::all().map(Field::spec).find(|field| field.key() == *key).unwrap();
        if *key == "protocol" && !rule.protocol.only.is_empty() {
            rule.protocol = Entries::only((0..=255).collect::<Vec<_>>());
        } else {
            field.copy(&Rule::default(), &mut rule);
        }
    }
    rule
}

/// With all refusing fields open, the rule matches the packet. With all but one of them open, it does not.
#[test]
fn needs_root_what_is_said_to_refuse_a_packet_is_all_that_does() {
    let mut random = Random(0x6578_706c_6169);
    let (mut met, mut several) = (0, 0);
    for _ in 0..60 {
        let rules = random.rules(12);
        let frame = random.frame();
        let explanation = by_rules(&rules, &frame);
        let Some(packet) = frame::packet(&frame) else {
            assert!(!explanation.is_looked_at && explanation.met.is_none(), "{frame:02x?}");
            continue;
        };
        assert!(explanation.is_looked_at, "{packet:?}");
        let expected = evaluate::verdict(&rules, &packet);
        assert_eq!(explanation.met.map(|(rule, _)| rule), expected, "{rules:?}\n{packet:?}");
        met += usize::from(expected.is_some());
        assert_eq!(explanation.refused.len(), expected.unwrap_or(rules.len()));
        for (rule, keys) in rules.iter().zip(&explanation.refused) {
            let context = || format!("{keys:?} {rule:?}\n{packet:?}");
            assert!(evaluate::matches(&opened(rule, keys), &packet), "{}", context());
            assert!(!keys.is_empty(), "{}", context());
            several += usize::from(keys.len() > 1);
            for key in keys {
                let others: Vec<_> = keys.iter().copied().filter(|other| other != key).collect();
                assert!(!evaluate::matches(&opened(rule, &others), &packet), "{}", context());
            }
        }
    }
    assert!(met > 5 && several > 10, "lopsided: {met} {several}");
}
