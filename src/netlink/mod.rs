//! A small synchronous rtnetlink client (rtnetlink(7)): devices, addresses, routes and the neighbour
//! table, of IPv4 and IPv6, as typed values.

mod essentials;
mod events;
mod links;
mod neighbours;
mod offloads;
mod qdiscs;
mod reply;
mod routes;
#[cfg(test)]
mod tests;
mod tunnels;

use std::io;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub use events::{Event, Events};
pub use links::{Link, VethPair};
pub use neighbours::Answer;
pub use qdiscs::TcFilter;
use reply::{Refusal, Reply};
pub use routes::{NextHop, Route};
pub use tunnels::TunnelRemote;

/// How often a dump is asked for again when what it lists changed meanwhile.
const DUMP_ATTEMPTS: u32 = 16;

/// A NETLINK_ROUTE socket. It speaks for the network namespace that the thread was in when it
/// opened it, wherever the thread goes later.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> Result<Self> {
        let socket = connect().context("cannot open a netlink socket")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has the kernel carry out `message`.
    fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for one object. That there is none is a [`Refusal`].
    fn get(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage> {
        let reply = self.exchange(message, NLM_F_ACK)?;
        reply.messages.into_iter().next().context("the kernel's answer is empty")
    }

    /// Asks for all objects that `message` describes.
    fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            let reply = self.exchange(message.clone(), NLM_F_DUMP)?;
            if !reply.interrupted {
                return Ok(reply.messages);
            }
        }
        bail!("it changed {DUMP_ATTEMPTS} times while the kernel was listing it; try again")
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Reply> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);

        let sent = self.socket.send(&bytes, 0).context("cannot send to the kernel")?;
        ensure!(sent == bytes.len(), "the kernel took {sent} of {} bytes", bytes.len());

        let mut reply = Reply::to(self.sequence);
        while !reply.take(&self.receive().context("cannot receive from the kernel")?)? {}
        Ok(reply)
    }

    /// The next datagram, whole, whatever its length.
    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _kernel)) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn connect() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    // a connected netlink socket takes messages from the kernel alone
    socket.connect(&SocketAddr::new(0, 0))?;
    // refusals give their reason in words, and don't repeat the request
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // the kernel itself filters dumps by what the request says (else it ignores most of it)
    socket.set_netlink_get_strict_chk(true)?;
    Ok(socket)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// `None` where the kernel refused with `errno`.
fn unless_refused<T>(result: Result<T>, errno: i32) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if Refusal::in_chain(&error, errno) => Ok(None),
        Err(error) => Err(error),
    }
}
