//! The signals that end a process in order: they wait in a descriptor (signalfd(2)) until they are taken, and
//! interrupt nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// From here on these signals do nothing but wait for [`take`](Self::take).
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn block() -> Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor =
            signals.thread_block().and_then(|()| SignalFd::with_flags(&signals, flags));
        descriptor.map(Self).context("cannot set up signal handling")
    }

    /// A signal that has come, if one has.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn take(&self) -> Result<Option<Signal>> {
        let taken = self.0.read_signal().context("cannot read signals")?;
        Ok(taken.and_then(|signal| Signal::try_from(signal.ssi_signo as i32).ok()))
    }

    /// Waits for a signal, for this time at most.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    pub fn wait(&self, time: Duration) -> Result<Option<Signal>> {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            // a signal that is not ours stops and continues us, say
            Ok(_) | Err(Errno::EINTR) => self.take(),
            Err(error) => Err(error).context("cannot wait for signals"),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;
    use std::thread;

    #[test]
    fn a_signal_waits_until_it_is_taken() {
        // a thread of its own, as others of this process do not block the signals
        let test = thread::spawn(|| {
            let signals = Signals::block().unwrap();
            assert_eq!(signals.take().unwrap(), None);
            raise(Signal::SIGHUP).unwrap();
            assert_eq!(signals.wait(Duration::from_secs(60)).unwrap(), Some(Signal::SIGHUP));
            assert_eq!(signals.take().unwrap(), None);
        });
        test.join().unwrap();
    }
}
