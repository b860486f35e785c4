//! Publishes the counters of an instance twice a second while its process stays.

use std::time::{Duration, Instant};

use crate::bpf::pins::Pins;
use crate::instance::host::Host;
use crate::maps::Counters;

/// l3afd reads them once a second.
const PERIOD: Duration = Duration::from_millis(500);

/// When to publish the counters of one instance, and where they are.
#[derive(Debug)]
pub struct Publisher<'a> {
    host: &'a Host,
    pins: &'a Pins,
    due: Instant,
}

impl<'a> Publisher<'a> {
    /// The first time is now.
    pub fn new(host: &'a Host, pins: &'a Pins) -> Self {
        Self { host, pins, due: Instant::now() }
    }

    /// When to publish next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Publishes if that is due, and another command does not hold the lock: that one may be replacing the
    /// rules. The next time will do.
    pub fn publish_if_due(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + PERIOD;
        let Some(lock) = self.host.try_lock() else { return };
        if let Err(error) = Counters::pinned(self.pins).and_then(|it| lock.publish(&it)) {
            log::debug!("cannot publish the counters: {error:#}");
        }
    }
}
