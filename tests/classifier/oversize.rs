//! Packets that the tunnel cannot carry whole are counted and not cloned.

use traffic_mirroring::bpf;

use testkit::test_run::harness::{
    Context, Fate, Harness, NO_SUCH_DEVICE, in_namespace, rule, tunnel,
};
use testkit::test_run::packets::{Packet, tcp, udp};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";

/// Lengths from the IP header on.
const MAX_LEN: u32 = 1000;
const MAX_SEGMENT_LEN: u32 = 1200;

fn limited() -> bpf::Tunnel {
    bpf::Tunnel { max_len: MAX_LEN, max_segment_len: MAX_SEGMENT_LEN, ..tunnel() }
}

/// The fate of a packet. A `gso_size` other than 0 makes it a super-packet.
fn fate(harness: &Harness, packet: &Packet, gso_size: u32) -> Fate {
    harness.fate_with(&packet.frame(), Context { gso_size, ..Context::default() })
}

#[test]
fn needs_root_one_byte_more_than_the_tunnel_carries_is_oversize() {
    in_namespace(|| {
        Harness::each(|harness| {
            harness.install_to(&[rule("")], limited());
            for packet in [tcp(A, B), udp(A, B), Packet::new(47, A, B), udp(A, B).with_options(5)] {
                let of_length = |len: u32| packet.clone().of_length(len as usize);
                assert_eq!(fate(harness, &of_length(MAX_LEN), 0), Fate::Sent);
                assert_eq!(fate(harness, &of_length(MAX_LEN + 1), 0), Fate::Oversize);
            }
            harness.install_to(&[rule("")], tunnel());
            assert_eq!(fate(harness, &udp(A, B).of_length(2000), 0), Fate::Sent, "no limit");
        });
    });
}

/// The device does not exist. A real one would make the kernel segment the super-packets, which it
/// can only do with its own.
#[test]
fn needs_root_of_a_super_packet_the_segments_count() {
    // the TCP headers have a data offset of 40 bytes
    let cases = [
        (tcp(A, B), MAX_SEGMENT_LEN - 20 - 40),
        (tcp(A, B).with_options(5), MAX_SEGMENT_LEN - 40 - 40),
        (udp(A, B), MAX_LEN - 20 - 8),
    ]
    .map(|(packet, gso_size)| (packet.of_length(3000), gso_size));
    Harness::each(|harness| {
        harness.install_to(&[rule("")], bpf::Tunnel { ifindex: NO_SUCH_DEVICE, ..limited() });
        for (packet, gso_size) in &cases {
            assert_eq!(fate(harness, packet, *gso_size), Fate::Failed);
            assert_eq!(fate(harness, packet, gso_size + 1), Fate::Oversize);
        }
        harness.install(&[rule("")]);
        for (packet, gso_size) in &cases {
            assert_eq!(fate(harness, packet, gso_size + 1), Fate::Failed, "no limit");
        }
    });
}

#[test]
fn needs_root_a_super_packet_with_ip_length_0_is_read() {
    let mut packet = tcp(A, B).of_length(3000).frame();
    packet[16..18].fill(0);
    Harness::each(|harness| {
        harness.install(&[rule("dst-port=80")]);
        let fate =
            |gso_size| harness.fate_with(&packet, Context { gso_size, ..Context::default() });
        assert_eq!(fate(1400), Fate::Failed);
        assert_eq!(fate(0), Fate::NoMatch);
    });
}
