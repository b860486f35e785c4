//! Packets longer than one outer packet carries, over a NIC of the usual MTU. (`completeness` tests
//! that they arrive whole.)

use std::time::Duration;

use etherparse::PacketBuilder;
use nix::sys::signal::Signal;

use testkit::namespaces::*;

const QUIET: Duration = Duration::from_millis(300);

/// Mirrors both directions of `eth0`, which has its default offloads. The NIC has none, like a
/// wire.
fn start_both(net: &Topology, more: &[&str]) -> [Daemon; 2] {
    net.host().without_offloads("eth1");
    ["ingress", "egress"].map(|direction| start(net, direction, more))
}

fn jumbo(net: &Topology) {
    for ns in [net.client(), net.host()] {
        ns.sh("ip link set eth0 mtu 9000");
    }
}

/// Mirrors packets that are not super-packets, and compares each with its copy.
fn check_packets(net: &Topology, traffic: impl Fn()) {
    let _both = start_both(net, &["--protocol=udp,icmp"]);
    let (copies, frames) = observe(net, traffic);

    copies.assert_gue_v0_ipv4();
    copies.ipv4().into_iter().for_each(assert_sums);
    let sorted = |mut packets: Vec<Packet>| {
        packets.sort_by_key(|it| (it.src, it.dst, it.protocol, it.ports, it.payload.clone()));
        packets
    };
    let sent = [Direction::Received, Direction::Sent].map(|direction| frames.ipv4(direction));
    let sent: Vec<_> = sent.iter().flatten().map(|packet| Packet::decode(packet)).collect();
    let sizes = |packets: &[Packet]| packets.iter().map(|it| it.payload.len()).collect::<Vec<_>>();
    let (copies, sent) = (sorted(copies.packets()), sorted(sent));
    assert!(copies == sent, "copies of {:?}, sent {:?}", sizes(&copies), sizes(&sent));
}

/// From the lowest MTU that every host accepts to the highest that a device has. Packets are up to
/// the longest whose outer packet still fits into 65,535 bytes.
#[test]
fn needs_root_the_longest_packets_arrive_whole_over_every_nic() {
    for mtu in [576, 1499, 1500, 9000, 65_535] {
        Topology::run(|net| {
            let (client, host) = (net.client(), net.host());
            for ns in [client, host] {
                ns.sh("ip link set eth0 mtu 65535");
            }
            host.sh(&format!("ip link set eth1 mtu {mtu}"));
            net.collector().sh(&format!("ip link set eth0 mtu {mtu}"));
            check_packets(net, || {
                for packet in [mtu - 32, mtu - 31, 16_384, 16_385, 32_768, 65_502, 65_503] {
                    udp_exchange(client, host, 5300, 1, packet.min(65_503) - 28);
                }
            });
        });
    }
}

/// The last outer fragment is shorter than the IP header of the mirrored packet.
#[test]
fn needs_root_packets_with_ip_options_arrive_whole() {
    Topology::run(|net| {
        let (client, host) = (net.client(), net.host());
        jumbo(net);
        check_packets(net, || {
            for (from, to) in [(client, host), (host, client)] {
                // 40 bytes of options, 28 of other headers, 12 of outer headers, and 1 byte too
                // many
                for last in [1, 39, 40, 41] {
                    udp_with_options(from, to, 5300, 3 * 1480 - 40 - 28 - 12 + last);
                }
            }
        });
    });
}

#[test]
fn needs_root_truncated_copies_fill_one_outer_packet() {
    Topology::run(|net| {
        jumbo(net);
        let _both = start_both(net, &["--protocol=udp", "--oversize=truncate"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let capture = Capture::start(net.collector(), "eth0");
        let capture_of_sent = Capture::start(net.host(), "eth0");
        udp_exchange(net.client(), net.host(), 5300, 3, 1440);
        udp_exchange(net.client(), net.host(), 5300, 3, 1441);
        udp_exchange(net.client(), net.host(), 5300, 3, 8000);
        let copies = collector.stop_after_quiet(QUIET);
        let wire = capture.stop();
        let sent = capture_of_sent.stop();

        assert_eq!(wire.ipv4(Direction::Received).len(), 18, "each copy takes one outer packet");
        let received = sent.ipv4(Direction::Received);
        assert_eq!((copies.0.len(), received.len()), (18, 9));
        // all but the checksum, which the sender leaves to a device that does not fill it in
        let but_checksum = |packet: &[u8]| [&packet[..26], &packet[28..]].concat();
        let from_client = |copy: &&&[u8]| copy[12..16] == CLIENT.octets();
        let copies = copies.ipv4();
        let copies: Vec<_> = copies.iter().filter(from_client).collect();
        for (copy, packet) in copies.into_iter().zip(received) {
            assert_eq!(copy.len(), packet.len().min(1468));
            assert!(but_checksum(copy) == but_checksum(&packet[..copy.len()]));
        }
    });
}

#[test]
fn needs_root_with_oversize_drop_packets_too_long_are_counted() {
    Topology::run(|net| {
        let [mut ingress, mut egress] = start_both(net, &["--protocol=tcp,udp", "--oversize=drop"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        // 28 bytes of headers: the first fits into 1500 - 32 bytes, the second does not
        udp_exchange(net.client(), net.host(), 5300, 4, 1440);
        udp_exchange(net.client(), net.host(), 5300, 7, 1441);
        udp_segments(net.host(), net.client(), 5300, 5, 1472);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 2 * 4);
        for (daemon, matched, oversize) in [(&mut ingress, 11, 7), (&mut egress, 12, 8)] {
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.wait().success());
            let summary = format!(
                "matched {matched}, sent 4, dropped {oversize} (loop guard 0, oversize {oversize}, rate \
                 limit 0, device 0)"
            );
            let output = daemon.output();
            assert!(output.contains(&summary), "{output}");
            assert!(output.contains("longer than 1468 bytes do not fit \"eth1\""), "{output}");
        }
    });
}

#[test]
fn needs_root_instances_of_one_tunnel_differ_in_oversize() {
    Topology::run(|net| {
        net.host().without_offloads("eth1");
        let _ingress = start(net, "ingress", &["--oversize=truncate"]);
        let _egress = start(net, "egress", &["--oversize=fragment"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 1472);
        let copies = collector.stop_after_quiet(QUIET);
        let length_of_copies_from = |from| {
            let mut copies = copies.ipv4();
            copies.retain(|copy| copy[12..16] == from);
            copies.into_iter().map(<[u8]>::len).collect::<Vec<_>>()
        };
        assert_eq!(length_of_copies_from(CLIENT.octets()), [1468; 3]);
        assert_eq!(length_of_copies_from(HOST.octets()), [1500; 3]);
    });
}

#[test]
fn needs_root_fragments_of_copies_are_not_mirrored() {
    Topology::run(|net| {
        net.host().without_offloads("eth1");
        let _both = ["ingress", "egress"].map(|direction| {
            let direction_flag = format!("--direction={direction}");
            let flags = ["--iface=eth1", &direction_flag];
            let mut daemon = Daemon::mirroring(net.host(), [&flags[..], &TO_COLLECTOR].concat());
            daemon.wait_ready("mirroring eth1");
            daemon
        });
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let capture = Capture::start(net.collector(), "eth0");
        ping(net.host(), net.collector(), 5, 1472);
        let copies = collector.stop_after_quiet(QUIET);
        let wire = capture.stop();
        copies.ipv4().into_iter().for_each(assert_sums);
        assert_eq!(copies.0.len(), 10, "5 requests and 5 replies");
        // a request and two copies, in two fragments each
        assert_eq!(wire.ipv4(Direction::Received).len(), 5 * (1 + 2 * 2));
    });
}

/// A router on the path fragments the outer packets again, to the MTU of its next link.
#[test]
fn needs_root_copies_pass_a_router_with_a_smaller_mtu_behind_it() {
    Topology::run(|net| {
        // the collector's namespace is the router; the client's namespace is behind it, on a link
        // of its own
        net.collector().sh("
            echo 1 > /proc/sys/net/ipv4/ip_forward
            ip link add eth9 mtu 1280 type veth peer name eth9 mtu 1280 netns client
            ip address add 10.4.0.1/24 dev eth9
            ip link set eth9 up");
        net.client().sh("ip address add 10.4.0.2/24 dev eth9; ip link set eth9 up");
        net.host().without_offloads("eth1");
        let far = ["--tunnel-remote-address=10.4.0.2", "--gtw-address=10.2.0.2"];
        let _egress = start(net, "egress", &[&far[..], &["--protocol=icmp"]].concat());
        let collector = Collector::listen(net.client(), GUE_PORT);
        ping(net.host(), net.client(), 5, 1472);
        ping(net.host(), net.client(), 5, 1300);
        let copies = collector.stop_after_quiet(QUIET);
        copies.ipv4().into_iter().for_each(assert_sums);
        let sizes: Vec<_> = copies.packets().iter().map(|copy| copy.payload.len()).collect();
        assert_eq!(sizes, [[1472; 5], [1300; 5]].concat());
    });
}

/// Some drivers deliver such buffers, and so do some detours of large packets.
#[test]
fn needs_root_headers_outside_of_a_buffers_linear_part_are_read() {
    Topology::run(|net| {
        jumbo(net);
        let _both = start_both(net, &["--protocol=udp", "--dst-port=5300"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let mut expected = Vec::new();
        for (ns, addresses, macs) in [
            (net.client(), [CLIENT, HOST], [CLIENT_MAC, HOST_MAC]),
            (net.host(), [HOST, CLIENT], [HOST_MAC, CLIENT_MAC]),
        ] {
            for port in [5300, 5301] {
                let mut frame = Vec::new();
                PacketBuilder::ethernet2(macs[0], macs[1])
                    .ipv4(addresses[0].octets(), addresses[1].octets(), 64)
                    .udp(40_000, port)
                    .write(&mut frame, &noise(port.into(), 8000))
                    .expect("a frame");
                inject_in_pages(ns, "eth0", &frame);
                if port == 5300 {
                    expected.push(frame[14..].to_vec());
                }
            }
        }
        let copies = collector.stop_after_quiet(QUIET);
        let mut copies = copies.ipv4();
        copies.sort_unstable();
        expected.sort_unstable();
        assert_eq!(copies.len(), expected.len());
        assert!(copies == expected, "the copies differ from the packets");
    });
}
