//! Loads a mirroring program with maps of its own, and runs it on packets.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::thread;
use std::{env, fs};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ProgramInput, ProgramMut};
use nix::sched::{CloneFlags, unshare};
use traffic_mirroring::bpf::address;
use traffic_mirroring::bpf::map_defs;
use traffic_mirroring::bpf::{self, carries};
use traffic_mirroring::filter::{self, Action, Field, Rule, Sample, SampleBy, comma_list, copies};
use traffic_mirroring::maps::Maps;
use traffic_mirroring::model::Direction;
use traffic_mirroring::netlink::Netlink;

pub const TC_ACT_UNSPEC: i32 = -1;
pub const TC_ACT_OK: i32 = 0;

/// An interface index that no network namespace has.
pub const NO_SUCH_DEVICE: u32 = i32::MAX as u32;

/// The bytes of one object. If `OBJECTS` names a directory, they come from there, as compiled by
/// another compiler (see scripts/test-clang).
fn bytes_of(name: &str, built: &[u8]) -> Vec<u8> {
    match env::var_os("OBJECTS") {
        Some(folder) => {
            let path = Path::new(&folder).join(name);
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }
        None => built.to_vec(),
    }
}

static INGRESS: LazyLock<Vec<u8>> =
    LazyLock::new(|| bytes_of("mirroring_ingress.bpf.o", bpf::object_bytes(Direction::Ingress)));
static EGRESS: LazyLock<Vec<u8>> =
    LazyLock::new(|| bytes_of("mirroring_egress.bpf.o", bpf::object_bytes(Direction::Egress)));
static TUNNEL: LazyLock<Vec<u8>> =
    LazyLock::new(|| bytes_of("gue_tunnel.bpf.o", bpf::gue_tunnel_bytes()));

/// The object with the mirroring program of a direction.
pub fn object_bytes(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Ingress => &INGRESS,
        Direction::Egress => &EGRESS,
    }
}

/// The object with the two programs of the built-in tunnel.
pub fn tunnel_bytes() -> &'static [u8] {
    &TUNNEL
}

/// How the program counted a packet, in the order of `struct mirroring_outcomes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    NoMatch,
    Sent,
    Excluded,
    LoopGuard,
    NotSampled,
    Unsupported,
    Oversize,
    RateLimited,
    Failed,
}

/// The context of a frame, as far as user space may set it (`convert___skb_to_skb` in
/// net/bpf/test_run.c).
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    pub mark: u32,
    pub priority: u32,
    pub cb: [u32; 5],
    pub gso_size: u32,
    /// Bytes of the frame in the linear part of the buffer; 0: all. (Only newer kernels can make
    /// non-linear buffers in a test run.)
    pub linear: u32,
    pub gso_segs: u32,
}

/// The length of `struct __sk_buff` (include/uapi/linux/bpf.h).
const CONTEXT_LEN: usize = 192;

impl Context {
    fn to_bytes(self) -> [u8; CONTEXT_LEN] {
        let mut bytes = [0; CONTEXT_LEN];
        let mut put = |offset: usize, word: u32| {
            bytes[offset..offset + 4].copy_from_slice(&word.to_ne_bytes());
        };
        put(8, self.mark);
        put(32, self.priority);
        for (index, word) in self.cb.into_iter().enumerate() {
            put(48 + 4 * index, word);
        }
        put(80, self.linear);
        put(164, self.gso_segs);
        put(176, self.gso_size);
        bytes
    }

    /// Reads back every field that programs may change.
    fn from_bytes(bytes: &[u8]) -> Self {
        let get = |offset: usize| {
            u32::from_ne_bytes(bytes[offset..offset + 4].try_into().expect("4 bytes"))
        };
        Self {
            mark: get(8),
            priority: get(32),
            cb: [0, 1, 2, 3, 4].map(|index| get(48 + 4 * index)),
            ..Self::default()
        }
    }
}

/// The result of running a program on a frame.
pub struct Run {
    pub verdict: i32,
    pub frame: Vec<u8>,
    pub context: Context,
}

/// Runs the first program of `object` on a frame, `repeat` times.
///
/// # Panics
/// If the kernel refuses the run.
pub fn run(object: &Object, frame: &[u8], context: Context, repeat: u32) -> Run {
    try_run(&bpf::program(object), frame, context, repeat)
        .unwrap_or_else(|error| panic!("test run: {error}\n{context:?}\n{}", hex(frame)))
}

/// Runs any program on a frame. The error is the kernel's refusal of such a frame or context.
pub fn try_run(
    program: &ProgramMut<'_>,
    frame: &[u8],
    context: Context,
    repeat: u32,
) -> libbpf_rs::Result<Run> {
    let mut context_in = context.to_bytes();
    let mut context_out = [0; CONTEXT_LEN];
    // room for the tunnel's headers, or for its longest piece
    let mut data_out = vec![0; (frame.len() + 64).max(4200)];
    let output = program.test_run(ProgramInput {
        context_in: Some(&mut context_in),
        context_out: Some(&mut context_out),
        data_in: Some(frame),
        data_out: Some(&mut data_out),
        repeat,
        ..Default::default()
    })?;
    let frame = output.data.expect("there is a buffer for it").to_vec();
    let context = Context::from_bytes(output.context.expect("there is a buffer for it"));
    Ok(Run { verdict: output.return_value as i32, frame, context })
}

pub struct Harness {
    pub object: Object,
    pub maps: Maps,
    outcomes: MapHandle,
    /// The verdict expected of the program: the configured one, or that of the chain's next
    /// program.
    pub verdict: i32,
}

impl Harness {
    pub fn new(direction: Direction, verdict: i32) -> Self {
        let object = bpf::load(object_bytes(direction), &[]).expect("load (are we root?)");
        let maps = Maps::of(&object, direction).unwrap();
        let loader = bpf::Loader::MIRRORING_LOADER_SELF;
        maps.common.config.write(0, bpf::Config { loader, verdict, ..Default::default() });
        let outcomes = bpf::map(&object, &map_defs::OUTCOMES.name(direction)).unwrap();
        Self { object, maps, outcomes, verdict }
    }

    /// Runs `body` on both programs, side by side. One is in a chain, the other one alone on its
    /// interface.
    pub fn each(body: impl Fn(&mut Self) + Sync) {
        side_by_side([(Direction::Ingress, TC_ACT_OK), (Direction::Egress, TC_ACT_UNSPEC)], |it| {
            body(&mut Self::new(it.0, it.1));
        });
    }

    /// Puts rules into force. The clone of a matching packet fails, because its device does not
    /// exist.
    pub fn install(&self, rules: &[Rule]) {
        self.install_to(rules, nowhere());
    }

    pub fn install_to(&self, rules: &[Rule], tunnel: bpf::Tunnel) {
        self.maps.apply(&filter::compile(rules).unwrap(), tunnel).unwrap();
    }

    /// Runs the program on a frame with an ordinary context.
    pub fn fate(&self, frame: &[u8]) -> Fate {
        // values that others may have set, and that must stay
        self.fate_with(
            frame,
            Context { mark: 1, priority: 2, cb: [3, 4, 5, 6, 7], ..Context::default() },
        )
    }

    /// Runs the program on a frame. Checks that the verdict is the configured one, and that the
    /// packet goes on unchanged.
    pub fn pass(&self, frame: &[u8], context: Context) {
        let run = run(&self.object, frame, context, 1);
        assert_eq!(run.verdict, self.verdict, "verdict on {context:?}\n{}", hex(frame));
        assert!(
            run.frame == frame,
            "changed: {context:?}\n{}\nto: {}",
            hex(frame),
            hex(&run.frame)
        );
        assert_eq!(
            (run.context.mark, run.context.priority, run.context.cb),
            (context.mark, context.priority, context.cb),
            "context of {}",
            hex(frame)
        );
    }

    /// Does the same, and returns how the program counted the frame.
    pub fn fate_with(&self, frame: &[u8], context: Context) -> Fate {
        let before = self.counts();
        self.pass(frame, context);
        let after = self.counts();
        let fates = [
            Fate::NoMatch,
            Fate::Sent,
            Fate::Excluded,
            Fate::LoopGuard,
            Fate::NotSampled,
            Fate::Unsupported,
            Fate::Oversize,
            Fate::RateLimited,
            Fate::Failed,
        ];
        let fate = fates.into_iter().find(|fate| {
            let mut expected = before;
            if *fate != Fate::NoMatch {
                expected[0] += 1;
                expected[*fate as usize] += 1;
            }
            expected == after
        });
        fate.unwrap_or_else(|| panic!("{before:?} became {after:?} by {}", hex(frame)))
    }

    pub fn matches(&self, frame: &[u8]) -> bool {
        self.fate(frame) != Fate::NoMatch
    }

    /// How many packets met the rule with this number, of the rules in force.
    pub fn met(&self, rule: usize) -> u64 {
        self.counts_of(rule)[0]
    }

    /// The counts of one of the rules in force, in the order of [`Self::counts`].
    pub fn counts_of(&self, rule: usize) -> [u64; 9] {
        let live = self.maps.common.config.live().load(Ordering::Relaxed);
        let bit = if live as u32 == 0 { 32 + rule } else { rule };
        let cpus = self.outcomes.lookup_percpu(&(bit as u32).to_ne_bytes(), MapFlags::ANY);
        let mut counts = [0; 9];
        for cpu in cpus.unwrap().expect("an entry for each bit") {
            for (count, word) in counts.iter_mut().zip(cpu.chunks_exact(8)) {
                *count += u64::from_ne_bytes(word.try_into().unwrap());
            }
        }
        counts
    }

    /// `matched`, then the others in the order of [`Fate`], summed over all rules since the start.
    pub fn counts(&self) -> [u64; 9] {
        let it = self.maps.outcomes().unwrap();
        [
            it.matched,
            it.sent,
            it.excluded,
            it.loop_guard,
            it.not_sampled,
            it.unsupported,
            it.oversize,
            it.rate_limited,
            it.failed,
        ]
    }
}

/// GUE to 203.0.113.9:6080, through the loopback device, for packets of any kind and length.
pub fn tunnel() -> bpf::Tunnel {
    bpf::Tunnel {
        ifindex: 1,
        collector: address::words_of(IpAddr::from([203, 0, 113, 9])),
        port: 6080_u16.to_be(),
        protocol: 17,
        carries: carries::IPV6 | carries::TAGS | carries::CUT,
        ..Default::default()
    }
}

/// The same tunnel through a device that does not exist, so cloning each packet fails.
pub fn nowhere() -> bpf::Tunnel {
    bpf::Tunnel { ifindex: NO_SUCH_DEVICE, ..tunnel() }
}

/// A rule in the syntax of flags without their dashes: `protocol=tcp dst-port=80,not 443`.
pub fn rule(flags: &str) -> Rule {
    let mut rule = Rule::default();
    let (mut sample, mut snaplen) = (None, None);
    // a word without `=` continues the list before it
    let mut words = flags.split_whitespace().peekable();
    while let Some(flag) = words.next() {
        let (flag, list) = flag.split_once('=').expect("flag=value");
        let mut list = list.to_owned();
        while let Some(more) = words.next_if(|word| !word.contains('=')) {
            list = format!("{list} {more}");
        }
        let list = list.as_str();
        match flag {
            "one-in-packets" => sample = Some((copies::one_in(list).unwrap(), SampleBy::Packet)),
            "one-in-flows" => sample = Some((copies::one_in(list).unwrap(), SampleBy::Flow)),
            "snaplen" => snaplen = Some(copies::snaplen(list).unwrap()),
            flag => {
                let field = Field::all().map(Field::spec).find(|it| it.flag()[2..] == *flag);
                let field = field.unwrap_or_else(|| panic!("no flag {flag}"));
                field.parse(&mut rule, &comma_list(list).unwrap()).unwrap();
            }
        }
    }
    let sample = sample.map(|(one_in, by)| Sample { one_in, by });
    Rule { action: Action::Mirror { sample, snaplen }, ..rule }
}

/// The same for a rule that excludes packets.
pub fn exclude(flags: &str) -> Rule {
    Rule { action: Action::Exclude, ..rule(flags) }
}

/// Calls `body` on both, each in a thread, because an update mostly waits.
pub fn side_by_side<T: Send>(both: [T; 2], body: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for one in both {
            scope.spawn(|| body(one));
        }
    });
}

/// Runs `body` in a network namespace of its own, with its loopback device up.
pub fn in_namespace(body: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare (are we root?)");
            let mut netlink = Netlink::open().unwrap();
            let loopback = netlink.link("lo").unwrap().unwrap();
            netlink.set_up(loopback.index).unwrap();
            body();
        });
    });
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
