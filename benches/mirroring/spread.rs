//! Several measurements of one quantity, and their summary.

use std::fmt;

use serde::Serialize;

/// The median of measurements, and the quartiles, between which half of them lie.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub lower: f64,
    pub upper: f64,
}

impl Spread {
    /// # Panics
    /// Without measurements.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values[(values.len() - 1) * quarter / 4];
        Self { median: at(2), lower: at(1), upper: at(3) }
    }

    /// A value that was measured once.
    pub fn exactly(value: f64) -> Self {
        Self { median: value, lower: value, upper: value }
    }
}

impl fmt::Display for Spread {
    /// Formats it with this number of decimals, as in `5.1 (4.9–5.6)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let Self { median, lower, upper } = self;
        if lower == upper {
            return write!(f, "{median:.decimals$}");
        }
        write!(f, "{median:.decimals$} ({lower:.decimals$}–{upper:.decimals$})")
    }
}
