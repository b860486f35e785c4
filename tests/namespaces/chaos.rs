//! Everything at once, at random, for a while: traffic both ways, instances that are started, updated,
//! killed and stopped in any launch mode, interfaces that flap. Production notices nothing.
//!
//! `CHAOS_SECONDS` says for how long, `CHAOS_SEED` repeats a run.

use std::collections::HashSet;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use traffic_mirroring::bpf::pins::Pins;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const DEFAULT_SECONDS: u64 = 12;

const SIDES: [(&str, Way); 2] = [("ingress", Way::Ingress), ("egress", Way::Egress)];

const FLAPS: [&str; 6] = [
    "ip link set eth1 down; ip link set eth1 up",
    "ip link set gue1 down || :",
    "ip link set gue1-p down || :",
    "ip link delete gue1 || :",
    "ip link set eth1 mtu 1400; ip link set eth1 mtu 1500",
    "nsenter --net=/run/netns/collector sh -c 'ip link set eth0 down; ip link set eth0 up'",
];

const FILTERS: [&[&str]; 4] = [
    &[],
    &["--protocol=icmp,udp"],
    &["--protocol=tcp", "--src-address=10.0.0.0/8,192.0.2.1"],
    &["--dst-port=5300-5400", "--dst-address=10.1.0.1"],
];

#[test]
fn needs_root_chaos_neither_harms_production_nor_leaves_a_trace() {
    let seconds =
        env::var("CHAOS_SECONDS").map(|text| text.parse().expect("CHAOS_SECONDS: a number"));
    let duration = Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS));
    let random = Random::seeded_by("CHAOS_SEED");
    Topology::run(|net| {
        let host = net.host();
        // so that what is captured is what a wire would see
        one_frame_per_packet(net);
        let roots = SIDES.map(|(direction, _)| Root::attach(host, direction));
        let before = Snapshot::of(host);
        let mut log = KernelLog::watch();
        let capture = Capture::start(host, "eth0");
        let collector = Collector::listen(net.collector(), GUE_PORT);

        let traffic = Traffic::default();
        let mut chaos = Chaos { net, random, roots, sides: Default::default(), calms: 0 };
        let done = thread::scope(|scope| {
            traffic.start(net, scope);
            // the traffic has to end, also after a panic
            let _end = traffic.ends_with_this();
            chaos.reign(duration)
        });
        chaos.calm_down();
        println!("{done} deeds, {} calms; {traffic:?}", chaos.calms);

        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);
        assert_eq!(log.complaints(), [""; 0]);
        let passed = capture.stop();
        let passed: HashSet<&[u8]> = passed.0.iter().filter_map(|frame| frame.ipv4()).collect();
        let copies = collector.stop_after_quiet(QUIET);
        println!("{} copies of {} packets", copies.0.len(), passed.len());
        let mut false_ones = copies.ipv4();
        false_ones.retain(|copy| !passed.contains(copy));
        if let Some(one) = false_ones.first() {
            panic!("{} copies of what was never sent, such as {one:02x?}", false_ones.len());
        }
    });
}

/// Production traffic. The test fails when a single answer is missing or changed.
#[derive(Debug, Default)]
struct Traffic {
    ended: AtomicBool,
    pings: AtomicU64,
    streams: AtomicU64,
    datagrams: AtomicU64,
}

impl Traffic {
    fn start<'s>(&'s self, net: &'s Topology, scope: &'s thread::Scope<'s, '_>) {
        let (client, host) = (net.client(), net.host());
        let repeat = move |count: &'s AtomicU64, deed: Box<dyn Fn() + Send + 's>| {
            scope.spawn(move || {
                while !self.ended.load(Ordering::Relaxed) {
                    deed();
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(50));
                }
            });
        };
        repeat(&self.pings, Box::new(|| ping(client, host, 3, 700)));
        repeat(&self.streams, Box::new(|| _ = tcp_exchange(client, host, 8080, 16 << 10)));
        repeat(&self.streams, Box::new(|| _ = tcp_exchange(host, client, 8081, 16 << 10)));
        for (from, to, port) in [(client, host, 5300), (host, client, 5301)] {
            let stream = Stream::start(from, to, port);
            scope.spawn(move || {
                while !self.ended.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
                self.datagrams.fetch_add(stream.stop(), Ordering::Relaxed);
            });
        }
    }

    fn ends_with_this(&self) -> impl Drop {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        End(&self.ended)
    }
}

/// What runs of one direction.
#[derive(Default)]
struct Side {
    /// the process that stays, if one does
    daemon: Option<Daemon>,
    /// what l3afd pinned
    l3afd: Option<Pins>,
}

struct Chaos<'a> {
    net: &'a Topology,
    random: Random,
    roots: [Root; 2],
    sides: [Side; 2],
    calms: u32,
}

impl Chaos<'_> {
    fn reign(&mut self, duration: Duration) -> u32 {
        let began = Instant::now();
        let mut deeds = 0;
        while began.elapsed() < duration {
            let side = self.random.below(2) as usize;
            match self.random.below(20) {
                0..5 => self.start(side),
                5..8 => self.start_and_kill(side),
                8..10 => self.update(side),
                10..12 => self.kill(side),
                12..14 => self.stop(side),
                14..18 => self.flap(),
                18 => self.load_or_unload(side),
                _ => self.check_that_copies_arrive(side),
            }
            deeds += 1;
            thread::sleep(self.random.duration(0..100));
        }
        self.check_that_copies_arrive(0);
        deeds
    }

    /// The words of a start in a random launch mode, or in that of l3afd where it has loaded the program.
    fn command(&mut self, side: usize) -> Vec<String> {
        let filter = self.random.pick(&FILTERS);
        let mut command: Vec<String> =
            args(SIDES[side].0, filter).into_iter().map(Into::into).collect();
        if self.sides[side].l3afd.is_some() {
            command.extend(self.random.one_in(2).then(|| "--resident".to_owned()));
        } else if self.random.one_in(2) {
            command.push(format!("--map-name={}", self.roots[side].map_path.display()));
        }
        command
    }

    /// Over a live one, the start has to be refused.
    fn start(&mut self, side: usize) {
        let command = self.command(side);
        let mut daemon = Daemon::mirroring(self.net.host(), &command);
        let live = self.sides[side].daemon.is_some();
        let mut settled = false;
        let stays = self.sides[side].l3afd.is_none() || command.contains(&"--resident".to_owned());
        eventually("a start or a refusal", || {
            let said = daemon.output();
            // also for what flapped at that moment
            settled = said.contains("mirroring eth0") || said.contains("error: ");
            settled
        });
        let started = daemon.output().contains("mirroring eth0");
        assert!(!(live && started), "two processes for one direction: {}", daemon.output());
        if started && stays {
            self.sides[side].daemon = Some(daemon);
        } else {
            daemon.wait();
        }
    }

    fn start_and_kill(&mut self, side: usize) {
        let command = self.command(side);
        let mut daemon = Daemon::mirroring(self.net.host(), &command);
        thread::sleep(self.random.duration(0..250));
        daemon.kill_now();
    }

    fn update(&mut self, side: usize) {
        let direction = format!("--direction={}", SIDES[side].0);
        let filter = self.random.pick(&FILTERS);
        let update = ["--cmd=update", "--iface=eth0", &direction];
        let output = mirroring(self.net.host(), [&update, filter].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let live = self.sides[side].daemon.is_some();
        assert!(output.status.success() || !live, "{stderr}");
    }

    fn kill(&mut self, side: usize) {
        if let Some(mut daemon) = self.sides[side].daemon.take() {
            daemon.kill_now();
        }
    }

    /// By a signal, or from outside.
    fn stop(&mut self, side: usize) {
        match self.sides[side].daemon.take() {
            Some(daemon) if self.random.one_in(2) => assert!(daemon.terminate().success()),
            daemon => {
                let direction = format!("--direction={}", SIDES[side].0);
                command(self.net.host(), &["--cmd=stop", "--iface=eth0", &direction]);
                drop(daemon);
            }
        }
    }

    fn flap(&mut self) {
        let flap = self.random.pick(&FLAPS);
        // whether an instance is there or not
        let output = self.net.host().command("sh").args(["-c", flap]).output().expect("sh");
        drop(output);
    }

    /// What l3afd does: only where nothing of ours is there.
    fn load_or_unload(&mut self, side: usize) {
        self.stop(side);
        match self.sides[side].l3afd.take() {
            Some(pins) => {
                self.roots[side].clear();
                pins.remove().expect("l3afd's pins to go");
            }
            None => self.sides[side].l3afd = Some(load_as_l3afd(SIDES[side].1, &self.roots[side])),
        }
    }

    /// An instance that is up and undisturbed mirrors.
    fn check_that_copies_arrive(&mut self, side: usize) {
        if self.sides[side].daemon.is_none() {
            let mut command: Vec<String> =
                args(SIDES[side].0, &["--protocol=udp"]).into_iter().map(Into::into).collect();
            if self.sides[side].l3afd.is_some() {
                command.push("--resident".to_owned());
            }
            let mut daemon = Daemon::mirroring(self.net.host(), &command);
            daemon.wait_ready("mirroring eth0");
            self.sides[side].daemon = Some(daemon);
        } else {
            let direction = format!("--direction={}", SIDES[side].0);
            let update = ["--cmd=update", "--iface=eth0", &direction, "--protocol=udp"];
            command(self.net.host(), &update);
        }
        eventually("copies", || {
            let copies = Capture::start(self.net.collector(), "eth0");
            thread::sleep(Duration::from_millis(50));
            let frames = copies.stop_now();
            frames.ipv4(Direction::Received).iter().any(|packet| packet[9] == 17)
        });
        self.calms += 1;
    }

    /// The end: what chaos left is taken away as an operator does, and l3afd.
    fn calm_down(&mut self) {
        let host = self.net.host();
        for side in &mut self.sides {
            side.daemon.take();
        }
        command(host, &["--cmd=stop", "--iface=eth0"]);
        for (side, root) in self.sides.iter_mut().zip(&self.roots) {
            if let Some(pins) = side.l3afd.take() {
                root.clear();
                pins.remove().expect("l3afd's pins to go");
            }
            assert_eq!(root.slot(), None);
        }
        host.sh("ip link set eth1 up; ip link set eth1 mtu 1500");
        self.net.collector().sh("ip link set eth0 up");
        eventually("links that are up", || {
            let links = host.sh("ip -o link show type veth");
            links.lines().all(|link| link.contains("state UP"))
        });
    }
}
