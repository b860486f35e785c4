//! l3afd's graceful restart. It ends the processes and starts new ones, with a direction that
//! belongs to neither of them.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use traffic_mirroring::bpf::pins::Pins;
use traffic_mirroring::instance::Instance;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const PORT: u16 = 5300;
/// The direction that l3afd passes at a restart.
const RESTART: &str = "xdpingress";

/// How l3afd ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Signal,
    CmdStop,
}

/// The socket where l3afd waits for its successor during a restart.
fn socket_of_a_restart(net: &Topology) -> UnixListener {
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a /tmp");
    net.host().run(|| UnixListener::bind("/tmp/l3afd.sock").expect("the socket"))
}

struct Stage<'a> {
    net: &'a Topology,
    socket: UnixListener,
    pins: [Pins; 2],
    _roots: [Root; 2],
}

impl<'a> Stage<'a> {
    fn new(net: &'a Topology, release: Release) -> Self {
        let roots = Way::ALL.map(|way| Root::attach(net.host(), way.as_str()));
        let load = |n: usize| load_as(release, Way::ALL[n], &roots[n], "/sys/fs/bpf");
        let pins = [load(0), load(1)];
        Self { net, socket: socket_of_a_restart(net), pins, _roots: roots }
    }

    /// Launches one direction's process as l3afd does, with the direction argument given.
    fn launch(&self, side: usize, direction: &str) -> Daemon {
        // the tunnel identifies the instance
        let device = format!("--tunnel-interface-name=gue{side}");
        let args = args(direction, &["--resident=true", "--protocol=udp", &device]);
        let args: Vec<&str> = args.iter().map(|arg| arg.as_ref()).collect();
        Daemon::mirroring_by_l3afd(self.net.host(), &[self.socket.as_fd()], &args)
    }

    fn instance(&self, side: usize) -> Instance {
        Instance::open(self.pins[side].clone()).expect("the pins").expect("an instance")
    }

    fn pid(&self, side: usize) -> Pid {
        Pid::from_raw(self.instance(side).process().pid as i32)
    }

    fn await_running(&self, daemons: &[Daemon]) {
        for side in [0, 1] {
            eventually("a process", || self.instance(side).is_running());
        }
        assert!(daemons.iter().all(|daemon| !daemon.output().contains("ERROR")));
    }
}

#[test]
fn needs_root_five_restarts_leave_no_gap_and_keep_the_rules() {
    for (release, end) in [
        (Release::Main, End::Signal),
        (Release::Main, End::CmdStop),
        (Release::V2_1, End::Signal),
        (Release::V2_1, End::CmdStop),
    ] {
        Topology::run(|net| {
            println!("{release:?}, {end:?}");
            let stage = Stage::new(net, release);
            let mut daemons = [0, 1].map(|side| stage.launch(side, Way::ALL[side].as_str()));
            stage.await_running(&daemons);
            for direction in ["ingress", "egress"] {
                let direction = format!("--direction={direction}");
                let update = ["--cmd=update", "--iface=eth0", &direction, "--protocol=udp,icmp"];
                command(net.host(), &update);
            }
            assert_eq!(copies_of_three_pings(net), 6);

            let collector = Collector::listen(net.collector(), GUE_PORT);
            let stream = Stream::start(net.client(), net.host(), PORT);
            for restart in 1..=5 {
                let before = [0, 1].map(|side| stage.pid(side));
                for (side, daemon) in daemons.iter_mut().enumerate() {
                    match end {
                        End::Signal => kill(before[side], Signal::SIGTERM).expect("a process"),
                        End::CmdStop => {
                            let direction = format!("--direction={RESTART}");
                            command(net.host(), &["--iface=eth0", &direction, "--cmd =stop"]);
                        }
                    }
                    daemon.wait();
                }
                daemons = [0, 1].map(|side| stage.launch(side, RESTART));
                stage.await_running(&daemons);
                let after = [0, 1].map(|side| stage.pid(side));
                assert!(before.iter().all(|pid| !after.contains(pid)), "restart {restart}");
                for (side, daemon) in daemons.iter_mut().enumerate() {
                    // each process has resumed the instance with its tunnel
                    let way = Way::ALL[side];
                    daemon.wait_ready(&format!("resumed eth0 {way}"));
                }
            }
            let sent = stream.stop();
            let packets = collector.stop_after_quiet(QUIET).packets();
            for to in [true, false] {
                let mut numbers = Stream::numbers(&packets, PORT, to);
                numbers.sort_unstable();
                assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "each packet is mirrored once");
            }
            assert_eq!(copies_of_three_pings(net), 6, "the rules of the update are in force");
            assert_eq!(status(net, &[]).0, "RUNNING");
        });
    }
}

#[test]
fn needs_root_l3afds_signal_without_a_restart_ends_it() {
    Topology::run(|net| {
        let stage = Stage::new(net, Release::Main);
        let root = Root::attach(net.host(), "ingress");
        let args = args("ingress", &["--resident=true"]);
        let args: Vec<&str> = args.iter().map(|arg| arg.as_ref()).collect();
        // this l3afd has no such socket
        let mut daemon = Daemon::mirroring_by_l3afd(net.host(), &[root.program()], &args);
        daemon.wait_ready("mirroring eth0 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
        kill(stage.pid(0), Signal::SIGTERM).expect("a process");
        assert!(daemon.wait().success());
        assert_eq!(copies_of_three_pings(net), 0);
        assert!(!net.host().sh("ip link").contains("gue1"));
    });
}

#[test]
fn needs_root_after_a_restart_a_lone_program_has_no_process() {
    Topology::run(|net| {
        let stage = Stage::new(net, Release::Main);
        run_as_l3afd(net, "ingress", &[]);
        let mut egress = stage.launch(1, "egress");
        egress.wait_ready("mirroring eth0 egress");
        kill(stage.pid(1), Signal::SIGTERM).expect("a process");
        egress.wait();
        let mut egress = stage.launch(1, RESTART);
        egress.wait_ready("resumed eth0 egress");
        assert_eq!(stage.instance(0).record().pid, 0);
        // no instance without a process is left
        let mut another = stage.launch(1, RESTART);
        another.wait_ready("resumed eth0 ingress");
        let mut third = stage.launch(1, RESTART);
        assert_eq!(third.wait().code(), Some(1));
        assert!(
            third.log().contains("has loaded no program for eth0 (latest) that lacks its process")
        );
    });
}
