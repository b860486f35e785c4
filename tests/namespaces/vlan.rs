//! VLANs on the mirrored interface: their packets are told from others, and their copies have no tags,
//! wherever the tags were.
//!
//! Many kernels come without VLAN devices, so the tests with these run in guests:
//! `make test-kernels`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::PacketBuilder;
use traffic_mirroring::filter::file;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;
use testkit::oracle::{evaluate, frame};

/// Kinds and IDs of a frame's tags, the outermost first.
type Tags = &'static [(u16, u16)];

const TAGS: [Tags; 7] = [
    &[],
    &[(0x8100, 100)],
    &[(0x8100, 101)],
    &[(0x88a8, 100)],
    &[(0x88a8, 200), (0x8100, 100)],
    &[(0x8100, 100), (0x8100, 200)],
    // more tags than rules look through
    &[(0x88a8, 100), (0x8100, 100), (0x8100, 100)],
];

/// Frames with these tags, of both families, between ends that are nobody's.
fn frames(tags: Tags) -> Vec<Vec<u8>> {
    let (v4, v6) =
        ([192, 0, 2, 1], "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
    let data = format!("tagged with {tags:?}");
    let mut packets = [vec![], vec![]];
    let [one, other] = &mut packets;
    let udp = PacketBuilder::ipv4(v4, [192, 0, 2, 2], 64).udp(40_000, 5300);
    udp.write(one, data.as_bytes()).expect("a packet");
    let udp = PacketBuilder::ipv6(v6, v6, 64).udp(40_000, 5300);
    udp.write(other, data.as_bytes()).expect("a packet");
    let kinds = [(0x0800_u16, one), (0x86dd, other)];
    let frame = |(ethertype, packet): (u16, &mut Vec<u8>)| {
        let tags = tags.iter().flat_map(|(kind, id)| [kind.to_be_bytes(), id.to_be_bytes()]);
        let tags: Vec<u8> = tags.flatten().collect();
        [&HOST_MAC[..], &CLIENT_MAC, &tags, &ethertype.to_be_bytes(), packet].concat()
    };
    kinds.into_iter().map(frame).collect()
}

/// What programs see: the tag of a received frame is in its metadata, that of a frame from the host is in the frame.
#[test]
fn needs_root_frames_are_told_by_their_outermost_tag() {
    in_every_launch_mode(|net, launcher| {
        let frames: Vec<_> = TAGS.iter().flat_map(|tags| frames(tags)).collect();
        for (way, ns) in [(Way::Ingress, net.client()), (Way::Egress, net.host())] {
            let _daemon = launcher.start(way, &["--protocol=udp"]);
            let mut matched = Vec::new();
            for list in [
                r#"[100]"#,
                r#"["none"]"#,
                r#"["not none"]"#,
                r#"["100-200", "not 101"]"#,
                r#"["any", "not 100"]"#,
                r#"[300]"#,
            ] {
                let text = format!(r#"{{"rules": [{{"protocol": ["udp"], "vlan": {list}}}]}}"#);
                let way = format!("--direction={way}");
                let update = ["--cmd=update", "--iface=eth0", &way, &rules_file("vlan", &text)];
                command(net.host(), &update);
                let collector = Collector::listen(net.collector(), GUE_PORT);
                inject_all(ns, "eth0", &frames);
                let copies = collector.stop_after_quiet(QUIET);
                let rules = file::rules(text.as_bytes()).expect("rules");
                let matches = |frame: &&Vec<u8>| {
                    frame::packet(frame).is_some_and(|it| evaluate::matches(&rules[0], &it))
                };
                let expected = frames.iter().filter(matches);
                let expected: Vec<_> = expected.map(|frame| ip(frame)).collect();
                matched.push(expected.len());
                assert_same(copies.ip(), expected);
            }
            assert_eq!(matched, [6, 2, 10, 8, 6, 0]);
        }
    });
}

/// VXLAN carries frames: IPv6 in them, and their tags.
#[test]
fn needs_root_a_frame_tunnel_carries_both_families_and_all_tags() {
    Topology::run(|net| {
        vxlan(net);
        let daemon = start(net, "ingress", &["--tunnel-interface-name=vx0", "--protocol=udp"]);
        let frames: Vec<_> = TAGS.iter().flat_map(|tags| frames(tags)).collect();
        let capture = Capture::start(net.collector(), "vx0");
        inject_all(net.client(), "eth0", &frames);
        let arrived = capture.stop();
        // no rule matches the last two
        let expected = frames[..frames.len() - 2].iter().map(|frame| ip(frame));
        assert_same(arrived.ip(Direction::Received), expected.collect());
        // the outermost tag comes beside a captured frame
        let inner_tags = arrived.0.iter().filter(|frame| frame.bytes[12..14] == [0x81, 0]);
        assert_eq!(inner_tags.count(), 2 * 2);
        drop(daemon);
    });
}

/// The packet in a frame of these.
fn ip(frame: &[u8]) -> &[u8] {
    let is_ip = |at: &usize| [[8, 0], [0x86, 0xdd]].contains(&[frame[*at], frame[at + 1]]);
    let ethertype = (12..).step_by(4).find(is_ip).expect("an EtherType");
    &frame[ethertype + 2..]
}

/// Of client and host in the VLAN.
const ENDS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 100, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 100, 0, 1))];
const ENDS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 1)];

/// Where tags are, as the programs see it, the interfaces that make them, and the ID of the outermost.
const KINDS: [(&str, &str, u16); 3] = [
    ("beside the frame", "ip link add link eth0 name v100 type vlan id 100", 100),
    ("in the frame", "ip link add link eth0 name v100 type vlan id 100 reorder_hdr off", 100),
    (
        "two of them",
        "ip link add link eth0 name v200 type vlan proto 802.1ad id 200
        ip link set v200 up gso_max_segs 1
        ip link add link v200 name v100 type vlan id 100",
        200,
    ),
];

fn set_up(net: &Topology, links: &str) {
    for (index, ns) in [net.client(), net.host()].into_iter().enumerate() {
        // with room for the tags of full packets
        ns.sh(&format!(
            "ip link set eth0 mtu 1508
            {links}
            ip link set v100 mtu 1500 gso_max_segs 1
            ip address add {}/24 dev v100
            ip link set v100 up",
            ENDS[index]
        ));
        add_ipv6(ns, "v100", ENDS6[index]);
    }
}

fn converse(net: &Topology) {
    let (client, host) = (net.client(), net.host());
    tcp_exchange_with(client, host, SocketAddr::new(ENDS[1], 8080), 100_000);
    for size in [1, 1400, 1472] {
        udp_exchange_between(client, host, ENDS, 5300, 5, size);
        udp_exchange_between(client, host, ENDS6.map(IpAddr::from), 5300, 5, size.min(1452));
    }
    // without a tag
    udp_exchange(client, host, 5300, 5, 100);
    udp_exchange6(net, 5300, 5, 100);
}

/// Each of `converse` without a tag, in one direction.
const UNTAGGED: usize = 2 * 5;

#[test]
#[ignore = "wants VLAN devices: make test-kernels"]
fn needs_root_packets_of_vlan_devices_arrive_without_tags() {
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        with_ipv6(net);
        let _both = Way::ALL.map(|way| launcher.start(way, &["--protocol=tcp,udp"]));
        let update = |filter: &str| {
            for way in Way::ALL {
                let way = format!("--direction={way}");
                let update = ["--cmd=update", "--iface=eth0", &way, "--protocol=tcp,udp", filter];
                command(net.host(), &update);
            }
        };
        for (kind, links, id) in KINDS {
            for offloads in [true, false] {
                if !offloads {
                    for ns in [net.client(), net.host()] {
                        ns.without_tag_offloads("eth0");
                    }
                }
                set_up(net, links);
                println!("{kind}, offloads: {offloads}");
                let mirrored = |filter: &str| {
                    update(filter);
                    let collector = Collector::listen(net.collector(), GUE_PORT);
                    let capture = Capture::start(net.host(), "v100");
                    converse(net);
                    (collector.stop_after_quiet(QUIET), capture.stop())
                };
                let (copies, frames) = mirrored(&format!("--vlan={id}"));
                let of_vlan = [Direction::Received, Direction::Sent].map(|way| frames.ip(way));
                let mut of_vlan = of_vlan.concat();
                // of ICMPv6: who has an address, and behind hop-by-hop options who listens to a group
                of_vlan.retain(|packet| source(packet).is_ipv4() || ![0, 58].contains(&packet[6]));
                assert!(of_vlan.len() > 2 * 3 * 2 * 5, "{} packets", of_vlan.len());
                assert_same(copies.ip(), of_vlan);

                for (filter, expected) in [("--vlan=none", 2 * UNTAGGED), ("--vlan=300", 0)] {
                    let (copies, _) = mirrored(filter);
                    assert_eq!(copies.0.len(), expected, "{filter}");
                }
                let (copies, _) = mirrored(&format!("--vlan=not {id}"));
                let from = copies.ip().into_iter().map(source);
                assert_eq!(from.filter(|from| !is_in_vlan(*from)).count(), 2 * UNTAGGED);
                assert_eq!(copies.0.len(), 2 * UNTAGGED);
                for ns in [net.client(), net.host()] {
                    ns.sh(
                        "ip link delete v100; ! [ -e /sys/class/net/v200 ] || ip link delete v200",
                    );
                }
            }
        }
    });
}

fn is_in_vlan(address: IpAddr) -> bool {
    ENDS.contains(&address) || ENDS6.map(IpAddr::from).contains(&address)
}
