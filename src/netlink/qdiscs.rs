//! The clsact qdisc of a device, and the filters on it (tc-bpf(8)).

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::Netlink;
use crate::model::Direction;

/// A filter on a clsact qdisc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcFilter {
    /// What classifies the packets, by its name in tc(8): `bpf`, `u32`, …
    pub kind: String,
    /// Filters run in ascending order of it. tc(8) calls it `pref`.
    pub priority: u32,
    /// Id of the program that a bpf filter runs.
    pub program: Option<u32>,
}

impl Netlink {
    /// Whether the device has a clsact qdisc.
    pub fn has_clsact(&mut self, ifindex: u32) -> Result<bool> {
        let mut all = TcMessage::default();
        all.header.index = ifindex as i32;
        let qdiscs = self.dump(RouteNetlinkMessage::GetQueueDiscipline(all));
        let qdiscs = qdiscs.context("cannot list the qdiscs")?;
        Ok(qdiscs.iter().any(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc) => {
                qdisc.header.index == ifindex as i32
                    && qdisc.attributes.contains(&TcAttribute::Kind("clsact".to_string()))
            }
            _ => false,
        }))
    }

    /// Whether the device's clsact qdisc has any filter, in either direction.
    pub fn has_filters(&mut self, ifindex: u32) -> Result<bool> {
        for direction in Direction::ALL {
            if !self.dump_filters(ifindex, direction)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The filters on one hook of the device's clsact qdisc, in the order in which they run. Filters of another kind
    /// than bpf that have the same priority count as one.
    pub fn filters(&mut self, ifindex: u32, direction: Direction) -> Result<Vec<TcFilter>> {
        let filters = self.dump_filters(ifindex, direction)?;
        let mut filters: Vec<_> = filters.iter().filter_map(TcFilter::decode).collect();
        filters.dedup_by(|next, before| next.program.is_none() && next == before);
        Ok(filters)
    }

    fn dump_filters(
        &mut self,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        // linux/pkt_sched.h: TC_H_MIN_INGRESS and TC_H_MIN_EGRESS
        let minor = match direction {
            Direction::Ingress => 0xfff2,
            Direction::Egress => 0xfff3,
        };
        let mut of_hook = TcMessage::default();
        of_hook.header.index = ifindex as i32;
        of_hook.header.parent = TcHandle { major: 0xffff, minor };
        self.dump(RouteNetlinkMessage::GetTrafficFilter(of_hook)).context("cannot list the filters")
    }
}

impl TcFilter {
    /// `None` for a message without options: the kernel sends one for each priority, beside those for its filters.
    fn decode(message: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return None };
        let attributes = &message.attributes;
        let kind = attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        })?;
        let options = attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
        let program = options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        });
        // the upper 16 bits are the priority, the lower ones the protocol (TC_H_MAKE in linux/pkt_sched.h)
        Some(Self { kind, priority: message.header.info >> 16, program })
    }
}
