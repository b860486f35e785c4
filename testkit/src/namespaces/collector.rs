//! The far end of the tunnel: a UDP socket that takes GUE apart.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::receiver::Receiver;
use super::traffic::bind;
use super::{Ns, Packet, socket};

/// IANA's port for GUE.
pub const GUE_PORT: u16 = 6080;

/// A copy as the collector got it: the payload of one UDP datagram, whose fragments, if it had any,
/// the kernel has put together and whose checksum, if it had one, was right.
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

    /// Every copy up to now, and those that follow until none has come for the time `quiet`.
    pub fn stop_after_quiet(self, quiet: Duration) -> Copies {
        let copies = self.receiver.stop_after_quiet(quiet);
        assert_eq!(socket::drops(&self.socket), 0, "copies that the collector missed");
        Copies(copies)
    }
}

/// What a collector got, in order.
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

    /// Version 0, a data message, no optional fields, IPv4 within (draft-ietf-intarea-gue, 3.2).
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
