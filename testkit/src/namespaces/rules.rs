//! Files of rules, and the outcomes of packets that match them.

use std::fs;

use traffic_mirroring::bpf;
use traffic_mirroring::bpf::pins::Pins;
use traffic_mirroring::filter::{Action, file};
use traffic_mirroring::instance::Instance;
use traffic_mirroring::model::{Direction as Way, InstanceId};

use super::{Direction, Frame, Frames};
use crate::oracle::Datagrams;
use crate::oracle::frame;

/// Writes a file of rules, and returns the flag with its path. The file is in the topology's own `/run`, so call this
/// on the test's thread.
pub fn rules_file(name: &str, rules: &str) -> String {
    let path = format!("/run/{name}.json");
    fs::write(&path, rules).expect("a file of rules");
    format!("--rules-file={path}")
}

/// The instance on `eth0`, however it was launched.
pub fn instance(direction: Way) -> Instance {
    let id = InstanceId {
        interface: "eth0".parse().expect("a name"),
        direction,
        version: Default::default(),
    };
    let instance = Instance::open(Pins::new("/sys/fs/bpf".as_ref(), &id));
    instance.expect("the pins").expect("an instance")
}

/// The counts of that instance so far. Checks that they add up to all packets that matched.
pub fn outcomes(direction: Way) -> bpf::Outcomes {
    let it = instance(direction).counters().and_then(|it| it.total()).expect("the counters");
    let left_out = it.excluded + it.loop_guard + it.not_sampled + it.unsupported;
    let kept_back = it.oversize + it.rate_limited + it.failed;
    assert_eq!(it.matched, it.sent + left_out + kept_back, "{it:?}");
    it
}

/// The packets of one direction that have to be mirrored by the rules of a file, according to the oracle.
pub fn to_be_mirrored<'a>(rules: &str, frames: &'a Frames, direction: Direction) -> Vec<&'a [u8]> {
    let rules = file::rules(rules.as_bytes()).expect("rules");
    let mut datagrams = Datagrams::default();
    let mut is_mirrored = |frame: &&Frame| {
        let packet = frame::packet(&frame.bytes);
        let rule = packet.and_then(|packet| datagrams.verdict(&rules, &packet));
        rule.is_some_and(|rule| rules[rule].action != Action::Exclude)
    };
    let frames = frames.0.iter().filter(|frame| frame.direction == direction);
    frames.filter(|frame| is_mirrored(frame)).filter_map(Frame::ip).collect()
}
