//! How much longer than elsewhere things may take, on a machine that is emulated.

use std::time::Duration;

/// A duration that is meant for a real machine, made longer by `SLOWNESS` in the environment, if
/// that is set: a factor.
pub fn patient(duration: Duration) -> Duration {
    match std::env::var("SLOWNESS") {
        Ok(factor) => duration * factor.parse().expect("SLOWNESS is a whole number"),
        Err(_) => duration,
    }
}
