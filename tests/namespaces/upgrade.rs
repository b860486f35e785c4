//! From version N to N+1 in production: mirroring has no gap, and no other program is affected.

use traffic_mirroring::bpf::pins;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const PORT: u16 = 5300;

/// How many copies of each of the stream's datagrams there are, requests and replies apart.
fn copies_of_each(packets: &[Packet], sent: u64) -> Vec<usize> {
    let mut copies = vec![0; 2 * sent as usize];
    for (half, to) in [true, false].into_iter().enumerate() {
        for number in Stream::numbers(packets, PORT, to) {
            copies[half * sent as usize + number as usize] += 1;
        }
    }
    copies
}

/// What stands behind both directions' instances: where they are in a chain, a program that counts.
struct Behind(Option<Counter>);

fn follow_both(launcher: &Launcher, version: &str) -> Behind {
    Behind((launcher.mode == Mode::Chained).then(|| {
        let counter = Counter::load();
        for way in Way::ALL {
            counter.follow(&jmp_table(&way.to_string()).replace("latest", version));
        }
        counter
    }))
}

impl Behind {
    /// Datagrams came in, and went out again.
    fn assert_saw_all(&self, sent: u64) {
        if let Behind(Some(counter)) = self {
            assert!(counter.count() >= 2 * sent, "{} of {sent} each way", counter.count());
        }
    }
}

/// Two versions by their names run beside each other until the older one is stopped.
#[test]
fn needs_root_a_newer_version_beside_an_older_one_leaves_no_gap() {
    in_self_loaded_modes(|net, launcher| {
        let before = Snapshot::of(net.host());
        let start = |version: &str| Way::ALL.map(|way| launcher.start(way, &[version]));
        let older = start("--version=1.0");
        let behind = follow_both(launcher, "1_0");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let stream = Stream::start(net.client(), net.host(), PORT);
        let newer = start("--version=1.1");
        command(net.host(), &["--cmd=stop", "--iface=eth0", "--version=1.0"]);
        for daemon in older {
            assert!(daemon.expect("a process").wait().success());
        }
        let sent = stream.stop();
        let packets = collector.stop_after_quiet(QUIET).packets();
        behind.assert_saw_all(sent);
        let copies = copies_of_each(&packets, sent);
        assert!(sent > 20 && copies.iter().all(|count| [1, 2].contains(count)), "{copies:?}");
        assert!(copies.contains(&1) && copies.contains(&2), "{copies:?}");

        assert_eq!(copies_of_three_pings(net), 6, "once each");
        assert_eq!(status(net, &["--version=1.1"]).0, "RUNNING");
        assert_eq!(status(net, &["--version=1.0"]).0, "STOPPED");
        for daemon in newer {
            assert!(daemon.expect("a process").terminate().success());
        }
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// What stands behind a version in the chain stands there still when that one has gone.
#[test]
fn needs_root_in_a_chain_either_version_can_leave_first() {
    let jmp_table_of = |version: &str| jmp_table("ingress").replace("latest", version);
    let sees = |net: &Topology, behind: &Counter, when: &str| {
        let before = behind.count();
        assert!(copies_of_three_pings(net) > 0, "{when}");
        assert!(behind.count() >= before + 3, "{when}: it is not in the chain");
    };
    for newer_in_front in [true, false] {
        for older_leaves_first in [true, false] {
            Topology::run(|net| {
                let root = Root::attach(net.host(), "ingress");
                let before = Snapshot::of(net.host());
                let older = start_chained(net, "ingress", &root, &["--version=1"]);
                let behind = Counter::load();
                behind.follow(&jmp_table_of("1"));
                sees(net, &behind, "one version");
                let newer = match newer_in_front {
                    true => start_chained(net, "ingress", &root, &["--version=2"]),
                    false => {
                        let map_name = format!("--map-name={}", jmp_table_of("1"));
                        start(net, "ingress", &["--version=2", &map_name])
                    }
                };
                sees(net, &behind, "both");
                assert_eq!(copies_of_three_pings(net), 6, "both");
                let (first, last) =
                    if older_leaves_first { (older, newer) } else { (newer, older) };
                assert!(first.terminate().success());
                sees(net, &behind, "one left");
                assert_eq!(copies_of_three_pings(net), 3, "one left");
                assert!(last.terminate().success());
                assert_eq!(root.slot(), Some(behind.id()));
                assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
            });
        }
    }
}

/// The newer version has come before it in the chain: the older one's next start keeps its place.
#[test]
fn needs_root_after_a_crash_a_start_keeps_its_chained_place() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let older = start_chained(net, "ingress", &root, &["--version=1"]);
        let behind = Counter::load();
        behind.follow(&jmp_table("ingress").replace("latest", "1"));
        let newer = start_chained(net, "ingress", &root, &["--version=2"]);
        let front = root.slot();
        older.kill();
        let older = start_chained(net, "ingress", &root, &["--version=1"]);
        assert_eq!(root.slot(), front);
        let before = behind.count();
        assert_eq!(copies_of_three_pings(net), 6, "one by each");
        assert!(behind.count() >= before + 3);
        for daemon in [newer, older] {
            assert!(daemon.terminate().success());
        }
        assert_eq!(root.slot(), Some(behind.id()));
    });
}

/// The older version's process is dead, its program mirrors on, and its maps are not as ours.
#[test]
fn needs_root_a_start_replaces_a_dead_older_version() {
    in_self_loaded_modes(|net, launcher| {
        let before = Snapshot::of(net.host());
        let start = |way| launcher.start(way, &[]).expect("a process");
        for way in Way::ALL {
            start(way).kill();
            make_another_version(way, &[]);
            shorten_record(way);
        }
        let behind = follow_both(launcher, "latest");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let stream = Stream::start(net.client(), net.host(), PORT);
        let daemons = Way::ALL.map(start);
        let sent = stream.stop();
        let packets = collector.stop_after_quiet(QUIET).packets();
        let copies = copies_of_each(&packets, sent);
        assert!(sent > 20 && copies.iter().all(|count| *count == 1), "{copies:?}");
        behind.assert_saw_all(sent);
        // its maps are this version's, all of them and no others
        let maps = std::fs::read_dir("/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest");
        assert_eq!(maps.expect("pins").count(), 2 * pins::map_names(Way::Ingress).len());
        command(
            net.host(),
            &["--cmd=update", "--iface=eth0", "--direction=ingress", "--dst-port=1"],
        );
        assert_eq!(copies_of_three_pings(net), 3, "replies alone");
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_stop_ends_a_dead_older_version() {
    in_every_launch_mode(|net, launcher| {
        let before = Snapshot::of(net.host());
        let daemon = launcher.start(Way::Ingress, &[]);
        let is_of_l3afd = daemon.is_none();
        let loaded = Snapshot::of(net.host());
        if let Some(daemon) = daemon {
            daemon.kill();
        }
        make_another_version(Way::Ingress, &["tunnel"]);
        shorten_record(Way::Ingress);
        assert_eq!(copies_of_three_pings(net), 3);
        let running = if is_of_l3afd { "RUNNING" } else { "STOPPED" };
        assert_eq!(status(net, &["--iface=eth0"]).0, running);
        let stop = mirroring(net.host(), ["--cmd=stop", "--iface=eth0"]);
        assert!(stop.status.success());
        assert_eq!(copies_of_three_pings(net), 0);
        assert_eq!(status(net, &["--iface=eth0"]).0, "STOPPED");
        if !is_of_l3afd {
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        } else {
            let changes = Snapshot::of(net.host()).changes_since(&loaded);
            assert!(changes.iter().all(|change| !change.contains("progs")), "{changes:#?}");
        }
    });
}

/// A live instance of another version is treated as any other; what this version cannot do with it is an error.
#[test]
fn needs_root_a_live_older_version_is_shown_as_far_as_known() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let mut older = start(net, "ingress", &[]);
        make_another_version(Way::Ingress, &["tunnel"]);
        shorten_record(Way::Ingress);
        assert_eq!(status(net, &[]).0, "RUNNING");
        let as_it_is = Snapshot::of(net.host());
        let this = ["--iface=eth0", "--direction=ingress"];
        let elsewhere = "--tunnel-remote-address=10.2.0.77";
        let by_pid = format!("process {}", older.pid());
        for (args, said) in [
            (args("ingress", &[]), by_pid.as_str()),
            (args("egress", &[elsewhere]), "\"gue1\" has another collector"),
            (
                this.iter()
                    .chain(&["--cmd=update", "--protocol=udp"])
                    .map(|it| (*it).into())
                    .collect(),
                "another version's",
            ),
            (
                this.iter()
                    .chain(&["--cmd=update", "--protocol=udp", "--dry-run"])
                    .map(|it| (*it).into())
                    .collect(),
                "another version's",
            ),
            (
                this.iter()
                    .chain(&["--cmd=explain", "--packet=10.0.0.1 > 10.0.0.2 icmp"])
                    .map(|it| (*it).into())
                    .collect(),
                "another version's",
            ),
        ] {
            let output = mirroring(net.host(), args.iter().map(|arg| arg.as_ref()));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{args:?}");
            assert!(stderr.contains(said), "{said:?} in {stderr}");
            assert_eq!(Snapshot::of(net.host()), as_it_is, "{args:?}");
        }
        assert_eq!(copies_of_three_pings(net), 3);
        // a tunnel that it may send to stays
        assert!(start(net, "egress", &[]).terminate().success());
        assert_eq!(copies_of_three_pings(net), 3);

        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert!(older.wait().success());
        assert!(older.log().contains("its counters cannot be read"), "{}", older.log());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// l3afd crashed, and has another version of the package when it is back: pinned maps that do not suit
/// the new object are replaced, the others are used again.
#[test]
fn needs_root_l3afd_loads_a_version_over_an_older_ones_maps() {
    for of_l3afd in [true, false] {
        Topology::run(|net| {
            let root = match of_l3afd {
                true => {
                    let root = Root::attach(net.host(), "ingress");
                    load_as_l3afd(Way::Ingress, &root);
                    run_as_l3afd(net, "ingress", &[]);
                    root
                }
                false => {
                    start(net, "ingress", &[]).kill();
                    Root::attach(net.host(), "ingress")
                }
            };
            make_another_version(Way::Ingress, &["tunnel"]);
            load_as_l3afd(Way::Ingress, &root);
            run_as_l3afd(net, "ingress", &["--protocol=icmp"]);
            assert_eq!(copies_of_three_pings(net), 3, "once each");
            udp_exchange(net.client(), net.host(), PORT, 3, 100);
            assert_eq!(status(net, &[]).0, "RUNNING");
            assert_eq!(outcomes(Way::Ingress).matched, 3);
            command(net.host(), &["--cmd=stop", "--iface=eth0"]);
            assert_eq!(copies_of_three_pings(net), 0);
        });
    }
}
