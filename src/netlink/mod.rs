//! A small synchronous rtnetlink client (rtnetlink(7)): devices, addresses, routes, neighbours and tc filters as typed
//! values, for IPv4 and IPv6.

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

/// How often a dump is tried: the kernel interrupts it when what it lists changes meanwhile.
const DUMP_ATTEMPTS: u32 = 16;

/// A NETLINK_ROUTE socket. It stays in the network namespace in which it was opened, also when the thread moves to
/// another one.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace that the calling thread is in. Fails where the kernel refuses it, or
    /// cannot check dump requests strictly (before Linux 4.20).
    pub fn open() -> Result<Self> {
        let socket = connect().context("cannot open a netlink socket")?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes the kernel carry out `message`, and waits for its acknowledgement. An error of the kernel is a
    /// [`Refusal`].
    fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.exchange(message, NLM_F_ACK | flags).map(drop)
    }

    /// Asks for one object. If there is none, the error is a [`Refusal`].
    fn get(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage> {
        let reply = self.exchange(message, NLM_F_ACK)?;
        reply.messages.into_iter().next().context("the kernel's answer is empty")
    }

    /// Asks for all objects that `message` describes. Tries again where a change interrupted the list.
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

    /// The next datagram in full length.
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
    // a connected netlink socket receives from the kernel only
    socket.connect(&SocketAddr::new(0, 0))?;
    // errors carry a reason in words, and do not repeat the request
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // the kernel filters dumps by the attributes of the request; otherwise it ignores most of them
    socket.set_netlink_get_strict_chk(true)?;
    Ok(socket)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Turns the one refusal with `errno` into `None`. All other errors stay errors.
fn unless_refused<T>(result: Result<T>, errno: i32) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if Refusal::in_chain(&error, errno) => Ok(None),
        Err(error) => Err(error),
    }
}
