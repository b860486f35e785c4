//! Numbers and ranges of numbers: ports, VLAN IDs, lengths.

use std::ops::RangeInclusive;

use anyhow::{Result, bail, ensure};

use crate::filter::rule::UNTAGGED;
use crate::model::number;

const LAST_VLAN: u16 = 4095;

/// `80` or `8000-8100`; `0` means any.
pub fn port(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    let ports = range(entry, "a port or a range of ports such as 8000-8100", "port", u16::MAX)?;
    Ok((*ports.end() > 0).then_some(ports))
}

/// `100` or `200-299`; `none` is a packet without a tag.
pub fn vlan(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    if entry.eq_ignore_ascii_case("none") {
        return Ok(Some(UNTAGGED..=UNTAGGED));
    }
    range(entry, "a VLAN ID, a range of them such as 100-199, or none", "VLAN ID", LAST_VLAN)
        .map(Some)
}

/// `40` or `1000-65535`.
pub fn length(entry: &str) -> Result<Option<RangeInclusive<u16>>> {
    range(entry, "a length in bytes or a range such as 1000-65535", "length", u16::MAX).map(Some)
}

fn range(entry: &str, expected: &str, what: &str, last: u16) -> Result<RangeInclusive<u16>> {
    let (start, end) = entry.split_once('-').unwrap_or((entry, entry));
    let (Some(start), Some(end)) = (number::<u32>(start), number::<u32>(end)) else {
        bail!("{entry:?} is not {expected}");
    };
    ensure!(start <= end, "{entry:?} is a range whose end comes before its start");
    ensure!(end <= last.into(), "{entry:?} goes beyond the last {what}, {last}");
    Ok(start as u16..=end as u16)
}

pub fn port_text(ports: &RangeInclusive<u16>) -> String {
    if ports.start() == ports.end() {
        ports.start().to_string()
    } else {
        format!("{}-{}", ports.start(), ports.end())
    }
}

pub fn vlan_text(ids: &RangeInclusive<u16>) -> String {
    if *ids.start() == UNTAGGED { "none".to_owned() } else { port_text(ids) }
}

pub fn length_text(lengths: &RangeInclusive<u16>) -> String {
    port_text(lengths)
}

#[cfg(test)]
mod tests {
    use super::super::{lengths, ports, vlans};
    use super::*;
    use crate::filter::Field;

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn ports_and_ranges_mix() {
        assert_eq!(
            ports("80, 8000-8100 ,65535,0-1").unwrap(),
            Field::only([80..=80, 8000..=8100, 65535..=65535, 0..=1])
        );
        assert_eq!(ports("1-65535").unwrap(), Field::only([1..=65535]));
    }

    #[test]
    fn port_0_is_any() {
        for list in ["0", "80,0"] {
            assert!(ports(list).unwrap().is_any(), "{list}");
        }
    }

    #[test]
    fn malformed_ports_are_named() {
        for entry in ["80-x", "x", "-", "80-", "-80", "1-2-3", "+80", "8 0", "99999999999"] {
            assert_eq!(
                error(ports(&format!("443,{entry}"))),
                format!("{entry:?} is not a port or a range of ports such as 8000-8100")
            );
        }
        assert_eq!(error(ports("90-80")), r#""90-80" is a range whose end comes before its start"#);
        assert_eq!(error(ports("65536")), r#""65536" goes beyond the last port, 65535"#);
        assert_eq!(error(ports("1-70000")), r#""1-70000" goes beyond the last port, 65535"#);
    }

    #[test]
    fn vlans_have_ids_or_none() {
        assert_eq!(
            vlans("0,100-4095,None").unwrap(),
            Field::only([0..=0, 100..=4095, UNTAGGED..=UNTAGGED])
        );
        assert_eq!(vlans("not none").unwrap(), Field::not([UNTAGGED..=UNTAGGED]));
        assert_eq!(error(vlans("4096")), r#""4096" goes beyond the last VLAN ID, 4095"#);
        assert!(error(vlans("none-5")).starts_with(r#""none-5" is not a VLAN ID"#));
    }

    #[test]
    fn lengths_are_bytes() {
        assert_eq!(lengths("0,40-100").unwrap(), Field::only([0..=0, 40..=100]));
        assert_eq!(error(lengths("65536")), r#""65536" goes beyond the last length, 65535"#);
        assert!(error(lengths("1k")).starts_with(r#""1k" is not a length in bytes"#));
    }
}
