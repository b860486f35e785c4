//! The outer packets of the built-in tunnel: their headers, and how the tunnel counts each copy.

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::path::Path;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, PacketBuilder};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use traffic_mirroring::bpf;
use traffic_mirroring::instance::host::Host;
use traffic_mirroring::tunnel::encap::counters;

use testkit::namespaces::*;

/// Mirrors both directions of `eth0`. The NIC has no offloads, like a wire.
fn start_both(net: &Topology, more: &[&str]) -> [Daemon; 2] {
    net.host().without_offloads("eth1");
    ["ingress", "egress"].map(|direction| start(net, direction, more))
}

#[test]
fn needs_root_dscp_and_ttl_are_those_of_every_outer_packet() {
    Topology::run(|net| {
        let _both = start_both(net, &["--tunnel-dscp=cs1", "--tunnel-ttl=7"]);
        let capture = Capture::start(net.collector(), "eth0");
        ping(net.client(), net.host(), 2, 56);
        ping(net.client(), net.host(), 2, 1472);
        let wire = capture.stop();
        let outer = wire.ipv4(Direction::Received);
        assert_eq!(outer.len(), 4 + 2 * 4, "two outer fragments for each longer ping");
        for packet in outer {
            assert_eq!((packet[1], packet[8]), (8 << 2, 7), "TOS and TTL of {packet:02x?}");
        }
    });
}

#[test]
fn needs_root_instances_that_share_a_tunnel_agree_on_its_header() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &["--tunnel-dscp=ef", "--tunnel-ttl=9"]);
        let before = Snapshot::of(net.host());
        for (flags, difference) in [
            (&["--tunnel-ttl=9"][..], "another --tunnel-dscp ("),
            (&["--tunnel-dscp=ef"], "another --tunnel-ttl ("),
            (&["--tunnel-dscp=ef", "--tunnel-ttl=9", "--tunnel-local-port=auto"], "-local-port ("),
        ] {
            let refused = args("egress", flags);
            let output = mirroring(net.host(), refused.iter().map(|arg| arg.as_ref()));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success());
            for part in ["\"gue1\" of eth0 ingress", difference, "dscp 46 ttl 9, "] {
                assert!(stderr.contains(part), "{part:?} in {stderr}");
            }
            assert_eq!(Snapshot::of(net.host()), before);
        }
        let _egress = start(net, "egress", &["--tunnel-dscp=46", "--tunnel-ttl=9"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 6);
    });
}

/// Whole packets, fragmented packets, super-packets and their replies: all copies of a flow leave
/// from one source port.
#[test]
fn needs_root_with_local_port_auto_each_flow_has_its_own_port() {
    Topology::run(|net| {
        let _both = start_both(net, &["--tunnel-local-port=auto"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let (client, host) = (net.client(), net.host());
        for port in 0..8 {
            tcp_exchange(client, host, 8000 + port, 100_000);
            for size in [40, 1440, 1472] {
                udp_exchange(client, host, 5300 + port, 2, size);
            }
        }
        udp_segments(client, host, 5400, 10, 1400);
        udp_segments(host, client, 5401, 10, 1472);
        ping(client, host, 2, 1472);
        ping(client, host, 2, 20_000);
        let copies = collector.stop_after_quiet(QUIET);
        copies.assert_gue_v0_ipv4();

        let mut ports: HashMap<_, HashSet<u16>> = HashMap::new();
        let mut ends: HashMap<_, HashSet<_>> = HashMap::new();
        for (copy, packet) in copies.0.iter().zip(copies.packets()) {
            let is_fragment = copy.inner[6..8] != [0x40, 0] && copy.inner[6..8] != [0, 0];
            let (from, to) = packet.ports.unwrap_or_default();
            let mut flow = [(packet.src, from), (packet.dst, to)];
            flow.sort_unstable();
            ports.entry((packet.protocol, is_fragment, flow)).or_default().insert(copy.from.port());
            ends.entry((packet.protocol, is_fragment, flow)).or_default().insert(packet.src);
        }
        assert_eq!(ports.len(), 8 + 3 * 8 + 2 + 2, "flows: {:?}", ports.keys());
        for (flow, ports) in &ports {
            assert_eq!(ports.len(), 1, "{flow:?} by {ports:?}");
            assert!(ports.iter().all(|&port| port >= 49152), "{flow:?} by {ports:?}");
        }
        let two_way = ends.values().filter(|ends| ends.len() == 2).count();
        assert_eq!(two_way, ports.len() - 2, "all flows but those of the segments have replies");
        // of 36 flows on 16,384 ports, three pairs that share a port are unlikely
        let different: HashSet<_> = ports.values().flatten().collect();
        assert!(different.len() >= ports.len() - 2, "{different:?}");
    });
}

/// The sum of the instances' counters, and what the tunnel counted of their copies.
fn totals() -> (bpf::Outcomes, bpf::GueCounters) {
    let mut sum = bpf::Outcomes::default();
    let host = Host::open(Path::new("/sys/fs/bpf")).expect("the host");
    for instance in host.instances_unlocked() {
        let outcomes =
            instance.counters().and_then(|it| it.total()).expect("the counters of an instance");
        sum.matched += outcomes.matched;
        sum.sent += outcomes.sent;
        sum.failed += outcomes.failed;
    }
    let ifindex = if_nametoindex("gue1").expect("the tunnel");
    let map = counters::of_device(ifindex).expect("its programs").expect("its counters");
    (sum, counters::read(&map).expect("the counters can be read"))
}

/// Expects the tunnel's counters to add up, and returns them.
pub fn add_up() -> bpf::GueCounters {
    let (sum, it) = totals();
    assert_eq!(
        sum.sent + sum.failed,
        it.copies,
        "copies handed over must equal copies received: {it:?}"
    );
    let refused = it.not_ip + it.unreadable + it.encap_failed + it.nested_tunnel_too_long;
    assert_eq!(it.copies, it.sent_whole + it.via_veth + refused, "{it:?}");
    assert_eq!(it.veth_packets, it.veth_received + it.backlog_full(), "{it:?}");
    assert_eq!(
        it.veth_received,
        it.sent_whole_via_veth
            + it.sent_fragmented
            + it.truncate_failed
            + it.checksum_failed
            + it.fragment_send_failed,
        "{it:?}"
    );
    it
}

#[test]
fn needs_root_the_tunnels_counters_equal_what_instances_sent() {
    Topology::run(|net| {
        let [ingress, egress] = start_both(net, &["--protocol=icmp,tcp,udp"]);
        let (client, host) = (net.client(), net.host());
        let capture = Capture::start(net.collector(), "eth0");
        ping(client, host, 5, 56);
        udp_exchange(client, host, 5300, 7, 1441);
        let wire = capture.stop();
        let it = add_up();
        assert_eq!((it.copies, it.sent_whole, it.via_veth), (24, 10, 14));
        assert_eq!(
            (it.veth_packets, it.sent_fragmented, it.sent_whole_via_veth, it.fragments),
            (14, 14, 0, 28)
        );
        let outer = wire.ipv4(Direction::Received).len() as u64;
        assert_eq!(outer, it.sent_whole + it.sent_whole_via_veth + it.fragments);

        // the first one fits as a super-packet; of the second one, only the last datagram fits
        udp_segments(host, client, 5300, 10, 1400);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        udp_segments(host, client, 5300, 10, 1472);
        let copies = collector.stop_after_quiet(QUIET).0.len() as u64;
        assert_eq!(copies, 10);
        let before = it;
        let it = add_up();
        // kernels that segment the first one on its way to the program count it as that many
        // packets
        assert!(
            it.sent_whole > before.sent_whole && it.veth_packets >= before.veth_packets + 10,
            "{it:?}"
        );
        assert_eq!(it.sent_fragmented - before.sent_fragmented, copies);

        tcp_exchange(client, host, 8080, 4 << 20);
        for ns in [client, host] {
            ns.sh("ip link set eth0 mtu 9000");
        }
        let before = add_up();
        tcp_exchange(client, host, 8080, 4 << 20);
        let it = add_up();
        let [copies, packets] =
            [it.via_veth - before.via_veth, it.veth_packets - before.veth_packets];
        assert!(packets > copies && copies > 0, "no super-packets: {copies} made {packets}");
        assert_eq!((it.backlog_full(), it.fragment_send_failed, it.not_a_copy), (0, 0, 0));

        // the counters belong to the device, so they survive starts and ends of instances
        assert!(ingress.terminate().success());
        let _ingress = start(net, "ingress", &["--protocol=icmp"]);
        let ifindex = if_nametoindex("gue1").expect("the tunnel");
        let map = counters::of_device(ifindex).unwrap().expect("its counters");
        assert_eq!(counters::read(&map).unwrap().copies, it.copies);
        drop(egress);
    });
}

#[test]
fn needs_root_the_tunnels_counters_are_logged_at_its_end() {
    Topology::run(|net| {
        let mut egress = start(net, "egress", &["--protocol=icmp,udp"]);
        let (client, host) = (net.client(), net.host());
        ping(client, host, 3, 56);
        ping(client, host, 2, 1472);

        // With the far end of the pair down, copies too long for one outer packet are lost. The
        // process is stopped, so it cannot repair the pair.
        egress.signal(Signal::SIGSTOP);
        host.sh("ip link set gue1-p down");
        ping(client, host, 4, 1472);
        ping(client, host, 1, 56);
        let it = add_up();
        assert_eq!(
            (it.sent_whole, it.via_veth, it.sent_fragmented, it.backlog_full()),
            (4, 6, 2, 4)
        );
        host.sh("ip link set gue1-p up");
        egress.signal(Signal::SIGCONT);

        // a copy of a packet that is in another tunnel already cannot be fragmented
        host.sh("
            ip link add vx9 type vxlan id 9 remote 10.1.0.2 dstport 4789
            ip address add 10.9.0.1/24 dev vx9
            ip link set vx9 up
            ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:09 dev vx9");
        let socket = host.run(|| UdpSocket::bind("10.9.0.1:0")).expect("bind");
        socket.send_to(&[0; 1400], "10.9.0.2:9").expect("send");
        let it = add_up();
        assert_eq!(it.nested_tunnel_too_long, 1);

        egress.signal(Signal::SIGTERM);
        assert!(egress.wait().success());
        let said = "copies 11, sent whole 4, via veth 6 as 6 packets (fragmented 2 into 4, whole 0), \
                    dropped 5 (nested tunnel too long 1, backlog full 4)";
        let output = egress.output();
        assert!(output.contains(said), "{output}");
    });
}

/// ICMP may report that outer packets are too long for the path. They may be fragmented on it, so
/// sending does not change.
#[test]
fn needs_root_fragmentation_needed_changes_nothing() {
    Topology::run(|net| {
        let (client, host, collector) = (net.client(), net.host(), net.collector());
        let _both = start_both(net, &["--protocol=icmp"]);
        let outer_sizes = || {
            let capture = Capture::start(collector, "eth0");
            let copies = Collector::listen(collector, GUE_PORT);
            ping(client, host, 2, 1472);
            let copies = copies.stop_after_quiet(QUIET);
            assert_eq!(copies.packets().len(), 4);
            assert!(copies.packets().iter().all(|copy| copy.payload.len() == 1472));
            let wire = capture.stop();
            let outer = wire.ipv4(Direction::Received);
            let outer: Vec<_> = outer.into_iter().filter(|packet| packet[9] == 17).collect();
            (outer[0][..28].to_vec(), outer.iter().map(|packet| packet.len()).collect::<Vec<_>>())
        };
        let (quoted, sizes) = outer_sizes();
        assert_eq!(quoted[6] & 0x40, 0, "outer packets must allow fragmentation");
        let mut frame = Vec::new();
        let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 600 };
        PacketBuilder::ethernet2([2, 0, 0, 2, 0, 2], [2, 0, 0, 2, 0, 1])
            .ipv4(COLLECTOR.octets(), [10, 2, 0, 1], 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(needed))
            .write(&mut frame, &quoted)
            .expect("a frame");
        let route_mtu = |to: &str| host.sh(&format!("ip route get {to}")).contains("mtu");

        // some kernels store this MTU for the collector's address, but our copies ignore it
        inject(collector, "eth0", &frame);
        assert_eq!(outer_sizes().1, sizes);
        assert!(!route_mtu("10.1.0.2"), "a route of production has changed");

        // if a local program has the tunnel's port, every kernel delivers the error to it
        let _other = bind(host, || UdpSocket::bind("10.2.0.1:6080"));
        inject(collector, "eth0", &frame);
        eventually("a route exception", || route_mtu("10.2.0.2"));
        assert_eq!(outer_sizes().1, sizes);
        assert!(!route_mtu("10.1.0.2"), "a route of production has changed");
    });
}
