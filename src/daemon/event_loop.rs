//! While a process stays with its instance: it sleeps until a signal comes, something happens on the host, or
//! counters are to be published.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::daemon::monitor::Monitor;
use crate::daemon::publisher::Publisher;
use crate::netlink::Events;
use crate::signals::Signals;

/// A burst of events is over when none has come for so long.
const QUIET: Duration = Duration::from_millis(100);
/// A burst that goes on for so long is acted on all the same.
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// Between two reconciliations, whatever happens.
const PAUSE: Duration = Duration::from_millis(500);
/// While there are problems, reconciliation is tried again without an event: not every repair causes one.
const RETRY: Duration = Duration::from_secs(5);

/// The signals and the events of the host that a process waits for.
#[derive(Debug)]
pub struct EventLoop {
    signals: Signals,
    events: Events,
}

impl EventLoop {
    /// From here on signals and events wait for [`run`](Self::run). So a signal ends nothing half-way.
    ///
    /// # Errors
    /// The kernel lets us wait for neither signals nor netlink events.
    pub fn prepare() -> Result<Self> {
        Ok(Self { signals: Signals::block()?, events: Events::subscribe()? })
    }

    /// Reconciles the instance with the host and publishes its counters until a signal comes, which it
    /// returns.
    ///
    /// # Errors
    /// Signals or events can no longer be read.
    pub fn run(self, mut monitor: Monitor<'_>, mut publisher: Publisher<'_>) -> Result<Signal> {
        let mut debounce = Debounce::beginning(Instant::now());
        loop {
            let next = publisher.due();
            self.sleep_until(debounce.due().map_or(next, |due| due.min(next)))?;
            if let Some(signal) = self.signals.take()? {
                return Ok(signal);
            }
            publisher.publish_if_due();
            if self.events.take()?.iter().any(|event| monitor.is_concerned(event)) {
                debounce.event(Instant::now());
            }
            if debounce.due().is_some_and(|due| due <= Instant::now()) {
                let has_no_problems = monitor.reconcile();
                debounce.reconciled(Instant::now(), has_no_problems);
            }
        }
    }

    fn sleep_until(&self, due: Instant) -> Result<()> {
        // rounded up: to wake before it is due would mean to wake again and again
        let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut awaited = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut awaited, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for signals and events"),
        }
    }
}

/// When to reconcile: once a burst of events is over, and not all the time.
struct Debounce {
    burst: Option<Burst>,
    /// the last reconciliation
    last: Instant,
    /// that it left
    has_no_problems: bool,
}

#[derive(Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Debounce {
    /// The first reconciliation is for what may have happened since the start looked at the host.
    fn beginning(now: Instant) -> Self {
        let mut debounce = Self { burst: None, last: now, has_no_problems: true };
        debounce.event(now);
        debounce
    }

    fn event(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    fn reconciled(&mut self, now: Instant, has_no_problems: bool) {
        *self = Self { burst: None, last: now, has_no_problems };
    }

    /// When the next reconciliation is due; `None`: once something happens.
    fn due(&self) -> Option<Instant> {
        let over = |burst: Burst| (burst.last + QUIET).min(burst.first + LONGEST_BURST);
        let after_burst = self.burst.map(|burst| over(burst).max(self.last + PAUSE));
        let retry = (!self.has_no_problems).then_some(self.last + RETRY);
        after_burst.into_iter().chain(retry).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Some time after the first reconciliation, when nothing is to be done.
    fn idle() -> (Debounce, Instant) {
        let start = Instant::now();
        let mut debounce = Debounce::beginning(start);
        debounce.reconciled(start, true);
        (debounce, start + 10 * RETRY)
    }

    #[test]
    fn without_events_and_while_has_no_problems_nothing_is_due() {
        assert_eq!(idle().0.due(), None);
    }

    #[test]
    fn reconciliation_is_due_once_a_burst_is_over() {
        let (mut debounce, now) = idle();
        debounce.event(now);
        debounce.event(now + 30 * MILLISECOND);
        assert_eq!(debounce.due(), Some(now + 30 * MILLISECOND + QUIET));
        debounce.reconciled(now + 200 * MILLISECOND, true);
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn a_burst_without_end_is_acted_on_now_and_then() {
        let (mut debounce, start) = idle();
        let mut count = 0;
        for i in 0..10_000 {
            let now = start + i * MILLISECOND;
            debounce.event(now);
            if debounce.due().is_some_and(|due| due <= now) {
                debounce.reconciled(now, true);
                count += 1;
            }
        }
        assert_eq!(count, 9, "in ten seconds");
    }

    #[test]
    fn between_reconciliations_there_is_a_pause() {
        let (mut debounce, now) = idle();
        debounce.reconciled(now, true);
        debounce.event(now + MILLISECOND);
        assert_eq!(debounce.due(), Some(now + PAUSE));
    }

    #[test]
    fn while_there_are_problems_it_is_tried_again() {
        let (mut debounce, now) = idle();
        debounce.reconciled(now, false);
        assert_eq!(debounce.due(), Some(now + RETRY));
        debounce.event(now + 600 * MILLISECOND);
        assert_eq!(debounce.due(), Some(now + 600 * MILLISECOND + QUIET));
    }
}
