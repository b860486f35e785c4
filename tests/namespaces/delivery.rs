//! In every launch mode: real traffic passes, every matching packet and no other arrives at the
//! collector, as it was.

use etherparse::IpNumber;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// What the instances of these tests are asked for: on ingress by destination port, on egress by
/// source port, so that both mirror the same conversations.
const INGRESS: [&str; 2] = ["--protocol=tcp,udp,icmp", "--dst-port=8080,5300-5310"];
const EGRESS: [&str; 2] = ["--protocol=tcp,udp,icmp", "--src-port=8080,5300-5310"];

/// The same, written without the code under test.
fn is_asked_for(packet: &Packet, port: impl Fn((u16, u16)) -> u16) -> bool {
    match packet.protocol {
        1 => true,
        6 | 17 => packet.ports.is_some_and(|ports| {
            let port = port(ports);
            port == 8080 || (5300..=5310).contains(&port)
        }),
        _ => false,
    }
}

fn converse(net: &Topology) {
    let (client, host) = (net.client(), net.host());
    ping(client, host, 5, 56);
    ping(host, client, 5, 1000);
    tcp_exchange(client, host, 8080, 300_000);
    tcp_exchange(client, host, 9090, 20_000);
    udp_exchange(client, host, 5300, 10, 1472);
    udp_exchange(client, host, 5310, 10, 1);
    udp_exchange(client, host, 5311, 10, 100);
    udp_exchange(client, host, 5299, 10, 100);
}

/// Sends traffic, and checks every copy of it.
fn check_copies(net: &Topology) {
    let (copies, frames) = observe(net, || converse(net));

    copies.assert_gue_v0_ipv4();
    for copy in &copies.0 {
        assert_eq!(copy.from.to_string(), "10.2.0.1:6080");
    }
    for (direction, side) in [(Direction::Received, 0), (Direction::Sent, 1)] {
        let port = |(src, dst)| if side == 0 { dst } else { src };
        let asked_for = |packet: &&[u8]| is_asked_for(&Packet::decode(packet), port);
        let expected: Vec<_> = frames.ipv4(direction).into_iter().filter(asked_for).collect();
        let from = if side == 0 { CLIENT } else { HOST };
        let found: Vec<_> =
            copies.ipv4().into_iter().filter(|packet| Packet::decode(packet).src == from).collect();
        assert!(expected.len() > 200, "{direction:?}: {} packets", expected.len());
        // no order is guaranteed: the CPUs of the two ends of a TCP connection send at the same time
        let sorted = |mut packets: Vec<_>| {
            packets.sort_unstable();
            packets
        };
        let (found, expected) = (sorted(found), sorted(expected));
        let strays = |of: &[&[u8]], without: &[&[u8]]| -> Vec<Packet> {
            let mut rest = without.to_vec();
            let stray = |packet: &&&[u8]| match rest.binary_search(*packet) {
                Ok(at) => {
                    rest.remove(at);
                    false
                }
                Err(_) => true,
            };
            of.iter().filter(stray).map(|packet| Packet::decode(packet)).collect()
        };
        let (too_many, missing) = (strays(&found, &expected), strays(&expected, &found));
        assert!(
            found == expected,
            "{direction:?}: copies of nothing: {too_many:#?}, packets without a copy: {missing:#?}"
        );
    }
}

#[test]
fn needs_root_standalone_exactly_the_matching_packets_arrive() {
    Topology::run(|net| {
        one_frame_per_packet(net);
        let _ingress = start(net, "ingress", &INGRESS);
        let _egress = start(net, "egress", &EGRESS);
        check_copies(net);
    });
}

#[test]
fn needs_root_chained_exactly_the_matching_packets_arrive() {
    Topology::run(|net| {
        one_frame_per_packet(net);
        let roots = ["ingress", "egress"].map(|direction| Root::attach(net.host(), direction));
        let _ingress = start_chained(net, "ingress", &roots[0], &INGRESS);
        let _egress = start_chained(net, "egress", &roots[1], &EGRESS);
        check_copies(net);
    });
}

#[test]
fn needs_root_l3afd_loaded_exactly_the_matching_packets_arrive() {
    Topology::run(|net| {
        one_frame_per_packet(net);
        let roots = ["ingress", "egress"].map(|direction| Root::attach(net.host(), direction));
        load_as_l3afd(Way::Ingress, &roots[0]);
        load_as_l3afd(Way::Egress, &roots[1]);
        run_as_l3afd(net, "ingress", &INGRESS);
        run_as_l3afd(net, "egress", &EGRESS);
        check_copies(net);
    });
}

#[test]
fn needs_root_the_outer_ports_are_those_of_the_flags() {
    Topology::run(|net| {
        let ports = ["--tunnel-local-port=7001", "--tunnel-remote-port=7002"];
        let _ingress = start(net, "ingress", &ports);
        let collector = Collector::listen(net.collector(), 7002);
        ping(net.client(), net.host(), 3, 56);
        let copies = collector.stop_after_quiet(QUIET);
        assert_eq!(copies.0.len(), 3);
        for copy in copies.0 {
            assert_eq!(copy.from.to_string(), "10.2.0.1:7001");
        }
    });
}

#[test]
fn needs_root_any_protocol_can_be_asked_for_by_name_or_number() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &["--protocol=gre,200"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        for protocol in [47, 200, 201, 50] {
            let mut frame = Vec::new();
            etherparse::PacketBuilder::ethernet2(CLIENT_MAC, HOST_MAC)
                .ipv4(CLIENT.octets(), HOST.octets(), 64)
                .write(&mut frame, IpNumber(protocol), b"to nobody in particular")
                .expect("a frame");
            inject(net.client(), "eth0", &frame);
        }
        let copies = collector.stop_after_quiet(QUIET).packets();
        assert_eq!(copies.iter().map(|copy| copy.protocol).collect::<Vec<_>>(), [47, 200]);
        assert_eq!(copies[0].payload, b"to nobody in particular");
    });
}

/// A payload of the package that this one replaces, with all that l3afd adds to it.
#[test]
fn needs_root_an_old_payload_works_with_every_flag_l3afd_adds() {
    let of_l3afd = ["--iface=eth0", "--direction=ingress", "--version=latest"];
    let of_payload = [
        "--tunnel-remote-port=6080",
        "--src-port=0",
        "--redirect-to=eth1",
        "--protocol=tcp,icmp",
        "--tunnel-interface-name=gue1",
        "--dst-port=8080",
        "--tunnel-local-port=6080",
        "--src-address=0.0.0.0",
        "--tunnel-remote-address=10.2.0.2",
    ];
    for more in [&[][..], &["--log-dir=/var/log/l3af"], &["--log-dir=/var/log", "--rules-file="]] {
        Topology::run(|net| {
            let start = [&of_l3afd[..], more, &of_payload].concat();
            let root = Root::attach(net.host(), "ingress");
            load_as_l3afd(Way::Ingress, &root);
            command(net.host(), &start);
            assert_eq!(copies_of_three_pings(net), 3, "{more:?}");
            command(net.host(), &[&start[..2], &["--cmd=update"], &start[2..]].concat());
            assert_eq!(copies_of_three_pings(net), 3, "{more:?} after an update");
        });
    }
    // where the payload has no object_file
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let map_name = format!("--map-name={}", root.map_path.display());
        let start = [&of_l3afd[..], &["--rules-file=", &map_name], &of_payload].concat();
        let mut daemon = Daemon::mirroring(net.host(), start);
        daemon.wait_ready("mirroring eth0 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

/// The kernel accepts any copy for a tunnel device. Whether the device can send it is another question.
#[test]
fn needs_root_what_counts_as_sent_arrives_whatever_the_frame() {
    Topology::run(|net| {
        let mut daemon = start(net, "ingress", &[]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let ethernet = [HOST_MAC, CLIENT_MAC].concat();
        let mut ipv6 = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
        ipv6.extend([0xfd; 32]);
        ipv6.extend([0x14, 0xb4, 0x14, 0xb4, 0, 8, 0x12, 0x34]);
        for (kind, payload) in [
            (&[0x86, 0xdd][..], &ipv6[..]),
            (&[0x81, 0, 0, 5, 0x86, 0xdd], &ipv6),
            (&[0x81, 0, 0, 5, 8, 0], &[0x45; 60]),
            (&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5, 8, 0], &[0x45; 60]),
            (&[0x88, 0xcc], &[2; 60]),
        ] {
            inject(net.client(), "eth0", &[&ethernet, kind, payload].concat());
        }
        ping(net.client(), net.host(), 3, 56);
        let arrived = collector.stop_after_quiet(QUIET).0.len();
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.wait();
        let sent = format!(" sent {arrived},");
        assert!(arrived >= 3 && daemon.output().contains(&sent), "{arrived}: {}", daemon.output());
    });
}
