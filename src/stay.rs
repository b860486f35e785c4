//! Staying with the program until a signal ends us.

use std::fmt;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The signals that end us in order.
#[derive(Debug)]
pub struct Stay(Signals);

/// A signal that has come.
pub struct Signal(i32);

impl Stay {
    /// From here on the signals wait for `wait`, and end nothing half-way.
    pub fn prepare() -> Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]);
        Ok(Self(signals.context("cannot set up signal handling")?))
    }

    pub fn wait(mut self) -> Result<Signal> {
        let signal = self.0.forever().next();
        signal.map(Signal).context("no more signals come")
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = signal_hook::low_level::signal_name(self.0);
        f.write_str(name.unwrap_or("a signal"))
    }
}
