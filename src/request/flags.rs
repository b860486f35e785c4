//! Whether a flag was given, and its value.

use std::str::FromStr;

use anyhow::{Context, Result, anyhow};

/// The text of a flag. A flag with an empty value counts as not given.
pub fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The value of a flag, if it was given. Errors begin with the name of the flag.
pub fn value<T>(
    flag: &'static str,
    text: &Option<String>,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<Option<T>> {
    given(text).map(parse).transpose().context(flag)
}

/// The value of a flag that has to be given.
pub fn needed<T>(flag: &str, advice: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| anyhow!("{flag} is missing; give {advice}"))
}

/// Whether a switch is on. Without the flag, it is off.
pub fn switch(flag: &'static str, text: &Option<String>) -> Result<bool> {
    let on = value(flag, text, |text| {
        bool::from_str(text).ok().with_context(|| format!("{text:?} is neither true nor false"))
    })?;
    Ok(on.unwrap_or(false))
}
