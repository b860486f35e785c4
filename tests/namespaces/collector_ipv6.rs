//! A collector over IPv6: its kernel takes only UDP whose checksum is right. (That whatever is sent over
//! IPv4 arrives: see `completeness`.)

use std::collections::HashSet;
use std::net::{Ipv6Addr, UdpSocket};
use std::path::Path;

use etherparse::{Icmpv6Type, PacketBuilder};
use nix::sys::signal::Signal;
use traffic_mirroring::instance::host::Host;

use crate::outer_headers::add_up;
use testkit::namespaces::*;

const ICMPV6: u8 = 58;

const UDP_AND_GUE: usize = 8 + 4;

fn start6(net: &Topology, direction: &str, more: &[&str]) -> Daemon {
    start(net, direction, &[&TO_COLLECTOR6[..], more].concat())
}

/// Both directions of `eth0`; the NIC has no offloads, as if it were a wire.
fn start_both(net: &Topology, more: &[&str]) -> [Daemon; 2] {
    net.host().without_offloads("eth1");
    ["ingress", "egress"].map(|direction| start6(net, direction, more))
}

fn in_world(test: impl FnOnce(&Topology) + Send) {
    Topology::run(|net| {
        with_ipv6_to_collector(net);
        test(net);
    });
}

/// How many copies of three pings from the client arrive.
fn copies_of_three_pings6(net: &Topology) -> usize {
    let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
    ping(net.client(), net.host(), 3, 56);
    collector.stop_after_quiet(QUIET).0.len()
}

/// Sorted, because the order may differ, and without what the kernel sends by itself: multicast reports (behind
/// hop-by-hop options) and neighbour discovery.
fn sorted(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let is_chatter = |packet: &Vec<u8>| match packet[6] {
        0 => packet[IPV6_HLEN] == ICMPV6,
        ICMPV6 => packet[IPV6_HLEN] >= 130 && packet[IPV6_HLEN] <= 143,
        _ => false,
    };
    let mut packets: Vec<_> = packets.into_iter().filter(|it| !is_chatter(it)).collect();
    packets.sort();
    packets
}

#[test]
fn needs_root_packets_of_ipv6_arrive_as_they_were_over_ipv6() {
    in_world(|net| {
        with_ipv6(net);
        one_frame_per_packet(net);
        net.client().sh("ip link set eth0 gso_max_segs 1");
        let _both = start_both(net, &["--protocol=tcp,udp,icmpv6"]);
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        let capture = Capture::start(net.host(), "eth0");
        for size in [0, 1, 100, 1400, 1401, 1452, 8000] {
            udp_exchange6(net, 5300, 2, size);
            ping6(net, 1, size);
        }
        udp_with_extensions((net.client(), CLIENT6), (net.host(), HOST6), 5300, 1428);
        tcp_exchange6(net, 8080, 200_000);
        let copies = collector.stop_after_quiet(QUIET);
        let frames = capture.stop();

        assert!(copies.0.iter().all(|copy| copy.header == [0, 41, 0, 0]), "IPv6 in GUE");
        let passed = [Direction::Received, Direction::Sent].map(|it| frames.ipv6(it)).concat();
        let passed = sorted(passed.into_iter().map(<[u8]>::to_vec));
        assert!(passed.len() > 7 * 6 + 2 * 200_000 / 1440, "{} packets", passed.len());
        let copies = sorted(copies.0.into_iter().map(|copy| copy.inner));
        assert!(copies == passed, "{} copies of {} packets", copies.len(), passed.len());
    });
}

#[test]
fn needs_root_super_packets_of_ipv6_arrive_complete_over_ipv6() {
    const BYTES: usize = 1 << 20;
    in_world(|net| {
        with_ipv6(net);
        let _both = start_both(net, &["--protocol=tcp"]);
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        tcp_exchange6(net, 8080, BYTES);
        let copies = collector.stop_after_quiet(QUIET);
        let it = add_up();
        // a packet that was sent on its own, and fills the link, is truncated
        assert_eq!(
            (it.sent_whole, it.backlog_full(), it.fragments),
            (0, 0, 2 * it.sent_fragmented),
            "{it:?}"
        );
        let arrived = copies.0.len() as u64;
        assert_eq!(
            (it.veth_packets, it.veth_packets),
            (it.sent_whole_via_veth + it.sent_fragmented, arrived),
            "{it:?}"
        );
        assert!(it.via_veth < it.veth_packets, "no super-packet passed");
        for from in [CLIENT6, HOST6] {
            let mut copies: Vec<_> = copies.0.iter().map(|copy| copy.inner.as_slice()).collect();
            copies.retain(|copy| copy[8..24] == from.octets());
            let sent = noise(0, BYTES);
            let mut arrived = vec![false; BYTES];
            for (at, piece) in stream(&copies) {
                assert!(sent[at..][..piece.len()] == *piece, "a piece at {at} from {from}");
                arrived[at..][..piece.len()].fill(true);
            }
            assert!(arrived.into_iter().all(|arrived| arrived), "from {from}");
        }
    });
}

/// From the least MTU that IPv6 has to the most that a device has; up to the longest packet that makes an
/// outer one whose length IPv6 can say.
#[test]
fn needs_root_the_longest_packets_arrive_whole_over_ipv6() {
    for mtu in [1280, 1500, 9000, 65_535] {
        in_world(|net| {
            let (client, host) = (net.client(), net.host());
            for ns in [client, host] {
                ns.sh("ip link set eth0 mtu 65535");
            }
            host.sh(&format!("ip link set eth1 mtu {mtu}"));
            net.collector().sh(&format!("ip link set eth0 mtu {mtu}"));
            let [ingress, egress] = start_both(net, &["--protocol=udp"]);
            let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
            let sizes = [mtu - 52, mtu - 51, 16_384, 16_385, 32_768, 65_503, 65_523].map(|len| {
                let data = len.min(65_523) - 28;
                udp_exchange(client, host, 5300, 1, data);
                data
            });
            udp_exchange(client, host, 5300, 1, 65_524 - 28);
            let copies = collector.stop_after_quiet(QUIET);
            copies.assert_gue_v0_ipv4();
            copies.ipv4().into_iter().for_each(assert_sums);
            let mut copied: Vec<_> = copies.packets().into_iter().map(|it| it.payload).collect();
            copied.sort();
            let mut sent: Vec<_> = sizes.iter().flat_map(|&size| vec![noise(0, size); 2]).collect();
            sent.sort();
            assert!(copied == sent, "over an MTU of {mtu}");
            for daemon in [ingress, egress] {
                assert_eq!(Summary::at_end_of(daemon).oversize, 1, "one byte too long");
            }
        });
    }
}

/// Of an outer packet that is no fragment: with the pseudo-header, UDP sums up to 0 (RFC 8200, 8.1).
fn assert_checksum(packet: &[u8]) {
    let len = ((packet.len() - IPV6_HLEN) as u16).to_be_bytes();
    // source and destination, length, protocol, and what is behind the header
    let mut bytes = [&packet[8..IPV6_HLEN], &len, &[0, UDP], &packet[IPV6_HLEN..]].concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes.chunks_exact(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = (0..4).fold(words.sum::<u64>(), |sum, _| (sum & 0xffff) + (sum >> 16));
    assert_eq!(sum, 0xffff, "{packet:02x?}");
    assert_ne!(packet[IPV6_HLEN + 6..][..2], [0, 0], "a checksum is needed");
}

#[test]
fn needs_root_ipv6_outer_headers_are_as_the_flags_say() {
    in_world(|net| {
        let flags = ["--tunnel-dscp=cs1", "--tunnel-ttl=7", "--tunnel-local-port=auto"];
        let _both = start_both(net, &flags);
        let (client, host) = (net.client(), net.host());
        let capture = Capture::start(net.collector(), "eth0");
        let mirrored = Capture::start(host, "eth0");
        ping(client, host, 2, 56);
        tcp_exchange(client, host, 8080, 1 << 20);
        let mirrored = mirrored.stop();
        let wire = capture.stop();
        let outer = wire.outer_ipv6(Direction::Received);
        assert!(outer.len() > 2 * (1 << 20) / 1448);
        let (packets, fragments): (Vec<_>, Vec<_>) =
            outer.into_iter().partition(|packet| packet[6] == UDP);
        for packet in &packets {
            assert!(packet.len() <= 1500);
            assert_checksum(packet);
        }
        // a packet that is no super-packet, and fills the link, has no segments to be made shorter
        let both = [Direction::Received, Direction::Sent];
        let full = both.into_iter().flat_map(|direction| mirrored.ipv4(direction));
        let full = full.filter(|packet| (1449..=1500).contains(&packet.len())).count();
        assert_eq!(fragments.len(), 2 * full, "{full} packets, and they alone, are cut");
        let capture = Capture::start(net.collector(), "eth0");
        ping(client, host, 2, 1472);
        let wire = capture.stop();
        let fragments = wire.outer_ipv6(Direction::Received);
        assert_eq!(fragments.len(), 4 * 2, "two of each");
        for packet in fragments.iter().chain(&packets) {
            assert_eq!(packet[..4], [0x62, 0, 0, 0], "traffic class 8 << 2: {packet:02x?}");
            assert_eq!(packet[7], 7, "hops");
        }
        let port = |packet: &&&[u8]| u16::from_be_bytes([packet[IPV6_HLEN], packet[IPV6_HLEN + 1]]);
        let ports: HashSet<_> = packets.iter().map(|it| port(&it)).collect();
        assert_eq!(ports.len(), 2, "a flow of TCP and one of pings: {ports:?}");
        assert!(ports.iter().all(|port| *port >= 49152), "{ports:?}");
    });
}

#[test]
fn needs_root_ipv6_copies_too_long_are_truncated_or_dropped() {
    in_world(|net| {
        let (client, host) = (net.client(), net.host());
        let [ingress, egress] = start_both(net, &["--protocol=udp", "--oversize=truncate"]);
        assert!(ingress.output().contains("longer than 1448 bytes"), "{}", ingress.output());
        assert!(ingress.output().contains("an MTU of 1552"), "{}", ingress.output());
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        for size in [1420, 1421, 1472] {
            udp_exchange(client, host, 5300, 1, size);
        }
        let copies = collector.stop_after_quiet(QUIET);
        let lengths: Vec<_> = copies.0.iter().map(|copy| copy.inner.len()).collect();
        assert_eq!(lengths, [1448; 6]);
        for daemon in [ingress, egress] {
            assert!(daemon.terminate().success());
        }

        let [ingress, _egress] = start_both(net, &["--protocol=udp", "--oversize=drop"]);
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        for size in [1420, 1421] {
            udp_exchange(client, host, 5300, 1, size);
        }
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 2);
        assert_eq!(Summary::at_end_of(ingress).oversize, 1);
    });
}

#[test]
fn needs_root_copies_are_cut_by_rules_over_ipv6_too() {
    in_world(|net| {
        let _both = start_both(net, &["--snaplen=64"]);
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        udp_exchange(net.client(), net.host(), 5300, 3, 1472);
        udp_exchange(net.client(), net.host(), 5300, 1, 20);
        let copies = collector.stop_after_quiet(QUIET);
        let mut lengths: Vec<_> = copies.0.iter().map(|copy| copy.inner.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [48, 48, 64, 64, 64, 64, 64, 64]);
    });
}

#[test]
fn needs_root_the_ipv6_tunnel_and_its_errors_are_not_mirrored() {
    let mut log = KernelLog::watch();
    in_world(|net| {
        let on_eth1 = |direction: &str| {
            let direction_flag = format!("--direction={direction}");
            let flags = ["--iface=eth1", &direction_flag, "--redirect-to=eth1"];
            let mut daemon = Daemon::mirroring(net.host(), [&flags[..], &TO_COLLECTOR6].concat());
            daemon.wait_ready("mirroring eth1");
            daemon
        };
        let daemons = ["ingress", "egress"].map(on_eth1);
        // nobody listens: the collector's kernel answers each copy with an ICMPv6 error
        net.collector().sh("echo 0 > /proc/sys/net/ipv6/icmp/ratelimit");
        let capture = Capture::start(net.host(), "eth1");
        ping(net.host(), net.collector(), 10, 56);
        ping(net.host(), net.collector(), 5, 1472);
        let frames = capture.stop();
        let sent = frames.outer_ipv6(Direction::Sent);
        let of_ping =
            |packet: &&&[u8]| packet[6] == UDP && packet[IPV6_HLEN + UDP_AND_GUE] >> 4 == 4;
        assert_eq!(sent.iter().filter(of_ping).count(), 20, "of requests and replies that fit");
        // in two pieces each
        assert_eq!(sent.iter().filter(|packet| packet[6] == FRAGMENT).count(), 2 * 10);
        // without what the kernel sends by itself
        let no_errors = sent.iter().filter(|it| it[6] == UDP).all(|packet| {
            let inner = &packet[IPV6_HLEN + UDP_AND_GUE..];
            inner[0] >> 4 == 4 || inner[6] != ICMPV6 || inner[IPV6_HLEN] >= 128
        });
        assert!(no_errors, "an error was mirrored");
        let received = frames.ipv6(Direction::Received);
        let is_error = |packet: &&&[u8]| packet[6] == ICMPV6 && packet[IPV6_HLEN] == 1;
        let errors = received.iter().filter(is_error).count();
        assert!(errors >= 30, "{errors} ICMPv6 errors came: the test shows nothing");
        for daemon in daemons {
            assert!(Summary::at_end_of(daemon).loop_guard > 0);
        }
    });
    assert_eq!(log.complaints(), [""; 0]);
}

#[test]
fn needs_root_nothing_is_left_behind_of_a_tunnel_over_ipv6() {
    in_world(|net| {
        let before = Snapshot::of(net.host());
        let daemons = start_both(net, &[]);
        let tunnels = net.host().sh("ip -o link show type veth | grep -c 'mirroring: GUE'");
        assert_eq!(tunnels.trim(), "1", "shared");
        let host = Host::open(Path::new("/sys/fs/bpf")).expect("the host");
        for instance in host.instances_unlocked() {
            let tunnel = instance.tunnel().expect("its tunnels").expect("a tunnel in force");
            assert_eq!(tunnel.overhead, 52, "what the cap on the rate counts");
        }
        assert_eq!(copies_of_three_pings6(net), 6);
        // another family is another collector
        let other = args("egress", &["--version=other"]);
        let output = mirroring(net.host(), other.iter().map(|arg| arg.as_ref()));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("has another collector"), "{stderr}");
        for daemon in daemons {
            assert!(daemon.terminate().success());
        }
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);

        // one that is killed goes on, and leaves nothing once it is stopped
        start6(net, "ingress", &[]).kill();
        assert_eq!(copies_of_three_pings6(net), 3);
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// VXLAN devices over IPv6 that an operator made, at both ends.
fn vxlan6(net: &Topology) {
    vxlan_to(net.host(), "fd02::2");
    vxlan_to(net.collector(), "fd02::1");
}

#[test]
fn needs_root_an_existing_ipv6_device_is_routed_and_guarded() {
    in_world(|net| {
        let host = net.host();
        vxlan6(net);
        let before = Snapshot::of(host);
        let ingress = start6(net, "ingress", &["--tunnel-interface-name=vx0"]);
        let changes = Snapshot::of(host).changes_since(&before);
        let route = changes.iter().find(|it| it.contains("+ route: fd02::2 dev eth1"));
        assert!(route.is_some_and(|route| route.contains("proto 109")), "{changes:#?}");
        let limit = "\"vx0\" cannot carry packets longer than 1430 bytes";
        assert!(ingress.output().contains(limit), "{}", ingress.output());
        let capture = Capture::start(net.collector(), "vx0");
        ping(net.client(), host, 3, 56);
        ping(net.client(), host, 2, 1430 - 28);
        ping(net.client(), host, 1, 1431 - 28);
        assert_eq!(capture.stop().ipv4(Direction::Received).len(), 5);

        // its packets leave by eth1: no copies of copies
        let on_eth1 = ["--iface=eth1", "--direction=egress", "--tunnel-interface-name=vx0"];
        let mut egress = Daemon::mirroring(host, [&on_eth1[..], &TO_COLLECTOR6].concat());
        egress.wait_ready("mirroring eth1");
        let capture = Capture::start(host, "eth1");
        ping(net.host(), net.collector(), 5, 56);
        let frames = capture.stop();
        let sent = frames.ipv6(Direction::Sent);
        let vxlan = sent.iter().filter(|packet| packet[6] == UDP);
        let of_ping = vxlan.filter(|packet| packet[IPV6_HLEN + 16 + 12..][..2] == [0x08, 0x00]);
        assert_eq!(of_ping.count(), 5);

        ingress.kill();
        assert!(egress.terminate().success());
        command(host, &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(Snapshot::of(host).changes_since(&before), [""; 0]);
    });
}

/// Does `script` on the host, and waits until the process has said `text` once more.
fn change(net: &Topology, daemon: &Daemon, script: &str, text: &str) {
    let count = || daemon.log().matches(text).count();
    let before = count();
    net.host().sh(script);
    eventually(&format!("another {text:?} in the log"), || count() > before);
}

/// The kernel takes the addresses of a NIC that is set down.
#[test]
fn needs_root_ipv6_copies_go_on_when_the_nic_and_its_address_do() {
    in_world(|net| {
        let daemon = start6(net, "ingress", &[]);
        change(net, &daemon, "ip link set eth1 down", "no IPv6 address to send copies from");
        change(
            net,
            &daemon,
            "ip link set eth1 up; ip address add fd02::7/64 dev eth1 nodad",
            "resolved",
        );
        eventually("copies", || copies_of_three_pings6(net) == 3);
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 1, 56);
        let copies = collector.stop_after_quiet(QUIET);
        assert_eq!(copies.0[0].from.to_string(), "[fd02::7]:6080");

        // unless it is told to keep them
        net.host().sh("echo 1 > /proc/sys/net/ipv6/conf/eth1/keep_addr_on_down");
        change(net, &daemon, "ip link set eth1 down", "is down: no copy leaves by it");
        change(net, &daemon, "ip link set eth1 up", "resolved: the interface \"eth1\"");
        eventually("copies", || copies_of_three_pings6(net) == 3);
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_an_ndp_next_hop_that_is_silent_and_back_is_logged() {
    in_world(|net| {
        net.collector().sh("ip address delete fd02::2/64 dev eth0");
        let daemon = start6(net, "ingress", &[]);
        let silence = "the next hop fd02::2 towards the collector fd02::2 does not \
                       answer NDP";
        assert_eq!(daemon.log().matches(silence).count(), 1, "{}", daemon.log());
        let back = "nsenter --net=/run/netns/collector \
                    ip address add fd02::2/64 dev eth0 nodad";
        change(net, &daemon, back, &format!("resolved: {silence}"));
        assert_eq!(copies_of_three_pings6(net), 3);
    });
}

/// A collector in another network, behind a router that `--gtw-address` names, or the kernel's routes.
#[test]
fn needs_root_a_collector_over_ipv6_behind_a_router_is_reached() {
    in_world(|net| {
        // the collector's namespace is the router, and has the collector behind it
        net.collector().sh("
            ip address add 2001:db8:5::50/128 dev lo
            ip address add fe80::fe/64 dev eth0");
        let far = "--tunnel-remote-address=2001:db8:5::50";
        let refused = args("ingress", &[far]);
        let output = mirroring(net.host(), refused.iter().map(|arg| arg.as_ref()));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains("no route leads there; give --gtw-address"), "{stderr}");

        let check = |flags: &[&str], script: &str, way: &str| {
            net.host().sh(script);
            let daemon = start(net, "ingress", &[&[far], flags].concat());
            let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
            ping(net.client(), net.host(), 3, 56);
            let copies = collector.stop_after_quiet(QUIET);
            assert_eq!(copies.0.len(), 3, "{way}");
            assert_eq!(copies.0[0].from.to_string(), "[fd02::1]:6080");
            assert!(daemon.terminate().success());
        };
        check(&["--gtw-address=fd02::2"], "", "by an address that was given");
        check(&["--gtw-address=fe80::fe"], "", "by a link-local one");
        check(&[], "ip route add 2001:db8:5::/48 via fe80::fe dev eth1", "by a route");
        check(&["--redirect-to="], "", "as the kernel routes");
    });
}

/// Only the route knows the MTU of the path: routers do not fragment IPv6.
#[test]
fn needs_root_the_mtu_of_the_route_to_an_ipv6_collector_counts() {
    in_world(|net| {
        net.host().sh("ip route add fd02::2 dev eth1 mtu 1300");
        let daemon = start6(net, "ingress", &[]);
        let longest = || {
            let capture = Capture::start(net.collector(), "eth0");
            ping(net.client(), net.host(), 2, 1472);
            let frames = capture.stop();
            let packets = frames.outer_ipv6(Direction::Received);
            packets.into_iter().map(<[u8]>::len).max().expect("packets")
        };
        assert_eq!(longest(), 1296);
        let wider = "ip route change fd02::2 dev eth1 mtu 1400";
        change(net, &daemon, wider, "packets of up to 1400 bytes");
        assert_eq!(longest(), 1400);
    });
}

/// An ICMPv6 error from the path changes nothing: only the MTU of the route counts.
#[test]
fn needs_root_packet_too_big_does_not_change_the_ipv6_tunnel() {
    in_world(|net| {
        let (host, collector) = (net.host(), net.collector());
        let _both = start_both(net, &["--protocol=icmp"]);
        let outer_packets = || {
            let capture = Capture::start(collector, "eth0");
            let copies = Collector::listen_ipv6(collector, GUE_PORT);
            ping(net.client(), host, 2, 1472);
            assert_eq!(copies.stop_after_quiet(QUIET).0.len(), 4);
            let wire = capture.stop();
            let packets = wire.outer_ipv6(Direction::Received);
            packets.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let lengths = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).collect::<Vec<_>>();
        let before = outer_packets();
        let mut frame = Vec::new();
        let too_big = Icmpv6Type::PacketTooBig { mtu: 1280 };
        PacketBuilder::ethernet2([2, 0, 0, 2, 0, 2], [2, 0, 0, 2, 0, 1])
            .ipv6(COLLECTOR6.octets(), NEAR_COLLECTOR6.octets(), 64)
            .icmpv6(too_big)
            .write(&mut frame, &before[0][..1000])
            .expect("a frame");
        inject(collector, "eth0", &frame);
        assert_eq!(lengths(&outer_packets()), lengths(&before));
    });
}

/// What this host itself put into a tunnel is copied as a whole, and cannot be cut.
#[test]
fn needs_root_other_tunnels_copies_leave_over_ipv6_if_they_fit() {
    in_world(|net| {
        let host = net.host();
        let mut egress = start6(net, "egress", &["--protocol=udp"]);
        host.sh("
            ip link add vx9 type vxlan id 9 remote 10.1.0.2 dstport 4789
            ip address add 10.9.0.1/24 dev vx9
            ip link set vx9 up
            ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:09 dev vx9");
        let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
        let socket = host.run(|| UdpSocket::bind("10.9.0.1:0")).expect("bind");
        for size in [100, 1000, 1400] {
            socket.send_to(&vec![size as u8; size], "10.9.0.2:9").expect("send");
        }
        let copies = collector.stop_after_quiet(QUIET);
        copies.assert_gue_v0_ipv4();
        copies.ipv4().into_iter().for_each(assert_sums);
        let copied = copies.packets();
        let sizes: Vec<_> = copied.iter().map(|copy| copy.payload.len() - 8 - 14 - 28).collect();
        assert_eq!(sizes, [100, 1000]);
        egress.signal(Signal::SIGTERM);
        assert!(egress.wait().success());
        let said = "via veth 2 as 2 packets (fragmented 0 into 0, whole 2), dropped 1 (nested tunnel too \
                    long 1)";
        assert!(egress.output().contains(said), "{}", egress.output());
    });
}

#[test]
fn needs_root_an_ipv6_collector_on_this_host_is_reached_by_lo() {
    in_world(|net| {
        let local = ["--tunnel-remote-address=::1", "--redirect-to=lo"];
        let daemon = start(net, "ingress", &local);
        let collector = Collector::listen_ipv6(net.host(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        ping(net.client(), net.host(), 3, 1472);
        let copies = collector.stop_after_quiet(QUIET);
        copies.assert_gue_v0_ipv4();
        assert_eq!(copies.0.len(), 6);
        assert_eq!(copies.0[0].from.ip(), Ipv6Addr::LOCALHOST);
        let mut daemon = daemon;
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let said =
            "sent whole 0, via veth 6 as 6 packets (fragmented 0 into 0, whole 6), dropped 0";
        assert!(daemon.output().contains(said), "{}", daemon.output());
    });
}
