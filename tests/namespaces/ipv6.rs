//! IPv6 beside IPv4: all matching packets arrive unchanged, and no others.

use std::net::{IpAddr, Ipv6Addr};

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// Ingress matches the destination port and egress the source port: both mirror the same
/// conversations.
fn rules(port: &str) -> String {
    format!(
        r#"{{"rules": [
            {{"protocol": ["tcp", "udp"], "{port}": [8080, "5300-5310"]}},
            {{"protocol": ["icmp", "icmpv6"]}}
        ]}}"#
    )
}

fn converse(net: &Topology) {
    let (client, host) = (net.client(), net.host());
    for size in [56, 1400, 1452] {
        ping6(net, 5, size);
        udp_exchange6(net, 5300, 5, size);
        udp_exchange6(net, 5311, 5, size);
    }
    tcp_exchange6(net, 8080, 300_000);
    tcp_exchange6(net, 9090, 20_000);
    for (from, to) in [((client, CLIENT6), (host, HOST6)), ((host, HOST6), (client, CLIENT6))] {
        udp_with_extensions(from, to, 5310, 100);
        udp_with_extensions(from, to, 5311, 100);
        // 24 bytes of extension headers, which make a full-size packet
        udp_with_extensions(from, to, 5310, 1428);
    }
    ping(client, host, 5, 56);
    udp_exchange(client, host, 5300, 5, 1472);
    udp_exchange(client, host, 5311, 5, 100);
}

#[test]
fn needs_root_exactly_the_matching_packets_arrive() {
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        with_ipv6(net);
        let both @ [ingress, egress] = &[rules("dst_port"), rules("src_port")];
        let _both = launcher.start_both(both);
        let (copies, frames) = observe(net, || converse(net));

        let received = to_be_mirrored(ingress, &frames, Direction::Received);
        let sent = to_be_mirrored(egress, &frames, Direction::Sent);
        for packets in [&received, &sent] {
            let of_ipv6 = packets.iter().filter(|packet| source(packet).is_ipv6()).count();
            assert!(of_ipv6 > 200 && packets.len() > of_ipv6 + 5, "{of_ipv6} of IPv6");
        }
        let all = frames.ip(Direction::Received).len();
        assert!(received.len() + 15 < all, "all {all} packets match");
        assert_same(copies.ip(), [received, sent].concat());
        let sent = [Way::Ingress, Way::Egress].map(|way| outcomes(way).sent as usize);
        assert_eq!(sent.iter().sum::<usize>(), copies.0.len());
    });
}

/// Super-packets, and packets whose copies take two outer packets.
#[test]
fn needs_root_bulk_ipv6_traffic_arrives_with_right_checksums() {
    const BYTES: usize = 2 << 20;
    // with 48 bytes of headers: the longest packet that fits into 1500 - 32 bytes, one byte more,
    // and the longest of all
    const SIZES: [usize; 3] = [1420, 1421, 1452];
    undisturbed(|| {
        Topology::run(|net| {
            with_ipv6(net);
            // no offloads, like a wire: packets must be segmented and checksummed before the NIC
            net.host().without_offloads("eth1");
            let _both = ["ingress", "egress"].map(|way| start(net, way, &["--protocol=tcp,udp"]));
            let (copies, frames) = observe(net, || {
                tcp_exchange6(net, 8080, BYTES);
                for size in SIZES {
                    udp_exchange6(net, 5300, 5, size);
                }
            });
            let data = noise(0, BYTES);
            for (direction, from) in [(Direction::Received, CLIENT6), (Direction::Sent, HOST6)] {
                let longest = frames.ip(direction).iter().map(|packet| packet.len()).max();
                assert!(longest > Some(1500), "no super-packet passed");
                let copies = copies.ip_from(&[from.into()]);
                copies.iter().copied().for_each(assert_sums6);
                let (udp, tcp): (Vec<&[u8]>, Vec<&[u8]>) =
                    copies.into_iter().partition(|copy| copy[6] == 17);
                let mut arrived = vec![false; BYTES];
                for (at, piece) in stream(&tcp) {
                    assert!(
                        data.get(at..at + piece.len()) == Some(piece),
                        "a piece differs from what was sent"
                    );
                    arrived[at..at + piece.len()].fill(true);
                }
                let missing = arrived.iter().filter(|arrived| !**arrived).count();
                assert_eq!(missing, 0, "bytes missing from the stream, {direction:?}");
                let found: Vec<&[u8]> = udp.iter().map(|copy| &copy[48..]).collect();
                let sent = SIZES.iter().flat_map(|size| (0..5).map(|number| noise(number, *size)));
                let sent: Vec<_> = sent.collect();
                assert_same_data(&found, &sent);
            }
        });
    });
}

fn assert_same_data(found: &[&[u8]], sent: &[Vec<u8>]) {
    let lengths = |data: Vec<&[u8]>| data.iter().map(|it| it.len()).collect::<Vec<_>>();
    let sent: Vec<_> = sent.iter().map(Vec::as_slice).collect();
    assert!(found == sent, "{:?}, sent {:?}", lengths(found.to_vec()), lengths(sent));
}

#[test]
fn needs_root_an_address_of_one_family_is_nothing_to_the_other() {
    Topology::run(|net| {
        with_ipv6(net);
        let _daemon = start(net, "ingress", &["--protocol=udp"]);
        let families = |filter: &str| -> Vec<IpAddr> {
            let update = ["--cmd=update", "--iface=eth0", "--direction=ingress", "--protocol=udp"];
            command(net.host(), &[&update[..], &[filter]].concat());
            let collector = Collector::listen(net.collector(), GUE_PORT);
            udp_exchange(net.client(), net.host(), 5300, 1, 100);
            udp_exchange6(net, 5300, 1, 100);
            collector.stop_after_quiet(QUIET).ip().into_iter().map(source).collect()
        };
        let (v4, v6) = (IpAddr::from(CLIENT), IpAddr::from(CLIENT6));
        let other: Ipv6Addr = "fd01::3".parse().expect("an address");
        assert_eq!(families("--src-address=any"), [v4, v6]);
        assert_eq!(families("--src-address=0.0.0.0"), [v4]);
        assert_eq!(families("--src-address=::"), [v6]);
        assert_eq!(families("--src-address=10.1.0.0/24,fd01::/64"), [v4, v6]);
        assert_eq!(families(&format!("--dst-address=fd01::/64,not {HOST6}")), [v6; 0]);
        assert_eq!(families(&format!("--src-address=not {other},not 10.1.0.2")), [v6]);
    });
}
