//! No instance mirrors another instance's copies. Otherwise two instances would mirror each other's
//! copies without end. (A fuse stops such a loop when one of these tests fails.)

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapHandle, MapType};
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::map_defs::{self, MapDef};
use traffic_mirroring::bpf::pins::Pins;
use traffic_mirroring::model::{Direction as Way, InstanceId};

use testkit::namespaces::*;

/// Takes an interface of the host down once it has sent more packets than any test causes.
struct Fuse {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fuse {
    fn on(ifname: &'static str) -> Self {
        const LIMIT: u64 = 5000;
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let watch = move || {
            while !ended.load(Ordering::Relaxed) {
                if sent_packets(ifname) > LIMIT {
                    Command::new("ip").args(["link", "set", ifname, "down"]).status().expect("ip");
                    return;
                }
                thread::sleep(Duration::from_millis(5));
            }
        };
        // a new thread inherits the namespaces of its creator
        Self { end, thread: Some(thread::spawn(watch)) }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let watched = self.thread.take().expect("a thread").join();
        assert!(watched.is_ok() || thread::panicking(), "the fuse");
    }
}

/// How many packets an interface of the host has sent.
fn sent_packets(ifname: &str) -> u64 {
    let path = format!("/sys/class/net/{ifname}/statistics/tx_packets");
    let count = fs::read_to_string(path).expect("a count");
    count.trim().parse().expect("a number")
}

/// VXLAN devices as an operator would make them, each to a port of its own at the collector. Nobody
/// listens there, so the collector's kernel answers copies with ICMP errors, at its limited rate.
fn make_devices(net: &Topology) {
    let collector = net.collector();
    collector.sh("
        ip address add 10.2.0.3/24 dev eth0
        echo 0 > /proc/sys/net/ipv4/icmp_ratelimit");
    net.host().sh("
        ip link add vxa type vxlan id 7 remote 10.2.0.2 dstport 4789
        ip link add vxb type vxlan id 8 remote 10.2.0.3 dstport 4789
        ip link add vxc type vxlan id 9 remote 10.2.0.2 dstport 4790
        for device in vxa vxb vxc; do ip link set $device up; done");
}

/// Starts an instance on `eth1`, through which copies leave. It is named after its device.
fn start_on_eth1(net: &Topology, direction: &str, device: &str) -> Daemon {
    start_on_eth1_with(net, direction, device, &[])
}

fn start_on_eth1_with(net: &Topology, direction: &str, device: &str, more: &[&str]) -> Daemon {
    let mut args = vec![
        "--iface=eth1".into(),
        format!("--direction={direction}"),
        format!("--version={device}"),
        format!("--tunnel-interface-name={device}"),
    ];
    args.extend(more.iter().map(ToString::to_string));
    let mut daemon = Daemon::mirroring(net.host(), args);
    daemon.wait_ready("mirroring eth1");
    daemon
}

/// Returns how many copies of five pings leave to the collector. Expects all to be copies of ICMP
/// echoes.
fn copies_of_five_pings(net: &Topology) -> usize {
    let capture = Capture::start(net.host(), "eth1");
    ping(net.host(), net.collector(), 5, 56);
    check_copies(&capture.stop().ipv4(Direction::Sent))
}

fn check_copies(sent: &[&[u8]]) -> usize {
    const VXLAN_AND_ETHERNET: usize = 8 + 14;
    let copies: Vec<_> = sent
        .iter()
        .map(|packet| Packet::decode(packet))
        .filter(|packet| packet.protocol == 17)
        .map(|packet| packet.payload)
        .collect();
    for copy in &copies {
        let inner = &copy[VXLAN_AND_ETHERNET..];
        assert!(
            inner[9] == 1 && [0, 8].contains(&inner[20]),
            "not a copy of an echo: {inner:02x?}"
        );
    }
    copies.len()
}

#[test]
fn needs_root_instances_with_two_tunnels_have_no_loop() {
    Topology::run(|net| {
        make_devices(net);
        let _fuse = Fuse::on("eth1");
        let start = |direction, device| start_on_eth1(net, direction, device);
        let daemons = [
            start("egress", "vxa"),
            start("ingress", "vxa"),
            start("egress", "vxb"),
            start("ingress", "vxb"),
            start("egress", "vxc"),
            start("ingress", "vxc"),
        ];
        let capture = Capture::start(net.host(), "eth1");
        assert_eq!(copies_of_five_pings(net), 3 * (5 + 5), "copies of requests and replies");
        let received = capture.stop();
        let errors = received.ipv4(Direction::Received).len() - 5;
        assert!(errors > 0, "no ICMP error came: the test shows nothing");
        for daemon in daemons {
            let summary = Summary::at_end_of(daemon);
            assert_eq!(summary.sent, 5, "{summary:?}");
            // one instance sees the errors, the other one all copies of requests and replies
            assert!(summary.loop_guard >= errors.min(30), "{errors} errors: {summary:?}");
        }
    });
}

#[test]
fn needs_root_the_end_of_one_instance_leaves_the_others_guarded() {
    Topology::run(|net| {
        make_devices(net);
        let _fuse = Fuse::on("eth1");
        let start = |device| start_on_eth1(net, "egress", device);
        let [a, b, c] = ["vxa", "vxb", "vxc"].map(start);
        assert_eq!(copies_of_five_pings(net), 15);
        assert!(b.terminate().success());
        assert_eq!(copies_of_five_pings(net), 10);
        // the kernel side of a killed instance goes on
        c.kill();
        let b = start("vxb");
        assert_eq!(copies_of_five_pings(net), 15);
        assert!(a.terminate().success());
        assert_eq!(copies_of_five_pings(net), 10);
        command(net.host(), &["--cmd=stop", "--iface=eth1", "--version=vxc"]);
        assert_eq!(copies_of_five_pings(net), 5);
        assert!(b.terminate().success());
    });
}

/// Once an instance is gone, packets to its tunnel's far end are ordinary packets.
#[test]
fn needs_root_packets_to_a_former_collector_are_mirrored_again() {
    Topology::run(|net| {
        make_devices(net);
        let _fuse = Fuse::on("eth1");
        let a = start_on_eth1(net, "egress", "vxa");
        let b = start_on_eth1(net, "egress", "vxb");
        let send_to_b = || {
            let capture = Capture::start(net.host(), "eth1");
            let socket = UdpSocket::bind("10.2.0.1:0").expect("bind");
            socket.send_to(&[0; 100], "10.2.0.3:4789").expect("send");
            capture.stop().ipv4(Direction::Sent).len()
        };
        assert_eq!(send_to_b(), 1);
        assert!(b.terminate().success());
        assert_eq!(send_to_b(), 2, "the packet and its copy");
        assert_eq!(
            Summary::at_end_of(a).loop_guard,
            2,
            "the first packet, and the copy of the second"
        );
    });
}

/// Sends datagrams to the collector as fast as possible, until dropped.
struct Flood {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _takers: [UdpSocket; 2],
}

impl Flood {
    const PORT: u16 = 5400;
    const LONGEST: Duration = Duration::from_secs(30);

    fn start(net: &Topology) -> Self {
        // these sockets prevent ICMP errors about the datagrams and about their copies
        let take = |port| bind(net.collector(), || UdpSocket::bind(("0.0.0.0", port)));
        let takers = [Self::PORT, 4789].map(take);
        let socket = UdpSocket::bind("10.2.0.1:0").expect("bind");
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let send = move || {
            let began = Instant::now();
            while !ended.load(Ordering::Relaxed) && began.elapsed() < Self::LONGEST {
                socket.send_to(&[0; 18], (COLLECTOR, Self::PORT)).expect("send");
            }
        };
        Self { end, thread: Some(thread::spawn(send)), _takers: takers }
    }

    /// Waits until about a thousand more have been sent.
    fn goes_on(&self) {
        let before = sent_packets("eth1");
        eventually("more datagrams", || sent_packets("eth1") > before + 1000);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let sent = self.thread.take().expect("a thread").join();
        assert!(sent.is_ok() || thread::panicking(), "the flood");
    }
}

/// One instance mirrors a flood. The filter of the other one matches only the copies of that flood.
#[test]
fn needs_root_all_copies_of_an_instance_are_guarded() {
    Topology::run(|net| {
        make_devices(net);
        let of_flood = |device| {
            let flags = ["--protocol=udp", "--dst-port=5400"];
            start_on_eth1_with(net, "egress", device, &flags)
        };
        let of_copies = |device| {
            let flags = ["--protocol=udp", "--dst-port=4789"];
            start_on_eth1_with(net, "egress", device, &flags)
        };
        let check_end_of = |daemon| {
            let summary = Summary::at_end_of(daemon);
            assert!(summary.sent == 0 && summary.loop_guard > 100, "{summary:?}");
        };
        // either instance may start or end during the flood
        for round in 0..5 {
            println!("round {round}");
            let mirroring = of_flood("vxa");
            let flood = Flood::start(net);
            flood.goes_on();
            let late = of_copies("vxb");
            flood.goes_on();
            assert!(mirroring.terminate().success());
            flood.goes_on();
            check_end_of(late);
            drop(flood);

            let early = of_copies("vxb");
            let flood = Flood::start(net);
            let mirroring = of_flood("vxa");
            flood.goes_on();
            assert!(mirroring.terminate().success());
            flood.goes_on();
            check_end_of(early);
        }
    });
}

/// Both hooks of `lo` see every packet. Nobody listens, so each copy is answered by an ICMP error.
#[test]
fn needs_root_instances_on_lo_have_no_loop() {
    Topology::run(|net| {
        let _fuse = Fuse::on("lo");
        let start = |direction: &str, tunnel: &str, port: u16| {
            let args = [
                "--iface=lo".into(),
                format!("--direction={direction}"),
                format!("--version={tunnel}"),
                format!("--tunnel-interface-name={tunnel}"),
                format!("--tunnel-remote-port={port}"),
                "--tunnel-remote-address=127.0.0.1".into(),
                "--redirect-to=lo".into(),
            ];
            let mut daemon = Daemon::mirroring(net.host(), args);
            daemon.wait_ready("mirroring lo");
            daemon
        };
        let _daemons = [
            start("egress", "guea", 6081),
            start("ingress", "guea", 6081),
            start("egress", "gueb", 6082),
            start("ingress", "gueb", 6082),
        ];
        let capture = Capture::start(net.host(), "lo");
        net.host().sh("ping -q -c 4 -i 0.05 -W 2 127.0.0.1");
        let frames = capture.stop();
        let sent = frames.ipv4(Direction::Sent);
        let count = |protocol| sent.iter().filter(|packet| packet[9] == protocol).count();
        // 4 requests and 4 replies, each seen once on egress and once on ingress, by each of two
        // tunnels
        assert_eq!(count(17), 2 * 16);
        assert!(count(1) > 8, "no ICMP error came: the test shows nothing");
    });
}

const ENDPOINT_LEN: usize = size_of::<bpf::Endpoint>();
const LIST_LEN: usize = size_of::<bpf::Endpoints>();

/// A far end over IPv4, in the layout of an endpoint list.
fn far_end(address: [u8; 4], port: u16, protocol: u8) -> [u8; ENDPOINT_LEN] {
    let mut endpoint = [0; ENDPOINT_LEN];
    endpoint[10..12].fill(0xff);
    endpoint[12..16].copy_from_slice(&address);
    endpoint[16..18].copy_from_slice(&port.to_be_bytes());
    endpoint[18] = protocol;
    endpoint
}

/// Makes pins of an instance of another version: only its endpoint list has our layout.
fn pin_another_version(name: &str, endpoint: Option<[u8; ENDPOINT_LEN]>) -> Pins {
    let id = InstanceId {
        interface: "eth1".parse().expect("a name"),
        direction: Way::Egress,
        version: name.parse().expect("a version"),
    };
    let pins = Pins::new("/sys/fs/bpf".as_ref(), &id);
    let path = |map: MapDef| pins.map(&map.name(Way::Egress));
    let config = path(map_defs::CONFIG);
    fs::create_dir_all(config.parent().expect("a directory")).expect("a directory");
    Counter::load().pin_counts(config.to_str().expect("a path"));
    if let Some(endpoint) = endpoint {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            map_flags: libbpf_sys::BPF_F_MMAPABLE,
            ..Default::default()
        };
        let size = LIST_LEN as u32;
        let list = MapHandle::create(MapType::Array, Some("list"), 4, size, 1, &options);
        let mut list = list.expect("a list");
        let mut value = [0; LIST_LEN];
        value[..ENDPOINT_LEN].copy_from_slice(&endpoint);
        list.update(&[0; 4], &value, libbpf_rs::MapFlags::ANY).expect("an entry");
        list.pin(path(map_defs::ENDPOINTS)).expect("a pin");
    }
    pins
}

fn entry(pins: &Pins, index: usize) -> Vec<u8> {
    let path = pins.map(&map_defs::ENDPOINTS.name(Way::Egress));
    let list = MapHandle::from_pinned_path(path).expect("a list");
    let value = list.lookup(&[0; 4], libbpf_rs::MapFlags::ANY).expect("lookup").expect("an entry");
    value.chunks(ENDPOINT_LEN).nth(index).expect("the index is within the list").to_vec()
}

#[test]
fn needs_root_other_versions_with_an_endpoint_list_are_guarded() {
    const UDP: u8 = 17;
    Topology::run(|net| {
        make_devices(net);
        let there = far_end([10, 2, 0, 3], 4790, UDP);
        let other = pin_another_version("other", Some(there));
        pin_another_version("old", None);
        let daemon = start_on_eth1(net, "egress", "vxa");
        assert!(
            daemon.output().contains("eth1 egress (old) was started by another version and"),
            "{}",
            daemon.output()
        );
        assert_eq!(entry(&other, 0), there);
        assert_eq!(entry(&other, 1), far_end([10, 2, 0, 2], 4789, UDP));
        let socket = UdpSocket::bind("10.2.0.1:0").expect("bind");
        socket.send_to(&[0; 100], "10.2.0.3:4790").expect("send");
        assert_eq!(Summary::at_end_of(daemon).loop_guard, 1);
        assert_eq!(
            entry(&other, 1),
            [0; ENDPOINT_LEN],
            "the entry of an ended instance is cleared"
        );
    });
}

#[test]
fn needs_root_one_tunnel_too_many_to_guard_against_is_refused() {
    Topology::run(|net| {
        make_devices(net);
        for n in 0..31 {
            pin_another_version(&format!("v{n}"), Some(far_end([192, 0, 2, n], 4789, 17)));
        }
        // the last of the 32 still has a place
        let daemon = start_on_eth1(net, "egress", "vxa");
        let args = ["--iface=eth1", "--direction=egress", "--tunnel-interface-name=vxb"];
        let output = mirroring(net.host(), args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains("33 collectors or ports, more than the 32"), "{stderr}");
        assert!(daemon.terminate().success());
    });
}
