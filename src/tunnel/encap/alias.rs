//! The alias of a built-in device says which tunnel it is. Instances that want the same tunnel share the device.
//! (Pure.)

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use super::template::TTL;
use crate::model;
use crate::model::LocalPort;

/// Prefix of the alias of all our devices (`ip link` shows it).
pub const PREFIX: &str = "mirroring: GUE";

/// What all copies through a device have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UDP source port of the copies, or that it follows from their flow.
    pub local_port: LocalPort,
    /// Outer destination address, of either family.
    pub collector: IpAddr,
    /// UDP destination port, in host byte order.
    pub remote_port: u16,
    /// Differentiated services code point of the outer packets, from 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// TTL of the outer packets or, over IPv6, their hop limit.
    pub ttl: u8,
}

impl Identity {
    /// From the flags. A DSCP that is not given is 0, a TTL that is not given is [`TTL`].
    pub fn new(wanted: &model::Tunnel, collector: IpAddr) -> Self {
        Self {
            local_port: wanted.local_port,
            collector,
            remote_port: wanted.remote_port,
            dscp: wanted.dscp.unwrap_or(0),
            ttl: wanted.ttl.unwrap_or(TTL),
        }
    }

    /// The differences between two tunnels, each with its flag.
    pub fn differences(&self, other: &Self) -> String {
        let collector = (self.collector, self.remote_port) != (other.collector, other.remote_port);
        let all = [
            (collector, "another collector"),
            (self.local_port != other.local_port, "another --tunnel-local-port"),
            (self.dscp != other.dscp, "another --tunnel-dscp"),
            (self.ttl != other.ttl, "another --tunnel-ttl"),
        ];
        let all: Vec<_> =
            all.iter().filter(|(differs, _)| *differs).map(|(_, what)| *what).collect();
        all.join(" and ")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let far = SocketAddr::new(self.collector, self.remote_port);
        write!(f, "{PREFIX} {} > {far}", self.local_port)?;
        if self.dscp != 0 {
            write!(f, " dscp {}", self.dscp)?;
        }
        if self.ttl != TTL {
            write!(f, " ttl {}", self.ttl)?;
        }
        Ok(())
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text.strip_prefix(PREFIX).context("no tunnel of ours")?;
        let mut words = words.split_whitespace();
        let mut next = || words.next().context("too few words");
        let local_port = next()?.parse()?;
        let _arrow = next()?;
        let far: SocketAddr = next()?.parse()?;
        let mut identity =
            Self { local_port, collector: far.ip(), remote_port: far.port(), dscp: 0, ttl: TTL };
        while let Some(name) = words.next() {
            let value = words.next().context("a name without a value")?.parse()?;
            match name {
                "dscp" => identity.dscp = value,
                "ttl" => identity.ttl = value,
                other => bail!("{other:?} is not known"),
            }
        }
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PLAIN: Identity = Identity {
        local_port: LocalPort::Fixed(6080),
        collector: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50)),
        remote_port: 6081,
        dscp: 0,
        ttl: TTL,
    };

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let cases = [
            (PLAIN, "mirroring: GUE 6080 > 192.0.2.50:6081"),
            (
                Identity { local_port: LocalPort::OfFlow, dscp: 8, ttl: 3, ..PLAIN },
                "mirroring: GUE auto > 192.0.2.50:6081 dscp 8 ttl 3",
            ),
            (
                Identity { collector: "2001:db8::50".parse().unwrap(), ..PLAIN },
                "mirroring: GUE 6080 > [2001:db8::50]:6081",
            ),
            (Identity { ttl: 255, ..PLAIN }, "mirroring: GUE 6080 > 192.0.2.50:6081 ttl 255"),
        ];
        for (identity, text) in cases {
            assert_eq!(identity.to_string(), text);
            assert_eq!(text.parse::<Identity>().unwrap(), identity);
        }
        for text in
            ["", "eth0", PREFIX, "mirroring: GUE 1 > 10.0.0.1", "mirroring: GUE 1 > 10.0.0.1:2 x 3"]
        {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_difference_is_named() {
        assert_eq!(PLAIN.differences(&PLAIN), "");
        let other = Identity { local_port: LocalPort::OfFlow, dscp: 8, ttl: 3, ..PLAIN };
        assert_eq!(
            PLAIN.differences(&other),
            "another --tunnel-local-port and another --tunnel-dscp and another --tunnel-ttl"
        );
        for other in [
            Identity { collector: [10, 0, 0, 1].into(), ..PLAIN },
            Identity { collector: "2001:db8::50".parse().unwrap(), ..PLAIN },
            Identity { remote_port: 1, ..PLAIN },
        ] {
            assert_eq!(PLAIN.differences(&other), "another collector");
        }
    }
}
