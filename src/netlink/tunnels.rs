//! Where a tunnel device sends its packets, from the attributes of the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{Nla, parse_u32};
use netlink_packet_route::link::{
    GreEncapFlags, GreEncapType, GreIOFlags, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel,
    InfoKind, InfoVxlan, TunnelEncapFlags, TunnelEncapType,
};

const IPV4_LEN: u32 = 20;
const IPV6_LEN: u32 = 40;
/// Header with the tunnel encapsulation limit (RFC 2473, section 4.1.1). The kernel adds it unless IGNORE_ENCAP_LIMIT
/// is set.
const ENCAP_LIMIT_LEN: u32 = 8;
/// A flag of ip6tnl devices, and of GRE devices over IPv6 in IFLA_GRE_FLAGS (linux/ip6_tunnel.h).
const IGNORE_ENCAP_LIMIT: u32 = 1;
/// netlink-packet-route does not know this attribute (linux/if_tunnel.h).
const IFLA_GRE_FLAGS: u16 = 13;
const UDP_LEN: u32 = 8;
const ETHERNET_LEN: u32 = 14;
/// Header of VXLAN (RFC 7348), and of Geneve without options (RFC 8926).
const VXLAN_LEN: u32 = 8;
const GRE_LEN: u32 = 4;
/// GRE's key, checksum and sequence number have this length each (RFC 2890).
const GRE_FIELD_LEN: u32 = 4;
const GUE_LEN: u32 = 4;
/// GUE's private flags and its remote checksum offload field (gue_encap_hlen(), net/ipv4/fou_core.c).
const GUE_REMCSUM_LEN: u32 = 8;

const IPPROTO_IPIP: u8 = libc::IPPROTO_IPIP as u8;
const IPPROTO_IPV6: u8 = libc::IPPROTO_IPV6 as u8;
const IPPROTO_GRE: u8 = libc::IPPROTO_GRE as u8;
const IPPROTO_UDP: u8 = libc::IPPROTO_UDP as u8;

/// The fixed far end of a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelRemote {
    /// Outer destination address. It is never the unspecified one.
    pub address: IpAddr,
    /// Protocol of the outer IP header: 4 for ipip, 41 for sit and ip6tnl, 47 for GRE, 17 for all tunnels in UDP.
    pub protocol: u8,
    /// Outer UDP destination port; 0 where there is no UDP.
    pub port: u16,
    /// Bytes in front of the inner IP packet: the outer IP header and all headers between the two.
    pub overhead: u32,
}

impl TunnelRemote {
    /// The far end of a device of this kind, from its IFLA_INFO_DATA. `None` where it is no tunnel that we know, or
    /// has no fixed far end.
    pub(super) fn decode(kind: &InfoKind, data: &InfoData) -> Option<Self> {
        let mut remote = match (kind, data) {
            (InfoKind::IpIp, InfoData::IpTunnel(data)) => ip_tunnel(IPPROTO_IPIP, data),
            (InfoKind::SitTun, InfoData::IpTunnel(data)) => ip_tunnel(IPPROTO_IPV6, data),
            (InfoKind::Ip6Tnl, InfoData::IpTunnel(data)) => ip6_tunnel(data),
            (_, InfoData::GreTun(data)) => gre(0, data),
            (_, InfoData::GreTap(data) | InfoData::ErSpan(data)) => gre(ETHERNET_LEN, data),
            (_, InfoData::GreTun6(data)) => gre6(0, data),
            (_, InfoData::GreTap6(data) | InfoData::Ip6ErSpan(data)) => gre6(ETHERNET_LEN, data),
            (_, InfoData::Vxlan(data)) => vxlan(data),
            (_, InfoData::Geneve(data)) => geneve(data),
            _ => return None,
        };
        remote.overhead += if remote.address.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
        (!remote.address.is_unspecified()).then_some(remote)
    }

    /// With no address yet, and without the outer IP header in `overhead`.
    fn new(protocol: u8, overhead: u32) -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), protocol, port: 0, overhead }
    }

    /// Puts a UDP header, and `overhead` bytes behind it, in front of the tunnel's own header. Only here is the port
    /// taken over: the kernel reports one also for tunnels without UDP.
    fn in_udp(&mut self, port: u16, overhead: u32) {
        self.protocol = IPPROTO_UDP;
        self.port = port;
        self.overhead += UDP_LEN + overhead;
    }
}

fn ip_tunnel(protocol: u8, data: &[InfoIpTunnel]) -> TunnelRemote {
    let mut remote = TunnelRemote::new(protocol, 0);
    let mut encapsulation = TunnelEncapType::None;
    let mut flags = TunnelEncapFlags::empty();
    let mut port = 0;
    for attribute in data {
        match attribute {
            InfoIpTunnel::Remote(address) => remote.address = *address,
            InfoIpTunnel::EncapType(value) => encapsulation = *value,
            InfoIpTunnel::EncapFlags(value) => flags = *value,
            InfoIpTunnel::EncapDPort(value) => port = *value,
            _ => {}
        }
    }
    match encapsulation {
        TunnelEncapType::Fou => remote.in_udp(port, 0),
        TunnelEncapType::Gue => {
            remote.in_udp(port, gue_len(flags.contains(TunnelEncapFlags::RemCSum)));
        }
        _ => {}
    }
    remote
}

/// The protocol is 41 for every mode of the device (IPv4, IPv6 or both within): over IPv6, the loop guard takes 4 for
/// 41.
fn ip6_tunnel(data: &[InfoIpTunnel]) -> TunnelRemote {
    let mut remote = ip_tunnel(IPPROTO_IPV6, data);
    let flags = data.iter().find_map(|attribute| match attribute {
        InfoIpTunnel::Ipv6Flags(flags) => Some(flags.bits()),
        _ => None,
    });
    remote.overhead += encap_limit_len(flags);
    remote
}

fn encap_limit_len(flags: Option<u32>) -> u32 {
    if flags.unwrap_or(0) & IGNORE_ENCAP_LIMIT == 0 { ENCAP_LIMIT_LEN } else { 0 }
}

fn gre(inner: u32, data: &[InfoGre]) -> TunnelRemote {
    let mut remote = TunnelRemote::new(IPPROTO_GRE, GRE_LEN + inner);
    let mut encapsulation = GreEncapType::None;
    let mut flags = GreEncapFlags::empty();
    let mut port = 0;
    for attribute in data {
        match attribute {
            InfoGre::Remote(address) => remote.address = (*address).into(),
            InfoGre::OFlags(fields) => {
                for field in [GreIOFlags::Key, GreIOFlags::Checksum, GreIOFlags::Seq] {
                    remote.overhead += if fields.contains(field) { GRE_FIELD_LEN } else { 0 };
                }
            }
            InfoGre::ErSpanVer(version) => remote.overhead += erspan_len(*version),
            InfoGre::EncapType(value) => encapsulation = *value,
            InfoGre::EncapFlags(value) => flags = *value,
            InfoGre::DestinationPort(value) => port = *value,
            _ => {}
        }
    }
    match encapsulation {
        GreEncapType::Fou => remote.in_udp(port, 0),
        GreEncapType::Gue => {
            remote.in_udp(port, gue_len(flags.contains(GreEncapFlags::RemoteChecksum)));
        }
        _ => {}
    }
    remote
}

fn gre6(inner: u32, data: &[InfoGre6]) -> TunnelRemote {
    let (mut address, mut flags) = (None, None);
    let mut common = Vec::new();
    for attribute in data {
        match attribute {
            InfoGre6::Remote(value) => address = Some(*value),
            InfoGre6::OFlags(value) => common.push(InfoGre::OFlags(*value)),
            InfoGre6::ErSpanVer(value) => common.push(InfoGre::ErSpanVer(*value)),
            InfoGre6::EncapType(value) => common.push(InfoGre::EncapType(*value)),
            InfoGre6::EncapFlags(value) => common.push(InfoGre::EncapFlags(*value)),
            InfoGre6::DestinationPort(value) => common.push(InfoGre::DestinationPort(*value)),
            InfoGre6::Other(other) if other.kind() == IFLA_GRE_FLAGS => {
                let mut bytes = vec![0; other.value_len()];
                other.emit_value(&mut bytes);
                flags = parse_u32(&bytes).ok();
            }
            _ => {}
        }
    }
    let mut remote = gre(inner, &common);
    remote.address = address.unwrap_or(Ipv6Addr::UNSPECIFIED).into();
    remote.overhead += encap_limit_len(flags);
    remote
}

fn vxlan(data: &[InfoVxlan]) -> TunnelRemote {
    let mut remote = TunnelRemote::new(IPPROTO_UDP, 0);
    let (mut port, mut inner) = (0, ETHERNET_LEN);
    for attribute in data {
        match attribute {
            InfoVxlan::Group(address) => remote.address = (*address).into(),
            InfoVxlan::Group6(address) => remote.address = (*address).into(),
            InfoVxlan::Port(value) => port = *value,
            InfoVxlan::Gpe => inner = 0,
            _ => {}
        }
    }
    remote.in_udp(port, VXLAN_LEN + inner);
    remote
}

fn geneve(data: &[InfoGeneve]) -> TunnelRemote {
    let mut remote = TunnelRemote::new(IPPROTO_UDP, 0);
    let (mut port, mut inner) = (0, ETHERNET_LEN);
    for attribute in data {
        match attribute {
            InfoGeneve::Remote(address) => remote.address = (*address).into(),
            InfoGeneve::Remote6(address) => remote.address = (*address).into(),
            InfoGeneve::Port(value) => port = *value,
            InfoGeneve::InnerProtoInherit => inner = 0,
            _ => {}
        }
    }
    remote.in_udp(port, VXLAN_LEN + inner);
    remote
}

fn gue_len(remote_checksum: bool) -> u32 {
    GUE_LEN + if remote_checksum { GUE_REMCSUM_LEN } else { 0 }
}

/// erspan_hdr_len() (net/erspan.h): type I has no header of its own.
fn erspan_len(version: u8) -> u32 {
    match version {
        1 => 8,
        2 => 12,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::link::Ip6TunnelFlags;

    use super::*;

    const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
    const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);

    fn remote(protocol: u8, port: u16, overhead: u32) -> Option<TunnelRemote> {
        Some(TunnelRemote { address: FAR.into(), protocol, port, overhead })
    }

    fn remote6(protocol: u8, port: u16, overhead: u32) -> Option<TunnelRemote> {
        Some(TunnelRemote { address: FAR6.into(), protocol, port, overhead })
    }

    /// The attributes of an ipip or sit device. The kernel always reports the port, also without UDP.
    fn ip_tunnel_data(encapsulation: TunnelEncapType, flags: TunnelEncapFlags) -> InfoData {
        InfoData::IpTunnel(vec![
            InfoIpTunnel::Local(Ipv4Addr::new(192, 0, 2, 1).into()),
            InfoIpTunnel::Remote(FAR.into()),
            InfoIpTunnel::EncapType(encapsulation),
            InfoIpTunnel::EncapSPort(6080),
            InfoIpTunnel::EncapDPort(6081),
            InfoIpTunnel::EncapFlags(flags),
        ])
    }

    #[test]
    fn ipip_and_sit_with_and_without_udp() {
        use TunnelEncapType::{Fou, Gue, None};
        let plain = TunnelEncapFlags::empty();
        for (kind, encapsulation, flags, expected) in [
            (InfoKind::IpIp, None, plain, remote(4, 0, 20)),
            (InfoKind::IpIp, Fou, plain, remote(17, 6081, 28)),
            (InfoKind::IpIp, Gue, plain, remote(17, 6081, 32)),
            (InfoKind::IpIp, Gue, TunnelEncapFlags::RemCSum, remote(17, 6081, 40)),
            (InfoKind::SitTun, None, plain, remote(41, 0, 20)),
            (InfoKind::SitTun, Gue, plain, remote(17, 6081, 32)),
        ] {
            let data = ip_tunnel_data(encapsulation, flags);
            assert_eq!(TunnelRemote::decode(&kind, &data), expected, "{kind} {encapsulation}");
        }
    }

    #[test]
    fn gre_with_and_without_its_optional_fields() {
        let data = |fields, rest: &[InfoGre]| {
            let mut data = vec![InfoGre::Remote(FAR), InfoGre::OFlags(fields)];
            data.extend_from_slice(rest);
            data
        };
        let none = GreIOFlags::empty();
        let gue = [InfoGre::EncapType(GreEncapType::Gue), InfoGre::DestinationPort(6081)];
        for (info, expected) in [
            (InfoData::GreTun(data(none, &[])), remote(47, 0, 24)),
            (InfoData::GreTun(data(GreIOFlags::Key, &[])), remote(47, 0, 28)),
            (InfoData::GreTun(data(GreIOFlags::Key | GreIOFlags::Seq, &[])), remote(47, 0, 32)),
            (InfoData::GreTun(data(none, &gue)), remote(17, 6081, 36)),
            (InfoData::GreTap(data(none, &[])), remote(47, 0, 38)),
            (InfoData::ErSpan(data(GreIOFlags::Seq, &[InfoGre::ErSpanVer(1)])), remote(47, 0, 50)),
        ] {
            assert_eq!(TunnelRemote::decode(&InfoKind::GreTun, &info), expected, "{info:?}");
        }
    }

    #[test]
    fn geneve_and_vxlan_carry_ethernet_in_udp() {
        let geneve = InfoData::Geneve(vec![InfoGeneve::Remote(FAR), InfoGeneve::Port(6081)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::Geneve, &geneve), remote(17, 6081, 50));
        let vxlan = InfoData::Vxlan(vec![InfoVxlan::Group(FAR), InfoVxlan::Port(4789)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::Vxlan, &vxlan), remote(17, 4789, 50));
    }

    #[test]
    fn ipv6_headers_are_longer_and_have_an_option_by_default() {
        let tunnel = |rest: &[InfoIpTunnel]| {
            let remote = [InfoIpTunnel::Remote(FAR6.into())];
            let data = InfoData::IpTunnel([&remote, rest].concat());
            TunnelRemote::decode(&InfoKind::Ip6Tnl, &data)
        };
        assert_eq!(tunnel(&[]), remote6(41, 0, 48));
        let ignored = InfoIpTunnel::Ipv6Flags(Ip6TunnelFlags::IgnEncapLimit);
        assert_eq!(tunnel(&[ignored]), remote6(41, 0, 40));

        let gre = |rest: &[InfoGre6]| [&[InfoGre6::Remote(FAR6)], rest].concat();
        let ignored = InfoGre6::Other(DefaultNla::new(IFLA_GRE_FLAGS, vec![1, 0, 0, 0]));
        let keyed = InfoGre6::OFlags(GreIOFlags::Key);
        for (info, expected) in [
            (InfoData::GreTun6(gre(&[])), remote6(47, 0, 52)),
            (InfoData::GreTun6(gre(&[keyed, ignored.clone()])), remote6(47, 0, 48)),
            (InfoData::GreTap6(gre(&[])), remote6(47, 0, 66)),
            (InfoData::GreTap6(gre(&[ignored])), remote6(47, 0, 58)),
        ] {
            assert_eq!(TunnelRemote::decode(&InfoKind::GreTun6, &info), expected, "{info:?}");
        }
        let geneve = InfoData::Geneve(vec![InfoGeneve::Remote6(FAR6), InfoGeneve::Port(6081)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::Geneve, &geneve), remote6(17, 6081, 70));
        let vxlan = InfoData::Vxlan(vec![InfoVxlan::Group6(FAR6), InfoVxlan::Port(4789)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::Vxlan, &vxlan), remote6(17, 4789, 70));
        let any = InfoData::GreTun6(vec![InfoGre6::Remote(Ipv6Addr::UNSPECIFIED)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::GreTun6, &any), None);
    }

    #[test]
    fn a_device_without_a_fixed_far_end_has_none() {
        let external = InfoData::Vxlan(vec![InfoVxlan::CollectMetadata(true)]);
        assert_eq!(TunnelRemote::decode(&InfoKind::Vxlan, &external), None);
        let any = InfoData::IpTunnel(vec![InfoIpTunnel::Remote(Ipv4Addr::UNSPECIFIED.into())]);
        assert_eq!(TunnelRemote::decode(&InfoKind::IpIp, &any), None);
        let bridge = InfoData::Bridge(Vec::new());
        assert_eq!(TunnelRemote::decode(&InfoKind::Bridge, &bridge), None);
    }
}
