//! Random rules and packets: the program and the oracle agree on the rule that each packet matches.
//!
//! ORACLE_PAIRS sets the number of pairs of rules and packet. A failure is shrunk first. Then it is
//! printed as values of ORACLE_RULES (a file of rules) and ORACLE_FRAMES (frames in hex, in order).
//! A run with these values repeats it.

use std::env;

use serde_json::{Value, json};
use traffic_mirroring::filter::{Action, MAX_RULES, Rule, copies, file, render};
use traffic_mirroring::model::Direction;

use crate::shrink::Case;
use testkit::oracle::Datagrams;
use testkit::oracle::evaluate::{Fragment, Packet};
use testkit::oracle::frame;
use testkit::oracle::random::Random;
use testkit::test_run::harness::{Context, Harness, TC_ACT_OK, TC_ACT_UNSPEC, hex};

/// Packets per set of rules. There are many, because an update takes as long as many packets.
const PACKETS_PER_RULES: usize = 1000;

/// From this number of rule sets on, all kinds of verdicts must occur among the pairs.
const MANY_RULES: usize = 100;

/// Pairs of rules and packet that both directions try together.
fn pairs() -> usize {
    match env::var("ORACLE_PAIRS") {
        Ok(text) => text.parse().expect("ORACLE_PAIRS is a number"),
        Err(_) => 1_000_000,
    }
}

/// How many packets met which kind of rule, according to the oracle.
#[derive(Debug, Default)]
struct Seen {
    no_rule: usize,
    first_rule: usize,
    other_rules: usize,
    /// Later fragments that met the rule of their first fragment.
    followed: usize,
}

struct Judge(Harness);

impl Judge {
    fn all_met(&self) -> [u64; MAX_RULES] {
        std::array::from_fn(|rule| self.0.met(rule))
    }

    fn pass(&self, frame: &[u8]) {
        self.0.pass(frame, Context { cb: [1, 2, 3, 4, 5], ..Context::default() });
    }

    /// Whether the packets, one after the other, meet the rules that the oracle names.
    ///
    /// A packet meets at most one rule. If it should meet one, that rule's counter is checked at
    /// once. The sums at the end show that the other packets met none.
    fn agrees(&self, case: &Case, seen: &mut Seen) -> bool {
        self.0.install(&case.rules);
        let (mut datagrams, mut expected) = (Datagrams::default(), [0; MAX_RULES]);
        for frame in &case.frames {
            self.pass(frame);
            let verdict =
                frame::packet(frame).and_then(|packet| datagrams.verdict(&case.rules, &packet));
            match verdict {
                None => seen.no_rule += 1,
                Some(0) => seen.first_rule += 1,
                Some(_) => seen.other_rules += 1,
            }
            if let Some(rule) = verdict {
                expected[rule] += 1;
                if self.0.met(rule) != expected[rule] {
                    return false;
                }
            }
        }
        seen.followed += datagrams.followed;
        self.all_met() == expected
    }

    /// Describes what the last frame met, for the message of a failure.
    fn last_met(&self, case: &Case) -> String {
        let name = |rule: Option<usize>| rule.map_or("no rule", |rule| &case.rules[rule].name);
        let mut datagrams = Datagrams::default();
        self.0.install(&case.rules);
        let mut text = String::new();
        for frame in &case.frames {
            let before = self.all_met();
            self.pass(frame);
            let after = self.all_met();
            let packet = frame::packet(frame);
            let oracle = packet.as_ref().and_then(|packet| datagrams.verdict(&case.rules, packet));
            let program = (0..MAX_RULES).find(|rule| before[*rule] != after[*rule]);
            text = format!("program: {}, oracle: {}", name(program), name(oracle));
            text.push_str(&format!("\n{packet:?}"));
        }
        text
    }

    fn fail(&self, direction: Direction, case: Case) -> ! {
        let case = case.shrink(|case| !self.agrees(case, &mut Seen::default()));
        let met = self.last_met(&case);
        let rules = as_file(&case.rules);
        let frames: Vec<_> = case.frames.iter().map(|frame| hex(frame)).collect();
        let exact = match file::rules(rules.as_bytes()) {
            Ok(read) if read == case.rules => String::new(),
            _ => format!("\nno file says exactly: {:?}", case.rules),
        };
        panic!(
            "{direction}: {met}{exact}\nto repeat it:\n\
             ORACLE_RULES='{rules}' \\\nORACLE_FRAMES={}",
            frames.join(",")
        );
    }
}

/// Formats the rules as the text of a rules file.
fn as_file(rules: &[Rule]) -> String {
    let rules: Vec<Value> = rules.iter().map(as_json).collect();
    json!({ "rules": rules }).to_string()
}

fn as_json(rule: &Rule) -> Value {
    let mut json = json!({ "name": rule.name });
    for (key, entries) in render::fields(rule) {
        json[key] = entries.into();
    }
    match rule.action {
        Action::Exclude => json["action"] = "exclude".into(),
        Action::Mirror { sample, snaplen } => {
            if let Some(sample) = sample {
                let by = copies::sample_by_text(sample.by);
                json["sample"] = json!({ "one_in": sample.one_in, "by": by });
            }
            if let Some(snaplen) = snaplen {
                json["snaplen"] = copies::snaplen_text(snaplen).into();
            }
        }
    }
    json
}

/// Parses the rules and frames that a failure printed.
fn given() -> Option<Case> {
    let rules = env::var("ORACLE_RULES").ok()?;
    let frames = env::var("ORACLE_FRAMES").expect("ORACLE_FRAMES goes with ORACLE_RULES");
    let bytes = |frame: &str| -> Vec<u8> {
        let pairs = frame.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
    };
    let rules = file::rules(rules.as_bytes()).expect("ORACLE_RULES is a file of rules");
    Some(Case { rules, frames: frames.split(',').map(bytes).collect() })
}

/// The datagram IDs of random frames, in IPv4 and in IPv6.
const ID_V4: [u8; 2] = [0x12, 0x34];
const ID_V6: [u8; 4] = [1, 2, 3, 4];

/// A later fragment, with other data, of the datagram whose first fragment is the random frame.
pub fn later_fragment(random: &mut Random, first: &[u8]) -> Option<Vec<u8>> {
    let find = |id: &[u8]| first.windows(id.len()).position(|bytes| bytes == id);
    let mut frame = first.to_vec();
    let data = if let Some(id) = find(&ID_V6) {
        frame[id - 2..id].copy_from_slice(&random.one_of(&[[0, 9], [5, 0xc8], [0xff, 0xf9]]));
        id + ID_V6.len()
    } else {
        let fragment = find(&ID_V4)? + ID_V4.len();
        let offset = random.one_of(&[[0x20, 1], [0, 185], [0x1f, 0xff]]);
        frame[fragment..fragment + 2].copy_from_slice(&offset);
        // after the addresses
        fragment + 14
    };
    for byte in frame.iter_mut().skip(data) {
        *byte = random.byte();
    }
    Some(frame)
}

/// Random frames. Some of them are fragments of one datagram.
fn frames(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    let (mut frames, mut firsts) = (Vec::with_capacity(count), Vec::<Vec<u8>>::new());
    while frames.len() < count {
        let frame = match random.below(8) {
            0 if !firsts.is_empty() => {
                let first = random.below(firsts.len());
                match later_fragment(random, &firsts[first]) {
                    Some(frame) => frame,
                    None => continue,
                }
            }
            1..=2 => random.mutated_frame(),
            _ => random.frame(),
        };
        let fragment = frame::packet(&frame).and_then(|packet: Packet| packet.fragment);
        if matches!(fragment, Some(Fragment { is_first: true, .. })) {
            firsts.push(frame.clone());
        }
        frames.push(frame);
    }
    frames
}

fn compare(direction: Direction, verdict: i32, seed: u64) {
    let judge = Judge(Harness::new(direction, verdict));
    let mut seen = Seen::default();
    if let Some(case) = given() {
        if !judge.agrees(&case, &mut seen) {
            judge.fail(direction, case);
        }
        return;
    }
    let mut random = Random(seed);
    let packets = pairs() / 2;
    let mut left = packets;
    while left > 0 {
        let count = left.min(PACKETS_PER_RULES);
        left -= count;
        let most = random.one_of(&[4, MAX_RULES]);
        let rules = random.rules(most);
        let case = Case { rules, frames: frames(&mut random, count) };
        if !judge.agrees(&case, &mut seen) {
            judge.fail(direction, case);
        }
    }
    let Seen { no_rule, first_rule, other_rules, followed } = seen;
    let is_balanced = [no_rule, first_rule, other_rules, 2 * followed]
        .into_iter()
        .all(|count| count > packets / 50);
    assert!(is_balanced || packets < MANY_RULES * PACKETS_PER_RULES, "lopsided: {seen:?}");
}

#[test]
fn needs_root_ingress_meets_the_rules_that_the_oracle_says() {
    compare(Direction::Ingress, TC_ACT_OK, 0x6d69_7272_6f72);
}

#[test]
fn needs_root_egress_meets_the_rules_that_the_oracle_says() {
    compare(Direction::Egress, TC_ACT_UNSPEC, 0x006f_7261_636c);
}
