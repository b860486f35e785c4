//! Functions of sockets that neither std nor nix offers.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike, bind, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use super::receiver::TICK;

/// Bytes for the traffic of any test, even if the receiving thread gets no CPU meanwhile.
const RECEIVE_BUFFER: usize = 64 << 20;

/// A packet socket bound to one interface. It receives frames of `protocol` (`ETH_P_*`). With 0, it receives none.
pub fn packet_socket(ifname: &str, protocol: c_int) -> OwnedFd {
    // with a protocol here, the socket would receive from every interface until it is bound
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.expect("a packet socket (this needs root)");
    let ifindex = if_nametoindex(ifname).unwrap_or_else(|error| panic!("{ifname}: {error}"));

    // SAFETY: all zeroes is a valid sockaddr_ll
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = ifindex as c_int;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_ll of that length, and is copied
    let address = unsafe { LinkAddr::from_raw(ptr::from_ref(&address).cast(), Some(length)) };
    bind(socket.as_raw_fd(), &address.expect("a link address")).expect("bind");
    socket
}

/// From now on, each frame to send needs a header in front. It says how many bytes of the frame the kernel is to make
/// linear (PACKET_VNET_HDR, packet(7)).
pub fn expect_vnet_header(packet_socket: &OwnedFd) {
    let on: c_int = 1;
    // SAFETY: the kernel reads an int
    let result = unsafe {
        libc::setsockopt(
            packet_socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "PACKET_VNET_HDR: {}", io::Error::last_os_error());
}

/// A raw ICMP socket. The type `UdpSocket` works for it, as for every socket that sends and receives whole packets.
pub fn icmp_socket() -> UdpSocket {
    let protocol = Some(SockProtocol::Icmp);
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
    socket.expect("a raw socket (this needs root)").into()
}

/// Prepares a socket for a [`Receiver`](super::receiver::Receiver): read timeout and buffer.
pub fn prepare_to_receive(socket: &impl AsFd) {
    let timeout = TimeVal::new(0, TICK.subsec_micros().into());
    setsockopt(socket, ReceiveTimeout, &timeout).expect("a read timeout");
    setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).expect("a large receive buffer");
}

/// Sets the IP options of all packets that the socket sends.
pub fn set_ip_options(socket: &impl AsFd, options: &[u8]) {
    // SAFETY: the kernel reads as many bytes as there are
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_ptr().cast::<c_void>(),
            options.len() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "IP_OPTIONS: {}", io::Error::last_os_error());
}

/// How many packets the kernel could not deliver to the socket: no room, or a bad checksum.
pub fn drops(socket: &impl AsFd) -> u32 {
    const SK_MEMINFO_DROPS: usize = 8; // linux/sock_diag.h
    let mut values = [0u32; SK_MEMINFO_DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `values`
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast::<c_void>(),
            &mut length,
        )
    };
    assert_eq!(result, 0, "SO_MEMINFO: {}", io::Error::last_os_error());
    values[SK_MEMINFO_DROPS]
}

/// `ethtool -K <ifname> tx off tso off gso off gro off`
pub fn offloads_off(ifname: &str) {
    // ETHTOOL_STXCSUM, _STSO, _SGSO and _SGRO in linux/ethtool.h
    for command in [0x17, 0x1f, 0x24, 0x2c] {
        ethtool(ifname, command, 0);
    }
}

/// `ethtool -K <ifname> txvlan off rxvlan off`: VLAN tags are bytes of the frame
pub fn tag_offloads_off(ifname: &str) {
    // ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, ETH_FLAG_TXVLAN and ETH_FLAG_RXVLAN
    let flags = ethtool(ifname, 0x25, 0);
    ethtool(ifname, 0x26, flags & !(1 << 7 | 1 << 8));
}

/// Runs an ethtool command that takes a number (struct ethtool_value), and returns the number that the kernel leaves
/// there.
fn ethtool(ifname: &str, command: u32, data: u32) -> u32 {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let mut value = EthtoolValue { command, data };
    // SAFETY: all zeroes is a valid ifreq
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(ifname.bytes()) {
        *to = from as _;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();

    let socket = UdpSocket::bind("0.0.0.0:0").expect("any socket");
    // SAFETY: the request points to a command that the kernel knows, alive during the call
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &request) };
    assert_eq!(result, 0, "offloads of {ifname}: {}", io::Error::last_os_error());
    value.data
}
