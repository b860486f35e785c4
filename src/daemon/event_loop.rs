//! Staying with the program until a signal ends us, and looking after it meanwhile.

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::daemon::monitor::Watch;
use crate::daemon::publisher::Publisher;
use crate::netlink::Events;

/// A burst of events is over when none has come for so long.
const SETTLED: Duration = Duration::from_millis(100);
/// A burst that does not end is looked into all the same.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Between two looks, whatever happens.
const PAUSE: Duration = Duration::from_millis(500);
/// While something is wrong, also without an event: not all that heals is told.
const AGAIN: Duration = Duration::from_secs(5);

/// The signals that end us in order, and what happens on the host.
#[derive(Debug)]
pub struct Stay {
    signals: SignalDelivery<UnixStream, SignalOnly>,
    events: Events,
}

/// A signal that has come.
pub struct Signal(i32);

impl Stay {
    /// From here on the signals wait for `wait`, and end nothing half-way; so do the events.
    pub fn prepare() -> Result<Self> {
        let signals = || {
            let (read, write) = UnixStream::pair()?;
            SignalDelivery::with_pipe(read, write, SignalOnly, [SIGTERM, SIGINT, SIGHUP])
        };
        let signals = signals().context("cannot set up signal handling")?;
        Ok(Self { signals, events: Events::subscribe()? })
    }

    /// Sleeps until a signal comes, or something that concerns what is watched, or counters are to be
    /// published.
    pub fn wait(mut self, mut watch: Watch<'_>, mut publisher: Publisher<'_>) -> Result<Signal> {
        let mut pace = Pace::beginning(Instant::now());
        loop {
            let next = publisher.due();
            self.sleep_until(pace.due().map_or(next, |due| due.min(next)))?;
            if let Some(signal) = self.signals.pending().next() {
                return Ok(Signal(signal));
            }
            publisher.publish_if_due();
            if self.events.take()?.iter().any(|event| watch.is_concerned(event)) {
                pace.event(Instant::now());
            }
            if pace.due().is_some_and(|due| due <= Instant::now()) {
                let all_is_well = watch.look();
                pace.looked(Instant::now(), all_is_well);
            }
        }
    }

    fn sleep_until(&self, due: Instant) -> Result<()> {
        // the next millisecond: an earlier one would be too early, again and again
        let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut awaited = [
            PollFd::new(self.signals.get_read().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut awaited, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for signals and events"),
        }
    }
}

/// When to look: once a burst of events is over, and not all the time.
struct Pace {
    burst: Option<Burst>,
    looked: Instant,
    all_is_well: bool,
}

#[derive(Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Pace {
    /// The first look is for what may have happened since the start looked.
    fn beginning(now: Instant) -> Self {
        let mut pace = Self { burst: None, looked: now, all_is_well: true };
        pace.event(now);
        pace
    }

    fn event(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    fn looked(&mut self, now: Instant, all_is_well: bool) {
        *self = Self { burst: None, looked: now, all_is_well };
    }

    /// When the next look is due; `None`: when something happens.
    fn due(&self) -> Option<Instant> {
        let settled = |burst: Burst| (burst.last + SETTLED).min(burst.first + AT_LATEST);
        let after_burst = self.burst.map(|burst| settled(burst).max(self.looked + PAUSE));
        let again = (!self.all_is_well).then_some(self.looked + AGAIN);
        after_burst.into_iter().chain(again).min()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = signal_hook::low_level::signal_name(self.0);
        f.write_str(name.unwrap_or("a signal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Some time after the first look, when nothing is to be done.
    fn idle() -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::beginning(start);
        pace.looked(start, true);
        (pace, start + 10 * AGAIN)
    }

    #[test]
    fn without_events_and_while_all_is_well_nothing_is_due() {
        assert_eq!(idle().0.due(), None);
    }

    #[test]
    fn a_look_is_due_once_a_burst_is_over() {
        let (mut pace, now) = idle();
        pace.event(now);
        pace.event(now + 30 * MILLISECOND);
        assert_eq!(pace.due(), Some(now + 30 * MILLISECOND + SETTLED));
        pace.looked(now + 200 * MILLISECOND, true);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_burst_without_end_is_looked_into_now_and_then() {
        let (mut pace, start) = idle();
        let mut looks = 0;
        for i in 0..10_000 {
            let now = start + i * MILLISECOND;
            pace.event(now);
            if pace.due().is_some_and(|due| due <= now) {
                pace.looked(now, true);
                looks += 1;
            }
        }
        assert_eq!(looks, 9, "in ten seconds");
    }

    #[test]
    fn single_events_have_a_pause_between_looks() {
        let (mut pace, now) = idle();
        pace.looked(now, true);
        pace.event(now + MILLISECOND);
        assert_eq!(pace.due(), Some(now + PAUSE));
    }

    #[test]
    fn while_something_is_wrong_it_is_looked_at_again() {
        let (mut pace, now) = idle();
        pace.looked(now, false);
        assert_eq!(pace.due(), Some(now + AGAIN));
        pace.event(now + 600 * MILLISECOND);
        assert_eq!(pace.due(), Some(now + 600 * MILLISECOND + SETTLED));
    }
}
