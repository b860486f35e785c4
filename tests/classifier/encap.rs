//! The built-in tunnel's encapsulator turns a marked copy into a frame to the collector. (The
//! cutter passes its work to a device, so network namespaces are needed to test it.)

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ipv4HeaderSlice, UdpHeaderSlice};
use libbpf_rs::Object;
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::mmap_array::MmapArray;
use traffic_mirroring::model::LocalPort;
use traffic_mirroring::tunnel::encap::counters;
use traffic_mirroring::tunnel::encap::template::{Path, Sizes, TTL};

use crate::loop_guard::MARK;
use testkit::oracle::random::Random;
use testkit::test_run::harness::{Context, NO_SUCH_DEVICE, hex, run, try_run, tunnel_bytes};
use testkit::test_run::packets::{ETH_HLEN, Packet, frame, ping, tagged, tcp, udp, untagged};
use testkit::test_run::packets_ipv6::{DESTINATION, HOP_BY_HOP, Packet6, tcp6, udp6};

const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;
const TC_ACT_REDIRECT: i32 = 7;

const MUTATED_FRAMES: usize = 50_000;

pub const PATH: Path = Path {
    source: IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)),
    collector: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    local_port: LocalPort::Fixed(6079),
    remote_port: 6080,
    dscp: 46,
    ttl: TTL,
    ifindex: 1,
    next_hop: Some(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 254))),
    sizes: Sizes { mtu: 65_536, whole: 15_000, piece: 4088, longest: 65_503 },
};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";
const A6: &str = "[2001:db8::1]:1000";
const B6: &str = "[2001:db8::2]:80";

pub fn encapsulator(path: &Path) -> Object {
    tunnel(path, 1)
}

/// Loads both programs of the built-in tunnel, for a device with this index.
pub fn tunnel(path: &Path, ifindex: u32) -> Object {
    let object = bpf::load(tunnel_bytes(), &[]).expect("load (are we root?)");
    let map = bpf::map(&object, "gue_template").unwrap();
    MmapArray::new(&map, 1).unwrap().write(0, path.template(ifindex));
    object
}

pub fn counts(object: &Object) -> bpf::GueCounters {
    counters::read(&bpf::map(object, counters::MAP).unwrap()).unwrap()
}

/// A path to a collector behind a NIC of the usual MTU.
pub fn usual_path() -> Path {
    Path { sizes: Sizes::of(1500, PATH.collector), ..PATH }
}

pub fn marked() -> Context {
    Context { cb: [MARK[0], MARK[1], 0, 0, 0], ..Context::default() }
}

fn ends(ip: &Ipv4HeaderSlice) -> (IpAddr, IpAddr) {
    (ip.source_addr().into(), ip.destination_addr().into())
}

/// Checks that a sent frame holds the packet in GUE, UDP and IPv4, as a collector expects it.
fn check_outer(left: &[u8], packet: &[u8]) {
    check_outer_of(left, packet, if packet[0] >> 4 == 6 { 41 } else { 4 });
}

/// `follows` is the protocol that the GUE header must name.
fn check_outer_of(left: &[u8], packet: &[u8], follows: u8) {
    let shown = hex(left);
    let (ethernet, rest) = left.split_at(ETH_HLEN);
    // the neighbour entry sets the addresses later; a multicast address would be refused
    assert_eq!(ethernet, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00], "{shown}");

    let ip = Ipv4HeaderSlice::from_slice(rest).expect("an IPv4 header");
    assert_eq!(usize::from(ip.total_len()), rest.len(), "{shown}");
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum(), "{shown}");
    assert_eq!(ends(&ip), (PATH.source, PATH.collector));
    assert_eq!((ip.ihl(), ip.dcp().value(), ip.ttl(), ip.protocol().0), (5, 46, TTL, 17));
    assert!(!ip.is_fragmenting_payload() && !ip.dont_fragment());

    let udp = UdpHeaderSlice::from_slice(&rest[20..]).expect("a UDP header");
    assert_eq!((udp.source_port(), udp.destination_port()), (6079, 6080));
    assert_eq!(usize::from(udp.length()), rest.len() - 20, "{shown}");
    assert_eq!(udp.checksum(), 0);

    assert_eq!(rest[28..32], [0, follows, 0, 0], "GUE: version 0, no extensions, IP follows");
    assert!(rest[32..] == *packet, "{shown} does not end in {}", hex(packet));
}

#[test]
fn needs_root_a_marked_copy_leaves_in_gue_with_the_packet_as_is() {
    let packets = [
        tcp(A, B),
        udp(A, B).of_length(1468),
        udp(A, B).of_length(3000),
        ping(A, B),
        Packet::new(47, A, B),
        tcp(A, B).with_options(10),
        udp(A, B).fragment(0, true),
        udp(A, B).fragment(185, false),
        // a copy of a packet that is already in a tunnel
        udp(A, "198.51.100.1:6080"),
        Packet::new(4, A, B),
        Packet::new(4, A, B).of_length(20),
    ];
    for path in [PATH, Path { next_hop: None, ..PATH }] {
        let object = encapsulator(&path);
        for packet in &packets {
            let run = run(&object, &packet.frame(), marked(), 1);
            assert_eq!(run.verdict, TC_ACT_REDIRECT, "{packet:?}");
            check_outer(&run.frame, &packet.bytes());
        }
    }
}

#[test]
fn needs_root_a_copy_of_ipv6_leaves_as_one_of_ipv4_does() {
    let packets = [
        tcp6(A6, B6),
        udp6(A6, B6).of_length(1468),
        udp6(A6, B6).of_length(3000),
        udp6(A6, B6).of_length(48),
        Packet6::icmp(128, A6, B6),
        Packet6::new(59, A6, B6).of_length(40),
        tcp6(A6, B6).behind(DESTINATION, 1).behind(HOP_BY_HOP, 0),
        udp6(A6, B6).fragment(7, 0, true),
        udp6(A6, B6).fragment(7, 1480, false),
        Packet6::new(41, A6, B6),
    ];
    for path in [PATH, Path { next_hop: None, ..PATH }] {
        let object = encapsulator(&path);
        for packet in &packets {
            // padding after the packet, as in a short frame
            for frame in [packet.frame(), [packet.frame(), vec![0; 6]].concat()] {
                let run = run(&object, &frame, marked(), 1);
                // a length of 0 says nothing about padding
                if packet.bytes().len() == 40 && frame.len() > 54 {
                    continue;
                }
                assert_eq!(run.verdict, TC_ACT_REDIRECT, "{packet:?}");
                check_outer(&run.frame, &packet.bytes());
            }
        }
    }
}

/// Tags in the frame itself. A test run cannot set a tag that a NIC has taken out of the frame.
#[test]
fn needs_root_vlan_tags_stay_behind() {
    let object = encapsulator(&PATH);
    let (v4, v6) = (udp(A, B), udp6(A6, B6));
    for tags in [&[(0x8100, 7)][..], &[(0x88a8, 0xe007)], &[(0x88a8, 7), (0x8100, 4095)]] {
        for (frame, packet) in [(v4.padded_frame(), v4.bytes()), (v6.frame(), v6.bytes())] {
            let run = run(&object, &tagged(tags, &frame), marked(), 1);
            assert_eq!(run.verdict, TC_ACT_REDIRECT, "{tags:x?}");
            check_outer(&run.frame, &packet);
        }
    }
    // either no rule can match such a packet, or the kernel does not strip the tag
    for tags in [&[(0x8100, 1), (0x8100, 2), (0x8100, 3)][..], &[(0x9100, 7)]] {
        let run = run(&object, &tagged(tags, &v4.frame()), marked(), 1);
        assert_eq!(run.verdict, TC_ACT_SHOT, "{tags:x?}");
    }
}

#[test]
fn needs_root_copies_are_cut_to_what_a_rule_leaves_of_them() {
    let object = encapsulator(&usual_path());
    let tag = [(0x8100, 7)];
    for len in [64, 65, 128, 1000, 1468, 1469, 3000] {
        let (v4, v6) = (udp(A, B).of_length(len), tcp6(A6, B6).of_length(len));
        for (frame, packet) in [
            (v4.frame(), v4.bytes()),
            (v6.frame(), v6.bytes()),
            (tagged(&tag, &v4.frame()), v4.bytes()),
            (tagged(&tag, &v6.frame()), v6.bytes()),
        ] {
            for cut in [28, 40, 64, 127, 128, 1000, 1468] {
                let cb = [MARK[0], MARK[1], 0, cut as u32, 0];
                let run = run(&object, &frame, Context { cb, ..Context::default() }, 1);
                let left = packet.len().min(cut);
                if cut < 40 && packet[0] >> 4 == 6 {
                    // the cut is within the IPv6 header; no rule leaves so little
                    continue;
                }
                assert_eq!(run.verdict, TC_ACT_REDIRECT, "{len} cut to {cut}");
                // the inner length stays as it was
                check_outer(&run.frame, &packet[..left]);
            }
        }
    }
}

#[test]
fn needs_root_padding_of_short_frames_is_trimmed() {
    let object = encapsulator(&PATH);
    for len in 20..46 {
        let packet = udp(A, B).of_length(len);
        let frame = packet.padded_frame();
        assert_eq!(frame.len(), 60);
        let run = run(&object, &frame, marked(), 1);
        assert_eq!(run.verdict, TC_ACT_REDIRECT);
        check_outer(&run.frame, &packet.bytes());
    }
}

#[test]
fn needs_root_what_is_no_marked_ip_packet_is_dropped() {
    let object = encapsulator(&PATH);
    let packet = tcp(A, B);
    let with_cb = |cb| Context { cb, ..Context::default() };
    let cases = [
        ("no mark", packet.frame(), Context::default()),
        ("half a mark", packet.frame(), with_cb([MARK[0], 0, 0, 0, 0])),
        ("the other half", packet.frame(), with_cb([0, MARK[1], 0, 0, 0])),
        ("ARP", frame(0x0806, &[0; 28]), marked()),
    ];
    for (name, frame, context) in cases {
        let run = run(&object, &frame, context, 1);
        assert_eq!(run.verdict, TC_ACT_SHOT, "{name}");
        assert!(run.frame == frame, "{name}");
    }
}

#[test]
fn needs_root_each_outer_datagram_has_its_own_fragment_id() {
    let object = encapsulator(&PATH);
    let ids = [(); 20].map(|()| {
        let run = run(&object, &tcp(A, B).frame(), marked(), 1);
        Ipv4HeaderSlice::from_slice(&run.frame[ETH_HLEN..]).unwrap().identification()
    });
    assert!(ids.iter().any(|id| *id != ids[0]), "{ids:?}");
}

#[test]
fn needs_root_copies_that_do_not_fit_fall_through_as_they_are() {
    let object = encapsulator(&usual_path());
    let check = |of_length: &dyn Fn(usize) -> Vec<u8>| {
        let run = |len| run(&object, &of_length(len), marked(), 1);
        assert_eq!(run(1468).verdict, TC_ACT_REDIRECT);
        for len in [1469, 1500, 3000] {
            let run = run(len);
            assert_eq!(run.verdict, TC_ACT_OK);
            assert!(run.frame == untagged(&of_length(len)));
        }
    };
    for packet in [udp(A, B), tcp(A, B), ping(A, B), udp(A, B).fragment(185, true)] {
        check(&|len| packet.clone().of_length(len).frame());
        check(&|len| tagged(&[(0x8100, 7)], &packet.clone().of_length(len).frame()));
    }
    for packet in [udp6(A6, B6), tcp6(A6, B6), udp6(A6, B6).fragment(7, 0, true)] {
        check(&|len| packet.clone().of_length(len).frame());
        check(&|len| tagged(&[(0x88a8, 7)], &packet.clone().of_length(len).frame()));
    }
}

/// The context of a copy that arrives at the far end of the pair.
pub fn to_far_end() -> Context {
    Context { mark: bpf::GueMark::GUE_TO_FAR_END.0, ..Context::default() }
}

/// Bits of the third word of a copy's mark.
pub const PIECE: u32 = bpf::GueMark::GUE_PIECE.0;
pub const MORE: u32 = 0x2000;
const ID: u16 = 0x1234;

fn piece(offset: usize, more: bool) -> Context {
    let frag_off = (offset as u32 / 8) | if more { MORE } else { 0 };
    Context { cb: [MARK[0], MARK[1], PIECE | frag_off, ID.to_be().into(), 0], ..marked() }
}

#[test]
fn needs_root_pieces_leave_as_fragments_of_one_outer_packet() {
    // bytes of the last of three pieces: the fewest, about what fills a frame, the most
    for last in [1, 8, 39, 40, 41, 1000] {
        let len = 2 * 1000 + last - 12;
        check_pieces(&udp(A, B).of_length(len).frame(), last);
        check_pieces(&udp6(A6, B6).of_length(len).frame(), last);
    }
}

/// Checks a copy in three pieces, of which the last one has `last` bytes.
fn check_pieces(copy: &[u8], last: usize) {
    let object = encapsulator(&Path { sizes: Sizes::of(1020, PATH.collector), ..PATH });
    let packet = &copy[ETH_HLEN..];
    // the outer payload: 12 bytes of UDP and GUE headers, then the packet
    let mut payload = Vec::new();
    for (offset, more) in [(0, true), (1000, true), (2000, false)] {
        let run = run(&object, copy, piece(offset, more), 1);
        assert_eq!(run.verdict, TC_ACT_REDIRECT, "{last} at {offset}");

        let ethernet = &run.frame[..ETH_HLEN];
        assert_eq!(ethernet[12..], [0x08, 0x00], "{last} at {offset}");
        let rest = &run.frame[ETH_HLEN..];
        let ip = Ipv4HeaderSlice::from_slice(rest).expect("an IPv4 header");
        // a short frame has padding at its end
        let rest = &rest[..usize::from(ip.total_len())];
        assert!(run.frame.len() == (ETH_HLEN + rest.len()).max(74));
        assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
        assert_eq!(ends(&ip), (PATH.source, PATH.collector));
        assert_eq!((ip.identification(), ip.more_fragments()), (ID, more));
        assert_eq!(usize::from(ip.fragments_offset().value()) * 8, offset);
        assert!(!ip.dont_fragment() && rest.len() <= 1020);
        payload.extend_from_slice(&rest[20..]);
    }
    let udp = UdpHeaderSlice::from_slice(&payload).expect("a UDP header");
    assert_eq!(usize::from(udp.length()), payload.len());
    let follows = if packet[0] >> 4 == 6 { 41 } else { 4 };
    assert_eq!(payload[8..12], [0, follows, 0, 0]);
    assert!(payload[12..] == *packet);
    assert_eq!(counts(&object).fragments, 3);
}

#[test]
fn needs_root_mutated_frames_leave_whole_or_not_at_all() {
    let object = encapsulator(&PATH);
    let mut random = Random(0x0067_7565);
    let mut verdicts = [0_usize; 2];
    for _ in 0..MUTATED_FRAMES {
        let frame = random.mutated_frame();
        let run = run(&object, &frame, marked(), 1);
        verdicts[usize::from(run.verdict == TC_ACT_REDIRECT)] += 1;
        if run.verdict != TC_ACT_REDIRECT {
            assert_eq!(run.verdict, TC_ACT_SHOT, "{}", hex(&frame));
            continue;
        }
        let frame = untagged(&frame);
        let (header, packet) = frame.split_at(ETH_HLEN);
        let word = |at| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let (least, says) = if header[12..] == [0x86, 0xdd] {
            (41, 40 + word(4))
        } else {
            (usize::from(packet[0] & 0xf) * 4, word(2))
        };
        // an impossible length says nothing about padding
        let len = if says < least { packet.len() } else { says.min(packet.len()) };
        let follows = if header[12..] == [0x86, 0xdd] { 41 } else { 4 };
        check_outer_of(&run.frame, &packet[..len], follows);
    }
    assert!(verdicts.iter().all(|&count| count > MUTATED_FRAMES / 100), "lopsided: {verdicts:?}");
}

/// The outer source port of a packet's copy, with the port derived from the flow.
fn flow_port(object: &Object, packet: &Packet) -> u16 {
    let run = run(object, &packet.frame(), marked(), 1);
    assert_eq!(run.verdict, TC_ACT_REDIRECT);
    UdpHeaderSlice::from_slice(&run.frame[ETH_HLEN + 20..]).unwrap().source_port()
}

fn of_flow() -> Object {
    encapsulator(&Path { local_port: LocalPort::OfFlow, ..usual_path() })
}

#[test]
fn needs_root_both_directions_of_a_flow_have_one_source_port() {
    let object = of_flow();
    for protocol in [6, 17, 132, 1, 47] {
        let [there, back] = [Packet::new(protocol, A, B), Packet::new(protocol, B, A)];
        let port = flow_port(&object, &there);
        assert!(port >= 49152, "{port}");
        for packet in
            [&there, &back, &there.clone().of_length(1400), &back.clone().with_options(10)]
        {
            assert_eq!(flow_port(&object, packet), port, "{packet:?}");
        }
    }
    // the payload of an ICMP packet is not taken for ports
    let other_type = Packet { payload: vec![0; 8], ..ping(A, B) };
    assert_eq!(flow_port(&object, &other_type), flow_port(&object, &ping(A, B)));
}

#[test]
fn needs_root_every_piece_of_a_datagram_has_one_source_port() {
    let object = of_flow();
    let first = udp(A, B).fragment(0, true);
    let port = flow_port(&object, &first);
    let other_ports = udp("10.0.0.1:7", "192.0.2.1:9").fragment(0, true);
    let later = udp("10.0.0.1:5", "192.0.2.1:6").fragment(185, true);
    for packet in [other_ports, later, udp(B, A).fragment(185, false)] {
        assert_eq!(flow_port(&object, &packet), port, "{packet:?}");
    }
    // the outer fragments of a copy have the port of the whole copy
    let packet = udp(A, B).of_length(3300);
    let run = run(&object, &packet.frame(), piece(0, true), 1);
    let outer = UdpHeaderSlice::from_slice(&run.frame[ETH_HLEN + 20..]).unwrap();
    assert_eq!(outer.source_port(), flow_port(&object, &udp(A, B)));
    assert_ne!(
        outer.source_port(),
        port,
        "the port of a whole datagram depends on its inner ports"
    );
}

/// 4096 flows that differ in one field, in steps of one. Their ports go into 16 bins. With an even
/// spread, chi squared with 15 degrees of freedom exceeds 50 once in 100,000 runs.
#[test]
fn needs_root_source_ports_are_spread_evenly() {
    let object = of_flow();
    let (a, b) = (|i| 1024 + i, |i: usize| format!("10.0.{}.{}", i / 256, i % 256));
    let kinds: [(&str, &dyn Fn(usize) -> Packet); 3] = [
        ("source ports", &|i| tcp(&format!("10.0.0.1:{}", a(i)), B)),
        ("source addresses", &|i| tcp(&format!("{}:1024", b(i)), B)),
        // both ports rise in step, which the hash must not show
        ("both ports", &|i| udp(&format!("10.0.0.1:{}", a(i)), &format!("10.0.0.2:{}", a(i)))),
    ];
    for (kind, packet) in kinds {
        const FLOWS: usize = 4096;
        let mut bins = [0_i64; 16];
        let mut ports = std::collections::HashSet::new();
        for i in 0..FLOWS {
            let port = flow_port(&object, &packet(i));
            ports.insert(port);
            bins[usize::from(port - 49152) / 1024] += 1;
        }
        let even = (FLOWS / bins.len()) as i64;
        let chi_squared = bins.iter().map(|n| (n - even).pow(2)).sum::<i64>() / even;
        assert!(chi_squared < 50, "{kind}: {bins:?}");
        // 16,384 × (1 − e^(−1/4)) = 3624 different ports are expected
        assert!(ports.len() > 3500, "{kind}: {} ports", ports.len());
    }
}

#[test]
fn needs_root_what_becomes_of_a_copy_is_counted() {
    let object = encapsulator(&usual_path());
    let count = |frame: &[u8], context| {
        run(&object, frame, context, 1);
    };
    count(&tcp(A, B).frame(), Context::default());
    count(&frame(0x0806, &[0; 28]), marked());
    for _ in 0..5 {
        count(&tcp(A, B).frame(), marked());
    }
    for _ in 0..7 {
        count(&udp(A, B).of_length(1469).frame(), marked());
    }
    let it = counts(&object);
    assert_eq!((it.not_a_copy, it.copies, it.sent_whole), (1, 13, 5));
    assert_eq!(
        (it.not_ip, it.unreadable, it.encap_failed, it.nested_tunnel_too_long),
        (1, 0, 0, 0)
    );
    assert_eq!((it.via_veth, it.veth_packets), (7, 7));
}

#[test]
fn needs_root_a_copy_with_a_refused_fragment_is_counted_once() {
    let object = tunnel(&usual_path(), NO_SUCH_DEVICE);
    let frame = udp(A, B).of_length(1500).frame();
    let run = try_run(&bpf::cutter(&object), &frame, to_far_end(), 1).expect("a run");
    assert_eq!(run.verdict, TC_ACT_SHOT);
    let it = counts(&object);
    assert_eq!(
        (it.veth_received, it.fragment_send_failed, it.sent_fragmented, it.sent_whole_via_veth),
        (1, 1, 0, 0)
    );
}

/// The cutter sends the last piece itself and not as a clone, so it does not learn of a refusal.
#[test]
fn needs_root_a_copy_without_its_last_fragment_is_counted_once() {
    let object = encapsulator(&usual_path());
    let frame = udp(A, B).of_length(1500).frame();
    let mut behind_its_end = marked();
    behind_its_end.cb[2] = PIECE | (1600 / 8);
    assert_eq!(run(&object, &frame, behind_its_end, 1).verdict, TC_ACT_SHOT);
    let it = counts(&object);
    assert_eq!(
        (it.fragment_send_failed, it.sent_fragmented, it.sent_whole_via_veth, it.fragments),
        (1, 0, 0, 0)
    );
}
