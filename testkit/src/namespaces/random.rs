//! Random numbers from a seed, so that a run can be repeated.

use std::env;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A generator of random numbers: xorshift64 (Marsaglia 2003).
pub struct Random(u64);

impl Random {
    /// Takes the seed from this environment variable, or a new seed in each run without it. Prints the seed.
    pub fn seeded_by(variable: &str) -> Random {
        let clock =
            || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
        let seed = match env::var(variable) {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{variable}={seed} is no number")),
            Err(_) => clock(),
        };
        println!("{variable}={seed} repeats this");
        Random::new(seed)
    }

    pub fn new(seed: u64) -> Random {
        // the state must not be 0, or all numbers would be 0
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn duration(&mut self, milliseconds: Range<u64>) -> Duration {
        let micros = milliseconds.start * 1000..milliseconds.end * 1000;
        Duration::from_micros(micros.start + self.below(micros.end - micros.start))
    }
}
