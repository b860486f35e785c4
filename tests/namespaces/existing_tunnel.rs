//! A tunnel device that somebody else made, and packets that are too long for it. Sent there, these would make the
//! kernel tell production's sender to send shorter packets.

use std::slice;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use testkit::namespaces::*;

const VXLAN: &str = "--tunnel-interface-name=vx0";

/// What the kernel has learned about routes to production's peers.
fn route_exceptions(net: &Topology) -> String {
    let learned = |ns: &Ns, to: &str| {
        let route = ns.sh(&format!("ip route get {to}"));
        if route.contains("mtu") { route } else { String::new() }
    };
    learned(net.host(), "10.1.0.2") + &learned(net.client(), "10.1.0.1")
}

/// Mirrors both directions; `longest` is the longest packet that the device carries.
fn check_longest(net: &Topology, longest: usize) {
    let both = ["ingress", "egress"].map(|it| start(net, it, &["--protocol=icmp", VXLAN]));
    let capture = Capture::start(net.collector(), "vx0");
    ping(net.host(), net.client(), 3, longest - 28);
    ping(net.host(), net.client(), 4, longest - 27);
    ping(net.client(), net.host(), 2, 1472);
    let copies = capture.stop();
    let copies = copies.ipv4(Direction::Received);
    assert_eq!(copies.len(), 2 * 3);
    assert!(copies.iter().all(|copy| copy.len() == longest));
    assert_eq!(route_exceptions(net), "", "production's path MTU was changed");
    for mut daemon in both {
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let output = daemon.output();
        for part in [
            "matched 9, sent 3, dropped 6 (loop guard 0, oversize 6",
            &format!("\"vx0\" cannot carry packets longer than {longest} bytes"),
            "raise the MTU on the way to the collector, or remove the device",
        ] {
            assert!(output.contains(part), "{part:?} in {output}");
        }
    }
}

#[test]
fn needs_root_packets_too_long_for_the_device_are_counted() {
    Topology::run(|net| {
        vxlan(net);
        // the device promises more than the NIC carries
        assert!(net.host().sh("ip link show vx0").contains("mtu 1500"));
        check_longest(net, 1450);
        net.host().sh("ip link set vx0 mtu 1400");
        check_longest(net, 1400);
    });
}

#[test]
fn needs_root_a_smaller_mtu_of_the_route_counts() {
    Topology::run(|net| {
        vxlan(net);
        net.host().sh("ip route add 10.2.0.2 dev eth1 mtu 1400");
        check_longest(net, 1350);
    });
}

/// The VXLAN device is a port of a bridge between client and collector. For such a device, the kernel answers a packet
/// that is too long with an ICMP error in the name of its receiver.
#[test]
fn needs_root_a_bridge_gets_no_icmp_about_copies_too_long() {
    Topology::run(|net| {
        let (client, host, collector) = (net.client(), net.host(), net.collector());
        vxlan(net);
        host.sh("
            ip link add eth7 type veth peer name eth7 netns client
            ip link add eth8 type veth peer name eth8 netns collector
            ip link add br0 type bridge
            for port in eth7 eth8 vx0; do ip link set $port master br0 up; done
            ip link set br0 up");
        client.sh("ip address add 10.7.0.2/24 dev eth7; ip link set eth7 up");
        collector.sh("ip address add 10.7.0.3/24 dev eth8; ip link set eth8 up");
        let flags = ["--iface=eth7", "--direction=ingress", "--protocol=icmp", VXLAN];
        let mut daemon = Daemon::mirroring(host, [&flags[..], &TO_COLLECTOR].concat());
        daemon.wait_ready("mirroring eth7 ingress");

        for _ in 0..3 {
            client.sh("ping -q -c 1 -W 5 -M do -s 1472 10.7.0.3");
        }
        let route = client.sh("ip route get 10.7.0.3");
        assert!(!route.contains("mtu"), "production's path MTU was changed: {route}");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let counts = "matched 3, sent 0, dropped 3 (loop guard 0, oversize 3";
        let output = daemon.output();
        assert!(output.contains(counts), "{output}");
    });
}

/// A problem that only the operator can solve is logged once, and not checked again every few seconds.
#[test]
fn needs_root_a_device_too_small_is_not_reconciled_repeatedly() {
    Topology::run(|net| {
        vxlan(net);
        let daemon = start(net, "ingress", &[VXLAN]);
        assert!(daemon.output().contains("longer than 1450 bytes"), "{}", daemon.output());
        wait_until_calm(slice::from_ref(&daemon));
        let before = daemon.reconciliations();
        assert!(before > 0, "{}", daemon.log());
        // where a problem may go away by itself, there is a look every five seconds
        thread::sleep(Duration::from_secs(6));
        assert_eq!(daemon.reconciliations(), before);
    });
}

#[test]
fn needs_root_an_existing_device_gets_whole_copies() {
    Topology::run(|net| {
        vxlan(net);
        let daemon = start(net, "ingress", &["--snaplen=64", VXLAN]);
        let warning = "the snaplen of rule \"flags\" has no effect";
        assert!(daemon.output().contains(warning), "{}", daemon.output());
        let capture = Capture::start(net.collector(), "vx0");
        ping(net.client(), net.host(), 3, 1000);
        let copies = capture.stop();
        let lengths: Vec<_> =
            copies.ipv4(Direction::Received).iter().map(|packet| packet.len()).collect();
        assert_eq!(lengths, [1028; 3]);

        let packet = "--packet=10.1.0.2:1 > 10.1.0.1:2 udp";
        let explain = ["--cmd=explain", "--iface=eth0", "--direction=ingress", packet];
        let explained = String::from_utf8(command(net.host(), &explain).stdout).expect("text");
        assert!(
            explained.ends_with("is the first that matches: the packet is mirrored.\n"),
            "{explained}"
        );
    });
}

#[test]
fn needs_root_flags_that_a_device_makes_useless_are_named() {
    Topology::run(|net| {
        vxlan(net);
        let flags = ["--tunnel-dscp=cs1", "--tunnel-ttl=9", "--tunnel-local-port=auto"];
        let output = start(net, "ingress", &[&flags[..], &[VXLAN]].concat()).output();
        for flag in ["--tunnel-dscp", "--tunnel-ttl", "--tunnel-local-port=auto"] {
            let warning = format!("{flag} has no effect: the tunnel interface \"vx0\" exists");
            assert!(output.contains(&warning), "{warning:?} in {output}");
        }
        let output = start(net, "egress", &["--tunnel-local-port=6080", VXLAN]).output();
        assert!(!output.contains("has no effect"), "{output}");
    });
}
