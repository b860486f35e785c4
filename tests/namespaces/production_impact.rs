//! Mirroring has no impact on production: whatever becomes of the copies, each packet arrives as it does without
//! mirroring, nothing is sent twice, no route and no path MTU changes, nobody gets an ICMP message,
//! and the kernel logs nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};

use etherparse::{IpFragOffset, Ipv4Header};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::IpMtu;
use nix::unistd::Pid;

use testkit::namespaces::*;

/// Sets up the state of the path that copies through this device meet.
type Weather = fn(&Topology, &str) -> Option<Collector>;

/// What the copies meet on their way.
const WEATHER: [(&str, Weather); 5] = [
    // for copies over either version of IP
    ("the collector listens", |net, _| Some(Collector::listen_ipv6(net.collector(), GUE_PORT))),
    // its kernel answers each copy with an ICMP error
    ("nobody listens", |net, _| {
        net.collector().sh("
            ! ip link show vx0 2>/dev/null || ip link delete vx0
            echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
            echo 0 > /proc/sys/net/ipv6/icmp/ratelimit");
        None
    }),
    ("the collector is gone", |net, _| {
        net.collector().sh("
            ip link set eth0 arp off
            echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
        net.host().sh("ip neigh flush dev eth1");
        None
    }),
    ("the NIC is down", |net, _| {
        net.host().sh("ip link set eth1 down");
        None
    }),
    ("the tunnel is down", |net, tunnel| {
        net.host().sh(&format!("ip link set {tunnel} down"));
        None
    }),
];

/// Nobody has these addresses, so nobody answers packets to or from them.
const NOBODY: u8 = 77;

/// What production sees.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    /// those that client and server receive
    frames: [Vec<Vec<u8>>; 2],
    /// ICMP errors that the host sends itself
    errors: Vec<Vec<u8>>,
    /// what the kernel counts in client, host and server
    counters: [BTreeMap<String, i64>; 3],
    /// their routes that are other than the administrator's
    exceptions: [String; 3],
    /// of connected sockets
    path_mtus: [i32; 4],
}

/// Frames to be forwarded as they are, between addresses that nobody has.
fn frames(to_server: bool) -> Vec<Vec<u8>> {
    let (ethernet, source, destination) = if to_server {
        ([HOST_MAC, CLIENT_MAC], [10, 1, 0, NOBODY], [10, 3, 0, NOBODY])
    } else {
        ([ROUTER_MAC, SERVER_MAC], [10, 3, 0, NOBODY], [10, 1, 0, NOBODY])
    };
    let frame = |protocol: u8, length: usize, change: fn(&mut Ipv4Header)| {
        let mut header = Ipv4Header::new(0, 64, protocol.into(), source, destination).unwrap();
        header.identification = 0x1234;
        change(&mut header);
        header.set_payload_len(length).unwrap();
        header.header_checksum = header.calc_header_checksum();
        // whatever the transport is, its checksum is wrong, and to be left so
        let payload = noise(length, length);
        [&ethernet.concat()[..], &[8, 0], &header.to_bytes(), &payload].concat()
    };
    let mut frames: Vec<_> = [1, 6, 17, 47, 132, 200]
        .into_iter()
        .flat_map(|protocol| [0, 20, 500, 1480].map(|length| frame(protocol, length, |_| {})))
        .collect();
    frames.push(frame(17, 1000, |header| header.options = [1; 40].into()));
    frames.push(frame(17, 1480, |header| header.dont_fragment = true));
    frames.push(frame(17, 1480, |header| header.more_fragments = true));
    frames.push(frame(17, 300, |header| {
        header.fragment_offset = IpFragOffset::try_new(185).unwrap();
    }));
    frames
}

/// Datagrams in one UDP super-packet.
const SEGMENTS: usize = 5;

/// Both ways between client and host, and through the host.
fn transfer(net: &Topology, server: &Ns) {
    let (client, host) = (net.client(), net.host());
    for (from, to) in [(client, host), (host, client), (client, server), (server, client)] {
        for size in [56, 1472, 65_507] {
            ping(from, to, 2, size);
        }
        udp_exchange(from, to, 5300, 3, 1472);
        udp_segments(from, to, 5300, SEGMENTS, 1472);
        tcp_exchange(from, to, 8080, 1 << 20);
    }
    for (ns, to_server) in [(client, true), (server, false)] {
        frames(to_server).iter().for_each(|frame| inject(ns, "eth0", frame));
    }
}

/// Makes the timers of TCP longer than any delay of a busy machine, so that only what was lost is sent again.
fn make_patient(ns: &Ns) {
    ns.sh("
        echo 0 > /proc/sys/net/ipv4/tcp_early_retrans
        ip -o route show | while read -r route; do ip route change $route rto_min 4s; done");
}

/// An IPv4 packet without what differs each time it is sent. `None` for TCP, whose segments differ each time.
fn comparable(packet: &[u8]) -> Option<Vec<u8>> {
    let mut packet = packet.to_vec();
    let (protocol, ports) = (packet[9], 20..24);
    if packet[15] == NOBODY {
        return Some(packet);
    }
    // id and checksum
    packet[4..6].fill(0);
    packet[10..12].fill(0);
    if protocol == 17 {
        packet[ports].fill(0);
        packet[26..28].fill(0);
    }
    (protocol != 6).then_some(packet)
}

/// Whether a counter tells of what production would notice.
fn is_telling(name: &str) -> bool {
    const TELLING: [&str; 15] = [
        "IpInHdrErrors",
        "IpReasmFails",
        "IpFragFails",
        "IpFragOKs",
        "TcpAttemptFails",
        "TcpEstabResets",
        "TcpInErrs",
        "TcpInCsumErrors",
        "TcpOutRsts",
        "TcpRetransSegs",
        "UdpNoPorts",
        "UdpInErrors",
        "UdpRcvbufErrors",
        "UdpInCsumErrors",
        "IpReasmOKs",
    ];
    name.starts_with("Icmp") || TELLING.contains(&name)
}

/// The host's kernel is told of copies that do not arrive, by the collector's or by itself. What else
/// it tells itself, `lo` shows, and what it tells others, their counters.
fn may_be_about_copies(name: &str) -> bool {
    name.starts_with("Icmp") && !name.contains("Echo")
}

/// Of the packets on `lo`, the ICMP errors about anything but copies.
fn errors(packets: &[&[u8]]) -> Vec<Vec<u8>> {
    let is_error = |packet: &&&[u8]| packet[9] == 1 && [3, 4, 5, 11, 12].contains(&packet[20]);
    let is_about_copy = |packet: &&&[u8]| packet[20 + 8 + 16..][..4] == COLLECTOR.octets();
    let errors = packets.iter().filter(is_error).filter(|packet| !is_about_copy(packet));
    errors.map(|packet| packet.to_vec()).collect()
}

fn path_mtu(from: &Ns, to: Ipv4Addr) -> i32 {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.connect((to, 9)).expect("connect");
        getsockopt(&socket, IpMtu).expect("IP_MTU")
    })
}

/// Looks on while traffic passes.
fn sight(net: &Topology, server: &Ns) -> Sight {
    let (client, host) = (net.client(), net.host());
    let namespaces = [client, host, server];
    let before = namespaces.map(Counters::of);
    let lo = Capture::start(host, "lo");
    let captures = [client, server].map(|ns| Capture::start(ns, "eth0"));
    transfer(net, server);
    let frames = captures.map(|capture| {
        let captured = capture.stop();
        let received = captured.ipv4(Direction::Received);
        let mut frames: Vec<_> = received.into_iter().filter_map(comparable).collect();
        // packets that another CPU handled may have been overtaken
        frames.sort_unstable();
        frames
    });

    let counters = [0, 1, 2].map(|index| {
        let (after, before) = (Counters::of(namespaces[index]), &before[index]);
        let wanted = |name: &str| is_telling(name) && !(index == 1 && may_be_about_copies(name));
        let mut counters = after.since(before, wanted);
        // the timer of a SYN cannot be set
        let syns = after.get("TcpExtTCPSynRetrans") - before.get("TcpExtTCPSynRetrans");
        if let Some(again) = counters.get_mut("TcpRetransSegs") {
            *again -= syns;
        }
        counters.retain(|_, count| *count != 0);
        counters
    });
    let errors = errors(&lo.stop().ipv4(Direction::Received));
    Sight {
        frames,
        errors,
        counters,
        exceptions: namespaces.map(|ns| ns.sh("ip route show cache")),
        path_mtus: [
            path_mtu(host, CLIENT),
            path_mtu(client, HOST),
            path_mtu(client, server.address()),
            path_mtu(server, CLIENT),
        ],
    }
}

/// The same with mirroring, in both directions, in a chain whose next program sees all packets.
fn sight_with_mirroring(
    net: &Topology,
    server: &Ns,
    tunnel: &str,
    flags: &[&str],
    weather: Weather,
) -> Sight {
    let chains = ["ingress", "egress"].map(|direction| {
        let root = Root::attach(net.host(), direction);
        let name = format!("--tunnel-interface-name={tunnel}");
        let daemon = start_chained(net, direction, &root, &[flags, &[&name]].concat());
        let behind = Counter::load();
        behind.follow(&jmp_table(direction));
        (root, daemon, behind)
    });
    // without its process, which might repair the path
    let signal_all = |signal| chains.iter().for_each(|(_, daemon, _)| daemon.signal(signal));
    signal_all(Signal::SIGSTOP);
    let _collector = weather(net, tunnel);
    let capture = Capture::start(net.host(), "eth0");
    let before = chains.each_ref().map(|(_, _, behind)| behind.count());
    let sight = sight(net, server);
    let after = chains.each_ref().map(|(_, _, behind)| behind.count());
    let frames = capture.stop().0;
    for (direction, seen) in
        [(Direction::Received, after[0] - before[0]), (Direction::Sent, after[1] - before[1])]
    {
        let passed: Vec<_> = frames.iter().filter(|frame| frame.direction == direction).collect();
        // older kernels cut the super-packet that the host sends after the programs have seen it, and
        // before the capture does
        let is_super = |packet: &[u8]| packet[9] == 17 && packet.len() > 1500;
        let is_whole = passed.iter().any(|frame| frame.ipv4().is_some_and(is_super));
        let cut = if direction == Direction::Sent && !is_whole { SEGMENTS - 1 } else { 0 };
        let passed = passed.len() - cut;
        assert_eq!(seen, passed as u64, "{direction:?}: seen by the next program");
    }
    signal_all(Signal::SIGTERM);
    signal_all(Signal::SIGCONT);
    for (_, mut daemon, _) in chains {
        daemon.wait();
        let output = daemon.output();
        assert!(!output.contains(": matched 0,"), "nothing was mirrored: {output}");
    }
    sight
}

/// One connection's packets that two CPUs handle overtake each other now and then, and TCP sends again
/// what was not lost.
fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    let set = cpus.set(sched_getcpu().expect("the CPU"));
    set.and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus)).expect("the CPU to stay on");
}

fn in_a_world(look: impl FnOnce(&Topology, &Ns) -> Sight + Send) -> Sight {
    Topology::run(|net| {
        stay_on_this_cpu();
        let server = net.server();
        for ns in [net.client(), net.host(), &server] {
            make_patient(ns);
        }
        net.host().sh("
            ip neigh add 10.1.0.77 lladdr 02:00:00:01:00:02 dev eth0
            ip neigh add 10.3.0.77 lladdr 02:00:00:03:00:02 dev eth2");
        look(net, &server)
    })
}

/// Compares each weather with what is seen without mirroring.
fn check(title: &str, tunnel: &str, flags: &[&str], make_tunnel: fn(&Topology)) {
    let mut log = KernelLog::watch();
    let without = undisturbed(|| in_a_world(sight));
    let mut table = format!("{title:<26}{:>8}\n", "frames");
    for (name, weather) in WEATHER {
        let with = undisturbed(|| {
            in_a_world(|net, server| {
                make_tunnel(net);
                sight_with_mirroring(net, server, tunnel, flags, weather)
            })
        });
        assert_same(name, &with, &without);
        let frames: usize = with.frames.iter().map(Vec::len).sum();
        writeln!(table, "{name:<26}{frames:>8}  as without mirroring").unwrap();
    }
    assert_eq!(log.complaints(), [""; 0]);
    // written directly, because the test harness shows only the output of tests that fail; in one piece
    io::stderr().write_all(table.as_bytes()).expect("stderr");
}

fn assert_same(weather: &str, with: &Sight, without: &Sight) {
    assert_eq!(with.path_mtus, without.path_mtus, "{weather}");
    assert_eq!(with.errors, without.errors, "{weather}: ICMP errors of the host's to itself");
    for (index, whose) in ["client", "host", "server"].into_iter().enumerate() {
        let (counters, exceptions) = (&with.counters[index], &with.exceptions[index]);
        assert_eq!(*exceptions, without.exceptions[index], "{weather}: routes of the {whose}");
        assert_eq!(*counters, without.counters[index], "{weather}: counters of the {whose}");
    }
    for (index, receiver) in ["client", "server"].into_iter().enumerate() {
        let (with, without) = (&with.frames[index], &without.frames[index]);
        let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
        assert!(
            with == without,
            "{weather}: the {receiver} receives {:?}, without mirroring {:?}",
            lengths(with),
            lengths(without)
        );
    }
}

#[test]
fn needs_root_the_built_in_tunnel_does_not_affect_production() {
    check("built-in tunnel", "gue1", &[], |_| {});
}

#[test]
fn needs_root_the_tunnel_over_ipv6_does_not_affect_production() {
    check("built-in, over IPv6", "gue1", &TO_COLLECTOR6, with_ipv6_to_collector);
}

#[test]
fn needs_root_an_existing_device_does_not_affect_production() {
    check("existing device (VXLAN)", "vx0", &[], |net| {
        for (ns, remote) in
            [(net.host(), COLLECTOR.to_string()), (net.collector(), "10.2.0.1".into())]
        {
            ns.sh(&format!(
                "ip link add vx0 type vxlan id 7 remote {remote} dstport 4789 df set; ip link set vx0 up"
            ));
        }
    });
}

/// The tunnel as operators make it with the kernel's own means.
#[test]
#[ignore = "wants the kernel's GUE: make test-kernels"]
fn needs_root_the_kernels_gue_device_does_not_affect_production() {
    check("existing device (GUE)", "gue1", &[], |net| {
        kernel_gue(net.host(), [10, 2, 0, 1].into(), COLLECTOR);
    });
}
