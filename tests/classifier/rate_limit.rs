//! The rate cap: how many bytes a copy counts for, and how many may leave.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction;

use testkit::test_run::harness::{Context, Fate, Harness, TC_ACT_OK, nowhere, rule, side_by_side};
use testkit::test_run::packets::{Packet, tcp, udp};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";

const OVERHEAD: u32 = 32;

/// A bucket that is full at first and gains one byte a second, which is more time than a test
/// takes. (Clones fail, but count all the same.)
fn bucket_of(burst: u64) -> bpf::Tunnel {
    bpf::Tunnel { rate: 1, burst, overhead: OVERHEAD, ..nowhere() }
}

/// Loads a program and stays on one CPU, because each CPU keeps the credit that it has drawn for a
/// while.
fn harness(direction: Direction, tunnel: bpf::Tunnel) -> Harness {
    harness_with("", direction, tunnel)
}

fn harness_with(flags: &str, direction: Direction, tunnel: bpf::Tunnel) -> Harness {
    let mut cpus = CpuSet::new();
    cpus.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("CPU 0");
    let harness = Harness::new(direction, TC_ACT_OK);
    harness.install_to(&[rule(flags)], tunnel);
    harness
}

/// A packet that counts for `len` bytes.
fn of_outer_length(len: u32) -> Vec<u8> {
    udp(A, B).of_length((len - OVERHEAD) as usize).frame()
}

#[test]
fn needs_root_copies_leave_until_the_burst_is_spent() {
    side_by_side(Direction::ALL, |direction| {
        let harness = harness(direction, bucket_of(10_000));
        for _ in 0..10 {
            assert_eq!(harness.fate(&of_outer_length(1000)), Fate::Failed);
        }
        for _ in 0..10 {
            assert_eq!(harness.fate(&of_outer_length(1000)), Fate::RateLimited);
        }
    });
}

/// The first packet counts for `expected` bytes. Whether the next one may leave shows what is left
/// of the burst.
fn check_counts_for(expected: u32, tunnel: bpf::Tunnel, frame: &[u8], context: Context) {
    const NEXT: u32 = 200;
    // bytes gained meanwhile, on a machine that is busy with other tests
    const LEEWAY: u32 = 10;
    for (left, fate) in [(NEXT, Fate::Failed), (NEXT - LEEWAY, Fate::RateLimited)] {
        let burst = u64::from(expected + left);
        let harness = harness(Direction::Ingress, bpf::Tunnel { burst, ..tunnel });
        assert_eq!(harness.fate_with(frame, context), Fate::Failed);
        let next = udp(A, B).of_length((NEXT - tunnel.overhead) as usize).frame();
        let next = harness.fate(&next);
        assert_eq!(next, fate, "{expected} bytes, {left} left: {context:?} {tunnel:?}");
    }
}

#[test]
fn needs_root_a_copy_counts_with_outer_headers_without_padding() {
    let packet = udp(A, B).of_length(30);
    let plain = Context::default();
    check_counts_for(30 + OVERHEAD, bucket_of(0), &packet.frame(), plain);
    check_counts_for(30 + OVERHEAD, bucket_of(0), &packet.padded_frame(), plain);
    let vxlan = bpf::Tunnel { overhead: 50, ..bucket_of(0) };
    check_counts_for(1450, vxlan, &udp(A, B).of_length(1400).frame(), plain);
}

#[test]
fn needs_root_a_super_packet_counts_as_its_segments() {
    let check = |packet: Packet, headers: u32, gso_size, gso_segs, segments: u32| {
        let frame = packet.of_length(3000).frame();
        let expected = 3000 + (segments - 1) * headers + segments * OVERHEAD;
        let context = Context { gso_size, gso_segs, ..Context::default() };
        check_counts_for(expected, bucket_of(0), &frame, context);
    };
    // the TCP headers have a data offset of 40 bytes
    check(tcp(A, B), 20 + 40, 1000, 3, 3);
    check(tcp(A, B).with_options(2), 28 + 40, 500, 6, 6);
    check(udp(A, B), 20 + 8, 1000, 3, 3);
    // the kernel has not counted the segments
    check(tcp(A, B), 20 + 40, 1000, 0, 3);
}

#[test]
fn needs_root_a_copy_that_is_cut_counts_for_what_is_left_of_it() {
    let cut = bpf::Tunnel { cut_len: 1000, ..bucket_of(0) };
    let frame = |packet: Packet, len| packet.of_length(len).frame();
    let plain = Context::default();
    check_counts_for(1000 + OVERHEAD, cut, &frame(udp(A, B), 3000), plain);
    check_counts_for(900 + OVERHEAD, cut, &frame(udp(A, B), 900), plain);
    let segments = Context { gso_size: 1000, gso_segs: 3, ..plain };
    check_counts_for(3 * (1000 + OVERHEAD), cut, &frame(udp(A, B), 3000), segments);
    // TCP segments are shortened so that they fit
    let expected = 3000 + 2 * (20 + 40) + 3 * OVERHEAD;
    check_counts_for(expected, cut, &frame(tcp(A, B), 3000), segments);
}

#[test]
fn needs_root_a_copy_counts_as_long_as_its_snaplen() {
    side_by_side(Direction::ALL, |direction| {
        let harness = harness_with("snaplen=100", direction, bucket_of(1000));
        // a truncated super-packet counts as one packet
        for gso_size in [0, 1000] {
            let context = Context { gso_size, gso_segs: gso_size / 300, ..Context::default() };
            for _ in 0..3 {
                let fate = harness.fate_with(&udp(A, B).of_length(3000).frame(), context);
                assert_eq!(fate, Fate::Failed);
            }
        }
        // 208 bytes are left
        assert_eq!(harness.fate(&udp(A, B).of_length(3000).frame()), Fate::Failed);
        assert_eq!(harness.fate(&udp(A, B).of_length(3000).frame()), Fate::RateLimited);
    });
}

#[test]
fn needs_root_copies_longer_than_the_burst_leave_if_it_is_full() {
    side_by_side(Direction::ALL, |direction| {
        let harness = harness(direction, bucket_of(1000));
        assert_eq!(harness.fate(&of_outer_length(3000)), Fate::Failed);
        assert_eq!(harness.fate(&of_outer_length(60)), Fate::RateLimited);
    });
}

#[test]
fn needs_root_what_is_guarded_or_oversize_counts_for_nothing() {
    side_by_side(Direction::ALL, |direction| {
        let harness = harness(direction, bpf::Tunnel { max_len: 1400, ..bucket_of(1000) });
        assert_eq!(harness.fate(&udp(A, "203.0.113.9:6080").frame()), Fate::LoopGuard);
        assert_eq!(harness.fate(&of_outer_length(1500)), Fate::Oversize);
        assert_eq!(harness.fate(&of_outer_length(1000)), Fate::Failed);
    });
}

#[test]
fn needs_root_without_a_cap_everything_leaves() {
    side_by_side(Direction::ALL, |direction| {
        let harness = harness(direction, bpf::Tunnel { rate: 0, ..bucket_of(0) });
        for _ in 0..100 {
            assert_eq!(harness.fate(&of_outer_length(1500)), Fate::Failed);
        }
    });
}
