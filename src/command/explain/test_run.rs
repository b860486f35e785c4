//! Runs the BPF program on frames (`BPF_PROG_TEST_RUN`), with maps of its own and attached to nothing. Dropping it
//! unloads it.

use anyhow::{Context, Result};
use libbpf_rs::{Object, ProgramInput};

use crate::bpf;
use crate::filter::CompiledRules;
use crate::filter::explanation::Verdict;
use crate::maps::Maps;
use crate::model::Direction;

/// The longest frame that every kernel accepts for a test run: a page, less the headroom and `skb_shared_info`
/// (`bpf_test_init` in net/bpf/test_run.c). Longer frames are cut to this length.
pub const LONGEST: usize = 3500;

/// An ifindex that no network namespace has: redirecting a copy there fails.
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

    /// Puts rules into force, with a tunnel that accepts what `tunnel` accepts but sends nothing.
    pub fn apply(&self, rules: &CompiledRules, tunnel: bpf::Tunnel) -> Result<()> {
        // a single packet never exceeds a cap on the rate
        self.maps.apply(rules, bpf::Tunnel { ifindex: NO_SUCH_DEVICE, rate: 0, ..tunnel })
    }

    /// Guards against the same tunnels as a running instance.
    pub fn guard_as(&self, instance: &Maps) {
        self.maps.endpoints.copy(&instance.endpoints);
    }

    /// The first of the installed rules that matches a frame, of as many `rules`. Call it only once after
    /// installing them: it finds the rule by the counter that is not 0.
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

    /// Whether one of the installed rules matches a frame, regardless of the others.
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

/// What became of the packet, by the counters of its rule.
fn verdict(outcomes: &bpf::Outcomes) -> Verdict {
    let reasons = [
        (outcomes.excluded, Verdict::Excluded),
        (outcomes.loop_guard, Verdict::LoopGuard),
        (outcomes.not_sampled, Verdict::NotSampled),
        (outcomes.unsupported, Verdict::Unsupported),
        (outcomes.oversize, Verdict::Oversize),
    ];
    let reason = reasons.into_iter().find(|(count, _)| *count > 0);
    // otherwise the copy went to the device, which does not exist
    reason.map_or(Verdict::Mirrored, |(_, verdict)| verdict)
}
