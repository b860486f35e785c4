//! The tunnel to the collector, as it was asked for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use super::InterfaceName;
use super::number;

/// Where the copies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The tunnel device, which is built if it does not exist.
    pub name: InterfaceName,
    /// UDP source port of the built-in tunnel.
    pub local_port: LocalPort,
    /// UDP destination port of the built-in tunnel.
    pub remote_port: u16,
    /// The collector; unicast.
    pub remote_address: Option<IpAddr>,
    /// The interface by which the copies leave.
    pub redirect_to: Option<InterfaceName>,
    /// The next hop towards the collector; unicast, and of the collector's family.
    pub gateway: Option<IpAddr>,
    /// Of the built-in tunnel.
    pub oversize: Oversize,
    /// DSCP of the built-in tunnel's outer packets.
    pub dscp: Option<u8>,
    /// TTL or hop limit of the built-in tunnel's outer packets.
    pub ttl: Option<u8>,
}

/// What becomes of a copy that does not fit one packet of the tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Oversize {
    /// It arrives whole, in fragments of the outer packet.
    #[default]
    Fragment,
    /// As much of its beginning arrives as fits.
    Truncate,
    /// It is left out.
    Drop,
}

impl FromStr for Oversize {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fragment" => Ok(Self::Fragment),
            "truncate" => Ok(Self::Truncate),
            "drop" => Ok(Self::Drop),
            other => bail!("{other:?} is none of fragment, truncate and drop"),
        }
    }
}

/// The UDP source port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPort {
    /// This one, in host byte order.
    Fixed(u16),
    /// From the hash of the mirrored packet's flow; both directions have the same.
    OfFlow,
}

/// The text for [`LocalPort::OfFlow`].
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

/// A UDP port, by number.
pub fn port(text: &str) -> Result<u16> {
    number(text)
        .filter(|&port| port > 0)
        .with_context(|| format!("{text:?} is not a port from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
