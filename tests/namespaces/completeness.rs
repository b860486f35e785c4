//! Whatever is sent arrives at the collector, every byte of it, whether the host is an end of the
//! traffic or forwards it. The tests print the matrix of what arrived.

use std::fmt::Write as _;
use std::io::{self, Write};

use testkit::namespaces::*;

/// Sends traffic between two namespaces, and returns what was sent: the same both ways.
type Send = fn(&Ns, &Ns) -> Vec<Vec<u8>>;

#[derive(Clone, Copy, PartialEq)]
enum Frames {
    /// One for each packet.
    Packets,
    /// With TCP super-packets.
    SuperPackets,
    /// With UDP super-packets, unless the kernel segments them before the programs see them.
    Either,
}

/// What is sent, over interfaces of which MTU, in which frames.
const TRAFFIC: [(&str, u32, Frames, Send); 9] = [
    ("TCP", 1500, Frames::SuperPackets, tcp),
    ("TCP, no offloads", 1500, Frames::Packets, tcp),
    ("UDP, small", 1500, Frames::Packets, |near, far| udp(near, far, &[0, 1, 18, 100])),
    // with 28 bytes of headers: the last that fits into 1500 - 32 bytes, the next, and the longest
    ("UDP, full MTU", 1500, Frames::Packets, |near, far| udp(near, far, &[1440, 1441, 1471, 1472])),
    ("UDP GSO", 1500, Frames::Either, udp_gso),
    ("ping 65507", 1500, Frames::Packets, |near, far| pings(near, far, &[65_507])),
    ("jumbo TCP", 9000, Frames::SuperPackets, tcp),
    ("jumbo UDP", 9000, Frames::Packets, |near, far| udp(near, far, &JUMBO)),
    ("jumbo ping", 9000, Frames::Packets, |near, far| {
        pings(near, far, &[&JUMBO[..], &[65_507]].concat())
    }),
];

/// Outer payloads of 1, 2, 3 and 4 times 1480 bytes, less and more by one, and the most.
const JUMBO: [usize; 11] = [1440, 1441, 2919, 2920, 2921, 4400, 4401, 5880, 5881, 8000, 8972];

const EACH: usize = 5;

fn tcp(near: &Ns, far: &Ns) -> Vec<Vec<u8>> {
    const BYTES: usize = 2 << 20;
    tcp_exchange(near, far, 8080, BYTES);
    vec![noise(0, BYTES)]
}

fn udp(near: &Ns, far: &Ns, sizes: &[usize]) -> Vec<Vec<u8>> {
    let sent = sizes.iter().flat_map(|&size| {
        udp_exchange(near, far, 5300, EACH, size);
        (0..EACH).map(move |number| noise(number, size))
    });
    sent.collect()
}

fn udp_gso(near: &Ns, far: &Ns) -> Vec<Vec<u8>> {
    // the first fit the tunnel, the second do not
    let sent = [1400, 1472].map(|size| {
        udp_segments(near, far, 5300, 10, size);
        let data = udp_segments(far, near, 5300, 10, size);
        data.chunks(size.into()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    sent.concat()
}

fn pings(near: &Ns, far: &Ns, sizes: &[usize]) -> Vec<Vec<u8>> {
    let sent = sizes.iter().flat_map(|&size| {
        ping(near, far, EACH as u16, size);
        (1..=EACH).map(move |number| noise(number, size))
    });
    sent.collect()
}

/// What arrived of one direction of the traffic.
struct Cell {
    packets: usize,
    copies: usize,
    /// bytes of data
    sent: usize,
    arrived: usize,
    /// copies of what nobody sent
    strays: usize,
}

impl Cell {
    fn of(packets: &[&[u8]], copies: &[&[u8]], sent: Vec<Vec<u8>>) -> Self {
        let bytes = sent.iter().map(Vec::len).sum();
        let is_tcp = copies.first().is_some_and(|copy| copy[9] == 6);
        let (arrived, strays) =
            if is_tcp { of_stream(copies, &sent[0]) } else { of_datagrams(copies, sent) };
        Cell { packets: packets.len(), copies: copies.len(), sent: bytes, arrived, strays }
    }

    fn is_complete(&self) -> bool {
        self.arrived == self.sent && self.strays == 0
    }
}

/// Bytes that arrived of a stream, and pieces that are none of it.
fn of_stream(copies: &[&[u8]], sent: &[u8]) -> (usize, usize) {
    let (mut arrived, mut strays) = (vec![false; sent.len()], 0);
    for (at, piece) in stream(copies) {
        if sent.get(at..at + piece.len()) == Some(piece) {
            arrived[at..at + piece.len()].fill(true);
        } else {
            strays += 1;
        }
    }
    (arrived.into_iter().filter(|arrived| *arrived).count(), strays)
}

fn of_datagrams(copies: &[&[u8]], mut sent: Vec<Vec<u8>>) -> (usize, usize) {
    let (mut arrived, mut strays) = (0, 0);
    for packet in datagrams(copies) {
        assert_sums(&packet);
        let data = Packet::decode(&packet).payload;
        match sent.iter().position(|sent| *sent == data) {
            Some(at) => arrived += sent.swap_remove(at).len(),
            None => strays += 1,
        }
    }
    (arrived, strays)
}

fn set_mtu(ends: [(&Ns, &str); 4], mtu: u32) {
    for (ns, ifname) in ends {
        ns.sh(&format!("ip link set {ifname} mtu {mtu}"));
    }
}

/// How the collector is reached.
#[derive(Clone, Copy)]
enum Over {
    Ipv4,
    Ipv6,
}

/// Mirrors both directions of `eth0`, and returns what arrived of each, ingress first.
fn cells(net: &Topology, over: Over, far: &Ns, frames: Frames, mtu: u32, send: Send) -> [Cell; 2] {
    // without offloads: segmentation and checksums are done before the packet leaves
    net.host().without_offloads("eth1");
    let flags: &[&str] = match over {
        Over::Ipv4 => &[],
        Over::Ipv6 => {
            with_ipv6_to_collector(net);
            &TO_COLLECTOR6
        }
    };
    let _both = ["ingress", "egress"].map(|direction| start(net, direction, flags));
    let collector = match over {
        Over::Ipv4 => Collector::listen(net.collector(), GUE_PORT),
        Over::Ipv6 => Collector::listen_ipv6(net.collector(), GUE_PORT),
    };
    let capture = Capture::start(net.host(), "eth0");
    let sent = send(net.client(), far);
    let copies = collector.stop_after_quiet(QUIET);
    let captured = capture.stop();

    copies.assert_gue_v0_ipv4();
    copies.ipv4().into_iter().for_each(assert_sums);
    [(Direction::Received, CLIENT), (Direction::Sent, far.address())].map(|(direction, from)| {
        let packets = captured.ipv4(direction);
        let longest = packets.iter().map(|packet| packet.len()).max().expect("packets");
        match frames {
            Frames::SuperPackets => assert!(longest > mtu as usize, "no super-packet passed"),
            Frames::Packets => assert!(longest <= mtu as usize, "{longest} bytes passed at once"),
            Frames::Either => {}
        }
        let mut copies = copies.ipv4();
        copies.retain(|copy| copy[12..16] == from.octets());
        Cell::of(&packets, &copies, sent.clone())
    })
}

/// Fills in the matrix, prints it, and wants it complete.
fn check(title: &str, over: Over, far: impl Fn(&Topology) -> Option<Ns> + Sync) {
    let mut table = format!(
        "{title:<26}{:<9}{:>8}{:>8}{:>9}{:>9}  complete\n",
        "", "packets", "copies", "bytes", "arrived"
    );
    let mut incomplete = Vec::new();
    for (name, mtu, frames, send) in TRAFFIC {
        let cells = undisturbed(|| {
            Topology::run(|net| {
                let server = far(net);
                let far = server.as_ref().unwrap_or(net.host());
                let back = if server.is_some() { "eth2" } else { "eth0" };
                let host = net.host();
                set_mtu([(net.client(), "eth0"), (host, "eth0"), (host, back), (far, "eth0")], mtu);
                if name.ends_with("no offloads") {
                    one_frame_per_packet(net);
                    for (ns, ifname) in [(host, back), (far, "eth0")] {
                        ns.without_offloads(ifname);
                        ns.sh(&format!("ip link set {ifname} gso_max_segs 1"));
                    }
                }
                cells(net, over, far, frames, mtu, send)
            })
        });
        for (direction, cell) in ["ingress", "egress"].into_iter().zip(cells) {
            let Cell { packets, copies, sent, arrived, strays } = cell;
            let percent = 100.0 * arrived as f64 / sent as f64;
            write!(table, "{name:<26}{direction:<9}{packets:>8}{copies:>8}{sent:>9}{arrived:>9}")
                .unwrap();
            writeln!(table, "{percent:>8.2} %").unwrap();
            let each = frames != Frames::Packets || copies == packets;
            if !cell.is_complete() || !each {
                incomplete.push(format!("{name} {direction} ({strays} strays)"));
            }
        }
    }
    // written directly, because the test harness shows only the output of tests that fail; in one piece
    io::stderr().write_all(table.as_bytes()).expect("stderr");
    assert_eq!(incomplete, [""; 0]);
}

#[test]
fn needs_root_what_the_host_sends_and_receives_arrives_complete() {
    check("to and from the host", Over::Ipv4, |_| None);
}

#[test]
fn needs_root_whatever_the_host_forwards_arrives_complete() {
    check("forwarded", Over::Ipv4, |net| Some(net.server()));
}

#[test]
fn needs_root_what_the_host_sends_arrives_complete_over_ipv6() {
    check("to a collector over IPv6", Over::Ipv6, |_| None);
}
