//! The outer headers of a copy, and the path to the collector. (Pure.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpDscp, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use ipnetwork::IpNetwork;

use crate::abi::GueSize;
use crate::bpf::GueTemplate;
use crate::bpf::address;
use crate::model::LocalPort;

/// Length of the UDP and GUE headers. Of several fragments, only the first has them.
const FIRST_HEADERS: u32 = GueSize::GUE_HEADERS_LEN.0;

/// What differs between IPv4 and IPv6.
struct Family {
    /// length of the IP header in bytes
    header: u32,
    /// length of the IP header of a fragment, with the fragment header in IPv6
    fragment_header: u32,
    /// Longest outer packet. The 16-bit length in an IPv4 header includes that header. In IPv6 it does not.
    longest: u32,
    /// Smallest MTU for which copies are cut into fragments: what every host has to take (RFC 791, RFC 8200). For a
    /// smaller one, a copy would become more fragments than the program can make.
    least_cut_for: u32,
}

impl Family {
    fn of(collector: IpAddr) -> Self {
        match collector {
            IpAddr::V4(_) => {
                Self { header: 20, fragment_header: 20, longest: 65_535, least_cut_for: 576 }
            }
            IpAddr::V6(_) => {
                Self { header: 40, fragment_header: 48, longest: 65_575, least_cut_for: 1280 }
            }
        }
    }
}

/// Bytes that the tunnel puts in front of a copy to this collector: IP, UDP and GUE headers.
pub fn overhead(collector: IpAddr) -> u32 {
    Family::of(collector).header + FIRST_HEADERS
}

/// Longest packet that the kernel lets a program lengthen, without the Ethernet header. `BPF_SKB_MAX_LEN` in
/// net/core/filter.c limits the frame to 16 KiB less what a buffer needs for itself, which is 512 bytes at most.
const LONGEST_LENGTHENED: u32 = 16_384 - 512 - 14;

/// The most bytes that the program moves at once. It is a multiple of 8, as the payload of every fragment but the last
/// has to be (RFC 791, RFC 8200).
const LONGEST_PIECE: u32 = GueSize::GUE_LONGEST_PIECE.0;

/// What fits into an outer packet, and how the tunnel cuts what does not fit. All lengths are in bytes. The length of
/// a copy counts from its IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// MTU of the NIC. Over IPv6, where routers do not cut packets, that of the route if it is smaller.
    pub mtu: u32,
    /// longest copy that leaves in one outer packet
    pub whole: u32,
    /// payload of each outer fragment of a longer copy, except the last fragment
    pub piece: u32,
    /// longest copy that the tunnel carries
    pub longest: u32,
}

impl Sizes {
    /// For packets of up to `mtu` bytes on the way. Of the collector, only the version of IP counts.
    pub fn of(mtu: u32, collector: IpAddr) -> Self {
        let (family, overhead) = (Family::of(collector), overhead(collector));
        let whole = mtu.min(LONGEST_LENGTHENED).saturating_sub(overhead);
        let piece = (mtu.saturating_sub(family.fragment_header) & !7).min(LONGEST_PIECE);
        let longest = if mtu < family.least_cut_for { whole } else { family.longest - overhead };
        Self { mtu, whole, piece, longest }
    }
}

/// Default TTL of outer packets: the one that Linux gives to its own packets. (The kernel's tunnels inherit the TTL of
/// the inner packet.)
pub const TTL: u8 = 64;

/// The next hop in a template. `None`: the kernel's routes choose one for each copy.
pub fn next_hop_of(template: &GueTemplate) -> Option<IpAddr> {
    let hop = match template.is_ipv6 {
        0 => Ipv4Addr::from(template.next_hop[0].to_ne_bytes()).into(),
        _ => address::address_of(template.next_hop),
    };
    Some(hop).filter(|hop| !hop.is_unspecified())
}

/// Both ends of the tunnel, and the path between them. All addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// outer source address: an address of this host
    pub source: IpAddr,
    /// outer destination address
    pub collector: IpAddr,
    /// UDP source port, or that it follows from the flow of each copy
    pub local_port: LocalPort,
    /// UDP destination port, in host byte order
    pub remote_port: u16,
    /// differentiated services code point, from 0 to 63 (RFC 2474)
    pub dscp: u8,
    /// TTL or, over IPv6, hop limit
    pub ttl: u8,
    /// the NIC that the copies leave by
    pub ifindex: u32,
    /// `None`: the kernel's routes choose one for each copy
    pub next_hop: Option<IpAddr>,
    /// which copies fit, and how longer ones are cut
    pub sizes: Sizes,
}

impl Path {
    /// The template map's entry for the programs on the device.
    pub fn template(&self, tunnel_ifindex: u32) -> GueTemplate {
        let udp = UdpHeader {
            source_port: match self.local_port {
                LocalPort::Fixed(port) => port,
                LocalPort::OfFlow => 0,
            },
            destination_port: self.remote_port,
            length: 0,
            checksum: 0,
        };
        // GUE version 0, no extensions (draft-ietf-intarea-gue, section 3.1); the program sets the protocol
        let gue = [0, IpNumber::IPV4.0, 0, 0];
        let (ip, sum) = match (self.source, self.collector) {
            (IpAddr::V4(source), IpAddr::V4(collector)) => self.ipv4(source, collector),
            (IpAddr::V6(source), IpAddr::V6(collector)) => self.ipv6(source, collector),
            mixed => unreachable!("addresses of two families: {mixed:?}"),
        };
        let mut outer = [0; size_of::<GueTemplate>()];
        let headers = [&ip[..], &udp.to_bytes(), &gue].concat();
        outer[..headers.len()].copy_from_slice(&headers);
        GueTemplate {
            outer: *outer.first_chunk().expect("a part of the template"),
            sum,
            ifindex: self.ifindex,
            next_hop: self.next_hop.map_or([0; 4], |hop| match hop {
                IpAddr::V4(hop) => [u32::from_ne_bytes(hop.octets()), 0, 0, 0],
                IpAddr::V6(_) => address::words_of(hop),
            }),
            is_ipv6: self.collector.is_ipv6().into(),
            tunnel_ifindex,
            mtu: self.sizes.mtu,
            whole_len: self.sizes.whole,
            piece_len: self.sizes.piece,
        }
    }

    /// The IPv4 header, and its sum for [`GueTemplate::sum`].
    fn ipv4(&self, source: Ipv4Addr, collector: Ipv4Addr) -> (Vec<u8>, u32) {
        let ends = [source, collector].map(|address| address.octets());
        let mut ip = Ipv4Header::new(0, self.ttl, IpNumber::UDP, ends[0], ends[1])
            .expect("an empty payload is not too long");
        ip.dscp = self.dscp();
        // routers may fragment a copy that is too long for their next link
        ip.dont_fragment = false;
        ip.total_len = 0;
        ip.header_checksum = 0;
        let ip = ip.to_bytes();
        (ip.to_vec(), sum(&ip))
    }

    /// The IPv6 header, and its sum for [`GueTemplate::sum`]: the pseudo-header of UDP (RFC 8200, 8.1) without the
    /// length, and the destination port.
    fn ipv6(&self, source: Ipv6Addr, collector: Ipv6Addr) -> (Vec<u8>, u32) {
        let ip = Ipv6Header {
            traffic_class: self.dscp().value() << 2,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: 0,
            next_header: IpNumber::UDP,
            hop_limit: self.ttl,
            source: source.octets(),
            destination: collector.octets(),
        };
        let port = self.remote_port.to_be_bytes();
        let summed = [&ip.source[..], &ip.destination, &[0, IpNumber::UDP.0], &port].concat();
        (ip.to_bytes().to_vec(), sum(&summed))
    }

    fn dscp(&self) -> IpDscp {
        IpDscp::try_new(self.dscp).expect("checked to have 6 bits")
    }
}

/// The sum of 16-bit words, not folded. The words are in the machine's byte order: a checksum comes out the same in
/// either order (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2);
    words.map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]]))).sum()
}

/// The next hop towards the collector on a NIC with these addresses. It is the collector itself if that is on-link.
/// Else it is, for IPv4, the first address of the NIC's first network, unless that address is our own. `None` in all
/// other cases.
pub fn next_hop(collector: IpAddr, addresses: &[IpNetwork]) -> Option<IpAddr> {
    if addresses.iter().any(|network| network.contains(collector)) {
        return Some(collector);
    }
    let Some(IpNetwork::V4(network)) = addresses.first() else { return None };
    let first = Ipv4Addr::from(u32::from(network.network()).checked_add(1)?);
    let ours = addresses.iter().any(|address| address.ip() == first);
    (network.contains(first) && !ours).then_some(first.into())
}

/// The source address of copies: the NIC's address in the next hop's network or, without one, its first address.
pub fn source(next_hop: Option<IpAddr>, addresses: &[IpNetwork]) -> Option<IpAddr> {
    let beside = |hop| addresses.iter().find(|network| network.contains(hop));
    let network = next_hop.and_then(beside).or(addresses.first())?;
    Some(network.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50));
    const COLLECTOR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50));

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_template_is_ipv4_udp_and_gue_in_network_order() {
        let path = Path {
            source: ip("10.2.0.1"),
            collector: COLLECTOR,
            local_port: LocalPort::Fixed(6080),
            remote_port: 6081,
            dscp: 46,
            ttl: 3,
            ifindex: 7,
            next_hop: Some(ip("10.2.0.254")),
            sizes: Sizes::of(1500, COLLECTOR),
        };
        let template = path.template(8);
        let expected = [
            0x45, 0xb8, 0, 0, 0, 0, 0, 0, 3, 17, 0, 0, 10, 2, 0, 1, 192, 0, 2, 50, // IPv4
            0x17, 0xc0, 0x17, 0xc1, 0, 0, 0, 0, // UDP
            0, 4, 0, 0, // GUE
        ];
        assert_eq!((&template.outer[..32], template.is_ipv6), (&expected[..], 0));
        let of_flow = Path { local_port: LocalPort::OfFlow, ..path }.template(8);
        assert_eq!(of_flow.outer[20..22], [0, 0], "for the program to fill in");
        assert_eq!(template.ifindex, 7);
        assert_eq!(template.next_hop[0].to_ne_bytes(), [10, 2, 0, 254]);
        assert_eq!(next_hop_of(&template), path.next_hop);
        assert_eq!(template.tunnel_ifindex, 8);
        assert_eq!((template.mtu, template.whole_len, template.piece_len), (1500, 1468, 1480));
    }

    #[test]
    fn the_ipv6_template_has_ipv6_udp_gue_and_their_checksum() {
        let path = Path {
            source: ip("fd00::1"),
            collector: COLLECTOR6,
            local_port: LocalPort::Fixed(6080),
            remote_port: 6081,
            dscp: 46,
            ttl: 3,
            ifindex: 7,
            next_hop: Some(ip("fe80::fe")),
            sizes: Sizes::of(1500, COLLECTOR6),
        };
        let template = path.template(8);
        let expected = [
            0x6b, 0x80, 0, 0, 0, 0, 17, 3, // IPv6, traffic class 46 << 2
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // from
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, // to
            0x17, 0xc0, 0x17, 0xc1, 0, 0, 0, 0, // UDP
            0, 4, 0, 0, // GUE
        ];
        assert_eq!(template.outer, expected);
        assert_eq!(template.is_ipv6, 1);
        let words = [0xfd00_u16, 1, 0x2001, 0xdb8, 0x50, 17, 6081];
        let sum: u32 = words.iter().map(|word| u32::from(word.to_be())).sum();
        assert_eq!(template.sum, sum);
        assert_eq!(template.next_hop, address::words_of(ip("fe80::fe")));
        assert_eq!(next_hop_of(&template), path.next_hop);
        assert_eq!((template.mtu, template.whole_len, template.piece_len), (1500, 1448, 1448));
        let by_routes = Path { next_hop: None, ..path }.template(8);
        assert_eq!((by_routes.next_hop, next_hop_of(&by_routes)), ([0; 4], None));
    }

    #[test]
    fn pieces_fit_the_nic_and_begin_at_multiples_of_8() {
        for mtu in [68, 576, 1280, 1499, 1500, 8996, 9000, 65_536] {
            for (collector, overhead, fragment_header) in
                [(COLLECTOR, 32, 20), (COLLECTOR6, 52, 48)]
            {
                let sizes = Sizes::of(mtu, collector);
                if collector.is_ipv6() && mtu < 1280 {
                    continue;
                }
                assert!(sizes.piece + fragment_header <= mtu, "{sizes:?}");
                assert!(sizes.piece % 8 == 0, "{sizes:?}");
                assert!(sizes.whole + overhead <= mtu, "{sizes:?}");
                // the first piece reaches beyond the IP header of the copy
                assert!(sizes.piece >= 12 + 20, "{sizes:?}");
                assert!(sizes.longest >= sizes.whole, "{sizes:?}");
            }
        }
    }

    #[test]
    fn a_truncated_copy_fills_the_longest_outer_packet_at_most() {
        assert_eq!(Sizes::of(1500, COLLECTOR).longest, 65_535 - 32);
        assert_eq!(Sizes::of(576, COLLECTOR).longest, 65_535 - 32);
        assert_eq!(Sizes::of(575, COLLECTOR).longest, 575 - 32);
        assert_eq!(Sizes::of(1500, COLLECTOR6).longest, 65_535 - 12);
        assert_eq!(Sizes::of(1279, COLLECTOR6).longest, 1279 - 52);
    }

    #[test]
    fn a_collector_on_the_link_is_its_own_next_hop() {
        let addresses = networks(&["10.0.0.1/8", "192.0.2.1/24"]);
        assert_eq!(next_hop(COLLECTOR, &addresses), Some(COLLECTOR));
        assert_eq!(source(Some(COLLECTOR), &addresses), Some(ip("192.0.2.1")));
    }

    #[test]
    fn the_next_hop_defaults_to_the_networks_first_other_address() {
        let hop = |text| next_hop(COLLECTOR, &networks(&[text]));
        assert_eq!(hop("10.2.0.7/24"), Some(ip("10.2.0.1")));
        assert_eq!(hop("10.2.0.1/24"), None);
        assert_eq!(hop("10.2.0.7/32"), None);
    }

    #[test]
    fn over_ipv6_the_collector_is_the_next_hop_or_the_routes_say() {
        let addresses = networks(&["2001:db8::1/64", "fd00::7/64"]);
        assert_eq!(next_hop(COLLECTOR6, &addresses), Some(COLLECTOR6));
        assert_eq!(source(Some(COLLECTOR6), &addresses), Some(ip("2001:db8::1")));
        assert_eq!(next_hop(COLLECTOR6, &addresses[1..]), None);
        assert_eq!(source(Some(ip("fe80::1")), &addresses[1..]), Some(ip("fd00::7")));
    }

    #[test]
    fn without_addresses_there_is_no_way() {
        assert_eq!(next_hop(COLLECTOR, &[]), None);
        assert_eq!(source(Some(COLLECTOR), &[]), None);
    }
}
