//! What `next_hop.bpf.h` needs to ask the kernel's routes: forwarding on the tunnel's own device. The device forwards
//! nothing by that, since nothing comes in there.

use std::fs;
use std::net::IpAddr;

/// Flag of a route that a router advertisement brought (linux/ipv6_route.h).
const RTF_ADDRCONF: u32 = 0x0004_0000;

/// Allows lookups of next hops in the collector's family, if the host does not lose anything by it. Otherwise copies
/// wait for a silent next hop beside the host's own packets.
pub(super) fn allow(device: &str, collector: IpAddr) {
    let family = if collector.is_ipv4() { "ipv4" } else { "ipv6" };
    let path = format!("/proc/sys/net/{family}/conf/{device}/forwarding");
    // each write is an event to the kernel, even of the value that is there
    if fs::read_to_string(&path).is_ok_and(|value| value.trim() != "0") {
        return;
    }
    // Linux takes any device that begins to forward IPv6 for a sign that this host is a router now, and deletes the
    // default routes that it has learned from others, whatever the device (addrconf_fixup_forwarding())
    if collector.is_ipv6() && has_advertised_default_route() {
        log::debug!("the default route is from a router advertisement, so {path} stays 0");
        return;
    }
    if let Err(error) = fs::write(&path, "1") {
        log::debug!("cannot set {path}: {error}");
    }
}

/// Whether it cannot be ruled out that there is one.
fn has_advertised_default_route() -> bool {
    fs::read_to_string("/proc/net/ipv6_route").map_or(true, |routes| routes.lines().any(is_one))
}

/// A line of /proc/net/ipv6_route: destination, length of its prefix, the same of the source, next hop, metric, two
/// counts, flags, device; all but the last in hexadecimal.
fn is_one(route: &str) -> bool {
    let fields: Vec<_> = route.split_whitespace().collect();
    let flags = fields.get(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
    fields.get(1) == Some(&"00") && flags.is_none_or(|flags| flags & RTF_ADDRCONF != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "00000000000000000000000000000000";

    #[test]
    fn only_a_default_route_of_an_advertisement_counts() {
        let route = |length: &str, flags: &str| {
            format!(
                "{ZEROS} {length} {ZEROS} 00 {ZEROS} 00000400 00000001 00000000 {flags}     eth0"
            )
        };
        assert!(is_one(&route("00", "00450003")));
        assert!(!is_one(&route("00", "00000003")), "the administrator's");
        assert!(!is_one(&route("40", "00040001")), "a prefix");
        assert!(is_one(&route("00", "what is that")));
    }
}
