//! A SIGKILL at any moment under traffic: neither production nor the collector loses a packet.

use std::thread;
use std::time::{Duration, Instant};

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const PORT: u16 = 5300;

/// After this time, or a third of it in each launch mode, a few rounds are enough.
const LONG: Duration = Duration::from_secs(15);

/// Whether one more start or command is to be killed.
fn goes_on(rounds: u32, began: Instant, long: Duration) -> bool {
    rounds < 5 || rounds < 40 && began.elapsed() < patient(long)
}

/// How an instance is launched.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Standalone,
    Chained,
    /// Loaded by l3afd, with a process that stays.
    Resident,
}

const MODES: [Mode; 3] = [Mode::Standalone, Mode::Chained, Mode::Resident];

/// A topology with what the mode needs, on ingress and egress.
struct Stage<'a> {
    net: &'a Topology,
    mode: Mode,
    roots: Option<[Root; 2]>,
}

const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

impl<'a> Stage<'a> {
    fn new(net: &'a Topology, mode: Mode) -> Self {
        let roots = || DIRECTIONS.map(|direction| Root::attach(net.host(), direction));
        let roots = (!matches!(mode, Mode::Standalone)).then(roots);
        if let (Mode::Resident, Some(roots)) = (mode, &roots) {
            load_as_l3afd(Way::Ingress, &roots[0]);
            load_as_l3afd(Way::Egress, &roots[1]);
        }
        Self { net, mode, roots }
    }

    fn args(&self, side: usize) -> Vec<String> {
        let more = match (self.mode, &self.roots) {
            (Mode::Chained, Some(roots)) => {
                vec![format!("--map-name={}", roots[side].map_path.display())]
            }
            (Mode::Resident, _) => vec!["--resident".to_owned()],
            _ => vec![],
        };
        let args = args(DIRECTIONS[side], &[]);
        args.into_iter().map(Into::into).chain(more).collect()
    }

    fn spawn(&self, side: usize) -> Daemon {
        Daemon::mirroring(self.net.host(), self.args(side))
    }

    fn start(&self, side: usize) -> Daemon {
        let mut daemon = self.spawn(side);
        daemon.wait_ready(&format!("mirroring eth0 {}", DIRECTIONS[side]));
        daemon
    }
}

/// Requests come in and replies go out: one of each for every number.
fn assert_each_is_mirrored_once(packets: &[Packet], sent: u64, when: &str) {
    for to in [true, false] {
        let mut numbers = Stream::numbers(packets, PORT, to);
        numbers.sort_unstable();
        let missing = (0..sent).filter(|number| numbers.binary_search(number).is_err()).count();
        let twice = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!((missing, twice), (0, 0), "{when}: of {sent} datagrams");
    }
}

#[test]
fn needs_root_a_takeover_under_traffic_mirrors_each_packet_once() {
    for mode in MODES {
        Topology::run(|net| {
            let stage = Stage::new(net, mode);
            let mut daemons = [0, 1].map(|side| stage.start(side));
            let collector = Collector::listen(net.collector(), GUE_PORT);
            let stream = Stream::start(net.client(), net.host(), PORT);
            for _ in 0..4 {
                for (side, daemon) in daemons.iter_mut().enumerate() {
                    daemon.kill_now();
                    *daemon = stage.start(side);
                }
            }
            stream.goes_on(100);
            let sent = stream.stop();
            let packets = collector.stop_after_quiet(QUIET).packets();
            assert_each_is_mirrored_once(&packets, sent, &format!("{mode:?}"));
        });
    }
}

/// Starts over a dead instance, at first one of another version, are killed at random moments, too.
#[test]
fn needs_root_killed_starts_never_interrupt_the_mirroring() {
    let mut random = Random::seeded_by("KILL_SEED");
    for mode in MODES {
        Topology::run(|net| {
            let stage = Stage::new(net, mode);
            let before = Snapshot::of(net.host());
            let began = Instant::now();
            for (side, way) in Way::ALL.into_iter().enumerate() {
                stage.start(side).kill();
                // l3afd would see to it that its maps are the package's
                if !matches!(mode, Mode::Resident) {
                    make_another_version(way, &[]);
                }
            }
            // how long a start takes, with everything loaded
            let whole = began.elapsed().as_millis() as u64 / 2 + 20;
            let collector = Collector::listen(net.collector(), GUE_PORT);
            let stream = Stream::start(net.client(), net.host(), PORT);
            let mut rounds = 0;
            let began = Instant::now();
            while goes_on(rounds, began, LONG / 3) {
                let mut killed = stage.spawn((rounds % 2) as usize);
                thread::sleep(random.duration(0..whole));
                killed.kill_now();
                rounds += 1;
            }
            let daemons = [0, 1].map(|side| stage.start(side));
            stream.goes_on(100);
            let sent = stream.stop();
            let packets = collector.stop_after_quiet(QUIET).packets();
            println!("{mode:?}: {rounds} starts killed, {sent} datagrams");
            assert_each_is_mirrored_once(&packets, sent, &format!("{mode:?}"));

            drop(daemons);
            command(net.host(), &["--cmd=stop", "--iface=eth0"]);
            assert_eq!(stage.clean_slots(), [None; 2]);
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        });
    }
}

impl Stage<'_> {
    /// What is in the slots of the roots, unless l3afd has put it there.
    fn clean_slots(&self) -> [Option<u32>; 2] {
        match (&self.roots, self.mode) {
            (Some(roots), Mode::Chained) => roots.each_ref().map(Root::slot),
            _ => [None; 2],
        }
    }
}

/// Each command, in any mode after any other, dies at a random moment.
#[test]
fn needs_root_a_stop_after_killed_commands_leaves_nothing() {
    let mut random = Random::seeded_by("KILL_SEED");
    Topology::run(|net| {
        let host = net.host();
        let roots = DIRECTIONS.map(|direction| Root::attach(host, direction));
        // their maps' pins make the directories that ours are in
        let before = Snapshot::of(host);
        let stream = Stream::start(net.client(), host, PORT);
        let began = Instant::now();
        let mut rounds = 0;
        while goes_on(rounds, began, LONG) {
            let side = random.below(2) as usize;
            let map_name = format!("--map-name={}", roots[side].map_path.display());
            let direction = format!("--direction={}", DIRECTIONS[side]);
            let standalone = args(DIRECTIONS[side], &[]).into_iter().map(String::from);
            let command: Vec<String> = match random.below(8) {
                0..3 => standalone.collect(),
                3..6 => standalone.chain([map_name]).collect(),
                6 => ["--cmd=stop", "--iface=eth0", &direction].map(String::from).into(),
                _ => ["--cmd=update", "--iface=eth0", &direction, "--protocol=udp"]
                    .map(String::from)
                    .into(),
            };
            let mut killed = Daemon::mirroring(host, &command);
            thread::sleep(random.duration(0..250));
            killed.kill_now();
            rounds += 1;
        }
        println!("{rounds} commands killed, {} datagrams", stream.stop());
        command(host, &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(roots.each_ref().map(Root::slot), [None; 2]);
        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);
        assert_eq!(copies_of_three_pings(net), 0);

        let daemons = [0, 1].map(|side| start(net, DIRECTIONS[side], &[]));
        assert_eq!(copies_of_three_pings(net), 6, "it works as ever");
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);
    });
}
