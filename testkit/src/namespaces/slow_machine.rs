//! How long tests wait. No test asserts how fast something is: that is for the benchmark.

use std::time::Duration;

/// The longest that a test waits for anything. It is far more than a busy machine needs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Lengthens a duration that is chosen for a real machine. On an emulated machine, `SLOWNESS` in the environment is the
/// factor.
pub fn patient(duration: Duration) -> Duration {
    match std::env::var("SLOWNESS") {
        Ok(factor) => duration * factor.parse().expect("SLOWNESS is a whole number"),
        Err(_) => duration,
    }
}
