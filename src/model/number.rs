//! Decimal numbers in flags and files.

/// A decimal number, without the sign that `str::parse` would take.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
