//! A tunnel device that somebody else made, and packets that are too long for it: to send those there
//! would have the kernel tell production's sender to send shorter ones.

use nix::sys::signal::Signal;

use crate::support::*;

const VXLAN: &str = "--tunnel-interface-name=vx0";

/// A VXLAN device on both ends, whose MTU is the NIC's less the 50 bytes of its headers.
fn make_vxlan(world: &World) {
    for (ns, remote) in [(world.host(), "10.2.0.2"), (world.collector(), "10.2.0.1")] {
        ns.sh(&format!(
            "ip link add vx0 type vxlan id 7 remote {remote} dstport 4789; ip link set vx0 up"
        ));
    }
}

/// What the kernel has learned about routes to production's peers.
fn route_exceptions(world: &World) -> String {
    let learned = |ns: &Ns, to: &str| {
        let route = ns.sh(&format!("ip route get {to}"));
        if route.contains("mtu") { route } else { String::new() }
    };
    learned(world.host(), "10.1.0.2") + &learned(world.client(), "10.1.0.1")
}

/// Mirrors both directions; `longest` is the longest packet that the device carries.
fn check_longest(world: &World, longest: usize) {
    let both = ["ingress", "egress"].map(|it| start(world, it, &["--protocol=icmp", VXLAN]));
    let capture = Capture::start(world.collector(), "vx0");
    ping(world.host(), world.client(), 3, longest - 28);
    ping(world.host(), world.client(), 4, longest - 27);
    ping(world.client(), world.host(), 2, 1472);
    let copies = capture.stop();
    let copies = copies.ipv4(Direction::Received);
    assert_eq!(copies.len(), 2 * 3);
    assert!(copies.iter().all(|copy| copy.len() == longest));
    assert_eq!(route_exceptions(world), "", "production's path MTU was changed");
    for mut daemon in both {
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let output = daemon.output();
        for part in [
            "9 packets matched, 3 copies sent; left out: 0 of the tunnel's own, 6 oversize",
            &format!("\"vx0\" cannot carry packets longer than {longest} bytes"),
            "raise the MTU on the way to the collector, or remove the device",
        ] {
            assert!(output.contains(part), "{part:?} in {output}");
        }
    }
}

#[test]
fn needs_root_packets_too_long_for_an_existing_device_are_counted_and_harm_nobody() {
    World::run(|world| {
        make_vxlan(world);
        check_longest(world, 1450);
        // an operator may have the device promise more than the NIC carries
        world.host().sh("ip link set vx0 mtu 1500");
        check_longest(world, 1450);
    });
}

#[test]
fn needs_root_a_route_with_a_smaller_mtu_to_the_collector_counts() {
    World::run(|world| {
        make_vxlan(world);
        world.host().sh("ip route add 10.2.0.2 dev eth1 mtu 1400");
        check_longest(world, 1350);
    });
}

/// Bulk TCP: its super-packets are judged by their segments.
#[test]
fn needs_root_tcp_keeps_its_path_mtu_beside_an_existing_device() {
    World::run(|world| {
        make_vxlan(world);
        let _both = ["ingress", "egress"].map(|it| start(world, it, &["--protocol=tcp", VXLAN]));
        tcp_exchange(world.host(), world.client(), 8080, 4 << 20);
        tcp_exchange(world.client(), world.host(), 8080, 4 << 20);
        assert_eq!(route_exceptions(world), "");
    });
}

#[test]
fn needs_root_flags_that_an_existing_device_makes_idle_are_named() {
    World::run(|world| {
        make_vxlan(world);
        let flags = ["--tunnel-dscp=cs1", "--tunnel-ttl=9", "--tunnel-local-port=auto"];
        let output = start(world, "ingress", &[&flags[..], &[VXLAN]].concat()).output();
        for flag in ["--tunnel-dscp", "--tunnel-ttl", "--tunnel-local-port=auto"] {
            let warning = format!("{flag} has no effect: the tunnel interface \"vx0\" exists");
            assert!(output.contains(&warning), "{warning:?} in {output}");
        }
        let output = start(world, "egress", &["--tunnel-local-port=6080", VXLAN]).output();
        assert!(!output.contains("has no effect"), "{output}");
    });
}
