//! Runs programs under BPF_PROG_TEST_RUN, in turns.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::spread::Spread;

/// A program and the frame that it is run on.
pub struct Case<'a> {
    pub program: BorrowedFd<'a>,
    pub frame: &'a [u8],
}

/// Nanoseconds per run, one list for each case.
pub struct Samples(Vec<Vec<f64>>);

impl Samples {
    /// Runs each case `repeat` times in a row. All cases take turns for `rounds` rounds.
    pub fn take(cases: &[Case<'_>], rounds: usize, repeat: u32) -> Self {
        let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
        for _ in 0..rounds {
            for (samples, case) in samples.iter_mut().zip(cases) {
                samples.push(nanoseconds(case, repeat));
            }
        }
        Self(samples)
    }

    /// How much longer one case takes than another one in the same round.
    pub fn over(&self, case: usize, base: usize) -> Spread {
        Spread::of(self.0[case].iter().zip(&self.0[base]).map(|(it, base)| it - base))
    }

    /// The ratio of the times of two cases in the same round.
    pub fn ratio(&self, case: usize, base: usize) -> Spread {
        Spread::of(self.0[case].iter().zip(&self.0[base]).map(|(it, base)| it / base))
    }
}

/// The nanoseconds of one run, averaged over `repeat` runs in a row.
pub fn nanoseconds(case: &Case<'_>, repeat: u32) -> f64 {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: case.frame.as_ptr().cast(),
        data_size_in: case.frame.len() as u32,
        repeat: repeat as i32,
        ..Default::default()
    };
    // SAFETY: the descriptor is open, and the options hold their own size and the frame's
    let result =
        unsafe { libbpf_sys::bpf_prog_test_run_opts(case.program.as_raw_fd(), &mut options) };
    assert!(result == 0, "the test run failed: {}", std::io::Error::from_raw_os_error(-result));
    options.duration.into()
}
