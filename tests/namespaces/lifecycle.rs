//! Starts, ends, crashes and restarts: nothing of ours is left behind, and nothing of others is
//! removed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use traffic_mirroring::instance::host::Host;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

#[test]
fn needs_root_each_ending_signal_leaves_the_host_as_it_was() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let mut ingress = start(net, "ingress", &[]);
            let mut egress = start(net, "egress", &[]);
            assert_ne!(Snapshot::of(net.host()), before);
            for daemon in [&mut ingress, &mut egress] {
                daemon.signal(signal);
                assert_eq!(daemon.wait().code(), Some(0), "{signal}");
            }
            let changes = Snapshot::of(net.host()).changes_since(&before);
            assert_eq!(changes, [""; 0], "{signal}");
        }
    });
}

#[test]
fn needs_root_sigterm_clears_the_slot_of_a_chained_instance() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "egress");
        let before = Snapshot::of(net.host());
        let daemon = start_chained(net, "egress", &root, &[]);
        assert!(root.slot().is_some());
        assert!(daemon.terminate().success());
        assert_eq!(root.slot(), None);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_stop_from_outside_ends_a_process_in_order() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let mut daemon = start(net, "ingress", &[]);
        // in l3afd's unusual argument form
        command(net.host(), &["--cmd =stop", "--iface =eth0", "--direction =ingress"]);
        assert_eq!(daemon.wait().code(), Some(0));
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        // stopping succeeds when there is nothing to stop
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
    });
}

#[test]
fn needs_root_a_stop_ends_the_start_that_it_waited_for() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let host = Host::open("/sys/fs/bpf".as_ref()).expect("the host");
        let lock = host.lock().expect("the lock");
        let args = args("ingress", &[]);
        let mut daemon = Daemon::mirroring(net.host(), args.iter().map(|arg| arg.as_ref()));
        let mut stop = Daemon::mirroring(net.host(), ["--cmd=stop", "--iface=eth0"]);
        eventually("a stop that waits for the lock", || {
            let open = fs::read_dir(format!("/proc/{}/fd", stop.pid())).into_iter().flatten();
            let mut open = open.flatten().flat_map(|entry| fs::read_link(entry.path()));
            open.any(|path| path == Path::new("/sys/fs/bpf"))
        });
        // the start must get the lock first
        stop.signal(Signal::SIGSTOP);
        drop(lock);
        daemon.wait_ready("mirroring eth0 ingress");
        stop.signal(Signal::SIGCONT);
        assert!(stop.wait().success());
        assert!(daemon.wait().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_stop_ends_only_what_it_is_asked_to() {
    Topology::run(|net| {
        let ingress = start(net, "ingress", &[]);
        let mut egress = start(net, "egress", &[]);
        let stop = ["--cmd=stop", "--iface=eth0"];
        command(net.host(), &[&stop[..], &["--direction=egress"]].concat());
        assert!(egress.wait().success());
        assert_eq!(copies_of_three_pings(net), 3, "ingress goes on");
        command(net.host(), &[&stop[..], &["--version=other"]].concat());
        assert_eq!(copies_of_three_pings(net), 3, "ingress goes on");
        assert!(ingress.terminate().success());
    });
}

#[test]
fn needs_root_a_start_over_a_live_instance_is_refused_by_name() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &[]);
        let before = Snapshot::of(net.host());
        let again = args("ingress", &[]);
        let output = mirroring(net.host(), again.iter().map(|arg| arg.as_ref()));
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(&format!("process {}", daemon.pid())), "{stderr}");
        assert_eq!(Snapshot::of(net.host()), before);
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

#[test]
fn needs_root_of_starts_at_once_exactly_one_wins() {
    let race = |net: &Topology| {
        let args = args("ingress", &[]);
        let args = || args.iter().map(|arg| arg.as_ref());
        let mut daemons: Vec<_> = (0..4).map(|_| Daemon::mirroring(net.host(), args())).collect();
        let mut losers = 0;
        eventually("three that gave up", || {
            losers = daemons.iter().filter(|it| it.output().contains("already")).count();
            losers == 3
        });
        daemons.retain(|daemon| !daemon.output().contains("already"));
        let [winner] = &mut daemons[..] else { panic!("{} winners", daemons.len()) };
        winner.wait_ready("mirroring eth0 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
    };
    Topology::run(race);
    Topology::run(|net| {
        // the first start mounts it, over the directory that the others wait for
        nix::mount::umount("/sys/fs/bpf").expect("no bpffs");
        race(net);
    });
}

/// In every launch mode, a re-run with a narrower filter mirrors only what that matches.
#[test]
fn needs_root_a_rerun_with_a_narrower_filter_mirrors_only_that() {
    let mirrored_flows = |net: &Topology| -> Vec<(u8, Option<u16>)> {
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        udp_exchange(net.client(), net.host(), 5300, 3, 100);
        udp_exchange(net.client(), net.host(), 5301, 3, 100);
        let copies = collector.stop_after_quiet(QUIET).packets();
        copies.into_iter().map(|copy| (copy.protocol, copy.ports.map(|ports| ports.1))).collect()
    };
    let all = vec![(1, None), (17, Some(5300)), (17, Some(5301))];
    let all: Vec<_> = all.into_iter().flat_map(|flow| [flow; 3]).collect();
    let narrower = ["--protocol=udp", "--dst-port=5301", "--src-address=10.1.0.0/24"];
    let only_5301 = vec![(17, Some(5301)); 3];

    Topology::run(|net| {
        let daemon = start(net, "ingress", &[]);
        assert_eq!(mirrored_flows(net), all);
        daemon.kill();
        let _daemon = start(net, "ingress", &narrower);
        assert_eq!(mirrored_flows(net), only_5301);
    });
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let daemon = start_chained(net, "ingress", &root, &[]);
        assert_eq!(mirrored_flows(net), all);
        assert!(daemon.terminate().success());
        let _daemon = start_chained(net, "ingress", &root, &narrower);
        assert_eq!(mirrored_flows(net), only_5301);
    });
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &["--src-address=10.0.0.0/8,1.2.3.4"]);
        assert_eq!(mirrored_flows(net), all);
        // l3afd crashed and loads again, with the pinned maps
        load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &narrower);
        assert_eq!(mirrored_flows(net), only_5301);
    });
}

#[test]
fn needs_root_update_changes_the_filter_of_every_launch_mode() {
    let update = |net: &Topology, more: &[&str]| {
        let args = ["--cmd=update", "--iface=eth0", "--direction=ingress"];
        command(net.host(), &[&args, more].concat());
    };
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--protocol=tcp"]);
        assert_eq!(copies_of_three_pings(net), 0);
        update(net, &["--protocol=icmp"]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());

        let root = Root::attach(net.host(), "ingress");
        let daemon = start_chained(net, "ingress", &root, &["--protocol=tcp"]);
        update(net, &["--protocol=icmp"]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());

        load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &["--protocol=tcp"]);
        update(net, &["--protocol=icmp"]);
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

#[test]
fn needs_root_status_says_one_word_and_nothing_else() {
    Topology::run(|net| {
        let running = ("RUNNING".to_string(), Some(0));
        let stopped = ("STOPPED".to_string(), Some(3));
        assert_eq!(status(net, &[]), stopped);
        let daemon = start(net, "ingress", &[]);
        assert_eq!(status(net, &[]), running);
        assert_eq!(status(net, &["--iface =eth0", "--direction =ingress"]), running);
        assert_eq!(status(net, &["--iface=eth0", "--direction=egress"]), stopped);
        assert_eq!(status(net, &["--iface=eth1"]), stopped);
        // packets are still mirrored, but a part of the instance is missing
        daemon.kill();
        assert_eq!(status(net, &[]), stopped);
    });
}

#[test]
fn needs_root_an_l3afd_loaded_start_exits_and_a_stop_cleans_up() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &[]);
        assert_eq!(status(net, &[]).0, "RUNNING");
        assert!(has_tunnel(net));

        // a stop ends the mirroring, and leaves l3afd's program and pins in place
        command(net.host(), &["--cmd=stop", "--iface=eth0", "--direction=ingress"]);
        assert!(!has_tunnel(net));
        assert!(pins.program().exists() && root.slot().is_some());
        assert_eq!(copies_of_three_pings(net), 0);

        // l3afd unloads without notice: the next stop of any instance cleans up
        run_as_l3afd(net, "ingress", &[]);
        assert!(has_tunnel(net));
        pins.remove().expect("l3afd's pins to go");
        command(net.host(), &["--cmd=stop", "--iface=eth1"]);
        assert!(!has_tunnel(net));
        drop(root);
        net.host().sh("rm -r /sys/fs/bpf/tc");
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_resident_start_stays_and_clears_up_at_sigterm() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        let before = Snapshot::of(net.host());
        let daemon = start(net, "ingress", &["--resident=true"]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert_eq!(status(net, &[]).0, "RUNNING");
        assert!(daemon.terminate().success());
        assert_eq!(copies_of_three_pings(net), 0);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);

        let daemon = start(net, "ingress", &["--resident"]);
        daemon.kill();
        assert_eq!(status(net, &[]).0, "STOPPED", "so that l3afd starts it again");
        assert!(pins.program().exists());
    });
}

#[test]
fn needs_root_a_missing_bpffs_is_mounted() {
    Topology::run(|net| {
        // the mount namespace is the test's own, and so is its /sys/fs/bpf
        nix::mount::umount("/sys/fs/bpf").expect("no bpffs");
        let daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(fs::metadata("/sys/fs/bpf/tc").is_ok());
        assert!(daemon.terminate().success());
        let links = net.host().sh("ip -o link");
        assert!(!links.contains("gue1"), "{links}");
    });
}

#[test]
fn needs_root_interfaces_with_a_dot_in_their_name_are_mirrored() {
    Topology::run(|net| {
        let host = net.host();
        let before = Snapshot::of(host);
        host.sh("ip link set eth0 down; ip link set eth0 name eth0.100; ip link set eth0.100 up");
        eventually("the link", || host.sh("ip -o link show eth0.100").contains("state UP"));
        let renamed = Snapshot::of(host);
        let mut daemon = Daemon::mirroring(
            host,
            [&["--iface=eth0.100", "--direction=ingress"][..], &TO_COLLECTOR].concat(),
        );
        daemon.wait_ready("mirroring eth0.100 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
        assert_eq!(status(net, &["--iface=eth0.100"]).0, "RUNNING");
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(host), renamed);
        assert_ne!(renamed, before);
    });
}

#[test]
fn needs_root_the_log_has_each_step_and_is_optional() {
    Topology::run(|net| {
        let mut daemon = start(net, "ingress", &[]);
        ping(net.client(), net.host(), 3, 56);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let log = daemon.output();
        for part in ["copies go to 10.2.0.2:6080", "SIGTERM", "matched 3, sent 3"] {
            assert!(log.contains(part), "{part:?} in {log}");
        }

        let mut daemon = Daemon::mirroring(
            net.host(),
            args("ingress", &["--log-dir=/no/such/place"]).iter().map(|arg| arg.as_ref()),
        );
        daemon.wait_ready("/no/such/place/mirroring.log");
        eventually("packets mirrored without a log", || status(net, &[]).0 == "RUNNING");
        // and it keeps running until told to end
        thread::sleep(QUIET);
        assert_eq!(copies_of_three_pings(net), 3);
        assert_eq!(status(net, &[]).0, "RUNNING");
        assert!(daemon.terminate().success());
    });
}

/// As when a remote login breaks off: the terminal is gone, and the process gets SIGHUP.
#[test]
fn needs_root_a_hangup_with_nobody_left_to_tell_ends_in_order() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let mut terminal = pty();
        let mut command = net.host().command(testkit::binary());
        command.args(args("ingress", &["--log-dir=/no/such/place"]).iter().map(|arg| arg.as_ref()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(terminal.1);
        let mut process = command.spawn().expect("mirroring");
        drop(command);
        let mut said = String::new();
        while !said.contains("mirroring eth0 ingress") {
            let mut buffer = [0; 256];
            let length = terminal.0.read(&mut buffer).expect("output on the terminal");
            said += &String::from_utf8_lossy(&buffer[..length]);
        }

        drop(terminal.0);
        nix::sys::signal::kill(Pid::from_raw(process.id() as i32), Signal::SIGHUP)
            .expect("a signal");
        assert_eq!(process.wait().expect("an exit").code(), Some(0));
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

fn has_tunnel(net: &Topology) -> bool {
    net.host().sh("ip -o link").contains(" gue1@")
}
