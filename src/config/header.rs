//! What the tunnel's outer header says beside the addresses.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use super::port;
use crate::filter::parse;

/// The UDP source port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPort {
    Fixed(u16),
    /// From the hash of the mirrored packet's flow; both directions have the same.
    OfFlow,
}

/// What stands for [`LocalPort::OfFlow`].
const OF_FLOW: &str = "auto";

impl FromStr for LocalPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            OF_FLOW => Ok(Self::OfFlow),
            _ => match port(text) {
                Ok(port) => Ok(Self::Fixed(port)),
                Err(error) => bail!("{error}, nor {OF_FLOW}"),
            },
        }
    }
}

impl fmt::Display for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(port) => port.fmt(f),
            Self::OfFlow => f.write_str(OF_FLOW),
        }
    }
}

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
    parse::number(text)
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

    #[test]
    fn the_local_port_is_a_port_or_auto() {
        for (text, expected) in [("6080", LocalPort::Fixed(6080)), ("auto", LocalPort::OfFlow)] {
            assert_eq!(text.parse::<LocalPort>().unwrap(), expected);
            assert_eq!(expected.to_string(), text);
        }
        for text in ["0", "65536", "Auto", "flow"] {
            let error = text.parse::<LocalPort>().unwrap_err().to_string();
            let expected = format!("{text:?} is not a port from 1 to 65535, nor auto");
            assert_eq!(error, expected);
        }
    }
}
