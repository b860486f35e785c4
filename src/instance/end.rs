//! Stopping an instance.

use anyhow::Result;

use super::host::HostLock;
use super::{Instance, attachment};
use crate::bpf;
use crate::netlink::Netlink;

impl Instance {
    /// Detaches the program, and removes all that we made for the instance. If l3afd has loaded the program, it stays
    /// attached and only passes packets on.
    pub fn end(&self, netlink: &mut Netlink, lock: &HostLock<'_>) -> Result<()> {
        let id = &self.pins.id;
        // out of force first: the kernel detaches a link with a delay, and other instances soon remove us from their
        // lists
        self.common.disable();
        // another version's list may have another form
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

/// For the log: what happened to the packets that matched.
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
        it.loop_guard + it.oversize + it.rate_limited + it.failed + it.unsupported,
        it.loop_guard,
        it.oversize,
        it.rate_limited,
        it.failed,
        if_any("unsupported", it.unsupported),
    )
}
