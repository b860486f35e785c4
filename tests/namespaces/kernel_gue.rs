//! The kernel's own GUE device: as the tunnel that an operator made, and as the collector of the
//! built-in tunnel. (`production_impact` tests that production does not notice the former.)
//!
//! Many kernels lack these modules, so the tests run in guests: `make test-kernels`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nix::sys::signal::Signal;

use testkit::namespaces::*;

/// The host's address on the collector's network.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

/// The longest packet that the kernel's GUE carries over a NIC with an MTU of 1500. The outer IPv4,
/// UDP and GUE headers take the rest.
const LONGEST: usize = 1500 - 20 - 8 - 4;

/// Bytes of headers of an echo request, and of a UDP datagram.
const HEADERS: usize = 20 + 8;

/// Mirrors both directions of `eth0` during `traffic`. Returns the packets that passed and those
/// that `collect` received. Each list is sorted, because the two directions may overtake each
/// other.
fn mirrored<C>(
    net: &Topology,
    listen: impl FnOnce() -> C,
    collect: impl FnOnce(C) -> Vec<Vec<u8>>,
    traffic: impl FnOnce(&Ns, &Ns),
) -> [Vec<Vec<u8>>; 2] {
    let _both = ["ingress", "egress"].map(|direction| start(net, direction, &[]));
    let collector = listen();
    let capture = Capture::start(net.host(), "eth0");
    traffic(net.client(), net.host());
    let captured = capture.stop();
    let passed =
        [Direction::Received, Direction::Sent].map(|direction| captured.ipv4(direction)).concat();
    let mut both = [passed.iter().map(|packet| packet.to_vec()).collect(), collect(collector)];
    both.iter_mut().for_each(|packets: &mut Vec<Vec<u8>>| packets.sort_unstable());
    both
}

fn assert_same([passed, copies]: [Vec<Vec<u8>>; 2]) {
    let lengths = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).collect::<Vec<_>>();
    assert!(copies == passed, "{:?} passed, {:?} arrived", lengths(&passed), lengths(&copies));
}

/// Packets of the maximum length.
fn traffic_that_fits(near: &Ns, far: &Ns) {
    for (ns, ifname) in [(near, "eth0"), (far, "eth0")] {
        ns.sh(&format!("ip link set {ifname} mtu {LONGEST}"));
    }
    for size in [0, 56, LONGEST - HEADERS] {
        ping(near, far, 3, size);
        udp_exchange(near, far, 5300, 3, size);
    }
    tcp_exchange(near, far, 8080, 200_000);
}

#[test]
#[ignore = "wants the kernel's GUE: make test-kernels"]
fn needs_root_copies_that_fit_kernel_gue_arrive_whole() {
    Topology::run(|net| {
        one_frame_per_packet(net);
        kernel_gue(net.host(), NEAR, COLLECTOR);
        let listen = || Collector::listen(net.collector(), GUE_PORT);
        let collect = |collector: Collector| {
            let copies = collector.stop_after_quiet(QUIET);
            copies.assert_gue_v0_ipv4();
            assert!(copies.0.iter().all(|copy| copy.from.to_string() == "10.2.0.1:6080"));
            copies.ipv4().into_iter().map(<[u8]>::to_vec).collect()
        };
        assert_same(mirrored(net, listen, collect, traffic_that_fits));
    });
    Topology::run(|net| {
        one_frame_per_packet(net);
        kernel_gue(net.host(), NEAR, COLLECTOR);
        let listen = || KernelCollector::listen(net.collector(), COLLECTOR, NEAR);
        assert_same(mirrored(net, listen, KernelCollector::stop, traffic_that_fits));
    });
}

#[test]
#[ignore = "wants the kernel's GUE: make test-kernels"]
fn needs_root_copies_too_long_for_kernel_gue_harm_no_path_mtu() {
    const FITS: usize = LONGEST - HEADERS;
    Topology::run(|net| {
        let (client, host) = (net.client(), net.host());
        kernel_gue(host, NEAR, COLLECTOR);
        let daemons = ["ingress", "egress"].map(|way| start(net, way, &["--protocol=icmp,udp"]));
        let collector = Collector::listen(net.collector(), GUE_PORT);
        for (size, count) in [(FITS, 3), (FITS + 1, 5), (1472, 2)] {
            // with "don't fragment", the host itself would be told to send shorter packets
            host.sh(&format!("ping -q -M do -c {count} -i 0.1 -s {size} -W 9 10.1.0.2"));
            udp_exchange(client, host, 5300, count, size);
        }
        let copies = collector.stop_after_quiet(QUIET);
        assert_eq!(copies.0.len(), 2 * 2 * 3, "requests and replies over ICMP and UDP");
        assert!(copies.ipv4().iter().all(|copy| copy.len() == LONGEST));
        for ns in [client, host] {
            assert_eq!(ns.sh("ip route show cache"), "", "route exceptions");
        }
        for mut daemon in daemons {
            daemon.signal(Signal::SIGTERM);
            assert!(daemon.wait().success());
            let output = daemon.output();
            for said in ["longer than 1468 bytes", "matched 20, sent 6", "oversize 14"] {
                assert!(output.contains(said), "{said:?} in {output}");
            }
        }
    });
}

#[test]
#[ignore = "wants the kernel's GUE: make test-kernels"]
fn needs_root_the_kernels_gue_gets_each_packet_as_it_was() {
    Topology::run(|net| {
        one_frame_per_packet(net);
        let listen = || KernelCollector::listen(net.collector(), COLLECTOR, NEAR);
        let traffic = |client: &Ns, host: &Ns| {
            for size in [0, 56, LONGEST - HEADERS, LONGEST - HEADERS + 1, 1472, 8000] {
                ping(client, host, 3, size);
                udp_exchange(client, host, 5300, 3, size);
            }
            tcp_exchange(client, host, 8080, 200_000);
        };
        assert_same(mirrored(net, listen, KernelCollector::stop, traffic));
    });
}

#[test]
#[ignore = "wants the kernel's GUE: make test-kernels"]
fn needs_root_the_kernels_gue_gets_all_data_of_super_packets() {
    const BYTES: usize = 1 << 20;
    Topology::run(|net| {
        // no offloads, like a wire
        net.host().without_offloads("eth1");
        let listen = || KernelCollector::listen(net.collector(), COLLECTOR, NEAR);
        let traffic = |client: &Ns, host: &Ns| {
            tcp_exchange(client, host, 8080, BYTES);
        };
        let [passed, copies] = mirrored(net, listen, KernelCollector::stop, traffic);
        assert!(passed.iter().any(|packet| packet.len() > 1500), "no super-packet passed");
        copies.iter().for_each(|copy| assert_sums(copy));
        assert_holds_stream(&copies, noise(0, BYTES));
    });
    Topology::run(|net| {
        net.host().without_offloads("eth1");
        let listen = || KernelCollector::listen(net.collector(), COLLECTOR, NEAR);
        let traffic = |client: &Ns, host: &Ns| {
            udp_segments(client, host, 5300, 20, 1472);
        };
        let [_, copies] = mirrored(net, listen, KernelCollector::stop, traffic);
        copies.iter().for_each(|copy| assert_sums(copy));
        let data: Vec<_> = copies.iter().map(|copy| Packet::decode(copy).payload).collect();
        let sent = noise(0, 20 * 1472);
        assert_eq!(data.len(), 20);
        let data: BTreeSet<_> = data.iter().map(Vec::as_slice).collect();
        assert!(data == sent.chunks(1472).collect(), "the datagrams differ from those sent");
    });
}

/// Both directions hold the same bytes, completely, and nothing else.
fn assert_holds_stream(copies: &[Vec<u8>], sent: Vec<u8>) {
    for from in [CLIENT, HOST] {
        let of_one = copies.iter().map(Vec::as_slice).filter(|copy| copy[12..16] == from.octets());
        let mut pieces = stream(&of_one.collect::<Vec<_>>());
        pieces.sort_unstable();
        let mut end = 0;
        for (at, piece) in pieces {
            assert!(at <= end, "from {from}: bytes {end} to {at} are missing");
            assert!(
                sent.get(at..at + piece.len()) == Some(piece),
                "from {from}: bytes differ from those sent"
            );
            end = end.max(at + piece.len());
        }
        assert_eq!(end, sent.len(), "from {from}");
    }
}
