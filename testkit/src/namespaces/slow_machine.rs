//! How long tests wait. None says how fast something is: that is for the benchmark.

use std::time::Duration;

/// For whatever a test waits for: far more than a busy machine takes for it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A duration that is meant for a real machine. On an emulated one, `SLOWNESS` in the environment is the factor by
/// which it is longer.
pub fn patient(duration: Duration) -> Duration {
    match std::env::var("SLOWNESS") {
        Ok(factor) => duration * factor.parse().expect("SLOWNESS is a whole number"),
        Err(_) => duration,
    }
}
