//! Copies and production leave by the same NIC, through the same next hop and the same qdisc. Production goes first,
//! and no copy pushes it out of a queue.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use testkit::namespaces::*;

const PORT: u16 = 5309;
/// More than the kernel keeps for a next hop that does not answer (net.ipv4.neigh.*.unres_qlen_bytes).
const COPIES: usize = 400;
const PRODUCTION: usize = 50;

const BEHIND_COLLECTOR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const BEHIND_COLLECTOR6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

/// The datagrams of production, of which each has another byte, to the address.
fn send_production(world: &Topology, to: IpAddr) {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = bind(world.host(), || UdpSocket::bind((any, 0)));
    for n in 0..PRODUCTION {
        socket.send_to(&[n as u8], (to, PORT)).expect("production sends");
    }
}

/// What is mirrored, from the client.
fn send_mirrored(world: &Topology) {
    let _listener = bind(world.host(), || UdpSocket::bind((HOST, PORT)));
    let socket = bind(world.client(), || UdpSocket::bind((CLIENT, 0)));
    for _ in 0..COPIES {
        socket.send_to(&[b'x'; 1000], (HOST, PORT)).expect("the client sends");
    }
}

/// Receives all of production, in order.
fn receive_production(receiver: &UdpSocket) {
    let mut buffer = [0; 2000];
    for n in 0..PRODUCTION {
        let len = receiver.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("of {PRODUCTION} datagrams of production {n} arrived: {error}")
        });
        assert_eq!(buffer[..len], [n as u8], "production in order");
    }
}

/// A socket of production's behind the collector's host, which is production's gateway.
fn listen(world: &Topology, address: IpAddr) -> UdpSocket {
    let address = SocketAddr::from((address, PORT));
    let socket = bind(world.collector(), || UdpSocket::bind(address));
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    socket
}

/// The next hop is silent while production and copies are sent, and answers then.
fn check_a_silent_next_hop(
    world: &Topology,
    collector: &[&str],
    behind: IpAddr,
    silent: &str,
    answers: &str,
) {
    let _daemon = start(world, "ingress", &[&["--protocol=udp"], collector].concat());
    let receiver = listen(world, behind);
    // until then, copies arrive
    let unresolved = || {
        let shown = shown_one(world);
        let count = &shown["tunnel"]["counters"]["dropped"]["next_hop_unresolved"];
        count.as_u64().unwrap_or_else(|| panic!("no count: {shown:#}"))
    };
    udp_exchange(world.client(), world.host(), 53, 3, 100);
    assert_eq!(unresolved(), 0);

    world.collector().sh(silent);
    world.host().sh("ip neigh flush dev eth1");
    send_production(world, behind);
    send_mirrored(world);
    // now and then one copy goes on, so that the kernel asks for the next hop
    assert!(unresolved() > COPIES as u64 / 2, "{} of {COPIES}", unresolved());
    world.collector().sh(answers);
    receive_production(&receiver);

    let before = unresolved();
    let collector = Collector::listen_ipv6(world.collector(), GUE_PORT);
    udp_exchange(world.client(), world.host(), 53, 3, 100);
    assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3, "copies of three requests");
    assert_eq!(unresolved(), before);
}

#[test]
fn needs_root_copies_do_not_fill_a_silent_next_hops_queue() {
    Topology::run(|world| {
        world.host().sh("
            echo 60 > /proc/sys/net/ipv4/neigh/eth1/mcast_solicit
            ip route add 172.16.0.0/12 via 10.2.0.2 dev eth1");
        world.collector().sh(&format!("ip address add {BEHIND_COLLECTOR}/32 dev lo"));
        let (silent, answers) = ("ip link set eth0 arp off", "ip link set eth0 arp on");
        check_a_silent_next_hop(world, &[], BEHIND_COLLECTOR.into(), silent, answers);
    });
}

#[test]
fn needs_root_copies_do_not_fill_a_silent_ipv6_next_hops_queue() {
    Topology::run(|world| {
        with_ipv6_to_collector(world);
        world.host().sh("
            echo 60 > /proc/sys/net/ipv6/neigh/eth1/mcast_solicit
            ip route add fd99::/64 via fd02::2 dev eth1");
        world.collector().sh(&format!(
            "ip address add {BEHIND_COLLECTOR6}/128 dev lo
            ip route replace fd02::1 dev eth0"
        ));
        let (silent, answers) =
            ("ip address del fd02::2/64 dev eth0", "ip address add fd02::2/64 dev eth0 nodad");
        check_a_silent_next_hop(world, &TO_COLLECTOR6, BEHIND_COLLECTOR6.into(), silent, answers);
    });
}

/// In the kernel's default qdisc, behind a limit that copies alone exceed. The tunnel is the built-in one, over IPv4 at
/// once and over IPv6 by its far end, or a device that was there.
#[test]
fn needs_root_copies_do_not_push_production_out_of_the_qdisc() {
    let tunnels: [(&str, &[&str]); 3] = [
        ("built-in over IPv4", &[]),
        ("built-in over IPv6", &TO_COLLECTOR6),
        ("VXLAN", &["--tunnel-interface-name=vx0"]),
    ];
    for (name, flags) in tunnels {
        println!("{name}");
        Topology::run(|world| {
            with_ipv6_to_collector(world);
            vxlan(world);
            let _daemon = start(world, "ingress", &[&["--protocol=udp"], flags].concat());
            let receiver = listen(world, COLLECTOR.into());
            udp_exchange(world.client(), world.host(), 53, 1, 100);
            world.host().sh("
                ip link set eth1 txqueuelen 100
                tc qdisc add dev eth1 root handle 1: tbf rate 1mbit burst 10k limit 30000
                tc qdisc add dev eth1 parent 1:1 pfifo_fast");
            send_mirrored(world);
            send_production(world, COLLECTOR.into());
            receive_production(&receiver);
            let dropped = world.host().sh("tc -s qdisc show dev eth1 parent 1:1");
            assert!(!dropped.contains("dropped 0,"), "copies did not fill the qdisc: {dropped}");
        });
    }
}
