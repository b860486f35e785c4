//! What `scripts/demo` needs beside `mirroring`: servers for the client, the collector, and a
//! capture of the mirrored interface to compare with what the collector received.
//!
//! It runs the client's command. It fails unless exactly the requested packets come out of the
//! tunnel, byte for byte.

mod packet;
mod table;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

use packet::{Asked, Direction, Packet};

/// After this long without a packet, all are taken to have arrived.
const QUIET: Duration = Duration::from_millis(300);
const MAX_PACKET: usize = 65536;

/// Serves the client, runs it, and compares its packets with what the collector receives
#[derive(Parser)]
struct Cli {
    /// Mirrored interface
    #[arg(long)]
    iface: String,
    /// Incoming packets whose copies should arrive, e.g. icmp,tcp/80
    #[arg(long, value_delimiter = ',')]
    ingress: Vec<Asked>,
    /// Outgoing packets whose copies should arrive
    #[arg(long, value_delimiter = ',')]
    egress: Vec<Asked>,
    /// Addresses of TCP echo servers
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<SocketAddrV4>,
    /// Addresses of UDP echo servers
    #[arg(long, value_delimiter = ',')]
    udp: Vec<SocketAddrV4>,
    /// The host's end of the tunnel
    #[arg(long)]
    tunnel: SocketAddrV4,
    /// The collector's end of the tunnel
    #[arg(long)]
    collector: SocketAddrV4,
    /// Network namespace of the collector
    #[arg(long)]
    netns: PathBuf,
    /// The client's command
    #[arg(last = true, required = true)]
    client: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    for &address in &cli.tcp {
        echo_tcp(address).with_context(|| format!("cannot serve TCP at {address}"))?;
    }
    for &address in &cli.udp {
        echo_udp(address).with_context(|| format!("cannot serve UDP at {address}"))?;
    }
    let capture = Capture::open(&cli.iface)?;
    // open sockets stay in the namespace where they were opened
    let netns = File::open(&cli.netns).with_context(|| format!("cannot open {:?}", cli.netns))?;
    setns(netns, CloneFlags::CLONE_NEWNET).context("cannot enter the collector's namespace")?;
    let collector = Collector::open(cli.collector, cli.tunnel)?;

    let mut client = Command::new(&cli.client[0])
        .args(&cli.client[1..])
        .spawn()
        .with_context(|| format!("cannot run {:?}", cli.client[0]))?;
    let (sent, arrived) = watch(&capture, &collector, &mut client)?;
    let status = client.wait()?;
    ensure!(status.success(), "the client did not get its answers: {status}");

    let asked = |packet: &Packet, direction| {
        let asked = match direction {
            Direction::In => &cli.ingress,
            Direction::Out => &cli.egress,
        };
        asked.iter().any(|asked| asked.includes(packet, direction))
    };
    let table = table::Table::compare(sent, arrived, asked);
    table.print(&cli.iface, cli.tunnel);
    Ok(if table.is_as_asked() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A packet seen on the mirrored interface.
struct Sent {
    /// time since the client began
    at: Duration,
    direction: Direction,
    packet: Packet,
}

/// Collects packets and copies until the client is done and nothing more arrives.
fn watch(
    capture: &Capture,
    collector: &Collector,
    client: &mut Child,
) -> Result<(Vec<Sent>, Vec<Packet>)> {
    let began = Instant::now();
    let mut last = began;
    let (mut sent, mut arrived) = (Vec::new(), Vec::new());
    while client.try_wait()?.is_none() || last.elapsed() < QUIET {
        let mut ends = [&capture.socket.as_fd(), &collector.socket.as_fd()]
            .map(|end| PollFd::new(*end, PollFlags::POLLIN));
        poll(&mut ends, PollTimeout::from(50u8))?;
        while let Some((direction, bytes)) = capture.next()? {
            last = Instant::now();
            sent.push(Sent { at: last - began, direction, packet: Packet::decode(&bytes)? });
        }
        while let Some(copy) = collector.next()? {
            last = Instant::now();
            arrived.push(copy);
        }
    }
    Ok((sent, arrived))
}

/// All IPv4 packets that an interface receives and sends.
struct Capture {
    socket: OwnedFd,
    ifindex: usize,
}

impl Capture {
    fn open(iface: &str) -> Result<Self> {
        let ifindex = if_nametoindex(iface).with_context(|| format!("no interface {iface:?}"))?;
        // SOCK_DGRAM: packets without their Ethernet header (packet(7))
        let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll)
            .context("cannot capture packets")?;
        Ok(Self { socket, ifindex: ifindex as usize })
    }

    /// The next captured packet, if there is one.
    fn next(&self) -> Result<Option<(Direction, Vec<u8>)>> {
        loop {
            let mut bytes = vec![0; MAX_PACKET];
            let (len, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut bytes) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error).context("cannot capture packets"),
            };
            let from = from.context("a packet without an interface")?;
            let is_ipv4 = from.protocol() == (libc::ETH_P_IP as u16).to_be();
            if from.ifindex() == self.ifindex && is_ipv4 {
                bytes.truncate(len);
                let outgoing = from.pkttype() == libc::PACKET_OUTGOING;
                return Ok(Some((if outgoing { Direction::Out } else { Direction::In }, bytes)));
            }
        }
    }
}

/// The far end of the tunnel: a plain UDP socket, without the kernel's tunnels.
struct Collector {
    socket: UdpSocket,
    tunnel: SocketAddrV4,
}

impl Collector {
    fn open(address: SocketAddrV4, tunnel: SocketAddrV4) -> Result<Self> {
        let socket = UdpSocket::bind(address)
            .with_context(|| format!("cannot receive at the collector's address {address}"))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tunnel })
    }

    /// The next received copy without its tunnel headers, if there is one.
    fn next(&self) -> Result<Option<Packet>> {
        let mut bytes = vec![0; MAX_PACKET];
        let (len, from) = match self.socket.recv_from(&mut bytes) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot receive at the collector"),
        };
        ensure!(from == self.tunnel.into(), "a copy comes from {from}, not from {}", self.tunnel);
        // GUE version 0, data, no extensions, of IPv4 (draft-ietf-intarea-gue, section 3.1)
        let copy = bytes[..len].strip_prefix(&[0, 4, 0, 0]);
        let copy =
            copy.with_context(|| format!("no IPv4 packet in GUE: {:02x?}", &bytes[..len]))?;
        Packet::decode(copy).map(Some)
    }
}

fn echo_tcp(address: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // if a client leaves early, its own exit status tells
            let _ = io::copy(&mut &stream, &mut &stream);
        }
    });
    Ok(())
}

fn echo_udp(address: SocketAddrV4) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    thread::spawn(move || {
        let mut datagram = [0; MAX_PACKET];
        while let Ok((len, from)) = socket.recv_from(&mut datagram) {
            // see above
            let _ = socket.send_to(&datagram[..len], from);
        }
    });
    Ok(())
}
