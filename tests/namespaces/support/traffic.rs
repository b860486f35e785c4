//! Production traffic, every bit of it checked: it arrives unchanged and in time, or the test fails.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4Slice};
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{MsgFlags, send, setsockopt};

use super::{Ns, socket};

/// For any one answer. TCP and ARP have the time to try again.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends `count` echo requests with `size` bytes of data, each after the reply to the one before.
pub fn ping(from: &Ns, to: &Ns, count: u16, size: usize) {
    let socket = from.run(socket::icmp_socket);
    socket.connect((to.address(), 0)).expect("connect");
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");

    let data = noise(size);
    for seq in 1..=count {
        let echo = IcmpEchoHeader { id: 0x6d69, seq };
        let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &data);
        socket.send(&[&header.to_bytes()[..], &data].concat()).expect("send");
        await_echo_reply(&socket, echo, &data);
    }
}

fn await_echo_reply(socket: &UdpSocket, echo: IcmpEchoHeader, data: &[u8]) {
    let mut buffer = vec![0; 1 << 16];
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let length = socket.recv(&mut buffer).expect("an echo reply");
        let ip = Ipv4Slice::from_slice(&buffer[..length]).expect("an IPv4 packet");
        let icmp = Icmpv4Slice::from_slice(ip.payload().payload).expect("an ICMP message");
        // the socket gets all of the namespace's ICMP
        if icmp.icmp_type() == Icmpv4Type::EchoReply(echo) {
            assert!(icmp.payload() == data, "the reply to {echo:?} has other data");
            return;
        }
    }
    panic!("no reply to {echo:?} within {LIMIT:?}");
}

/// Sends `bytes` bytes to a server, which sends them back as they come. Returns the client's end.
pub fn tcp_exchange(client: &Ns, server: &Ns, port: u16, bytes: usize) -> SocketAddr {
    let listener = server.run(|| TcpListener::bind((server.address(), port))).expect("bind");
    let address = listener.local_addr().expect("the server's address");
    let mut near = client.run(|| TcpStream::connect_timeout(&address, LIMIT)).expect("connect");
    let (mut far, _) = listener.accept().expect("accept");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(LIMIT)).expect("a read timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a write timeout");
    }

    let data = noise(bytes);
    let mut echoed = Vec::with_capacity(bytes);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match far.read(&mut buffer).expect("the server reads") {
                    0 => break far.shutdown(Shutdown::Write).expect("the server closes"),
                    length => far.write_all(&buffer[..length]).expect("the server writes"),
                }
            }
        });
        let mut sending = near.try_clone().expect("a second handle");
        let data = &data;
        scope.spawn(move || {
            sending.write_all(data).expect("the client writes");
            sending.shutdown(Shutdown::Write).expect("the client closes");
        });
        near.read_to_end(&mut echoed).expect("the client reads");
    });
    assert!(echoed == data, "{bytes} bytes sent, {} others came back", echoed.len());
    near.local_addr().expect("the client's address")
}

/// Sends `count` datagrams of `size` bytes to a server, which sends each back before the next one
/// goes. Returns the client's end.
pub fn udp_exchange(client: &Ns, server: &Ns, port: u16, count: usize, size: usize) -> SocketAddr {
    let far = server.run(|| UdpSocket::bind((server.address(), port))).expect("bind");
    let near = client.run(|| UdpSocket::bind((client.address(), 0))).expect("bind");
    near.connect((server.address(), port)).expect("connect");
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    }

    let data = noise(size);
    let mut buffer = vec![0; 1 << 16];
    for i in 0..count {
        near.send(&data).expect("the client sends");
        let (length, from) = far.recv_from(&mut buffer).expect("the server receives");
        far.send_to(&buffer[..length], from).expect("the server sends");
        let length = near.recv(&mut buffer).expect("the client receives");
        assert!(buffer[..length] == data, "datagram {i} came back changed");
    }
    near.local_addr().expect("the client's address")
}

/// Sends `count` datagrams of `size` bytes at once, as one super-packet that the kernel is to cut.
/// Returns what was in them, one after the other.
pub fn udp_segments(from: &Ns, to: &Ns, port: u16, count: usize, size: u16) -> Vec<u8> {
    let far = to.run(|| UdpSocket::bind((to.address(), port))).expect("bind");
    let near = from.run(|| UdpSocket::bind((from.address(), 0))).expect("bind");
    far.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    setsockopt(&near, UdpGsoSegment, &size.into()).expect("UDP_SEGMENT");

    let data = noise(count * usize::from(size));
    near.send_to(&data, (to.address(), port)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    for datagram in data.chunks(size.into()) {
        let length = far.recv(&mut buffer).expect("receive");
        assert!(buffer[..length] == *datagram, "a datagram arrived changed");
    }
    data
}

/// Sends a datagram of `size` bytes with the most IP options that there can be.
pub fn udp_with_options(from: &Ns, to: &Ns, port: u16, size: usize) {
    let far = to.run(|| UdpSocket::bind((to.address(), port))).expect("bind");
    let near = from.run(|| UdpSocket::bind((from.address(), 0))).expect("bind");
    far.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    socket::set_ip_options(&near, &[1; 40]); // "no operation" (RFC 791)

    let data = noise(size);
    near.send_to(&data, (to.address(), port)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    let length = far.recv(&mut buffer).expect("receive");
    assert!(buffer[..length] == data, "the datagram arrived changed");
}

/// Sends a frame, from the Ethernet header on, as it is.
pub fn inject(ns: &Ns, ifname: &str, frame: &[u8]) {
    const RECEIVE_NOTHING: i32 = 0;
    let socket = ns.run(|| socket::packet_socket(ifname, RECEIVE_NOTHING));
    let sent = send(socket.as_raw_fd(), frame, MsgFlags::empty()).expect("send");
    assert_eq!(sent, frame.len());
}

/// Bytes without a pattern that a misplaced copy could hit by chance; the same ones every time.
/// (xorshift64, Marsaglia 2003)
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x6d69_7272_6f72_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
