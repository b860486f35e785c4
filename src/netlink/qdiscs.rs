//! What stands on a device's clsact qdisc (tc-bpf(8)).

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::Netlink;

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

    /// Whether anybody has a filter on the device's clsact qdisc, in either direction.
    pub fn has_filters(&mut self, ifindex: u32) -> Result<bool> {
        // linux/pkt_sched.h: TC_H_MIN_INGRESS and TC_H_MIN_EGRESS
        for minor in [0xfff2, 0xfff3] {
            let mut of_hook = TcMessage::default();
            of_hook.header.index = ifindex as i32;
            of_hook.header.parent = TcHandle { major: 0xffff, minor };
            let filters = self.dump(RouteNetlinkMessage::GetTrafficFilter(of_hook));
            if !filters.context("cannot list the filters")?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
