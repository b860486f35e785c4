//! Addresses and prefixes.

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;

/// `0.0.0.0` and an IPv4 `/0` are all of IPv4, `::` and an IPv6 `/0` all of IPv6. Host bits do not
/// matter: `10.1.2.3/8` is 10.0.0.0/8.
pub fn address(entry: &str) -> Result<Option<IpNetwork>> {
    let given: IpNetwork = match entry.parse() {
        Ok(given) => given,
        Err(_) => bail!(
            "{entry:?} is not an address or a prefix such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32"
        ),
    };
    let is_all = given.ip().is_unspecified() && !entry.contains('/');
    let prefix = if is_all { 0 } else { given.prefix() };
    let network = IpNetwork::new(given.ip(), prefix)?.network();
    Ok(Some(IpNetwork::new(network, prefix)?))
}

pub fn address_text(network: &IpNetwork) -> String {
    let address = network.network();
    let is_one_host = network.prefix() == IpNetwork::from(address).prefix();
    if network.prefix() == 0 || is_one_host && !address.is_unspecified() {
        address.to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::addresses;
    use super::*;
    use crate::filter::Field;

    fn networks(list: &[&str]) -> Field<IpNetwork> {
        Field::only(list.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn each_address_keeps_its_own_prefix_length() {
        assert_eq!(
            addresses("10.0.0.0/8,1.2.3.4").unwrap(),
            networks(&["10.0.0.0/8", "1.2.3.4/32"])
        );
    }

    #[test]
    fn both_families_mix() {
        assert_eq!(
            addresses("2001:db8::/32,1.2.3.4,::1,::ffff:1.2.3.4").unwrap(),
            networks(&["2001:db8::/32", "1.2.3.4/32", "::1/128", "::ffff:1.2.3.4/128"])
        );
    }

    #[test]
    fn host_bits_of_a_prefix_are_dropped() {
        assert_eq!(addresses("10.1.2.3/8").unwrap(), networks(&["10.0.0.0/8"]));
        assert_eq!(addresses("10.1.2.3/255.255.0.0").unwrap(), networks(&["10.1.0.0/16"]));
        assert_eq!(addresses("2001:db8::1/33").unwrap(), networks(&["2001:db8::/33"]));
    }

    #[test]
    fn the_unspecified_address_is_any_of_its_family() {
        for list in ["0.0.0.0", "0.0.0.0/0", "1.2.3.4/0"] {
            assert_eq!(addresses(list).unwrap(), networks(&["0.0.0.0/0"]), "{list}");
        }
        for list in ["::", "::/0", "2001:db8::/0", "0:0:0:0:0:0:0:0"] {
            assert_eq!(addresses(list).unwrap(), networks(&["::/0"]), "{list}");
        }
        // these are not open
        assert_eq!(addresses("0.0.0.0/8").unwrap(), networks(&["0.0.0.0/8"]));
        assert_eq!(addresses("0.0.0.0/32").unwrap(), networks(&["0.0.0.0/32"]));
        assert_eq!(addresses("::/128").unwrap(), networks(&["::/128"]));
        assert!(addresses("any").unwrap().is_any());
    }

    #[test]
    fn malformed_addresses_are_named() {
        for entry in [
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/8/8",
            "host",
            "1.2.3.4-5",
            "2001:db8::/129",
            "2001:db8",
            "fe80::1%eth0",
            "[::1]",
            ":::",
        ] {
            let error = addresses(&format!("any,{entry},1.2.3.4")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry:?} is not an address or a ")), "{error}");
        }
    }
}
