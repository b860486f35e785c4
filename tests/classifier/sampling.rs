//! Rules that mirror one packet, or one flow, in every N.

use traffic_mirroring::filter::Rule;

use testkit::test_run::harness::{Context, Fate, Harness, rule, run};
use testkit::test_run::packets::{Packet, tcp, udp};
use testkit::test_run::packets_ipv6::{DESTINATION, Packet6};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";

/// Six standard deviations, exceeded by chance once in 500 million runs.
fn leeway(count: f64, share: f64) -> f64 {
    6.0 * (count * share * (1.0 - share)).sqrt()
}

fn check_share(found: u64, count: u32, one_in: u32) {
    let (count, share) = (f64::from(count), 1.0 / f64::from(one_in));
    let off = (found as f64 - count * share).abs();
    assert!(off <= leeway(count, share), "{found} of {count} is not one in {one_in}");
}

#[test]
fn needs_root_one_packet_in_so_many_is_mirrored() {
    const PACKETS: u32 = 50_000;
    let frame = tcp(A, B).frame();
    Harness::each(|harness| {
        for one_in in [1, 2, 10, 1000] {
            harness.install(&[rule(&format!("one-in-packets={one_in}"))]);
            let before = harness.counts();
            run(&harness.object, &frame, Context::default(), PACKETS);
            let after = harness.counts();
            let more = |fate: Fate| after[fate as usize] - before[fate as usize];
            assert_eq!(more(Fate::Failed) + more(Fate::NotSampled), u64::from(PACKETS));
            check_share(more(Fate::Failed), PACKETS, one_in);
        }
    });
}

/// Four packets of a flow, two in each direction.
fn of_flow(n: u32) -> [Vec<u8>; 4] {
    let port = 1024 + n;
    if n % 2 == 0 {
        let protocol = if n % 4 == 0 { 6 } else { 17 };
        let (a, b) = (format!("10.0.0.1:{port}"), "192.0.2.1:443");
        let packet = |src: &str, dst: &str| Packet::new(protocol, src, dst);
        [
            packet(&a, b).frame(),
            packet(b, &a).frame(),
            packet(&a, b).of_length(900).with_options(2).frame(),
            packet(b, &a).of_length(60).frame(),
        ]
    } else {
        let (a, b) = (format!("[2001:db8::1]:{port}"), "[2001:db8:1::2]:443");
        let packet = |src: &str, dst: &str| Packet6::new(17, src, dst);
        [
            packet(&a, b).frame(),
            packet(b, &a).frame(),
            packet(&a, b).of_length(900).frame(),
            packet(b, &a).behind(DESTINATION, 1).frame(),
        ]
    }
}

fn by_flow(one_in: u32) -> Rule {
    rule(&format!("one-in-flows={one_in}"))
}

#[test]
fn needs_root_a_sampled_flow_is_mirrored_in_both_directions() {
    const FLOWS: u32 = 4000;
    Harness::each(|harness| {
        for one_in in [2, 8] {
            harness.install(&[by_flow(one_in)]);
            let failed = || harness.counts_of(0)[Fate::Failed as usize];
            let mut mirrored = 0;
            for n in 0..FLOWS {
                let before = failed();
                of_flow(n).iter().for_each(|frame| harness.pass(frame, Context::default()));
                match failed() - before {
                    0 => {}
                    4 => mirrored += 1,
                    some => panic!("{some} of the 4 packets of flow {n}"),
                }
            }
            assert_eq!(harness.met(0), 4 * u64::from(FLOWS));
            check_share(mirrored, FLOWS, one_in);
        }
    });
}

#[test]
fn needs_root_a_flow_in_a_smaller_sample_is_in_a_larger_one_too() {
    Harness::each(|harness| {
        let fates = |one_in| {
            harness.install(&[by_flow(one_in)]);
            (0..500).map(|n| harness.fate(&of_flow(n)[0]) == Fate::Failed).collect::<Vec<_>>()
        };
        let (few, many) = (fates(10), fates(5));
        assert!(few.iter().zip(&many).all(|(few, many)| !few || *many));
        assert!(fates(1).iter().all(|mirrored| *mirrored));
    });
}

#[test]
fn needs_root_packets_left_out_of_a_sample_meet_no_later_rule() {
    Harness::each(|harness| {
        harness.install(&[rule("protocol=tcp one-in-packets=4294967295"), rule("")]);
        assert_eq!(harness.fate(&tcp(A, B).frame()), Fate::NotSampled);
        assert_eq!(harness.fate(&udp(A, B).frame()), Fate::Failed);
        assert_eq!((harness.met(0), harness.met(1)), (1, 1));
    });
}
