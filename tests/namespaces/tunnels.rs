//! The tunnel: built in or existing, shared, never mirrored itself.

use std::thread;

use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use traffic_mirroring::attach::tcx;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::tcx::detach_all;
use testkit::namespaces::*;

/// If the copies were mirrored, too, the collectors would get ever more of them.
#[test]
fn needs_root_a_tunnel_over_its_own_interface_is_not_mirrored() {
    let mut log = KernelLog::watch();
    Topology::run(|net| {
        let on_eth1 = |direction: &str| {
            let direction_flag = format!("--direction={direction}");
            let flags = ["--iface=eth1", &direction_flag];
            let mut daemon = Daemon::mirroring(net.host(), [&flags[..], &TO_COLLECTOR].concat());
            daemon.wait_ready("mirroring eth1");
            daemon
        };
        let daemons = ["ingress", "egress"].map(on_eth1);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.host(), net.collector(), 10, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 20, "10 requests and 10 replies");

        // nobody listens any more: the collector's kernel answers each copy with an ICMP error, as
        // far as it may
        net.collector().sh("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit");
        let capture = Capture::start(net.host(), "eth1");
        ping(net.host(), net.collector(), 20, 56);
        let frames = capture.stop();
        let sent = frames.ipv4(Direction::Sent);
        let copies = sent.iter().filter(|packet| packet[9] == 17).count();
        assert_eq!(copies, 40, "20 requests and 20 replies");
        let errors = frames.ipv4(Direction::Received).len() - 20;
        assert!(errors > 0, "no ICMP error came: the test shows nothing");
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
    });
    assert_eq!(log.complaints(), [""; 0]);
}

#[test]
fn needs_root_instances_with_one_collector_share_a_tunnel() {
    Topology::run(|net| {
        let ingress = start(net, "ingress", &[]);
        let egress = start(net, "egress", &[]);
        let tunnels = net.host().sh("ip -o link show type veth | grep -c 'mirroring: GUE'");
        assert_eq!(tunnels.trim(), "1");
        assert!(ingress.terminate().success());
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3, "egress goes on");
        assert!(egress.terminate().success());
        assert!(!net.host().sh("ip -o link").contains("gue1"));
    });
}

/// A start puts its programs in the place of those that another one has put there.
#[test]
fn needs_root_each_hook_of_a_shared_tunnel_runs_one_program() {
    let programs = |net: &Topology, direction: Way, device: &str| -> Vec<u32> {
        let device = device.to_owned();
        let ids = move || tcx::programs(if_nametoindex(&*device).expect("a device"), direction);
        net.host().run(ids)
    };
    Topology::run(|net| {
        let of_device = || {
            [("gue1", Way::Egress), ("gue1-p", Way::Ingress)].map(|(device, direction)| {
                let attached = programs(net, direction, device);
                let look = format!("tc filter show dev {device} {direction}");
                let filters = net.host().sh(&look).matches(" handle ").count();
                let (expected, other) = if has_tcx() { (1, 0) } else { (0, 1) };
                assert_eq!((attached.len(), filters), (expected, other), "{device}: {attached:?}");
                attached
            })
        };
        let ingress = start(net, "ingress", &[]);
        let first = of_device();
        let egress = start(net, "egress", &[]);
        let second = of_device();
        assert!(!has_tcx() || first != second, "those of the second start");
        for daemon in [ingress, egress] {
            assert!(daemon.terminate().success());
        }
    });
}

/// Nobody puts it back here: the process was killed.
#[test]
fn needs_root_a_tunnel_without_its_program_carries_no_loop() {
    Topology::run(|net| {
        let mut daemon = start(net, "ingress", &["--protocol=icmp"]);
        ping(net.client(), net.host(), 3, 1472);
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let sent = || -> u64 {
            let path = "/sys/class/net/gue1/statistics/tx_packets";
            net.host().sh(&format!("cat {path}")).trim().parse().expect("a count")
        };
        detach_all(net.host(), "gue1", Way::Egress);
        let before = sent();
        for size in [56, 1472] {
            ping(net.client(), net.host(), 3, size);
        }
        // time for many rounds, if there were a loop
        thread::sleep(QUIET);
        assert_eq!(sent() - before, 6, "each copy once, as the kernel sends what no program takes");
    });
}

#[test]
fn needs_root_a_second_collector_wants_a_tunnel_of_another_name() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &[]);
        let before = Snapshot::of(net.host());
        let other = ["--tunnel-remote-address=10.2.0.77"];
        let refused = args("egress", &other);
        let output = mirroring(net.host(), refused.iter().map(|arg| arg.as_ref()));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        for part in ["\"gue1\"", "eth0 ingress", "another collector"] {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
        assert_eq!(Snapshot::of(net.host()), before);

        net.collector().sh("ip address add 10.2.0.77/24 dev eth0");
        let second = [&other[..], &["--tunnel-interface-name=gue2"]].concat();
        let _egress = start(net, "egress", &second);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 6);
    });
}

/// The name of a device that led elsewhere, and that nobody uses any more, is free again.
#[test]
fn needs_root_a_tunnel_of_another_bpffs_is_not_replaced() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &[]);
        let before = Snapshot::of(net.host());
        std::fs::create_dir("/run/bpf").expect("a directory");
        net.host().sh("mount -t bpf bpf /run/bpf");
        let refused = args("egress", &["--bpffs=/run/bpf", "--tunnel-remote-address=10.2.0.77"]);
        let output = mirroring(net.host(), refused.iter().map(|arg| arg.as_ref()));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        for part in ["\"gue1\"", "another BPF file system", "another collector"] {
            assert!(stderr.contains(part), "{part:?} in {stderr}");
        }
        assert_eq!(Snapshot::of(net.host()), before);
    });
}

#[test]
fn needs_root_tunnels_stay_while_an_instance_cannot_be_read() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &[]);
        // as a version whose maps are of another make has it
        let map = "/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/ingress_instance";
        std::fs::remove_file(map).expect("the pin");
        Counter::load().pin_counts(map);
        command(net.host(), &["--cmd=stop", "--iface=eth1"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3);
    });
}

#[test]
fn needs_root_an_idle_tunnel_to_another_collector_is_replaced() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(traffic_mirroring::model::Direction::Ingress, &root);
        run_as_l3afd(net, "ingress", &["--tunnel-remote-address=10.2.0.77"]);
        pins.remove().expect("l3afd unloads without a word");
        let _egress = start(net, "egress", &[]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3);
    });
}

/// A VXLAN device that an operator made, used as it is.
#[test]
fn needs_root_an_existing_device_is_used_and_left_as_it_was() {
    Topology::run(|net| {
        let (host, collector) = (net.host(), net.collector());
        vxlan(net);
        let before = Snapshot::of(host);

        let ingress = start(net, "ingress", &["--tunnel-interface-name=vx0"]);
        let changes = Snapshot::of(host).changes_since(&before);
        let route = changes.iter().find(|change| change.contains("+ route: 10.2.0.2 dev eth1"));
        assert!(route.is_some_and(|route| route.contains("proto 109")), "{changes:#?}");
        let capture = Capture::start(collector, "vx0");
        ping(net.client(), host, 3, 56);
        let copies = capture.stop();
        assert_eq!(copies.ipv4(Direction::Received).len(), 3);

        ingress.kill();
        command(host, &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);

        // a host route that is there already is the operator's, and stays
        host.sh("ip route add 10.2.0.2 dev eth1");
        let with_route = Snapshot::of(host);
        assert!(start(net, "ingress", &["--tunnel-interface-name=vx0"]).terminate().success());
        assert_eq!(Snapshot::of(host).changes_since(&with_route), [""; 0]);
    });
}

/// VXLAN over the mirrored interface: the copies are VXLAN packets, and no copies of copies come.
#[test]
fn needs_root_an_existing_devices_own_packets_are_not_mirrored() {
    Topology::run(|net| {
        vxlan_to(net.host(), "10.2.0.2");
        let mut daemon = Daemon::mirroring(
            net.host(),
            [
                &["--iface=eth1", "--direction=egress", "--tunnel-interface-name=vx0"][..],
                &TO_COLLECTOR,
            ]
            .concat(),
        );
        daemon.wait_ready("mirroring eth1");
        let capture = Capture::start(net.host(), "eth1");
        ping(net.host(), net.collector(), 5, 56);
        let frames = capture.stop();
        let sent = frames.ipv4(Direction::Sent);
        assert_eq!(sent.iter().filter(|packet| packet[9] == 17).count(), 5);
    });
}

/// The payload with which people try things on one machine.
#[test]
fn needs_root_a_collector_on_this_machine_is_reached_by_lo() {
    Topology::run(|net| {
        let local = [
            "--tunnel-local-port=6080",
            "--tunnel-remote-port=6081",
            "--tunnel-remote-address=127.0.0.1",
            "--redirect-to=lo",
        ];
        for direction in ["ingress", "egress"] {
            let daemon = start(net, direction, &local);
            let collector = Collector::listen(net.host(), 6081);
            ping(net.client(), net.host(), 3, 56);
            let copies = collector.stop_after_quiet(QUIET);
            copies.assert_gue_v0_ipv4();
            assert_eq!(copies.0.len(), 3, "{direction}");
            assert_eq!(copies.0[0].from.to_string(), "127.0.0.1:6080");
            assert!(daemon.terminate().success());
        }
    });
}

#[test]
fn needs_root_fragmented_copies_reach_a_collector_on_this_host() {
    Topology::run(|net| {
        let local = [
            "--iface=lo",
            "--direction=ingress",
            "--protocol=udp",
            "--dst-port=5300",
            "--tunnel-remote-address=127.0.0.1",
            "--redirect-to=lo",
        ];
        let mut daemon = Daemon::mirroring(net.host(), local);
        daemon.wait_ready("mirroring lo");
        let collector = Collector::listen(net.host(), GUE_PORT);
        // the longest of which the kernel makes one outer packet has 15,826 bytes
        for size in [15_798, 15_799, 40_000] {
            let host = net.host();
            udp_exchange_between(host, host, [[127, 0, 0, 1].into(); 2], 5300, 2, size);
        }
        let copies = collector.stop_after_quiet(QUIET);
        let sizes: Vec<_> = copies.packets().iter().map(|copy| copy.payload.len()).collect();
        assert_eq!(sizes, [15_798, 15_798, 15_799, 15_799, 40_000, 40_000]);
    });
}

/// Mirroring `lo` itself to a collector on it, where nobody may be listening.
#[test]
fn needs_root_mirroring_lo_to_lo_ends_with_each_packet_once() {
    Topology::run(|net| {
        let flags = |direction: &str| {
            let direction = format!("--direction={direction}");
            let args = [
                "--iface=lo",
                &direction,
                "--tunnel-remote-port=6081",
                "--tunnel-remote-address=127.0.0.1",
                "--redirect-to=lo",
            ];
            let mut daemon = Daemon::mirroring(net.host(), args);
            daemon.wait_ready("mirroring lo");
            daemon
        };
        let _daemons = ["ingress", "egress"].map(flags);
        let capture = Capture::start(net.host(), "lo");
        let ping_self = "ping -q -c 4 -i 0.05 -W 2 127.0.0.1";
        net.host().sh(ping_self);
        let frames = capture.stop();
        let sent = frames.ipv4(Direction::Sent);
        let copies = sent.iter().filter(|packet| packet[9] == 17).count();
        // 4 requests and 4 replies, each once going out and once coming in
        assert_eq!(copies, 16);
    });
}

#[test]
fn needs_root_without_redirect_to_the_kernels_route_counts() {
    Topology::run(|net| {
        let args = ["--iface=eth0", "--direction=ingress", TO_COLLECTOR[0]];
        let mut daemon = Daemon::mirroring(net.host(), args);
        daemon.wait_ready("mirroring eth0");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3);
    });
}

/// A collector in another network, behind a router that `--gtw-address` names, or that is the
/// first address of the network.
#[test]
fn needs_root_a_collector_behind_a_router_is_reached() {
    Topology::run(|net| {
        // the collector's namespace is the router, and has the collector behind it
        net.collector().sh("ip address add 192.0.2.50/32 dev lo
             ip address add 10.3.0.1/24 dev eth0");
        net.host().sh("ip address add 10.3.0.9/24 dev eth1; ip address del 10.2.0.1/24 dev eth1");
        for gateway in [&[][..], &["--gtw-address=10.3.0.1"]] {
            let far = ["--tunnel-remote-address=192.0.2.50"];
            let daemon = start(net, "ingress", &[&far, gateway].concat());
            let collector = Collector::listen(net.collector(), GUE_PORT);
            ping(net.client(), net.host(), 3, 56);
            let copies = collector.stop_after_quiet(QUIET);
            assert_eq!(copies.0.len(), 3, "{gateway:?}");
            assert_eq!(copies.0[0].from.to_string(), "10.3.0.9:6080");
            assert!(daemon.terminate().success());
        }
    });
}
