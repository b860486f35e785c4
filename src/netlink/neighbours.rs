//! The neighbour table: whether the link-layer address of a next hop is known.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::links::by_index;
use super::{Netlink, family, unless_refused};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its link-layer address is known, or it needs none. Packets go out to it.
    Known,
    /// The kernel has asked for the address and waits for the answer.
    Awaited,
    /// The neighbour has not answered.
    None,
}

impl Netlink {
    /// Makes the kernel ask for the link-layer address of a neighbour, and waits for it. Returns whether it is known
    /// before `timeout` ends. On a device that needs no such addresses, that is at once. Fails where there is no such
    /// device.
    pub fn resolve(&mut self, ifindex: u32, address: IpAddr, timeout: Duration) -> Result<bool> {
        self.try_resolve(ifindex, address, timeout)
            .with_context(|| format!("cannot resolve \"{address}\" on {}", self.device(ifindex)))
    }

    fn try_resolve(&mut self, ifindex: u32, address: IpAddr, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.try_ask(ifindex, address)? == Answer::Known {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    /// Looks whether the link-layer address of a neighbour is known. If it is not, makes the kernel ask for it, and
    /// does not wait for the answer. Fails where there is no such device.
    pub fn ask(&mut self, ifindex: u32, address: IpAddr) -> Result<Answer> {
        self.try_ask(ifindex, address)
            .with_context(|| format!("cannot resolve \"{address}\" on {}", self.device(ifindex)))
    }

    fn try_ask(&mut self, ifindex: u32, address: IpAddr) -> Result<Answer> {
        let answer = self.answer(ifindex, address)?;
        if matches!(answer, None | Some(Answer::None)) {
            // never for a valid entry: the kernel would turn a permanent one into one that expires
            let mut message = neighbour(ifindex, address);
            message.header.flags = NeighbourFlags::Use;
            self.execute(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)?;
        }
        Ok(answer.unwrap_or(Answer::Awaited))
    }

    /// What the kernel knows of a neighbour. It is not made to ask. `None` where it has no entry, since nobody has
    /// asked of late. Fails where there is no such device.
    pub fn answer(&mut self, ifindex: u32, address: IpAddr) -> Result<Option<Answer>> {
        let link = self.get_link(by_index(ifindex))?.context("there is no such device")?;
        if link.header.flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback) {
            return Ok(Some(Answer::Known));
        }
        Ok(match self.neighbour_state(ifindex, address)? {
            NeighbourState::None => None,
            NeighbourState::Failed => Some(Answer::None),
            NeighbourState::Incomplete => Some(Answer::Awaited),
            // NUD_VALID in net/neighbour.h: packets go out, also to a stale address
            _ => Some(Answer::Known),
        })
    }

    fn neighbour_state(&mut self, ifindex: u32, address: IpAddr) -> Result<NeighbourState> {
        let message = RouteNetlinkMessage::GetNeighbour(neighbour(ifindex, address));
        match unless_refused(self.get(message), libc::ENOENT)? {
            None => Ok(NeighbourState::None),
            Some(RouteNetlinkMessage::NewNeighbour(message)) => Ok(message.header.state),
            Some(other) => bail!("the kernel's answer is no neighbour: {other:?}"),
        }
    }
}

fn neighbour(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    message
}
