//! What changes on the host, as the kernel tells of it (rtnetlink's multicast groups).

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

/// linux/rtnetlink.h
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// A change, as far as anybody here wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A device, or an address of one.
    Device,
    /// A route of any table to these destinations.
    Route(IpNetwork),
    /// Whether a neighbour has a link-layer address.
    Neighbour { ifindex: u32, address: IpAddr, answers: bool },
    /// More than the socket had room for.
    Lost,
}

/// A subscription, from which nothing is missing that happens after it began.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
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

    /// All that has come since the last call; it does not wait.
    pub fn take(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match self.0.recv_from_full() {
                // anybody may send to us; the kernel has no port
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
            // of a kernel that says more than we know: to be looked at
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
