//! Publishing the counters of an instance every so often, while its process stays.

use std::time::{Duration, Instant};

use crate::bpf::pins::Pins;
use crate::instance::host::Host;
use crate::maps::Counters;

/// l3afd reads them once a second.
const PERIOD: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Publisher<'a> {
    host: &'a Host,
    pins: &'a Pins,
    due: Instant,
}

impl<'a> Publisher<'a> {
    pub fn new(host: &'a Host, pins: &'a Pins) -> Self {
        Self { host, pins, due: Instant::now() }
    }

    /// When to publish next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Publishes, if that is due. Where another command has the lock, which may be about to replace
    /// the rules, the next time will do.
    pub fn publish_if_due(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        if let Some(lock) = self.host.try_lock()
            && let Err(error) = Counters::pinned(self.pins).and_then(|it| lock.publish(&it))
        {
            log::debug!("cannot publish the counters: {error:#}");
        }
    }
}
