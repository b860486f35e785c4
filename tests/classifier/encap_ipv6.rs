//! The built-in tunnel to a collector over IPv6. The cutter computes a copy's checksum, and the
//! encapsulator makes outer packets of the pieces.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{Ipv6Header, Ipv6HeaderSlice, UdpHeader, UdpHeaderSlice};
use libbpf_rs::Object;
use traffic_mirroring::bpf;
use traffic_mirroring::model::LocalPort;
use traffic_mirroring::tunnel::encap::template::{Path, Sizes, TTL};

use crate::encap::{MORE, PIECE, counts, encapsulator, marked, to_far_end, tunnel};
use crate::loop_guard::MARK;
use testkit::test_run::harness::{Context, NO_SUCH_DEVICE, Run, hex, in_namespace, run, try_run};
use testkit::test_run::packets::{ETH_HLEN, Packet, frame, ping, tcp, udp};
use testkit::test_run::packets_ipv6::{HOP_BY_HOP, Packet6, tcp6, udp6};

const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;
const TC_ACT_REDIRECT: i32 = 7;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 2, 0, 0, 0, 1);
const COLLECTOR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);
const ID: u32 = 0x1234_5678;

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";
const A6: &str = "[2001:db8::1]:1000";
const B6: &str = "[2001:db8::2]:80";

const FRAGMENT: u8 = 44;

pub fn path(mtu: u32) -> Path {
    Path {
        source: IpAddr::V6(SOURCE),
        collector: IpAddr::V6(COLLECTOR),
        local_port: LocalPort::Fixed(6079),
        remote_port: 6080,
        dscp: 46,
        ttl: TTL,
        ifindex: 1,
        next_hop: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into()),
        sizes: Sizes::of(mtu, IpAddr::V6(COLLECTOR)),
    }
}

/// The folded ones' complement sum. An odd number of bytes is padded with a 0 (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u16::from_ne_bytes([word[0], *word.get(1).unwrap_or(&0)]));
    let sum: u64 = words.map(u64::from).sum();
    (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16)) as u16
}

/// Runs the encapsulator on a piece as the cutter passes it: a copy with an Ethernet header.
fn piece(copy: &[u8], offset: usize, more: bool) -> Context {
    let frag_off = (offset as u32 / 8) | if more { MORE } else { 0 };
    let sum = sum(&copy[ETH_HLEN..]).into();
    Context { cb: [MARK[0], MARK[1], PIECE | frag_off, ID.to_be(), sum], ..marked() }
}

fn run_piece(object: &Object, copy: &[u8], offset: usize, more: bool) -> Run {
    let run = run(object, copy, piece(copy, offset, more), 1);
    assert_eq!(run.verdict, TC_ACT_REDIRECT, "{} at {offset}", hex(copy));
    run
}

/// Splits a sent frame into its IPv6 header and the payload that the header announces.
fn outer(frame: &[u8]) -> (Ipv6Header, &[u8]) {
    let (ethernet, rest) = frame.split_at(ETH_HLEN);
    // the neighbour entry sets the addresses later; a multicast address would be refused
    assert_eq!(ethernet, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd]);
    let ip = Ipv6HeaderSlice::from_slice(rest).expect("an IPv6 header").to_header();
    assert_eq!((ip.source, ip.destination), (SOURCE.octets(), COLLECTOR.octets()));
    assert_eq!((ip.traffic_class, ip.hop_limit, ip.flow_label.value()), (46 << 2, TTL, 0));
    let len = usize::from(ip.payload_length);
    (ip, &rest[40..][..len])
}

/// Checks the payload of an outer packet as a collector would: UDP with a correct checksum, GUE,
/// and the packet.
fn check_payload(payload: &[u8], packet: &[u8]) {
    let shown = hex(payload);
    let udp = UdpHeaderSlice::from_slice(payload).expect("a UDP header").to_header();
    assert_eq!((udp.source_port, udp.destination_port), (6079, 6080));
    assert_eq!(usize::from(udp.length), payload.len(), "{shown}");
    let checksum = UdpHeader { checksum: 0, ..udp.clone() }
        .calc_checksum_ipv6_raw(SOURCE.octets(), COLLECTOR.octets(), &payload[8..])
        .unwrap();
    assert_eq!(udp.checksum, checksum, "{shown}");
    let follows = if packet[0] >> 4 == 6 { 41 } else { 4 };
    assert_eq!(payload[8..12], [0, follows, 0, 0], "GUE: version 0, no extensions, IP follows");
    assert!(payload[12..] == *packet, "{shown} does not end in {}", hex(packet));
}

fn packets() -> Vec<Vec<u8>> {
    let mut packets: Vec<_> =
        [tcp(A, B), ping(A, B), Packet::new(47, A, B), tcp(A, B).with_options(10)]
            .into_iter()
            .chain([20, 21, 45, 46, 511, 512, 513, 1447, 1448].map(|len| udp(A, B).of_length(len)))
            .chain([udp(A, B).fragment(0, true), udp(A, B).fragment(185, false)])
            .map(|packet| packet.bytes())
            .collect();
    let of_ipv6 = [tcp6(A6, B6), Packet6::icmp(128, A6, B6), tcp6(A6, B6).behind(HOP_BY_HOP, 0)];
    packets.extend(of_ipv6.iter().map(Packet6::bytes));
    packets.extend([41, 60, 1447, 1448].map(|len| udp6(A6, B6).of_length(len).bytes()));
    packets.push(udp6(A6, B6).fragment(7, 1480, false).bytes());
    packets
}

fn framed(packet: &[u8]) -> Vec<u8> {
    frame(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, packet)
}

#[test]
fn needs_root_short_copies_leave_in_one_summed_ipv6_packet() {
    for path in [path(1500), Path { next_hop: None, ..path(1500) }] {
        let object = encapsulator(&path);
        for packet in packets() {
            let run = run_piece(&object, &framed(&packet), 0, false);
            let (ip, payload) = outer(&run.frame);
            assert_eq!(run.frame.len(), ETH_HLEN + 40 + payload.len());
            assert_eq!(ip.next_header.0, 17);
            check_payload(payload, &packet);
        }
    }
}

/// A checksum of 0 would mean "none" (RFC 768), so 0xffff is sent instead.
#[test]
fn needs_root_a_checksum_is_never_0() {
    let object = encapsulator(&path(1500));
    let mut packet = udp(A, B).of_length(40).bytes();
    // what the sum lacks to be 0xffff
    let copy = run_piece(&object, &framed(&packet), 0, false).frame;
    let found = u16::from_be_bytes([copy[ETH_HLEN + 46], copy[ETH_HLEN + 47]]);
    let last = u16::from_be_bytes([packet[38], packet[39]]);
    let sum = u32::from(last) + u32::from(found);
    packet[38..].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    let run = run_piece(&object, &framed(&packet), 0, false);
    let (_, payload) = outer(&run.frame);
    assert_eq!(payload[6..8], [0xff, 0xff]);
    check_payload(payload, &packet);
}

#[test]
fn needs_root_pieces_leave_as_ipv6_fragments_of_one_packet() {
    const MTU: usize = 1280;
    const PIECE_LEN: usize = 1232;
    let object = encapsulator(&path(MTU as u32));
    // bytes of the last of three pieces: the fewest, about what fills a frame, the most
    for last in [1, 2, 11, 12, 13, 31, 32, 33, 1000, PIECE_LEN] {
        let len = 2 * PIECE_LEN + last - 12;
        for packet in [udp(A, B).of_length(len).bytes(), udp6(A6, B6).of_length(len).bytes()] {
            let mut payload = Vec::new();
            for (offset, more) in [(0, true), (PIECE_LEN, true), (2 * PIECE_LEN, false)] {
                let run = run_piece(&object, &framed(&packet), offset, more);
                let (ip, part) = outer(&run.frame);
                assert!(40 + part.len() <= MTU);
                assert_eq!(ip.next_header.0, FRAGMENT);
                let offset_and_more = (offset as u16 | u16::from(more)).to_be_bytes();
                let header = [&[17, 0][..], &offset_and_more, &ID.to_be_bytes()].concat();
                assert_eq!(part[..8], header, "{last} at {offset}");
                payload.extend_from_slice(&part[8..]);
            }
            check_payload(&payload, &packet);
        }
    }
    assert_eq!(counts(&object).fragments, 10 * 2 * 3);
}

#[test]
fn needs_root_copies_to_an_ipv6_collector_reach_the_veth_as_is() {
    let object = encapsulator(&path(1500));
    let copies = packets();
    for packet in &copies {
        let frame = framed(packet);
        let run = run(&object, &frame, marked(), 1);
        assert_eq!(run.verdict, TC_ACT_OK);
        assert!(run.frame == frame, "{}", hex(&run.frame));
    }
    let it = counts(&object);
    assert_eq!(
        (it.copies, it.sent_whole, it.via_veth),
        (copies.len() as u64, 0, copies.len() as u64)
    );
}

#[test]
fn needs_root_the_cutter_sums_up_copies_of_every_length() {
    in_namespace(|| {
        let object = tunnel(&path(1500), 1);
        let lengths = (20..=80).chain(500..=530).chain(1010..=1040).chain([1448, 1500, 2068, 3000]);
        for len in lengths {
            let packet = udp(A, B).of_length(len).bytes();
            let run =
                try_run(&bpf::cutter(&object), &framed(&packet), to_far_end(), 1).expect("a run");
            assert_eq!(run.verdict, TC_ACT_REDIRECT, "{len}");
            let found = run.context.cb[4];
            assert_eq!(sum(&found.to_ne_bytes()), sum(&packet), "{len}");
        }
    });
}

#[test]
fn needs_root_a_copy_over_ipv6_with_a_refused_fragment_counts() {
    let object = tunnel(&path(1500), NO_SUCH_DEVICE);
    let frame = udp(A, B).of_length(1500).frame();
    let run = try_run(&bpf::cutter(&object), &frame, to_far_end(), 1).expect("a run");
    assert_eq!(run.verdict, TC_ACT_SHOT);
    let it = counts(&object);
    assert_eq!(
        (it.veth_received, it.fragment_send_failed, it.sent_fragmented, it.sent_whole_via_veth),
        (1, 1, 0, 0)
    );
}
