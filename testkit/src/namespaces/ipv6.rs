//! IPv6 on the link between client and host, and traffic over it. Each byte that arrives is checked.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType};

use super::traffic::{self, bind};
use super::{LIMIT, Ns, Topology, noise};

pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2);
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);

/// Gives both ends of the client's link an IPv6 address. There are no link-local addresses, so that neither end sends
/// packets of its own, except to resolve the other's address (RFC 4861).
pub fn with_ipv6(net: &Topology) {
    for (ns, address) in [(net.client(), CLIENT6), (net.host(), HOST6)] {
        add_ipv6(ns, "eth0", address);
    }
}

/// Gives an interface this address and no other. It sends its multicast reports (RFC 3810) at once, and it does not
/// probe its neighbours again during a test.
pub fn add_ipv6(ns: &Ns, ifname: &str, address: Ipv6Addr) {
    ns.sh(&format!(
        "cd /proc/sys/net/ipv6/conf/{ifname}
        echo 1 > addr_gen_mode
        echo 1 > mldv2_unsolicited_report_interval
        echo 600 > ../../neigh/{ifname}/delay_first_probe_time
        echo 0 > disable_ipv6
        ip address add {address}/64 dev {ifname} nodad"
    ));
}

/// [`traffic::tcp_exchange`] over IPv6, from the client to the host.
pub fn tcp_exchange6(net: &Topology, port: u16, bytes: usize) -> SocketAddr {
    let server = SocketAddr::new(HOST6.into(), port);
    traffic::tcp_exchange_with(net.client(), net.host(), server, bytes)
}

/// [`traffic::udp_exchange`] over IPv6, from the client to the host.
pub fn udp_exchange6(net: &Topology, port: u16, count: usize, size: usize) -> SocketAddr {
    let ends = [IpAddr::from(CLIENT6), HOST6.into()];
    traffic::udp_exchange_between(net.client(), net.host(), ends, port, count, size)
}

/// [`traffic::ping`] over IPv6, from the client to the host.
pub fn ping6(net: &Topology, count: u16, size: usize) {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const ID: [u8; 2] = [0x6d, 0x69];
    let raw = || -> UdpSocket {
        let protocol = Some(SockProtocol::IcmpV6);
        let (family, kind) = (AddressFamily::Inet6, SockType::Raw);
        let socket = nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
        // std's type fits every socket that sends and receives whole packets
        socket.expect("a raw socket (this needs root)").into()
    };
    let socket = net.client().run(raw);
    socket.connect((HOST6, 0)).expect("connect");
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    let mut buffer = vec![0; 1 << 16];
    for seq in 1..=count {
        let data = noise(seq.into(), size);
        let rest = [&ID[..], &seq.to_be_bytes(), &data].concat();
        // the kernel fills in the checksum (RFC 3542, 3.1)
        socket.send(&[&[ECHO_REQUEST, 0, 0, 0], &rest[..]].concat()).expect("send");
        loop {
            let length = socket.recv(&mut buffer).expect("an echo reply");
            // the socket receives all ICMPv6 messages of the namespace
            if buffer[0] == ECHO_REPLY && buffer[4..8] == rest[..4] {
                assert!(buffer[4..length] == rest, "the reply to {seq} has other data");
                break;
            }
        }
    }
}

/// Sends a datagram of `size` bytes behind 24 bytes of extension headers: hop-by-hop options that are only padding
/// (PadN; RFC 8200, 4.2), and a destination option for experiments (RFC 4727, 3.4).
pub fn udp_with_extensions(from: (&Ns, Ipv6Addr), to: (&Ns, Ipv6Addr), port: u16, size: usize) {
    let far = bind(to.0, || UdpSocket::bind((to.1, port)));
    let near = bind(from.0, || UdpSocket::bind((from.1, 0)));
    far.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    set_option(&near, libc::IPV6_HOPOPTS, &[0, 0, 1, 4, 0, 0, 0, 0]);
    set_option(&near, libc::IPV6_DSTOPTS, &[0, 1, 0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let data = noise(size, size);
    near.send_to(&data, (to.1, port)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    let length = far.recv(&mut buffer).expect("receive");
    assert!(buffer[..length] == data, "the datagram arrived changed");
}

fn set_option(socket: &impl AsFd, name: c_int, header: &[u8]) {
    // SAFETY: the kernel reads as many bytes as there are
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IPV6,
            name,
            ptr::from_ref(header).cast::<c_void>(),
            header.len() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "option {name}: {}", io::Error::last_os_error());
}
