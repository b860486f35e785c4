//! Production traffic. Each byte is checked: if it does not arrive unchanged, the test fails.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4Slice};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{MsgFlags, send, setsockopt};
use nix::unistd::Pid;

use super::{LIMIT, Ns, socket};

/// Sends `count` echo requests with `size` bytes of data, each after the reply to the one before. The data is the
/// [`noise`] of the request's number, from 1 on.
pub fn ping(from: &Ns, to: &Ns, count: u16, size: usize) {
    let socket = from.run(socket::icmp_socket);
    socket.connect((to.address(), 0)).expect("connect");
    socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");

    for seq in 1..=count {
        let data = noise(seq.into(), size);
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
        // the socket receives all ICMP messages of the namespace
        if icmp.icmp_type() == Icmpv4Type::EchoReply(echo) {
            assert!(icmp.payload() == data, "the reply to {echo:?} has other data");
            return;
        }
    }
    panic!("no reply to {echo:?} within {LIMIT:?}");
}

/// Sends `bytes` bytes, the [`noise`] of 0, to a server, which sends them back as they come. Returns the client's
/// address and port.
pub fn tcp_exchange(client: &Ns, server: &Ns, port: u16, bytes: usize) -> SocketAddr {
    tcp_exchange_with(client, server, (server.address(), port).into(), bytes)
}

/// The same, to any address of the server.
pub fn tcp_exchange_with(
    client: &Ns,
    server: &Ns,
    address: SocketAddr,
    bytes: usize,
) -> SocketAddr {
    let listener = bind(server, || TcpListener::bind(address));
    let mut near = client.run(|| TcpStream::connect_timeout(&address, LIMIT)).expect("connect");
    let (mut far, _) = listener.accept().expect("accept");
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(LIMIT)).expect("a read timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a write timeout");
    }

    let data = noise(0, bytes);
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

/// Sends `count` datagrams of `size` bytes to a server, which sends each back before the next one is sent. The data is
/// the [`noise`] of the datagram's number, from 0 on. Returns the client's address and port.
pub fn udp_exchange(client: &Ns, server: &Ns, port: u16, count: usize, size: usize) -> SocketAddr {
    let ends = [IpAddr::from(client.address()), server.address().into()];
    udp_exchange_between(client, server, ends, port, count, size)
}

/// The same, between any addresses of the client and the server.
pub fn udp_exchange_between(
    client: &Ns,
    server: &Ns,
    [from, to]: [IpAddr; 2],
    port: u16,
    count: usize,
    size: usize,
) -> SocketAddr {
    let far = bind(server, || UdpSocket::bind((to, port)));
    let near = bind(client, || UdpSocket::bind((from, 0)));
    near.connect((to, port)).expect("connect");
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    }

    let mut buffer = vec![0; 1 << 16];
    for i in 0..count {
        let data = noise(i, size);
        near.send(&data).expect("the client sends");
        let (length, from) = far.recv_from(&mut buffer).expect("the server receives");
        far.send_to(&buffer[..length], from).expect("the server sends");
        let length = near.recv(&mut buffer).expect("the client receives");
        assert!(buffer[..length] == data, "datagram {i} came back changed");
    }
    near.local_addr().expect("the client's address")
}

/// Sends `count` datagrams of `size` bytes at once, as one super-packet that the kernel has to segment. Returns their
/// data, one after the other.
pub fn udp_segments(from: &Ns, to: &Ns, port: u16, count: usize, size: u16) -> Vec<u8> {
    let far = bind(to, || UdpSocket::bind((to.address(), port)));
    let near = bind(from, || UdpSocket::bind((from.address(), 0)));
    far.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    setsockopt(&near, UdpGsoSegment, &size.into()).expect("UDP_SEGMENT");

    let data = noise(0, count * usize::from(size));
    near.send_to(&data, (to.address(), port)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    for datagram in data.chunks(size.into()) {
        let length = far.recv(&mut buffer).expect("receive");
        assert!(buffer[..length] == *datagram, "a datagram arrived changed");
    }
    data
}

/// Sends datagrams of `size` bytes for the time `time`, about `rate` a second from each of `cpus`. Checks that all of
/// them arrive, and returns how many there were.
pub fn udp_blast(
    from: &Ns,
    to: &Ns,
    port: u16,
    size: usize,
    rate: u32,
    time: Duration,
    cpus: &[usize],
) -> usize {
    let far = bind(to, || UdpSocket::bind((to.address(), port)));
    socket::prepare_to_receive(&far);
    let data = noise(0, size);
    let blast = |cpu: usize| {
        let mut set = CpuSet::new();
        set.set(cpu).expect("a CPU's number");
        sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU to run on");
        let near = UdpSocket::bind((from.address(), 0)).expect("bind");
        near.connect((to.address(), port)).expect("connect");
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < time {
            let due = began.elapsed().as_millis() as u32 * rate / 1000;
            // catch up after a delay, but not all at once
            let now = due.min(sent + 50);
            for _ in sent..now {
                near.send(&data).expect("send");
            }
            sent = now.max(sent);
            thread::sleep(Duration::from_millis(1));
        }
        sent as usize
    };
    let sent: usize = thread::scope(|scope| {
        let blast = &blast;
        let senders = cpus.iter().map(|&cpu| scope.spawn(move || from.run(|| blast(cpu))));
        let senders: Vec<_> = senders.collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).sum()
    });

    let mut buffer = vec![0; size + 1];
    let mut received = 0;
    while let Ok(length) = far.recv(&mut buffer) {
        assert!(buffer[..length] == data, "a datagram arrived changed");
        received += 1;
    }
    assert_eq!(received, sent, "datagrams that arrived");
    sent
}

/// Sends a datagram of `size` bytes with as many IP options as there can be: 40 bytes.
pub fn udp_with_options(from: &Ns, to: &Ns, port: u16, size: usize) {
    let far = bind(to, || UdpSocket::bind((to.address(), port)));
    let near = from.run(|| UdpSocket::bind((from.address(), 0))).expect("bind");
    far.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    socket::set_ip_options(&near, &[1; 40]); // "no operation" (RFC 791)

    let data = noise(0, size);
    near.send_to(&data, (to.address(), port)).expect("send");
    let mut buffer = vec![0; 1 << 16];
    let length = far.recv(&mut buffer).expect("receive");
    assert!(buffer[..length] == data, "the datagram arrived changed");
}

/// Sends a frame as it is. The bytes begin with the Ethernet header.
pub fn inject(ns: &Ns, ifname: &str, frame: &[u8]) {
    inject_all(ns, ifname, [frame]);
}

/// The same for several frames.
pub fn inject_all<T: AsRef<[u8]>>(ns: &Ns, ifname: &str, frames: impl IntoIterator<Item = T>) {
    const RECEIVE_NOTHING: i32 = 0;
    let socket = ns.run(|| socket::packet_socket(ifname, RECEIVE_NOTHING));
    for frame in frames {
        let frame = frame.as_ref();
        let sent = send(socket.as_raw_fd(), frame, MsgFlags::empty()).expect("send");
        assert_eq!(sent, frame.len());
    }
}

/// The same for one frame longer than a page. In its buffer, only the Ethernet header is linear.
pub fn inject_in_pages(ns: &Ns, ifname: &str, frame: &[u8]) {
    const RECEIVE_NOTHING: i32 = 0;
    assert!(frame.len() > 4096, "the kernel makes {} bytes linear", frame.len());
    let socket = ns.run(|| socket::packet_socket(ifname, RECEIVE_NOTHING));
    socket::expect_vnet_header(&socket);
    // struct virtio_net_hdr, in which only hdr_len is set
    let header = [0, 0, 14, 0, 0, 0, 0, 0, 0, 0];
    let message = [&header, frame].concat();
    let sent = send(socket.as_raw_fd(), &message, MsgFlags::empty()).expect("send");
    assert_eq!(sent, message.len());
}

/// Makes a socket in a namespace, and waits until its port is free. The port may be in use for a moment: a process that
/// another test forks holds copies of all sockets until it calls exec.
pub fn bind<T: Send>(ns: &Ns, socket: impl Fn() -> io::Result<T> + Sync) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match ns.run(&socket) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            socket => break socket.expect("bind"),
        }
    }
}

/// Pseudo-random bytes, so that a misplaced copy cannot look right by chance (xorshift64, Marsaglia 2003). They are the
/// same in every run, and different for each number.
pub fn noise(number: usize, length: usize) -> Vec<u8> {
    let mut state = 0x6d69_7272_6f72_u64 + (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
