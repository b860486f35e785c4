//! The text of what a rule says of copies: which are made (`sample`), and how much they keep (`snaplen`).

use std::num::NonZeroU32;

use anyhow::{Context, Result, bail, ensure};

use crate::filter::rule::{MIN_SNAPLEN, SampleBy, Snaplen};
use crate::model::number;

/// One in so many is mirrored: `100`.
pub fn one_in(text: &str) -> Result<NonZeroU32> {
    number::<u32>(text)
        .and_then(NonZeroU32::new)
        .with_context(|| format!("{text:?} is not a number from 1 to {}", u32::MAX))
}

/// `packet` or `flow`.
pub fn sample_by(text: &str) -> Result<SampleBy> {
    match text {
        "packet" => Ok(SampleBy::Packet),
        "flow" => Ok(SampleBy::Flow),
        other => bail!("{other:?} is neither packet nor flow"),
    }
}

/// The inverse of [`sample_by`].
pub fn sample_by_text(by: SampleBy) -> &'static str {
    match by {
        SampleBy::Packet => "packet",
        SampleBy::Flow => "flow",
    }
}

/// `128`, or `headers`.
pub fn snaplen(text: &str) -> Result<Snaplen> {
    if text == "headers" {
        return Ok(Snaplen::Headers);
    }
    let bytes = number::<u32>(text).with_context(|| {
        format!("{text:?} is neither a number of bytes nor headers, which cuts behind the headers")
    })?;
    ensure!(
        bytes >= MIN_SNAPLEN.into(),
        "{text:?} would not hold the headers; {MIN_SNAPLEN} bytes are the least"
    );
    let bytes = u16::try_from(bytes).ok();
    let bytes =
        bytes.with_context(|| format!("{text:?} goes beyond the longest packet, {}", u16::MAX))?;
    Ok(Snaplen::Bytes(bytes))
}

/// The inverse of [`snaplen`].
pub fn snaplen_text(snaplen: Snaplen) -> String {
    match snaplen {
        Snaplen::Bytes(bytes) => bytes.to_string(),
        Snaplen::Headers => "headers".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn one_in_at_least_one_is_mirrored() {
        assert_eq!(one_in("1").unwrap().get(), 1);
        assert_eq!(one_in("4294967295").unwrap().get(), u32::MAX);
        for text in ["0", "4294967296", "1/100", "-1", ""] {
            assert_eq!(
                error(one_in(text)),
                format!("{text:?} is not a number from 1 to 4294967295")
            );
        }
    }

    #[test]
    fn samples_are_of_packets_or_flows() {
        for by in [SampleBy::Packet, SampleBy::Flow] {
            assert_eq!(sample_by(sample_by_text(by)).unwrap(), by);
        }
        assert_eq!(error(sample_by("flows")), r#""flows" is neither packet nor flow"#);
    }

    #[test]
    fn copies_are_cut_where_it_makes_sense() {
        assert_eq!(snaplen("headers").unwrap(), Snaplen::Headers);
        assert_eq!(snaplen("64").unwrap(), Snaplen::Bytes(64));
        assert_eq!(snaplen("65535").unwrap(), Snaplen::Bytes(65535));
        assert_eq!(
            error(snaplen("63")),
            r#""63" would not hold the headers; 64 bytes are the least"#
        );
        assert_eq!(error(snaplen("65536")), r#""65536" goes beyond the longest packet, 65535"#);
        assert!(error(snaplen("header")).starts_with(r#""header" is neither a number of bytes"#));
    }
}
