//! Packet sockets on the built-in tunnel's device (tcpdump) see what leaves through it.

use testkit::namespaces::*;

/// The number of packets that the device has transmitted, by its statistics.
fn transmitted(net: &Topology) -> usize {
    let count = net.host().sh("cat /sys/class/net/gue1/statistics/tx_packets");
    count.trim().parse().expect("a number")
}

/// The program can tell that a packet socket listens since Linux 6.2, so wherever there is TCX.
#[test]
fn needs_root_a_packet_socket_on_the_tunnel_sees_each_copy_once() {
    // whole, and in two outer fragments
    const SIZES: [usize; 2] = [56, 1472];
    Topology::run(|net| {
        let _daemons = ["ingress", "egress"].map(|direction| start(net, direction, &[]));
        let round = || {
            let collector = Collector::listen(net.collector(), GUE_PORT);
            for size in SIZES {
                ping(net.client(), net.host(), 3, size);
            }
            collector.stop_after_quiet(QUIET)
        };
        // only copies that cross the pair count as transmitted when nobody listens
        assert_eq!(round().0.len(), 12);
        assert_eq!(transmitted(net), 6);

        let capture = Capture::start(net.host(), "gue1");
        let copies = round();
        let frames = capture.stop();
        let seen = frames.ipv4(Direction::Sent);
        if has_tcx() {
            assert_same(seen, copies.ipv4());
            assert_eq!(transmitted(net), 18);
        } else {
            assert_eq!(seen.len(), 6);
            assert_eq!(transmitted(net), 12);
        }
        let (shown, told) = (shown(net, &[]), "dropped");
        for it in &shown {
            let counters = &it["tunnel"]["counters"];
            assert_eq!(counters["copies"], 24, "{told}: {counters}");
        }

        assert_eq!(round().0.len(), 12, "copies arrive after the capture has ended");
    });
}

/// The copies are as long as the snaplen of their rule.
#[test]
fn needs_root_a_packet_socket_on_the_tunnel_sees_copies_as_sent() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--snaplen=64"]);
        let capture = Capture::start(net.host(), "gue1");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 1000);
        let copies = collector.stop_after_quiet(QUIET);
        let frames = capture.stop();
        let seen: Vec<&[u8]> = frames.0.iter().map(|frame| &frame.bytes[14..]).collect();
        assert_eq!(copies.0.len(), 3);
        let expected =
            if has_tcx() { copies.0.iter().map(|copy| &copy.inner[..]).collect() } else { vec![] };
        assert_same(seen, expected);
    });
}
