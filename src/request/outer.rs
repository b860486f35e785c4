//! What the tunnel's outer header says beside the addresses.

use anyhow::{Context, Result};

use crate::filter::parse;
use crate::model::number;

/// A differentiated services code point, by number or name.
pub fn dscp(text: &str) -> Result<u8> {
    parse::code_point(text).with_context(|| {
        format!(
            "{text:?} is neither a code point from 0 to 63 nor the name of one, such as cs1 or ef"
        )
    })
}

/// Hops that a packet may take.
pub fn ttl(text: &str) -> Result<u8> {
    number(text)
        .filter(|&ttl| ttl > 0)
        .with_context(|| format!("{text:?} is not a number of hops from 1 to 255"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_have_numbers_and_names() {
        for (text, expected) in [("0", 0), ("63", 63), ("cs0", 0), ("CS7", 56), ("af41", 34)] {
            assert_eq!(dscp(text).unwrap(), expected, "{text}");
        }
        assert_eq!((dscp("ef").unwrap(), dscp("EF").unwrap(), dscp("46").unwrap()), (46, 46, 46));
        for text in ["64", "-1", "cs8", "af14", "0x2e", "ef ", " 1", "256", "4 6"] {
            let error = dscp(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is neither")), "{error}");
        }
    }

    #[test]
    fn a_packet_may_take_1_to_255_hops() {
        assert_eq!((ttl("1").unwrap(), ttl("255").unwrap()), (1, 255));
        for text in ["0", "256", "x", "-1"] {
            assert!(ttl(text).unwrap_err().to_string().contains("from 1 to 255"), "{text}");
        }
    }
}
