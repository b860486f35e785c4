//! Frames of the kinds found on networks, and mutations of them.

use testkit::oracle::random::Random;
use testkit::test_run::packets::{ETH_HLEN, Packet, frame, icmp_error, ping, tcp, udp};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";
/// The far end of the harness's tunnel.
const COLLECTOR: &str = "203.0.113.9:6080";

const ETH_P_IP: [u8; 2] = [0x08, 0x00];
const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];

/// Values at which header fields change their meaning.
const EDGES: [u8; 12] = [0, 1, 4, 5, 6, 8, 17, 0x0f, 0x40, 0x45, 0x80, 0xff];

/// The first bytes of a frame: all headers, tags and options, and some payload.
const HEADERS: usize = 100;

/// `longest` is the length of the longest frame made.
pub fn sample_frames(longest: usize) -> Vec<Vec<u8>> {
    let protocols = [0, 1, 2, 4, 6, 17, 33, 41, 47, 50, 132, 136, 255];
    let mut packets: Vec<_> = protocols.map(|protocol| Packet::new(protocol, A, B)).into();
    packets.extend([1, 5, 10].map(|words| tcp(A, B).with_options(words)));
    packets.extend([1, 5, 10].map(|words| Packet::new(132, A, B).with_options(words)));
    packets.extend([0, 1, 185, 0x1fff].map(|offset| udp(A, B).fragment(offset, offset % 2 == 0)));
    packets.extend([0, 185].map(|offset| udp(A, COLLECTOR).fragment(offset, true)));
    packets.extend([28, 46, 576, 1500, longest - ETH_HLEN].map(|len| udp(A, B).of_length(len)));
    packets.extend([60, 1500, longest - ETH_HLEN].map(|len| tcp(A, B).of_length(len)));
    packets.extend([ping(A, B), udp(A, COLLECTOR), udp(COLLECTOR, A), tcp(A, COLLECTOR)]);
    for about in [udp(A, COLLECTOR), udp(A, COLLECTOR).with_options(4), tcp(A, B)] {
        packets.extend([3, 4, 5, 11, 12].map(|kind| icmp_error(kind, 1, &about)));
        packets.push(icmp_error(3, 4, &about).with_options(10));
    }

    let mut frames: Vec<_> = packets.iter().map(Packet::frame).collect();
    frames.push(udp(A, B).of_length(21).padded_frame());
    let inner = udp(A, B).bytes();
    let gue = [&[0, 4, 0, 0], &inner[..]].concat();
    frames.push(with_payload(udp("10.2.0.1:6080", COLLECTOR), 8, &gue));
    frames.push(with_payload(Packet::new(4, A, B), 0, &inner));
    let tagged = [&[0, 5, 8, 0], &inner[..]].concat();
    frames.push(frame(0x8100, &tagged));
    frames.push(frame(0x88a8, &[&[0, 9, 0x81, 0], &tagged[..]].concat()));
    frames.push(frame(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1]));
    frames.extend([6, 17, 58].map(|next| frame(0x86dd, &ipv6(next, &[]))));
    // hop-by-hop options, then a fragment header, then UDP (RFC 8200)
    let extensions = [44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 7];
    frames.push(frame(0x86dd, &ipv6(0, &extensions)));
    frames.push(frame(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1]));
    frames.push(frame(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]));
    frames
}

/// The packet with its payload cut to `kept` bytes, followed by `bytes`.
fn with_payload(mut packet: Packet, kept: usize, bytes: &[u8]) -> Vec<u8> {
    packet.payload.truncate(kept);
    packet.payload.extend_from_slice(bytes);
    packet.frame()
}

fn ipv6(next: u8, extensions: &[u8]) -> Vec<u8> {
    let payload = [extensions, &[0xa5; 24]].concat();
    let addresses = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
    let fixed = [0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
    [&fixed[..], &addresses, &payload].concat()
}

/// One of `sample_frames` with up to six mutations.
pub fn mutated(random: &mut Random, sample_frames: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut frame = sample_frames[random.below(sample_frames.len())].clone();
    for _ in 0..random.below(7) {
        mutate(random, &mut frame, sample_frames);
    }
    frame.truncate(longest);
    // newer kernels refuse a test run if the frame is shorter than the IP header that it announces
    let mut fill = |frame: &mut Vec<u8>, len: usize| {
        frame.resize(frame.len().max(len), random.byte());
    };
    fill(&mut frame, ETH_HLEN);
    match [frame[12], frame[13]] {
        ETH_P_IP => fill(&mut frame, ETH_HLEN + 20),
        ETH_P_IPV6 => fill(&mut frame, ETH_HLEN + 40),
        _ => {}
    }
    frame
}

fn mutate(random: &mut Random, frame: &mut Vec<u8>, sample_frames: &[Vec<u8>]) {
    let len = frame.len();
    if len < 2 {
        return frame.push(random.byte());
    }
    // mostly after the Ethernet addresses, because the rest matters more
    let from = if random.below(8) == 0 { 0 } else { 12.min(len - 1) };
    let to = if random.below(4) == 0 { len } else { len.min(HEADERS) };
    let at = from + random.below(to.max(from + 1) - from);
    match random.below(10) {
        0..=1 => frame[at] ^= 1 << random.below(8),
        2..=3 => frame[at] = random.byte(),
        4..=5 => frame[at] = EDGES[random.below(EDGES.len())],
        6 => frame.truncate(at + 1),
        7 => frame.insert(at, random.byte()),
        8 => drop(frame.remove(at)),
        _ => {
            let other = &sample_frames[random.below(sample_frames.len())];
            frame.truncate(at);
            frame.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
}
