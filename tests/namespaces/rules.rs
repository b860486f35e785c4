//! Rules with real traffic: which one a packet meets, and what becomes of it then.

use std::collections::BTreeMap;

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// Rules of a file for both directions of a conversation: `{port}` is the key for the server's port.
fn of_each_direction(rules: &str) -> [String; 2] {
    ["dst_port", "src_port"].map(|key| rules.replace("{port}", key))
}

/// An exclusion, rules that overlap, a rule for everything; that of the flags comes behind them.
const RULES: &str = r#"{"rules": [
    {"name": "no-backup", "action": "exclude", "protocol": ["tcp", "udp"], "{port}": ["5301", "8081-8089"]},
    {"name": "web", "protocol": ["tcp"], "{port}": ["8080-8090"]},
    {"name": "late", "action": "exclude", "protocol": ["tcp"], "{port}": ["8080"]},
    {"name": "names", "protocol": ["udp"], "{port}": ["5300-5302"], "length": ["29-500", "not 128"]},
    {"name": "pings", "icmp_type": ["echo-request", "echo-reply"], "length": [84]}
]}"#;

fn converse(net: &Topology) {
    let (client, host) = (net.client(), net.host());
    for port in [8080, 8081, 8090, 9090] {
        tcp_exchange(client, host, port, 30_000);
    }
    for port in [5299, 5300, 5301, 5302] {
        // of 128 bytes with their headers, and of others
        for size in [0, 99, 100, 101, 1000] {
            udp_exchange(client, host, port, 2, size);
        }
    }
    ping(client, host, 3, 56);
    ping(host, client, 3, 57);
}

#[test]
fn needs_root_the_first_rule_that_matches_decides() {
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        let rules = of_each_direction(RULES);
        let _both = launcher.start_both(&rules);
        let (copies, frames) = observe(net, || converse(net));
        let ways = [Direction::Received, Direction::Sent];
        let expected = [0, 1].map(|n| to_be_mirrored(&rules[n], &frames, ways[n]));
        for (n, way) in Way::ALL.into_iter().enumerate() {
            let it = outcomes(way);
            assert_eq!(it.sent as usize, expected[n].len(), "{way}");
            // all of port 5301, and a connection at least
            assert!(it.excluded > 10 + 20, "{way}: {} excluded", it.excluded);
            assert_eq!(it.matched, it.sent + it.excluded, "{way}");
            let all = frames.ip(ways[n]).len();
            assert!((it.matched as usize) + 20 < all, "{way}: all {all} packets match");
        }
        assert_same(copies.ip(), expected.concat());
    });
}

#[test]
fn needs_root_the_flags_rule_comes_behind_those_of_the_file() {
    Topology::run(|net| {
        let file = rules_file("rules", r#"{"rules": [{"action": "exclude", "dst_port": [5300]}]}"#);
        let daemon = start(net, "ingress", &[&file, "--protocol=udp", "--snaplen=64"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        for port in [5300, 5301] {
            udp_exchange(net.client(), net.host(), port, 3, 100);
        }
        ping(net.client(), net.host(), 3, 56);
        let copies = collector.stop_after_quiet(QUIET);
        let copies = copies.ip().into_iter();
        let copies: Vec<_> = copies.map(|copy| (copy.len(), copy[22..24].to_vec())).collect();
        assert_eq!(copies, vec![(64, 5301_u16.to_be_bytes().to_vec()); 3]);
        assert_eq!(outcomes(Way::Ingress).excluded, 3);
        drop(daemon);
    });
}

/// Six and a half standard deviations: chance exceeds that once in 10^10 times.
fn check_share(found: usize, count: usize, one_in: f64) {
    let (count, share) = (count as f64, 1.0 / one_in);
    let leeway = 6.5 * (count * share * (1.0 - share)).sqrt();
    let off = (found as f64 - count * share).abs();
    assert!(off <= leeway, "{found} of {count} is not one in {one_in}");
}

#[test]
fn needs_root_a_packet_sample_is_one_in_n_and_the_rest_counts() {
    const PACKETS: usize = 5000;
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--dst-port=5300", "--sample-one-in=10"]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        udp_exchange(net.client(), net.host(), 5300, PACKETS, 20);
        let copies = collector.stop_after_quiet(QUIET).0.len();
        let it = outcomes(Way::Ingress);
        assert_eq!((it.matched, it.sent), (PACKETS as u64, copies as u64));
        assert_eq!(it.not_sampled, (PACKETS - copies) as u64);
        check_share(copies, PACKETS, 10.0);
    });
}

/// Two instances, which know nothing of each other, have the same flows in their samples.
#[test]
fn needs_root_a_flow_sample_has_both_directions_of_a_flow() {
    const FLOWS: usize = 400;
    const EACH: usize = 3;
    let sample = r#"{"rules": [
        {"protocol": ["udp", "tcp"], "{port}": [5300, 8080], "sample": {"one_in": 2, "by": "flow"}}
    ]}"#;
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        with_ipv6(net);
        let rules = of_each_direction(sample);
        let _both = launcher.start_both(&rules);
        let (copies, frames) = observe(net, || {
            for n in 0..FLOWS {
                match n % 8 {
                    0 => drop(tcp_exchange(net.client(), net.host(), 8080, 5000)),
                    1 => drop(tcp_exchange6(net, 8080, 5000)),
                    2..5 => drop(udp_exchange(net.client(), net.host(), 5300, EACH, 100)),
                    _ => drop(udp_exchange6(net, 5300, EACH, 100)),
                }
            }
        });
        let ways = [Direction::Received, Direction::Sent];
        let all = [0, 1].map(|n| to_be_mirrored(&rules[n], &frames, ways[n])).concat();
        let (of_flows, copied) = (by_flow(&all), by_flow(&copies.ip()));
        // the kernel may have taken a port twice
        assert!(of_flows.len() > FLOWS * 9 / 10, "{} flows", of_flows.len());
        for (flow, count) in &copied {
            assert_eq!(of_flows.get(flow), Some(count), "packets of {flow:?}");
        }
        check_share(copied.len(), of_flows.len(), 2.0);
        let left_out: u64 = Way::ALL.into_iter().map(|way| outcomes(way).not_sampled).sum();
        assert_eq!(left_out as usize, all.len() - copies.0.len());
    });
}

/// How many packets there are of each conversation: family, protocol, and the client's port.
fn by_flow(packets: &[&[u8]]) -> BTreeMap<(u8, u8, u16), usize> {
    let mut flows = BTreeMap::new();
    for packet in packets {
        let (protocol, ports) = if packet[0] >> 4 == 4 {
            (packet[9], &packet[20..])
        } else {
            (packet[6], &packet[40..])
        };
        let ports = [0, 2].map(|at| u16::from_be_bytes([ports[at], ports[at + 1]]));
        let of_client = if [5300, 8080].contains(&ports[0]) { ports[1] } else { ports[0] };
        *flows.entry((packet[0] >> 4, protocol, of_client)).or_default() += 1;
    }
    flows
}

/// Packets of all lengths up to full ones, of both families. The length in the header of a copy is that of the whole
/// packet.
#[test]
fn needs_root_copies_with_a_snaplen_are_the_first_bytes() {
    const ROOM: usize = 100;
    let rules = format!(
        r#"{{"rules": [
            {{"protocol": ["tcp"], "snaplen": "headers"}},
            {{"protocol": ["udp"], "snaplen": {ROOM}}},
            {{"protocol": ["icmp", "icmpv6"], "snaplen": "headers"}}
        ]}}"#
    );
    let kept = |packet: &[u8]| {
        let (protocol, header_len) =
            if packet[0] >> 4 == 4 { (packet[9], 20) } else { (packet[6], 40) };
        match protocol {
            17 => packet.len().min(ROOM),
            // the length of its header is in its 13th byte (RFC 9293)
            6 => header_len + usize::from(packet[header_len + 12] >> 4) * 4,
            _ => header_len + 8,
        }
    };
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        with_ipv6(net);
        let file = rules_file("rules", &rules);
        let _both = Way::ALL.map(|way| launcher.start(way, &[&file]));
        let (copies, frames) = observe(net, || {
            for size in [0, 52, 72, 73, 1000, 1452] {
                udp_exchange(net.client(), net.host(), 5300, 2, size);
                udp_exchange6(net, 5300, 2, size);
                ping(net.client(), net.host(), 2, size);
                ping6(net, 2, size);
            }
            tcp_exchange(net.client(), net.host(), 8080, 100_000);
            tcp_exchange6(net, 8080, 100_000);
        });
        let packets = [Direction::Received, Direction::Sent].map(|way| frames.ip(way)).concat();
        let expected = packets.iter().map(|packet| &packet[..kept(packet).min(packet.len())]);
        let [copies, expected] =
            [copies.ip(), expected.collect()].map(|packets| without_tcp_sums(&packets));
        let [copies, expected] =
            [&copies, &expected].map(|of| of.iter().map(Vec::as_slice).collect());
        assert_same(copies, expected);
    });
}

/// On egress, the programs see TCP packets before the device computes their checksums. A part of such a packet has no
/// valid checksum.
fn without_tcp_sums(packets: &[&[u8]]) -> Vec<Vec<u8>> {
    let without = |packet: &&[u8]| {
        let mut packet = packet.to_vec();
        let (protocol, header_len) =
            if packet[0] >> 4 == 4 { (packet[9], 20) } else { (packet[6], 40) };
        if protocol == 6 {
            packet[header_len + 16..][..2].fill(0);
        }
        packet
    };
    packets.iter().map(without).collect()
}

/// The copy of a super-packet, too, is the beginning of one packet.
#[test]
fn needs_root_a_super_packet_leaves_one_copy_of_its_headers() {
    Topology::run(|net| {
        let _both = Way::ALL.map(|way| start(net, &way.to_string(), &["--snaplen=headers"]));
        let (copies, frames) = observe(net, || {
            tcp_exchange(net.client(), net.host(), 8080, 1 << 20);
        });
        let packets = [Direction::Received, Direction::Sent].map(|way| frames.ip(way)).concat();
        assert!(packets.iter().any(|packet| packet.len() > 1500), "no super-packet passed");
        let copies = copies.ip();
        assert_eq!(copies.len(), packets.len());
        for copy in copies {
            let header = copy.get(20..).expect("a TCP header");
            assert_eq!(copy.len(), 20 + usize::from(header[12] >> 4) * 4);
        }
    });
}
