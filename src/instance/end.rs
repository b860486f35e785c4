//! The end of an instance.

use anyhow::Result;

use super::host::HostLock;
use super::{Instance, attachment};
use crate::bpf;
use crate::netlink::Netlink;

impl Instance {
    /// Takes the program away from its packets, and removes all that we made of the instance. What l3afd loaded
    /// stays where it is, and passes packets on.
    pub fn end(&self, netlink: &mut Netlink, lock: &HostLock<'_>) -> Result<()> {
        let id = &self.pins.id;
        // the kernel takes its time to end a link, and others soon stop to guard against our copies
        self.common.disable();
        // an older version's list may be another
        if let Ok(list) = lock.endpoints(&self.pins) {
            list.clear();
        }
        let outcomes = self.counters().and_then(|counters| lock.publish(counters));
        if self.is_self_loaded() {
            attachment::detach(self, netlink, lock)?;
            self.pins.remove()?;
        } else {
            // the program and its pins are l3afd's
            self.common.instance.write(0, bpf::Instance::default());
        }
        lock.forget(id);
        match outcomes {
            Ok(outcomes) => log::info!("stopped {id}: {}", in_words(&outcomes)),
            Err(error) => log::warn!("stopped {id}; its counters cannot be read: {error:#}"),
        }
        Ok(())
    }
}

/// What became of the packets.
fn in_words(it: &bpf::Outcomes) -> String {
    // named only where they occur: rules ask for the first two, and only foreign tunnels lead to the last
    let if_any = |name: &str, count: u64| match count {
        0 => String::new(),
        _ => format!(", {name} {count}"),
    };
    format!(
        "matched {}, sent {}{}{}, dropped {} (loop guard {}, oversize {}, rate limit {}, device {}{})",
        it.matched,
        it.sent,
        if_any("excluded", it.excluded),
        if_any("not sampled", it.not_sampled),
        it.guarded + it.oversize + it.over_rate + it.failed + it.unsupported,
        it.guarded,
        it.oversize,
        it.over_rate,
        it.failed,
        if_any("unsupported", it.unsupported),
    )
}
