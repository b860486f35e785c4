//! A resident process monitors its instance. Whatever happens to interfaces, addresses, routes and
//! neighbours, mirroring goes on, or the log says what is wrong.

use std::time::Instant;

use nix::sys::signal::Signal;

use testkit::namespaces::*;

const MAKE_ETH0: &str = "
    ip link add eth0 address 02:00:00:01:00:01 type veth \
        peer name eth0 address 02:00:00:01:00:02 netns client
    ip address add 10.1.0.1/24 dev eth0
    ip link set eth0 up
    nsenter --net=/run/netns/client sh -ec '
        ip address add 10.1.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.1.0.1'";
const MAKE_ETH1: &str = "
    ip link add eth1 address 02:00:00:02:00:01 type veth \
        peer name eth0 address 02:00:00:02:00:02 netns collector
    ip address add 10.2.0.1/24 dev eth1
    ip link set eth1 up
    nsenter --net=/run/netns/collector sh -ec '
        ip address add 10.2.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.2.0.1'";

/// Waits for a log line that was not there before.
fn wait_for_next(daemon: &Daemon, text: &str, before: &str) {
    let count = |log: &str| log.matches(text).count();
    eventually(&format!("another {text:?} in the log"), || count(&daemon.log()) > count(before));
}

/// Applies `change` on the host, and waits until the process logs `text`.
fn change(net: &Topology, daemon: &Daemon, script: &str, text: &str) {
    let before = daemon.log();
    net.host().sh(script);
    wait_for_next(daemon, text, &before);
}

fn wait_for_link(ns: &Ns, name: &str) {
    eventually("a link that is up", || {
        ns.sh(&format!("ip -o link show {name}")).contains("state UP")
    });
}

/// Waits until copies arrive. ARP may have to resolve the next hop first.
fn await_copies(net: &Topology) {
    eventually("copies", || copies_of_three_pings(net) == 3);
}

/// Returns what this program left behind. It ignores other changes, because recreated interfaces
/// have new indices.
fn left_behind(net: &Topology, before: &Snapshot) -> Vec<String> {
    let mut changes = Snapshot::of(net.host()).changes_since(before);
    changes.retain(|it| {
        ["pin:", "tcx on", "filter on", "qdisc:", "gue1", "109"]
            .iter()
            .any(|part| it.contains(part))
    });
    changes.retain(|it| it.starts_with('+') && !it.contains("noqueue"));
    changes
}

#[test]
fn needs_root_a_renamed_interface_stays_under_its_first_name() {
    Topology::run(|net| {
        let host = net.host();
        let before = Snapshot::of(host);
        let mut daemon = start(net, "ingress", &[]);
        let rename = |from: &str, to: &str| {
            format!("ip link set {from} down; ip link set {from} name {to}; ip link set {to} up")
        };
        change(net, &daemon, &rename("eth0", "eth9"), "was renamed to \"eth9\"");
        wait_for_link(host, "eth9");
        assert_eq!(copies_of_three_pings(net), 3);

        let another = "ip link add eth0 type veth; ip link set eth0 up";
        change(net, &daemon, another, "\"eth0\" is the name of another interface now");
        assert_eq!(copies_of_three_pings(net), 3);
        for name in ["eth0", "eth9"] {
            assert_eq!(status(net, &[&format!("--iface={name}")]).0, "RUNNING", "{name}");
        }
        assert_eq!(status(net, &["--iface=eth9", "--direction=egress"]).0, "STOPPED");
        let refused = mirroring(host, ["--cmd=stop", "--iface=eth9"]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr.contains("--cmd=stop --iface=eth0 ends it"), "{stderr}");

        command(host, &["--cmd=stop", "--iface=eth0"]);
        assert!(daemon.wait().success());
        host.sh("ip link delete eth0");
        host.sh(&rename("eth9", "eth0"));
        wait_for_link(host, "eth0");
        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);
    });
}

/// The dead instance's program is on the renamed interface. The new start is for the interface that
/// has the name now.
#[test]
fn needs_root_a_start_takes_the_interface_that_has_the_name_now() {
    Topology::run(|net| {
        let host = net.host();
        start(net, "ingress", &[]).kill();
        host.sh("ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up
                 ip link set eth1 down; ip link set eth1 name eth0; ip link set eth0 up");
        wait_for_link(host, "eth9");
        wait_for_link(host, "eth0");
        let args = ["--iface=eth0", "--direction=ingress", TO_COLLECTOR[0]];
        let mut daemon = Daemon::mirroring(host, args);
        daemon.wait_ready("mirroring eth0");
        assert_eq!(copies_of_three_pings(net), 0, "copies from eth9");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.collector(), host, 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3, "copies from eth0");
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_a_recreated_interface_is_mirrored_again() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let daemons = ["ingress", "egress"].map(|direction| start(net, direction, &[]));
        for _ in 0..2 {
            let said = daemons.each_ref().map(Daemon::log);
            net.host().sh("ip link delete eth0");
            for (daemon, before) in daemons.iter().zip(&said) {
                wait_for_next(daemon, "the interface \"eth0\" is gone", before);
            }
            assert_eq!(status(net, &[]).0, "STOPPED");
            assert!(shown(net, &[]).iter().all(|it| it["state"] == "stopped"));
            net.host().sh(MAKE_ETH0);
            for (daemon, before) in daemons.iter().zip(&said) {
                wait_for_next(daemon, "is back and mirrored again", before);
            }
            wait_for_link(net.host(), "eth0");
            assert_eq!(copies_of_three_pings(net), 6, "copies of requests and replies");
        }
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
        assert_eq!(left_behind(net, &before), [""; 0]);
    });
}

#[test]
fn needs_root_a_recreated_interface_of_a_chain_is_logged() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let daemon = start_chained(net, "ingress", &root, &[]);
        change(net, &daemon, "ip link delete eth0", "whoever loads the chain");
        change(net, &daemon, MAKE_ETH0, "until the chain is attached to it");
        assert!(root.slot().is_some());
        assert!(daemon.terminate().success());
        assert_eq!(root.slot(), None);
    });
}

#[test]
fn needs_root_copies_go_on_once_their_nic_is_up_or_back() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let daemon = start(net, "ingress", &[]);
        change(net, &daemon, "ip link set eth1 down", "\"eth1\" is down: no copy");
        ping(net.client(), net.host(), 3, 56);
        change(net, &daemon, "ip link set eth1 up", "resolved: the interface \"eth1\" is down");
        wait_for_link(net.host(), "eth1");
        await_copies(net);

        let pull = "nsenter --net=/run/netns/collector ip link set eth0 down";
        change(net, &daemon, pull, "\"eth1\" has no carrier: no copy");
        let plug = "nsenter --net=/run/netns/collector sh -ec '
            ip link set eth0 up; ip route add default via 10.2.0.1'";
        change(net, &daemon, plug, "resolved: the interface \"eth1\" has no carrier");
        wait_for_link(net.host(), "eth1");
        await_copies(net);

        change(net, &daemon, "ip link delete eth1", "there is no interface \"eth1\"");
        ping(net.client(), net.host(), 3, 56);
        change(net, &daemon, MAKE_ETH1, "copies leave \"eth1\"");
        wait_for_link(net.host(), "eth1");
        await_copies(net);
        assert!(daemon.terminate().success());
        assert_eq!(left_behind(net, &before), [""; 0]);
    });
}

#[test]
fn needs_root_copies_follow_the_nics_address_and_mtu() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &[]);
        let readdress =
            "ip address add 10.2.0.7/24 dev eth1; ip address delete 10.2.0.1/24 dev eth1
                         ip address add 10.2.0.7/24 dev eth1 2>&1 || :";
        change(net, &daemon, readdress, "from 10.2.0.7");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 1472);
        let copies = collector.stop_after_quiet(QUIET);
        assert_eq!(copies.0.len(), 3);
        assert_eq!(copies.0[0].from.to_string(), "10.2.0.7:6080");

        change(net, &daemon, "ip link set eth1 mtu 1300", "up to 1300 bytes");
        let capture = Capture::start(net.host(), "eth1");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 1472);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3);
        let frames = capture.stop();
        let longest = frames.ipv4(Direction::Sent).iter().map(|packet| packet.len()).max();
        assert!(longest.is_some_and(|longest| (1200..=1300).contains(&longest)), "{longest:?}");
    });
}

#[test]
fn needs_root_copies_follow_the_kernels_route_without_a_device() {
    Topology::run(|net| {
        let host = net.host();
        // a second link to the collector, which is reachable over both
        host.sh("
            ip link add eth2 type veth peer name eth2 netns collector
            ip address add 10.4.0.1/24 dev eth2
            ip link set eth2 up
            nsenter --net=/run/netns/collector sh -ec '
                ip address add 192.0.2.50/32 dev lo
                ip address add 10.4.0.2/24 dev eth2
                ip link set eth2 up'
            ip route add 192.0.2.50 via 10.2.0.2");
        wait_for_link(host, "eth2");
        let args = ["--iface=eth0", "--direction=ingress", "--tunnel-remote-address=192.0.2.50"];
        let mut daemon = Daemon::mirroring(host, args);
        daemon.wait_ready("mirroring eth0 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
        change(net, &daemon, "ip route replace 192.0.2.50 via 10.4.0.2", "by way of 10.4.0.2");
        let capture = Capture::start(host, "eth2");
        assert_eq!(copies_of_three_pings(net), 3);
        let sent = capture.stop();
        assert_eq!(sent.ipv4(Direction::Sent).len(), 3);

        change(net, &daemon, "ip route delete 192.0.2.50", "no route leads to the collector");
        change(net, &daemon, "ip route add 192.0.2.50 via 10.2.0.2", "by way of 10.2.0.2");
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

#[test]
fn needs_root_a_deleted_or_downed_tunnel_is_restored() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let daemons = ["ingress", "egress"].map(|direction| start(net, direction, &[]));
        let both_work = |what: &str| {
            eventually(what, || copies_of_three_pings(net) == 6);
        };
        for script in [
            "ip link delete gue1",
            "ip link delete gue1-p",
            "ip link set gue1 down",
            "ip link set gue1-p down",
        ] {
            net.host().sh(script);
            both_work(script);
        }
        let tunnels = net.host().sh("ip -o link show type veth | grep -c 'mirroring: GUE'");
        assert_eq!(tunnels.trim(), "1", "still shared");
        // the first process rebuilt the tunnel, the other one adopted it
        let said = daemons.each_ref().map(Daemon::log).concat();
        assert_eq!(said.matches("rebuilt the tunnel \"gue1\"").count(), 2, "{said}");
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// After rules of every kind of field, and after a `--cmd=update` that the process does not know
/// of.
#[test]
fn needs_root_the_rules_in_force_go_on_with_another_tunnel() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--protocol=icmp"]);
        let mirrored = || {
            let collector = Collector::listen(net.collector(), GUE_PORT);
            ping(net.client(), net.host(), 3, 56);
            for port in [5299, 5300, 5310, 5311] {
                udp_exchange(net.client(), net.host(), port, 1, 100);
            }
            let copies = collector.stop_after_quiet(QUIET).packets();
            copies.into_iter().map(|copy| copy.ports.map(|ports| ports.1)).collect::<Vec<_>>()
        };
        for (filter, expected) in [
            (
                ["--dst-port=5300-5310", "--src-address=10.1.0.0/24,10.1.0.2"],
                vec![Some(5300), Some(5310)],
            ),
            (["--protocol=icmp,udp", "--src-address=10.1.0.3,192.0.2.0/24"], vec![]),
            (["--protocol=icmp,17", "--dst-port=5311"], vec![None, None, None, Some(5311)]),
        ] {
            let update = ["--cmd=update", "--iface=eth0", "--direction=ingress"];
            command(net.host(), &[&update[..], &filter].concat());
            assert_eq!(mirrored(), expected);
            change(net, &daemon, "ip link delete gue1", "copies leave \"eth1\"");
            assert_eq!(mirrored(), expected, "{filter:?}");
        }
    });
}

#[test]
fn needs_root_an_existing_device_is_followed_but_never_made() {
    Topology::run(|net| {
        let (host, collector) = (net.host(), net.collector());
        vxlan(net);
        let before = Snapshot::of(host);
        let daemon = start(net, "ingress", &["--tunnel-interface-name=vx0"]);
        let copies = || {
            let capture = Capture::start(collector, "vx0");
            ping(net.client(), host, 3, 56);
            capture.stop().ipv4(Direction::Received).len()
        };
        assert_eq!(copies(), 3);
        change(net, &daemon, "ip link set vx0 down", "\"vx0\" is down");
        change(net, &daemon, "ip link set vx0 up", "resolved");
        assert_eq!(copies(), 3);
        change(net, &daemon, "ip link delete vx0", "\"vx0\" is gone");
        let log = daemon.log();
        vxlan_to(host, "10.2.0.2");
        wait_for_next(&daemon, "resolved", &log);
        assert_eq!(copies(), 3);
        // the kernel removes our route when the NIC goes down
        change(net, &daemon, "ip link set eth1 down", "\"eth1\" is down");
        change(net, &daemon, "ip link set eth1 up", "added a route to 10.2.0.2");
        eventually("copies", || copies() == 3);
        assert!(daemon.terminate().success());
        let mut changes = Snapshot::of(host).changes_since(&before);
        changes.retain(|change| !change.contains("vx0"));
        assert_eq!(changes, [""; 0]);
    });
}

#[test]
fn needs_root_a_next_hop_that_is_silent_and_back_is_logged() {
    Topology::run(|net| {
        net.collector().sh("ip address delete 10.2.0.2/24 dev eth0");
        let daemon = start(net, "ingress", &[]);
        let silence = "the next hop 10.2.0.2 towards the collector 10.2.0.2 does not answer ARP";
        assert_eq!(daemon.log().matches(silence).count(), 1);
        let back = "nsenter --net=/run/netns/collector ip address add 10.2.0.2/24 dev eth0";
        change(net, &daemon, back, &format!("resolved: {silence}"));
        assert_eq!(copies_of_three_pings(net), 3);

        // while the process runs
        let gone = "nsenter --net=/run/netns/collector ip address delete 10.2.0.2/24 dev eth0
                    ip neighbour flush dev eth1";
        change(net, &daemon, gone, silence);
        change(net, &daemon, back, &format!("resolved: {silence}"));
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

/// The kernel notices by itself once it checks the neighbour again. Its timers are shortened here.
#[test]
fn needs_root_a_collector_with_a_new_mac_gets_copies_again() {
    Topology::run(|net| {
        net.host().sh("
            cd /proc/sys/net/ipv4/neigh/eth1
            echo 1000 > base_reachable_time_ms; echo 1 > delay_first_probe_time
            echo 200 > retrans_time_ms");
        let _daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        net.collector().sh("
            echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_notify
            ip link set eth0 address 02:00:00:02:00:99");
        let since = Instant::now();
        eventually("copies", || copies_of_three_pings(net) == 3);
        println!("copies arrive again after {:?}", since.elapsed());
    });
}

/// There are hundreds of events. Some come from our own changes.
#[test]
fn needs_root_many_events_make_few_reconciliations() {
    Topology::run(|net| {
        let daemons = ["ingress", "egress"].map(|direction| start(net, direction, &[]));
        wait_until_calm(&daemons);
        let began = Instant::now();
        let before = daemons.each_ref().map(Daemon::reconciliations);
        net.host().sh("
            for i in $(seq 100); do
                ip link add d$i type veth
                ip address add 10.99.$i.1/24 dev d$i
                ip link set d$i up
            done");
        net.host().sh("ip link delete gue1");
        wait_until_calm(&daemons);
        // at most two a second, so a slow machine is allowed more
        let most = 3 + began.elapsed().as_millis() as usize / 500;
        for (daemon, before) in daemons.iter().zip(before) {
            let more = daemon.reconciliations() - before;
            assert!((1..=most).contains(&more), "{more} reconciliations, {most} at most");
        }
        // routes that do not lead to the collector cause no reconciliation
        let before = daemons.each_ref().map(Daemon::reconciliations);
        net.host().sh("for i in $(seq 100); do ip route add 10.98.$i.0/24 dev d1; done");
        wait_until_calm(&daemons);
        assert_eq!(daemons.each_ref().map(Daemon::reconciliations), before);
        for mut daemon in daemons {
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.wait().success());
        }
    });
}
