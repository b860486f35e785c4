//! The text of flags that say nothing of packets.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::args::is_plain_path;
use crate::filter::fields::dscp;
use crate::model::number;

/// An absolute path without `..`.
pub fn path(text: &str) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    ensure!(is_plain_path(&path), "{text:?} is not an absolute path without \"..\"");
    Ok(path)
}

/// A path below the root of the BPF file system. Only the texts are compared; what the path leads to shows
/// when the pin is opened.
pub fn pin(text: &str, bpffs: &Path) -> Result<PathBuf> {
    let path = path(text)?;
    ensure!(
        path != bpffs && path.starts_with(bpffs),
        "{text:?} is not below {bpffs:?}, the root of the BPF file system; --bpffs can name another"
    );
    Ok(path)
}

/// The address of one host.
pub fn unicast(text: &str) -> Result<IpAddr> {
    let address: IpAddr = text.parse().ok().with_context(|| {
        format!("{text:?} is not an address such as 192.0.2.50 or 2001:db8::50")
    })?;
    let canonical = address.to_canonical();
    ensure!(address == canonical, "{text:?} stands for an IPv4 address; give that, {canonical}");
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    ensure!(
        !(address.is_unspecified() || address.is_multicast() || is_broadcast),
        "{text:?} is not the address of one host"
    );
    Ok(address)
}

/// The address of a host that can be reached by any interface.
pub fn collector(text: &str) -> Result<IpAddr> {
    let address = unicast(text)?;
    ensure!(
        !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()),
        "{text:?} is good for one link only, and copies come from an address that is good for all; \
         give the collector's global or unique local address"
    );
    Ok(address)
}

/// DSCP of the outer packets, by number or name.
pub fn dscp(text: &str) -> Result<u8> {
    dscp::code_point(text).with_context(|| {
        format!(
            "{text:?} is neither a code point from 0 to 63 nor the name of one, such as cs1 or ef"
        )
    })
}

/// TTL or hop limit of the outer packets.
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
