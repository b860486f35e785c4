//! Rules that truncate copies. (`encap` tests what the tunnel sends of them. Here the length shows
//! by whether the copy fits the tunnel.)

use traffic_mirroring::bpf::{self, carries};

use testkit::test_run::harness::{Context, Fate, Harness, in_namespace, nowhere, rule, tunnel};
use testkit::test_run::packets::{Packet, ping, tagged, tcp, udp};
use testkit::test_run::packets_ipv6::{DESTINATION, Packet6, tcp6, udp6};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";
const A6: &str = "[2001:db8::1]:1000";
const B6: &str = "[2001:db8::2]:80";

/// Expects the copy to fit a tunnel that carries `left` bytes, and not one that carries less.
fn check_left(harness: &Harness, snaplen: &str, frame: &[u8], left: u32) {
    for (max_len, fate) in [(left, Fate::Failed), (left - 1, Fate::Oversize)] {
        let limited = bpf::Tunnel { max_len, max_segment_len: max_len, ..nowhere() };
        harness.install_to(&[rule(&format!("snaplen={snaplen}"))], limited);
        assert_eq!(harness.fate(frame), fate, "{snaplen}, {left} bytes");
    }
}

#[test]
fn needs_root_a_copy_is_as_long_as_the_snaplen_or_its_packet() {
    Harness::each(|harness| {
        let v4 = |len| udp(A, B).of_length(len).frame();
        let v6 = |len| udp6(A6, B6).of_length(len).frame();
        for (frame, left) in [
            (v4(1000), 128),
            (v6(1000), 128),
            (v4(129), 128),
            (v4(128), 128),
            (v4(127), 127),
            (v6(100), 100),
            (tagged(&[(0x8100, 7)], &v4(1000)), 128),
        ] {
            check_left(harness, "128", &frame, left);
        }
    });
}

/// 65,535 is the length of the longest possible packet.
#[test]
fn needs_root_a_snaplen_of_65535_copies_whole_packets() {
    Harness::each(|harness| check_left(harness, "65535", &udp(A, B).of_length(1000).frame(), 1000));
}

/// If the tunnel cannot truncate, the whole copy must fit.
#[test]
fn needs_root_without_a_cutting_tunnel_copies_are_whole() {
    Harness::each(|harness| {
        for (max_len, fate) in [(1000, Fate::Failed), (999, Fate::Oversize)] {
            let carries = nowhere().carries & !carries::CUT;
            let existing = bpf::Tunnel { max_len, carries, ..nowhere() };
            harness.install_to(&[rule("snaplen=128")], existing);
            assert_eq!(harness.fate(&udp(A, B).of_length(1000).frame()), fate, "{max_len}");
        }
    });
}

#[test]
fn needs_root_with_headers_the_copy_ends_behind_the_transport() {
    const DATA_OFFSET: usize = 12;
    let tcp_of = |words: u8| {
        let mut packet = tcp(A, B).of_length(1000);
        packet.payload[DATA_OFFSET] = words << 4;
        packet
    };
    let first = udp(A, B).of_length(1000).fragment(0, true);
    let later = udp(A, B).of_length(1000).with_id(1).fragment(185, false);
    let later6 = udp6(A6, B6).of_length(1000).fragment(1, 1480, false);
    let cases = [
        (tcp_of(5).frame(), 20 + 20),
        (tcp_of(15).frame(), 20 + 60),
        (tcp_of(8).with_options(3).frame(), 32 + 32),
        (udp(A, B).of_length(1000).frame(), 20 + 8),
        (ping(A, B).of_length(1000).frame(), 20 + 8),
        (Packet::new(47, A, B).of_length(1000).frame(), 20 + 8),
        (tcp6(A6, B6).of_length(1000).with(DATA_OFFSET, 5 << 4).frame(), 40 + 20),
        (Packet6::icmp(128, A6, B6).of_length(1000).frame(), 40 + 8),
        (udp6(A6, B6).of_length(1000).behind(DESTINATION, 1).frame(), 40 + 16 + 8),
        (tagged(&[(0x8100, 7)], &udp(A, B).of_length(1000).frame()), 20 + 8),
        (first.frame(), 20 + 8),
        (later.frame(), 20),
        (later6.frame(), 40 + 8),
    ];
    Harness::each(|harness| {
        for (frame, left) in &cases {
            check_left(harness, "headers", frame, *left);
        }
    });
}

/// The copy of a super-packet is one packet.
#[test]
fn needs_root_a_super_packet_is_cut_too() {
    let frame = tcp(A, B).of_length(3000).frame();
    let context = Context { gso_size: 1400, ..Context::default() };
    let narrow = bpf::Tunnel { max_len: 200, max_segment_len: 200, ..nowhere() };
    Harness::each(|harness| {
        for (flags, fate) in [("snaplen=200", Fate::Failed), ("snaplen=201", Fate::Oversize)] {
            harness.install_to(&[rule(flags)], narrow);
            assert_eq!(harness.fate_with(&frame, context), fate, "{flags}");
        }
    });
}

/// `fate` also checks that the packet and its context are unchanged.
#[test]
fn needs_root_the_note_to_the_tunnel_is_taken_back() {
    in_namespace(|| {
        Harness::each(|harness| {
            for snaplen in ["64", "headers"] {
                harness.install_to(&[rule(&format!("snaplen={snaplen}"))], tunnel());
                for frame in [tcp(A, B).of_length(1000).frame(), tcp6(A6, B6).frame()] {
                    assert_eq!(harness.fate(&frame), Fate::Sent);
                }
            }
        });
    });
}
