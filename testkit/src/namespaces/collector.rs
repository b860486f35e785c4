//! The far end of the tunnel: a UDP socket, and a parser for GUE.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::receiver::Receiver;
use super::traffic::bind;
use super::{Ns, Packet, socket};

/// IANA's port for GUE.
pub const GUE_PORT: u16 = 6080;

/// A copy as the collector received it: the payload of one UDP datagram. The kernel has reassembled its fragments, if
/// there were any, and has checked its UDP checksum, if it had one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GueCopy {
    pub from: SocketAddr,
    /// The GUE header without optional fields.
    pub header: [u8; 4],
    /// The mirrored packet, from its IP header on.
    pub inner: Vec<u8>,
}

/// A collector at work.
pub struct Collector {
    socket: Arc<UdpSocket>,
    receiver: Receiver<GueCopy>,
}

impl Collector {
    pub fn listen(ns: &Ns, port: u16) -> Collector {
        Self::listen_at(ns, Ipv4Addr::UNSPECIFIED.into(), port)
    }

    pub fn listen_ipv6(ns: &Ns, port: u16) -> Collector {
        Self::listen_at(ns, Ipv6Addr::UNSPECIFIED.into(), port)
    }

    fn listen_at(ns: &Ns, address: IpAddr, port: u16) -> Collector {
        let socket = Arc::new(bind(ns, || UdpSocket::bind((address, port))));
        socket::prepare_to_receive(&socket);

        let receiving = socket.clone();
        let mut buffer = vec![0; 1 << 16];
        let receiver = Receiver::start(move || receive(&receiving, &mut buffer));
        Collector { socket, receiver }
    }

    /// Waits until no copy has come for the time `quiet`, and returns all of them.
    pub fn stop_after_quiet(self, quiet: Duration) -> Copies {
        let copies = self.receiver.stop_after_quiet(quiet);
        assert_eq!(socket::drops(&self.socket), 0, "copies that the collector missed");
        Copies(copies)
    }
}

/// The copies that a collector received, in order.
pub struct Copies(pub Vec<GueCopy>);

impl Copies {
    /// The mirrored packets.
    pub fn ipv4(&self) -> Vec<&[u8]> {
        self.0.iter().map(|copy| copy.inner.as_slice()).collect()
    }

    /// The mirrored packets, decoded.
    pub fn packets(&self) -> Vec<Packet> {
        self.0.iter().map(|copy| Packet::decode(&copy.inner)).collect()
    }

    /// Checks all GUE headers: version 0, a data message without optional fields, IPv4 within (draft-ietf-intarea-gue,
    /// section 3.2).
    pub fn assert_gue_v0_ipv4(&self) {
        for copy in &self.0 {
            assert_eq!(copy.header, [0, 4, 0, 0], "GUE header from {}", copy.from);
        }
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<GueCopy> {
    let (length, from) = socket.recv_from(buffer)?;
    let (header, inner) = buffer[..length]
        .split_first_chunk()
        .unwrap_or_else(|| panic!("{length} bytes from {from}"));
    Ok(GueCopy { from, header: *header, inner: inner.to_vec() })
}
