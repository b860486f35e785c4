//! What all tests rely on: the fixture works, traffic passes without `mirroring`, and nothing is
//! left behind.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;
use libbpf_rs::{MapHandle, MapType};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use testkit::namespaces::*;

const QUIET: Duration = Duration::from_millis(100);

#[test]
fn needs_root_production_traffic_passes_both_ways() {
    Topology::run(|net| {
        let (client, host) = (net.client(), net.host());
        for (from, to) in [(client, host), (host, client), (host, net.collector())] {
            ping(from, to, 3, 1472);
            tcp_exchange(from, to, 8080, 1 << 20);
            udp_exchange(from, to, 53, 10, 1472);
        }
    });
}

#[test]
fn needs_root_a_capture_sees_each_packet_once_and_in_order() {
    Topology::run(|net| {
        let capture = Capture::start(net.host(), "eth0");
        ping(net.client(), net.host(), 5, 100);
        let from = udp_exchange(net.client(), net.host(), 5353, 7, 40);
        let frames = capture.stop();

        let received = frames.ipv4(Direction::Received);
        let received: Vec<_> = received.into_iter().map(Packet::decode).collect();
        let sent = frames.ipv4(Direction::Sent);
        let sent: Vec<_> = sent.into_iter().map(Packet::decode).collect();
        let flow = |p: &Packet| (p.src, p.dst, p.protocol, p.ports, p.payload.len());
        let request = (CLIENT, HOST, 17, Some((from.port(), 5353)), 40);
        let reply = (HOST, CLIENT, 17, Some((5353, from.port())), 40);
        let ping = |from, to| vec![(from, to, 1, None, 100); 5];

        let expected = [ping(CLIENT, HOST), vec![request; 7]].concat();
        assert_eq!(received.iter().map(flow).collect::<Vec<_>>(), expected);
        let expected = [ping(HOST, CLIENT), vec![reply; 7]].concat();
        assert_eq!(sent.iter().map(flow).collect::<Vec<_>>(), expected);
        assert!(frames.0.is_sorted_by_key(|frame| frame.at));
    });
}

#[test]
fn needs_root_tcp_super_packets_end_with_offloads_off() {
    const FULL: usize = 14 + 1500;
    let longest = |net: &Topology| {
        let capture = Capture::start(net.host(), "eth0");
        tcp_exchange(net.client(), net.host(), 80, 1 << 20);
        capture.stop().0.iter().map(|frame| frame.bytes.len()).max().expect("frames")
    };
    Topology::run(|net| {
        assert!(longest(net) > FULL);
        for ns in [net.client(), net.host()] {
            ns.without_offloads("eth0");
        }
        assert_eq!(longest(net), FULL);
    });
}

#[test]
fn needs_root_an_injected_frame_arrives_as_it_is() {
    Topology::run(|net| {
        let capture = Capture::start(net.host(), "eth0");
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(CLIENT_MAC, HOST_MAC)
            .ip(etherparse::IpHeaders::Ipv4(
                etherparse::Ipv4Header {
                    options: [1, 1, 1, 0].into(), // three no-operations and the end
                    ..etherparse::Ipv4Header::new(0, 9, 200.into(), CLIENT.octets(), HOST.octets())
                        .expect("a header")
                },
                Default::default(),
            ))
            .write(&mut frame, 200.into(), b"a protocol that nobody speaks")
            .expect("a frame");
        inject(net.client(), "eth0", &frame);

        let frames = capture.stop();
        let received = frames.ipv4(Direction::Received);
        assert_eq!(received, [&frame[14..]]);
        assert_eq!(Packet::decode(received[0]).protocol, 200);
    });
}

#[test]
fn needs_root_the_collector_takes_gue_apart() {
    Topology::run(|net| {
        let collector = Collector::listen(net.collector(), GUE_PORT);
        let mut inner = Vec::new();
        PacketBuilder::ipv4(CLIENT.octets(), HOST.octets(), 64)
            .udp(40_000, 53)
            .write(&mut inner, b"question")
            .expect("a packet");
        let socket = bind(net.host(), || UdpSocket::bind("10.2.0.1:6080"));
        let datagram = [&[0, 4, 0, 0][..], &inner].concat();
        socket.send_to(&datagram, (COLLECTOR, GUE_PORT)).expect("send");

        let copies = collector.stop_after_quiet(QUIET);
        copies.assert_gue_v0_ipv4();
        assert_eq!(copies.0[0].from, ([10, 2, 0, 1], 6080).into());
        assert_eq!(copies.ipv4(), [&inner[..]]);
        let expected = Packet {
            src: CLIENT,
            dst: HOST,
            protocol: 17,
            ports: Some((40_000, 53)),
            payload: b"question".to_vec(),
        };
        assert_eq!(copies.packets(), [expected]);
    });
}

#[test]
fn needs_root_commands_reach_a_namespace_by_its_name() {
    Topology::run(|net| {
        let addresses = "nsenter --net=/run/netns/client ip -o address show eth0";
        assert!(net.collector().sh(addresses).contains("10.1.0.2/24"));
    });
}

#[test]
fn needs_root_a_process_is_awaited_signalled_and_killed() {
    let script = "trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.01; done";
    Topology::run(|net| {
        let start = || {
            let mut command = net.host().command("sh");
            command.args(["-c", script]);
            let mut daemon = Daemon::start(command);
            daemon.wait_ready("ready");
            daemon
        };
        assert_eq!(start().terminate().code(), Some(3));

        let mut hung_up = start();
        hung_up.signal(Signal::SIGHUP);
        assert_eq!(hung_up.wait().signal(), Some(libc::SIGHUP));

        let killed = start();
        let process = format!("/proc/{}", killed.pid());
        killed.kill();
        assert!(!Path::new(&process).exists());
    });
}

#[test]
fn needs_root_the_program_runs_on_the_host() {
    Topology::run(|net| {
        assert!(mirroring(net.host(), ["--help"]).status.success());
        assert!(Daemon::mirroring(net.host(), ["--help"]).wait().success());
    });
}

#[test]
fn needs_root_a_process_that_dies_early_shows_what_it_said() {
    let result = panic::catch_unwind(|| {
        Topology::run(|net| {
            let mut command = net.host().command("sh");
            command.args(["-c", "echo no such interface >&2; exit 2"]);
            Daemon::start(command).wait_ready("ready");
        })
    });
    let message = *result.unwrap_err().downcast::<String>().expect("a message");
    assert!(message.contains("exit status: 2"), "{message}");
}

#[test]
fn needs_root_a_snapshot_shows_what_was_added_or_removed() {
    Topology::run(|net| {
        let host = net.host();
        let before = Snapshot::of(host);
        ping(net.client(), host, 3, 56);
        let after_traffic = Snapshot::of(host);
        assert_eq!(after_traffic.changes_since(&before), [""; 0]);

        let changed_by = |script: &str, topic: &str| {
            let before = Snapshot::of(host);
            host.sh(script);
            let changes = Snapshot::of(host).changes_since(&before);
            assert!(changes.iter().any(|change| change.starts_with(topic)), "{changes:#?}");
        };
        changed_by("ip link add gue1 type veth peer name gue1-peer", "+ link: ");
        changed_by("ip route add 192.0.2.0/24 via 10.2.0.2", "+ route: 192.0.2.0/24");
        changed_by("tc qdisc add dev eth0 clsact", "+ qdisc: qdisc clsact");
        let filter = "tc filter add dev eth0 egress bpf bytecode '1,6 0 0 0' flowid 1:1";
        changed_by(filter, "+ filter on eth0 egress: ");
        changed_by("mkdir -p /sys/fs/bpf/tc", "+ pin: /sys/fs/bpf/tc directory");

        let before = Snapshot::of(host);
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let mut map = MapHandle::create(MapType::Array, Some("one"), 4, 8, 1, &options).unwrap();
        map.pin("/sys/fs/bpf/tc/one").unwrap();
        let changes = Snapshot::of(host).changes_since(&before);
        assert_eq!(changes, ["+ pin: /sys/fs/bpf/tc/one bpf-map"]);

        host.sh("
            ip link delete gue1
            ip route delete 192.0.2.0/24
            tc qdisc delete dev eth0 clsact
            rm -r /sys/fs/bpf/tc");
        assert_eq!(Snapshot::of(host), after_traffic);
    });
}

/// Seen from an outer namespace with shared mounts, which is systemd's default and the worst case.
#[test]
fn needs_root_a_topology_goes_with_its_test_even_after_a_panic() {
    let outside = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces around it");
        for kind in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            let flags = MsFlags::MS_REC | kind;
            mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("shared mounts");
        }
        let look = || {
            let read = |path| fs::read_to_string(path).expect(path);
            let names = ["/run/netns", "/sys/fs/bpf/tc"].map(|path| Path::new(path).exists());
            let mounts = read("/proc/thread-self/mountinfo");
            (mounts, read("/proc/thread-self/net/dev"), names)
        };
        let before = look();

        Topology::run(|net| net.host().sh("mkdir /sys/fs/bpf/tc; ip link add x type veth"));
        assert_eq!(look(), before);

        let panicked = panic::catch_unwind(|| {
            Topology::run(|net| {
                let mut command = net.host().command("sleep");
                panic::panic_any(command.arg("60").spawn().expect("sleep"));
            })
        });
        let mut child = panicked.unwrap_err().downcast::<Child>().expect("the panic of the test");
        assert_eq!(look(), before);

        let mut status = None;
        eventually("the child's end", || {
            status = child.try_wait().expect("the child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.signal()), Some(libc::SIGKILL));
    };
    thread::spawn(outside).join().unwrap_or_else(|panic| panic::resume_unwind(panic));
}
