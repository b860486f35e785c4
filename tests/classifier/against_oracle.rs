//! Random rules, packets and bytes: the programs against the oracle.

use std::env;

use traffic_mirroring::config::Direction;

use crate::harness::{Harness, TC_ACT_OK, TC_ACT_UNSPEC, hex};
use crate::random::Random;
use crate::{frame, meaning};

/// Packets that each set of rules is tried on: an update takes as long as many of them.
const PACKETS_PER_RULES: usize = 2000;

/// Pairs of rules and packet that the two directions try together, for each kind of packet.
fn pairs() -> usize {
    match env::var("ORACLE_PAIRS") {
        Ok(text) => text.parse().expect("ORACLE_PAIRS is a number"),
        Err(_) => 100_000,
    }
}

fn compare(
    direction: Direction,
    verdict: i32,
    seed: u64,
    packets: usize,
    random_frame: fn(&mut Random) -> Vec<u8>,
) {
    let harness = Harness::new(direction, verdict);
    let mut random = Random(seed);
    let mut verdicts = [0_usize; 2];
    for _ in 0..packets.div_ceil(PACKETS_PER_RULES) {
        let rules = random.rules();
        harness.install(&rules);
        for _ in 0..PACKETS_PER_RULES {
            let frame = random_frame(&mut random);
            let expected = frame::packet(&frame)
                .is_some_and(|packet| meaning::verdict(&rules, &packet).is_some());
            verdicts[usize::from(expected)] += 1;
            assert_eq!(
                harness.matches(&frame),
                expected,
                "{direction}, seed {seed:#x}\n{rules:#?}\n{}",
                hex(&frame)
            );
        }
    }
    assert!(verdicts.iter().all(|&count| count > packets / 100), "lopsided: {verdicts:?}");
}

#[test]
fn needs_root_ingress_agrees_with_the_oracle_on_random_packets() {
    compare(Direction::Ingress, TC_ACT_OK, 0x6d69_7272_6f72, pairs() / 2, Random::frame);
}

#[test]
fn needs_root_egress_agrees_with_the_oracle_on_random_packets() {
    compare(Direction::Egress, TC_ACT_UNSPEC, 0x006f_7261_636c, pairs() / 2, Random::frame);
}

#[test]
fn needs_root_ingress_agrees_with_the_oracle_on_mutated_frames() {
    compare(Direction::Ingress, TC_ACT_UNSPEC, 0x6d75_7461, pairs() / 2, Random::mutated_frame);
}

#[test]
fn needs_root_egress_agrees_with_the_oracle_on_mutated_frames() {
    compare(Direction::Egress, TC_ACT_OK, 0x7465_6421, pairs() / 2, Random::mutated_frame);
}
