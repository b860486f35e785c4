//! The program, to be tried on frames (`BPF_PROG_TEST_RUN`): with maps of its own, attached to nothing,
//! gone when it is dropped.

use anyhow::{Context, Result};
use libbpf_rs::{Object, ProgramInput};

use crate::bpf;
use crate::filter::CompiledRules;
use crate::filter::explanation::Verdict;
use crate::maps::Maps;
use crate::model::Direction;

/// What every kernel takes for a test run: a page, less the room in front of a packet and the
/// `skb_shared_info` behind it (`bpf_test_init` in net/bpf/test_run.c). Of a longer frame, so much of
/// its beginning is tried.
pub const LONGEST: usize = 3500;

/// No network namespace has it: copies to there are made, and fail.
const NO_SUCH_DEVICE: u32 = i32::MAX as u32;

/// A tunnel that carries every kind of packet, and leads nowhere.
pub fn any_tunnel() -> bpf::Tunnel {
    bpf::Tunnel { carries: u8::MAX, ..Default::default() }
}

pub struct TestRun {
    object: Object,
    maps: Maps,
}

impl TestRun {
    pub fn new(direction: Direction) -> Result<Self> {
        let object = bpf::load(bpf::object_bytes(direction), &[])?;
        let maps = Maps::of(&object, direction)?;
        Ok(Self { object, maps })
    }

    /// Puts rules into force, for a tunnel that takes what this one takes, and lets nothing out.
    pub fn apply(&self, rules: &CompiledRules, tunnel: bpf::Tunnel) -> Result<()> {
        // a cap is on many packets, not on one
        self.maps.apply(rules, bpf::Tunnel { ifindex: NO_SUCH_DEVICE, rate: 0, ..tunnel })
    }

    /// Guards the tunnels that an instance guards.
    pub fn guard_as(&self, instance: &Maps) {
        self.maps.endpoints.copy(&instance.endpoints);
    }

    /// The first of the installed rules, as many as there are, that matches a frame. No other frame
    /// has met one before.
    pub fn met(&self, rules: usize, frame: &[u8]) -> Result<Option<(usize, Verdict)>> {
        self.run(frame)?;
        for rule in 0..rules {
            let outcomes = self.maps.outcomes_of(rule as u32)?;
            if outcomes.matched > 0 {
                return Ok(Some((rule, verdict(&outcomes))));
            }
        }
        Ok(None)
    }

    /// Whether one of the installed rules matches a frame, whatever the others do.
    pub fn accepts(&self, rule: u32, frame: &[u8]) -> Result<bool> {
        let before = self.maps.outcomes_of(rule)?.matched;
        self.maps.leave_only(rule);
        self.run(frame)?;
        Ok(self.maps.outcomes_of(rule)?.matched > before)
    }

    fn run(&self, frame: &[u8]) -> Result<()> {
        let input = ProgramInput {
            data_in: Some(&frame[..frame.len().min(LONGEST)]),
            ..ProgramInput::default()
        };
        let ran = bpf::program(&self.object).test_run(input);
        ran.map(drop).with_context(|| {
            format!("the kernel makes no packet of these {} bytes; give a whole one", frame.len())
        })
    }
}

/// What came of the one packet that these are of.
fn verdict(outcomes: &bpf::Outcomes) -> Verdict {
    let reasons = [
        (outcomes.excluded, Verdict::Excluded),
        (outcomes.loop_guard, Verdict::LoopGuard),
        (outcomes.not_sampled, Verdict::NotSampled),
        (outcomes.unsupported, Verdict::Unsupported),
        (outcomes.oversize, Verdict::Oversize),
    ];
    let reason = reasons.into_iter().find(|(count, _)| *count > 0);
    // what nothing speaks against went to the device, which is not there
    reason.map_or(Verdict::Mirrored, |(_, verdict)| verdict)
}
