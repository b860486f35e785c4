//! Copies and production leave through the same NIC, next hop and qdisc. Production has precedence,
//! and no copy pushes it out of a queue.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use etherparse::PacketBuilder;

use testkit::namespaces::*;

const PORT: u16 = 5309;
/// More than the kernel queues for an unresolved next hop (net.ipv4.neigh.*.unres_qlen_bytes).
const COPIES: usize = 400;
const PRODUCTION: usize = 50;

const BEHIND_COLLECTOR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const BEHIND_COLLECTOR6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

/// Sends production's datagrams to the address. Each holds a different byte.
fn send_production(net: &Topology, to: IpAddr) {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = bind(net.host(), || UdpSocket::bind((any, 0)));
    for n in 0..PRODUCTION {
        socket.send_to(&[n as u8], (to, PORT)).expect("production sends");
    }
}

/// Sends packets to be mirrored from the client.
fn send_mirrored(net: &Topology) {
    let _listener = bind(net.host(), || UdpSocket::bind((HOST, PORT)));
    let socket = bind(net.client(), || UdpSocket::bind((CLIENT, 0)));
    for _ in 0..COPIES {
        socket.send_to(&[b'x'; 1000], (HOST, PORT)).expect("the client sends");
    }
}

/// Receives all of production's datagrams, in order.
fn receive_production(receiver: &UdpSocket) {
    let mut buffer = [0; 2000];
    for n in 0..PRODUCTION {
        let len = receiver.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("only {n} of {PRODUCTION} datagrams of production arrived: {error}")
        });
        assert_eq!(buffer[..len], [n as u8], "production arrives in order");
    }
}

/// A production socket behind the collector's host, which is the gateway of production here.
fn listen(net: &Topology, address: IpAddr) -> UdpSocket {
    let address = SocketAddr::from((address, PORT));
    let socket = bind(net.collector(), || UdpSocket::bind(address));
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    socket
}

/// The next hop is silent while production and copies are sent, and answers afterwards.
fn check_a_silent_next_hop(
    net: &Topology,
    collector: &[&str],
    behind: IpAddr,
    silent: &str,
    answers: &str,
) {
    let _daemon = start(net, "ingress", &[&["--protocol=udp"], collector].concat());
    let receiver = listen(net, behind);
    let unresolved = || {
        let shown = shown_one(net);
        let count = &shown["tunnel"]["counters"]["dropped"]["next_hop_unresolved"];
        count.as_u64().unwrap_or_else(|| panic!("no count: {shown:#}"))
    };
    // copies arrive as long as the next hop is known
    udp_exchange(net.client(), net.host(), 53, 3, 100);
    assert_eq!(unresolved(), 0);

    net.collector().sh(silent);
    net.host().sh("ip neigh flush dev eth1");
    send_production(net, behind);
    send_mirrored(net);
    // an occasional copy goes on, so that the kernel asks for the next hop
    assert!(unresolved() > COPIES as u64 / 2, "{} of {COPIES}", unresolved());
    net.collector().sh(answers);
    receive_production(&receiver);

    let before = unresolved();
    let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
    udp_exchange(net.client(), net.host(), 53, 3, 100);
    assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3, "three requests make three copies");
    assert_eq!(unresolved(), before);
}

#[test]
fn needs_root_copies_do_not_fill_a_silent_next_hops_queue() {
    Topology::run(|net| {
        net.host().sh("
            echo 60 > /proc/sys/net/ipv4/neigh/eth1/mcast_solicit
            ip route add 172.16.0.0/12 via 10.2.0.2 dev eth1");
        net.collector().sh(&format!("ip address add {BEHIND_COLLECTOR}/32 dev lo"));
        let (silent, answers) = ("ip link set eth0 arp off", "ip link set eth0 arp on");
        check_a_silent_next_hop(net, &[], BEHIND_COLLECTOR.into(), silent, answers);
    });
}

#[test]
fn needs_root_copies_do_not_fill_a_silent_ipv6_next_hops_queue() {
    Topology::run(|net| {
        with_ipv6_to_collector(net);
        net.host().sh("
            echo 60 > /proc/sys/net/ipv6/neigh/eth1/mcast_solicit
            ip route add fd99::/64 via fd02::2 dev eth1");
        net.collector().sh(&format!(
            "ip address add {BEHIND_COLLECTOR6}/128 dev lo
            ip route replace fd02::1 dev eth0"
        ));
        let (silent, answers) =
            ("ip address del fd02::2/64 dev eth0", "ip address add fd02::2/64 dev eth0 nodad");
        check_a_silent_next_hop(net, &TO_COLLECTOR6, BEHIND_COLLECTOR6.into(), silent, answers);
    });
}

/// Copies alone exceed the rate of the kernel's default qdisc. The tunnel is the built-in one or an
/// existing device. The built-in tunnel runs over IPv4, and over IPv6 with its own far end.
#[test]
fn needs_root_copies_do_not_push_production_out_of_the_qdisc() {
    let tunnels: [(&str, &[&str]); 3] = [
        ("built-in over IPv4", &[]),
        ("built-in over IPv6", &TO_COLLECTOR6),
        ("VXLAN", &["--tunnel-interface-name=vx0"]),
    ];
    for (name, flags) in tunnels {
        println!("{name}");
        Topology::run(|net| {
            with_ipv6_to_collector(net);
            vxlan(net);
            let _daemon = start(net, "ingress", &[&["--protocol=udp"], flags].concat());
            let receiver = listen(net, COLLECTOR.into());
            udp_exchange(net.client(), net.host(), 53, 1, 100);
            net.host().sh("
                ip link set eth1 txqueuelen 100
                tc qdisc add dev eth1 root handle 1: tbf rate 1mbit burst 10k limit 30000
                tc qdisc add dev eth1 parent 1:1 pfifo_fast");
            send_mirrored(net);
            send_production(net, COLLECTOR.into());
            receive_production(&receiver);
            let dropped = net.host().sh("tc -s qdisc show dev eth1 parent 1:1");
            assert!(!dropped.contains("dropped 0,"), "copies did not fill the qdisc: {dropped}");
        });
    }
}

/// A router advertisement of the collector's host (RFC 4861, 4.2) that makes it a default router
/// for half an hour.
fn advertise(net: &Topology) {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const HOP_LIMIT_FLAGS_LIFETIME: [u8; 4] = [64, 0, 7, 8];
    let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 2, 0, 2], [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(from.octets(), to.octets(), 255)
        .icmpv6_raw(ROUTER_ADVERTISEMENT, 0, HOP_LIMIT_FLAGS_LIFETIME)
        .write(&mut frame, &[0; 8])
        .expect("a frame");
    inject(net.collector(), "eth0", &frame);
}

/// When the first device begins to forward IPv6, the kernel deletes the default routes learned from
/// advertisements.
#[test]
fn needs_root_an_advertised_default_route_stays() {
    for flags in [&[][..], &TO_COLLECTOR6] {
        Topology::run(|net| {
            with_ipv6_to_collector(net);
            net.host().sh("echo 1 > /proc/sys/net/ipv6/conf/eth1/accept_ra");
            let has_route = || net.host().sh("ip -6 route show default").contains("via fe80::a");
            advertise(net);
            eventually("the advertised route", has_route);
            let daemon = start(net, "ingress", flags);
            assert!(has_route(), "{flags:?}");

            let reconciled = || daemon.log().matches("reconciling").count();
            let count = reconciled();
            net.host().sh("ip address add 10.2.0.9/24 dev eth1");
            eventually("another look at the host", || reconciled() > count);
            let collector = Collector::listen_ipv6(net.collector(), GUE_PORT);
            ping(net.client(), net.host(), 3, 56);
            assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3, "{flags:?}");
            assert!(has_route(), "{flags:?}");
        });
    }
}
