//! A million mutated frames through each program. No run fails, no packet changes, and the verdict
//! is always the configured one or the next program's.
//!
//! FUZZ_FRAMES sets the number of frames. FUZZ_SEED sets the first seed. A failure prints its seed.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libbpf_rs::{MapCore, MapFlags, ProgramMut};
use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction;

use crate::chain::{NEXT, next_program};
use crate::encap::{PATH, PIECE, encapsulator, to_far_end, usual_path};
use crate::encap_ipv6;
use crate::loop_guard::MARK;
use crate::sample_frames::{mutated, sample_frames};
use testkit::oracle::random::Random;
use testkit::test_run::harness::{
    Context, Harness, NO_SUCH_DEVICE, Run, TC_ACT_OK, TC_ACT_UNSPEC, exclude, hex, in_namespace,
    rule, try_run, tunnel,
};
use testkit::test_run::packets::{ETH_HLEN, udp, untagged};

const FRAMES: usize = 1_000_000;
const FIRST_SEED: usize = 1;
/// Few, so that a run with a failure's seed soon reaches the failing frame.
const FRAMES_PER_SEED: usize = 1000;

/// The longest frame of a jumbo interface.
const JUMBO: usize = ETH_HLEN + 9000;
/// The longest frame that every kernel takes in a test run: a page, less the buffer's overhead.
const SHORT: usize = 3300;

const TC_ACT_SHOT: i32 = 2;
const TC_ACT_REDIRECT: i32 = 7;

fn number(variable: &str, default: usize) -> usize {
    match env::var(variable) {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("{variable} must be a number: {text:?}"))
        }
        Err(_) => default,
    }
}

/// The buffers that this kernel can make in a test run.
#[derive(Clone, Copy)]
struct Kernel {
    longest: usize,
    /// whether a part of a buffer can be non-linear
    pages: bool,
}

impl Kernel {
    fn probe() -> Self {
        let harness = Harness::new(Direction::Ingress, TC_ACT_OK);
        let makes = |len, linear| {
            let frame = udp("10.0.0.1:1", "10.0.0.2:2").of_length(len - ETH_HLEN).frame();
            let context = Context { linear, ..Context::default() };
            try_run(&bpf::program(&harness.object), &frame, context, 1).is_ok()
        };
        Self { longest: if makes(JUMBO, 0) { JUMBO } else { SHORT }, pages: makes(100, 50) }
    }
}

/// Frames to try, all derived from one seed. If a test fails, the seed is printed.
struct Fuzz<'a> {
    seed: usize,
    random: Random,
    sample_frames: &'a [Vec<u8>],
    kernel: Kernel,
}

impl Fuzz<'_> {
    fn one_in(&mut self, count: usize) -> bool {
        self.random.below(count) == 0
    }

    fn frame(&mut self) -> Vec<u8> {
        mutated(&mut self.random, self.sample_frames, self.kernel.longest)
    }

    /// Usually an ordinary context, sometimes a marked or a super-packet's.
    fn context(&mut self, frame: &[u8]) -> Context {
        let mut context = Context::default();
        if self.one_in(4) {
            context.cb = [(); 5].map(|()| self.random.below(1 << 32) as u32);
            context.mark = self.random.below(3) as u32;
            context.priority = self.random.below(1 << 32) as u32;
        }
        // both words of the mark, or only one of them
        match self.random.below(16) {
            0 | 1 => context.cb[..2].copy_from_slice(&MARK),
            2 => context.cb[0] = MARK[0],
            3 => context.cb[1] = MARK[1],
            _ => {}
        }
        if self.one_in(4) {
            context.gso_size = 1 + self.random.below(1 << 16) as u32;
        }
        // a kernel that sets the network header requires it in the linear part
        let least = ETH_HLEN + 40;
        if self.kernel.pages && frame.len() > least && self.one_in(2) {
            context.linear = (least + self.random.below(frame.len() - least)) as u32;
        }
        context
    }
}

impl Drop for Fuzz<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("to repeat it: FUZZ_SEED={} FUZZ_FRAMES={FRAMES_PER_SEED}", self.seed);
        }
    }
}

/// Runs `body` on as many frames as requested, on all CPUs. Each thread has a network namespace of
/// its own and works on the result of `prepare`, whose argument is true in every other thread.
fn on_all_cpus<T>(
    what: &str,
    prepare: impl Fn(bool) -> T + Sync,
    body: impl Fn(&mut T, &mut Fuzz) + Sync,
) {
    let (frames, first) = (number("FUZZ_FRAMES", FRAMES), number("FUZZ_SEED", FIRST_SEED));
    let kernel = Kernel::probe();
    let buffers = if kernel.pages { "linear and other" } else { "only linear" };
    // written directly, because the test harness hides the output of tests that pass
    let said = writeln!(
        io::stderr(),
        "{frames} mutated frames of up to {} bytes, in {buffers} buffers, seeds from {first} on: {what}",
        kernel.longest
    );
    said.expect("stderr");

    let seeds = AtomicUsize::new(0);
    let work = |every_other: bool| {
        let sample_frames = sample_frames(kernel.longest);
        let mut it = prepare(every_other);
        loop {
            let seed = seeds.fetch_add(1, Ordering::Relaxed);
            let count = frames.saturating_sub(seed * FRAMES_PER_SEED).min(FRAMES_PER_SEED);
            if count == 0 {
                break;
            }
            let seed = first + seed;
            // xorshift needs a start value with more than a few bits set
            let random = Random((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut fuzz = Fuzz { seed, random, sample_frames: &sample_frames, kernel };
            for _ in 0..count {
                body(&mut it, &mut fuzz);
            }
        }
    };
    let workers = thread::available_parallelism().map_or(2, usize::from).max(2);
    thread::scope(|scope| {
        for worker in 0..workers {
            let work = &work;
            scope.spawn(move || in_namespace(|| work(worker % 2 == 1)));
        }
    });
}

/// The programs of both directions, with rules that look at every field and match every packet. The
/// first two clone to the loopback device. The device of the third carries only untagged IPv4.
/// Clones of the last two fail, except for copies that are too long or over the rate cap.
fn programs(chained: bool) -> [Harness; 4] {
    let rules = [
        exclude("protocol=gre,sctp vlan=none dscp=not ef"),
        rule(
            "protocol=tcp,udp src-port=1-2000 dst-port=80,6080 src-address=10.0.0.0/8 \
             tcp-flags=not urg length=not 576 one-in-packets=2 snaplen=headers",
        ),
        rule("icmp-type=not echo-reply src-address=not 10.7.0.0/16 one-in-flows=2"),
        rule("dst-address=192.0.2.0/24,203.0.113.9,2001:db8::/32 src-port=1000 snaplen=64"),
        rule(""),
    ];
    let narrow =
        bpf::Tunnel { ifindex: NO_SUCH_DEVICE, max_len: 1000, max_segment_len: 1200, ..tunnel() };
    // with so low a cap, hardly any copy is within it, even on a slow machine
    let capped = bpf::Tunnel { rate: 1000, burst: 1000, ..narrow };
    let narrow = bpf::Tunnel { carries: 0, ..narrow };
    let next = next_program();
    let [ingress, egress] = Direction::ALL;
    [(ingress, tunnel()), (egress, tunnel()), (ingress, narrow), (egress, capped)].map(
        |(direction, tunnel)| {
            let mut harness = Harness::new(direction, TC_ACT_UNSPEC);
            harness.install_to(&rules, tunnel);
            if chained {
                let next = next.as_raw_fd().to_ne_bytes();
                harness
                    .maps
                    .common
                    .jmp_table
                    .update(&0_u32.to_ne_bytes(), &next, MapFlags::ANY)
                    .unwrap();
                harness.verdict = NEXT;
            }
            harness
        },
    )
}

/// A thread's programs. When they are dropped, their counters are added to the total.
struct Counted<'a>([Harness; 4], &'a Mutex<[u64; 9]>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut total = self.1.lock().unwrap();
        for harness in &self.0 {
            total.iter_mut().zip(harness.counts()).for_each(|(total, count)| *total += count);
        }
    }
}

#[test]
fn needs_root_mutated_frames_pass_both_programs_as_they_are() {
    let total = Mutex::default();
    on_all_cpus(
        "mirroring",
        |chained| Counted(programs(chained), &total),
        |Counted(programs, _), fuzz| {
            let frame = fuzz.frame();
            let context = fuzz.context(&frame);
            // the kernel cannot segment a super-packet that it did not make itself
            let narrow = context.gso_size > 0 || fuzz.one_in(4);
            for program in &programs[if narrow { 2..4 } else { 0..2 }] {
                program.pass(&frame, context);
            }
        },
    );
    let counts = total.into_inner().unwrap();
    let [matched, reasons @ ..] = counts;
    assert_eq!(matched, reasons.iter().sum::<u64>());
    assert!(reasons.iter().all(|count| count * 100 > matched), "lopsided: {counts:?}");
}

fn try_tunnel(program: &ProgramMut<'_>, frame: &[u8], context: Context) -> Run {
    try_run(program, frame, context, 1)
        .unwrap_or_else(|error| panic!("test run: {error}\n{context:?}\n{}", hex(frame)))
}

#[test]
fn needs_root_mutated_frames_leave_the_tunnel_or_end_there() {
    on_all_cpus(
        "the built-in tunnel",
        |jumbo| {
            [if jumbo { PATH } else { usual_path() }, encap_ipv6::path(1500)]
                .map(|path| encapsulator(&path))
        },
        |objects, fuzz| {
            let object = &objects[usize::from(fuzz.one_in(4))];
            let frame = fuzz.frame();
            let mut context = fuzz.context(&frame);
            let shown = || format!("{context:?}\n{}", hex(&frame));
            let run = try_tunnel(&bpf::program(object), &frame, context);
            if context.cb[..2] != MARK {
                assert_eq!(run.verdict, TC_ACT_SHOT, "{}", shown());
                assert!(run.frame == frame, "{}", shown());
            }

            context.cb[..2].copy_from_slice(&MARK);
            // the third word says whether this is a copy or a piece of one
            context.cb[2] &= PIECE | 0x3fff;
            let run = try_tunnel(&bpf::program(object), &frame, context);
            let shown = || format!("{context:?}\n{}", hex(&frame));
            match run.verdict {
                TC_ACT_REDIRECT => {}
                TC_ACT_SHOT => {}
                // too long for one outer packet: passed on to the cutter, without tags and padding
                TC_ACT_OK => assert!(untagged(&frame).starts_with(&run.frame), "{}", shown()),
                other => panic!("verdict {other} on {}", shown()),
            }

            // copies to be fragmented or truncated
            let mark = to_far_end().mark | context.mark & 1;
            let context = Context { gso_size: 0, mark, ..context };
            let run = try_tunnel(&bpf::cutter(object), &frame, context);
            assert!(
                [TC_ACT_REDIRECT, TC_ACT_SHOT].contains(&run.verdict),
                "{} on {}",
                run.verdict,
                shown()
            );
        },
    );
}
