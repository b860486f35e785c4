//! What a packet costs that no rule matches, held against one that is not even IP, in one run.

use std::fmt::Write;

use libbpf_rs::{ProgramInput, ProgramMut};
use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction;

use crate::harness::{Harness, TC_ACT_OK, rule};
use crate::packets::{frame, udp};

const ROUNDS: usize = 30;
const REPEAT: u32 = 20_000;

/// A miss is allowed so much of what the kernel takes for a run of nothing; a scheme of a look-up by
/// helper for each field takes twice to four times as much.
const MOST: f64 = 1.5;

fn nanoseconds(program: &ProgramMut<'_>, frame: &[u8]) -> f64 {
    let input = ProgramInput { data_in: Some(frame), repeat: REPEAT, ..Default::default() };
    program.test_run(input).expect("a run").duration.as_nanos() as f64
}

#[test]
fn needs_root_a_miss_costs_next_to_nothing_however_many_rules_there_are() {
    let miss = udp("10.0.0.1:1000", "192.0.2.1:80").frame();
    let not_ip = frame(0x88b5, &[0; 50]);
    let rules = [
        ("by protocol", "protocol=tcp,icmp"),
        ("by port", "protocol=udp dst-port=81-90"),
        ("by address", "dst-address=198.51.100.0/24,203.0.113.7"),
    ];
    let mut table = String::new();
    for (what, flags) in rules {
        for count in [1, 32] {
            let harness = Harness::new(Direction::Ingress, TC_ACT_OK);
            harness.install(&vec![rule(flags); count]);
            let program = bpf::program(&harness.object);
            // the least of many rounds, in turns: others use the machine, too
            let mut least = [f64::MAX; 2];
            for _ in 0..ROUNDS {
                for (least, frame) in least.iter_mut().zip([&not_ip, &miss]) {
                    *least = least.min(nanoseconds(&program, frame));
                }
            }
            let [nothing, miss] = least;
            writeln!(table, "{what}, {count} rules: {miss} ns, not IP: {nothing} ns").unwrap();
            assert!(miss <= MOST * nothing, "{table}");
        }
    }
    println!("{table}");
}
