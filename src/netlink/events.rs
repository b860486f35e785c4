//! Changes on the host, as the kernel reports them to the multicast groups of rtnetlink.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::essentials;
use super::routes::Route;

/// The multicast groups of devices, neighbours, addresses and routes (linux/rtnetlink.h).
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// A change, in as much detail as this program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A device or one of its addresses has come, gone or changed.
    Device,
    /// A route to this network has come, gone or changed, in any table.
    Route(IpNetwork),
    /// The kernel has found out whether a neighbour answers.
    Neighbour {
        /// The device that the neighbour is on.
        ifindex: u32,
        /// Its IP address, of either family.
        address: IpAddr,
        /// Whether its link-layer address is known, so that packets go out to it.
        answers: bool,
    },
    /// Some changes were not reported: the socket had no room for them, or they could not be decoded. Anything may
    /// have changed.
    Lost,
}

/// A subscription to all these changes. A change that is missing after it began is reported as [`Event::Lost`].
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    /// Subscribes to changes in the network namespace that the calling thread is in. Fails where the kernel refuses
    /// the socket.
    pub fn subscribe() -> Result<Self> {
        Self::try_subscribe().context("cannot subscribe to the kernel's netlink events")
    }

    fn try_subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The changes since the last call, in their order. It does not wait.
    pub fn take(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match self.0.recv_from_full() {
                // any process may send to this socket; only the kernel has port 0
                Ok((datagram, sender)) if sender.port_number() == 0 => {
                    decode(&datagram, &mut events);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    events.push(Event::Lost);
                }
                Err(error) => return Err(error).context("cannot receive netlink events"),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn decode(datagram: &[u8], events: &mut Vec<Event>) {
    let mut rest = datagram;
    while let Ok(header) = NetlinkBuffer::new_checked(rest) {
        let length = header.length() as usize;
        match NetlinkMessage::deserialize(&essentials::of(&rest[..length])) {
            Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(message), .. }) => {
                events.extend(Event::of(&message));
            }
            Ok(_) => {}
            // a newer kernel may send what we cannot decode: it may matter
            Err(_) => events.push(Event::Lost),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

impl Event {
    fn of(message: &RouteNetlinkMessage) -> Option<Self> {
        match message {
            RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_) => Some(Self::Device),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                Route::decode(route).map(|route| Self::Route(route.destination))
            }
            RouteNetlinkMessage::NewNeighbour(neighbour) => Self::of_neighbour(neighbour),
            _ => None,
        }
    }

    fn of_neighbour(message: &NeighbourMessage) -> Option<Self> {
        let answers = match message.header.state {
            NeighbourState::None | NeighbourState::Incomplete => return None,
            state => state != NeighbourState::Failed,
        };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some((*address).into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some((*address).into())
            }
            _ => None,
        })?;
        Some(Self::Neighbour { ifindex: message.header.ifindex, address, answers })
    }
}
