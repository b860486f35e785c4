//! The cap on the rate at which an instance sends copies.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// As tc(8) has them, in bits a second; the longest name that fits is the one to show.
const UNITS: [(&str, u64); 5] = [
    ("tbit", 1_000_000_000_000),
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];

/// In bits a second; at least 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// From bytes a second.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes.saturating_mul(8))
    }

    /// Bytes a second, rounded down: what the programs count in.
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }

    /// Bits a second.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let unit = UNITS.iter().find_map(|(name, bits)| Some((lower.strip_suffix(name)?, *bits)));
        let (number, unit) = unit.unwrap_or((&lower, 1));
        let bits = decimal(number, unit)
            .with_context(|| format!("{text:?} is not a rate such as 500mbit, 2.5gbit or 64000"))?;
        ensure!(
            bits >= 8,
            "{text:?} would let no copy through; leave the flag out for no cap, or give 8bit at least"
        );
        Ok(Self(bits))
    }
}

/// A number, with or without a fraction, times `unit`. `None` if it is no number or too large.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| -> Option<u64> {
        let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| text.parse().ok()).flatten()
    };
    let scale = 10_u128.checked_pow(fraction.len().try_into().ok()?)?;
    let fraction = u128::from(digits(fraction)?) * u128::from(unit) / scale;
    digits(whole)?.checked_mul(unit)?.checked_add(fraction.try_into().ok()?)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bits) =
            UNITS.iter().find(|(_, bits)| self.0 % bits == 0).expect("1 divides all");
        write!(f, "{}{name}", self.0 / bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_tc() {
        for (text, bits, shown) in [
            ("500mbit", 500_000_000, "500mbit"),
            ("64kbit", 64_000, "64kbit"),
            ("10gbit", 10_000_000_000, "10gbit"),
            ("1tbit", 1_000_000_000_000, "1tbit"),
            ("9600bit", 9600, "9600bit"),
            ("9600", 9600, "9600bit"),
            ("8000", 8000, "8kbit"),
            ("2.5gbit", 2_500_000_000, "2500mbit"),
            ("1.5Mbit", 1_500_000, "1500kbit"),
            ("00100GBIT", 100_000_000_000, "100gbit"),
            ("8", 8, "8bit"),
            ("18446744073709551615", u64::MAX, "18446744073709551615bit"),
        ] {
            let rate = text.parse::<Rate>().unwrap();
            assert_eq!((rate, rate.to_string()), (Rate(bits), shown.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "fast",
            "mbit",
            "-1mbit",
            "+1mbit",
            "1e6",
            "1 mbit",
            "1,5mbit",
            "1.mbit",
            ".5mbit",
            "1.5.2",
            "500mbps",
            "10mb",
            "5mibit",
            "0x10",
            "18446744073709551616",
            "99999999tbit",
            "1..5",
            ".",
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a rate such as ")), "{error}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_refused_with_advice_how_to_lift_the_cap() {
        for text in ["0", "0mbit", "0.0", "7", "0.001kbit"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("leave the flag out for no cap"), "{error}");
        }
    }
}
