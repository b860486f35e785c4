//! The headers in front of every copy, and the way to the collector (pure).

use std::net::Ipv4Addr;

use etherparse::{IpDscp, IpNumber, Ipv4Header, UdpHeader};
use ipnetwork::Ipv4Network;

use crate::bpf::{GuePiece, GueTemplate};
use crate::config::LocalPort;

/// Bytes that the tunnel puts in front of a packet: IPv4, UDP and GUE.
pub const OVERHEAD: u32 = 20 + 8 + 4;

/// Of these, what each fragment of an outer packet has: IPv4.
const IPV4: u32 = 20;

/// Longest frame that the kernel lets a program lengthen (`BPF_SKB_MAX_LEN` in net/core/filter.c:
/// 16 KiB less what a buffer needs for itself, 512 bytes at most), without Ethernet.
const LONGEST_LENGTHENED: u32 = 16_384 - 512 - 14;

/// The most that the program moves at once, and a multiple of 8, as the payload of a fragment has to
/// be (RFC 791).
const LONGEST_PIECE: u32 = size_of::<GuePiece>() as u32;

/// Over a smaller MTU than every host takes (RFC 791), copies would make too many pieces to cut.
const LEAST_CUT_FOR: u32 = 576;

/// What fits an outer packet, and how the tunnel cuts what does not. All lengths in bytes, those of
/// copies from their IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// of the NIC
    pub mtu: u32,
    /// longest copy that leaves in one outer packet
    pub whole: u32,
    /// of a longer one: payload of each outer fragment but the last
    pub piece: u32,
    /// longest copy that the tunnel carries
    pub longest: u32,
}

impl Sizes {
    pub fn of(mtu: u32) -> Self {
        let whole = mtu.min(LONGEST_LENGTHENED).saturating_sub(OVERHEAD);
        let piece = (mtu.saturating_sub(IPV4) & !7).min(LONGEST_PIECE);
        let longest = if mtu < LEAST_CUT_FOR { whole } else { u32::from(u16::MAX) - OVERHEAD };
        Self { mtu, whole, piece, longest }
    }
}

/// Hops that a copy may take, by default (the kernel's for tunnels is to inherit; Linux hosts use 64).
pub const TTL: u8 = 64;

/// The two ends of the tunnel, and the way from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub source: Ipv4Addr,
    pub collector: Ipv4Addr,
    pub local_port: LocalPort,
    pub remote_port: u16,
    /// differentiated services code point (RFC 2474)
    pub dscp: u8,
    pub ttl: u8,
    /// the NIC that the copies leave by
    pub ifindex: u32,
    /// `None`: the kernel's routes decide for each copy
    pub next_hop: Option<Ipv4Addr>,
    pub sizes: Sizes,
}

impl Path {
    /// What the programs on the tunnel device have to know.
    pub fn template(&self, tunnel_ifindex: u32) -> GueTemplate {
        let ends = [self.source, self.collector].map(|address| address.octets());
        let mut ip = Ipv4Header::new(0, self.ttl, IpNumber::UDP, ends[0], ends[1])
            .expect("an empty payload is not too long");
        ip.dscp = IpDscp::try_new(self.dscp).expect("checked to have 6 bits");
        // routers on the way may cut a copy that is too long for their next link
        ip.dont_fragment = false;
        ip.total_len = 0;
        ip.header_checksum = 0;
        let udp = UdpHeader {
            source_port: match self.local_port {
                LocalPort::Fixed(port) => port,
                LocalPort::OfFlow => 0,
            },
            destination_port: self.remote_port,
            length: 0,
            checksum: 0,
        };
        // GUE version 0, no extensions; what follows is IPv4 (draft-ietf-intarea-gue, section 3.1)
        let gue = [0, IpNumber::IPV4.0, 0, 0];

        let mut outer = Vec::new();
        outer.extend(ip.to_bytes());
        outer.extend(udp.to_bytes());
        outer.extend(gue);
        let words = outer[..20].chunks_exact(2);
        let ip_sum = words.map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]]))).sum();
        GueTemplate {
            outer: outer.try_into().expect("20, 8 and 4 bytes"),
            ip_sum,
            ifindex: self.ifindex,
            next_hop: self.next_hop.map_or(0, |hop| u32::from_ne_bytes(hop.octets())),
            tunnel_ifindex,
            mtu: self.sizes.mtu,
            whole_len: self.sizes.whole,
            piece_len: self.sizes.piece,
            ..Default::default()
        }
    }
}

/// Next hop towards the collector out of a NIC with these addresses: the collector itself where it
/// is on the link, else the first address of the NIC's network. `None` where that is ourselves.
pub fn next_hop(collector: Ipv4Addr, addresses: &[Ipv4Network]) -> Option<Ipv4Addr> {
    if addresses.iter().any(|network| network.contains(collector)) {
        return Some(collector);
    }
    let network = addresses.first()?;
    let first = Ipv4Addr::from(u32::from(network.network()).checked_add(1)?);
    let ours = addresses.iter().any(|address| address.ip() == first);
    (network.contains(first) && !ours).then_some(first)
}

/// The address to send from: of the next hop's network where we have one there, else the first.
pub fn source(next_hop: Option<Ipv4Addr>, addresses: &[Ipv4Network]) -> Option<Ipv4Addr> {
    let beside = |hop| addresses.iter().find(|network| network.contains(hop));
    let network = next_hop.and_then(beside).or(addresses.first())?;
    Some(network.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

    fn networks(texts: &[&str]) -> Vec<Ipv4Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_template_is_ipv4_udp_and_gue_in_network_order() {
        let path = Path {
            source: Ipv4Addr::new(10, 2, 0, 1),
            collector: COLLECTOR,
            local_port: LocalPort::Fixed(6080),
            remote_port: 6081,
            dscp: 46,
            ttl: 3,
            ifindex: 7,
            next_hop: Some(Ipv4Addr::new(10, 2, 0, 254)),
            sizes: Sizes::of(1500),
        };
        let template = path.template(8);
        let expected = [
            0x45, 0xb8, 0, 0, 0, 0, 0, 0, 3, 17, 0, 0, 10, 2, 0, 1, 192, 0, 2, 50, // IPv4
            0x17, 0xc0, 0x17, 0xc1, 0, 0, 0, 0, // UDP
            0, 4, 0, 0, // GUE
        ];
        assert_eq!(template.outer, expected);
        let of_flow = Path { local_port: LocalPort::OfFlow, ..path }.template(8);
        assert_eq!(of_flow.outer[20..22], [0, 0], "for the program to fill in");
        assert_eq!(template.ifindex, 7);
        assert_eq!(template.next_hop.to_ne_bytes(), [10, 2, 0, 254]);
        assert_eq!(template.tunnel_ifindex, 8);
        assert_eq!((template.mtu, template.whole_len, template.piece_len), (1500, 1468, 1480));
    }

    #[test]
    fn pieces_fit_the_nic_and_begin_at_multiples_of_8() {
        for mtu in [68, 576, 1280, 1499, 1500, 8996, 9000, 65_536] {
            let sizes = Sizes::of(mtu);
            assert!(sizes.piece + 20 <= mtu && sizes.piece.is_multiple_of(8), "{sizes:?}");
            assert!(sizes.whole + 32 <= mtu, "{sizes:?}");
            // the first piece ends in the copy, behind its IP header
            assert!(sizes.piece >= 12 + 20, "{sizes:?}");
            assert!(sizes.longest >= sizes.whole, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_cut_makes_an_outer_packet_of_65535_bytes_at_most() {
        assert_eq!(Sizes::of(1500).longest, 65_535 - 32);
        assert_eq!(Sizes::of(576).longest, 65_535 - 32);
        assert_eq!(Sizes::of(575).longest, 575 - 32);
    }

    #[test]
    fn a_collector_on_the_link_is_its_own_next_hop() {
        let addresses = networks(&["10.0.0.1/8", "192.0.2.1/24"]);
        assert_eq!(next_hop(COLLECTOR, &addresses), Some(COLLECTOR));
        assert_eq!(source(Some(COLLECTOR), &addresses), Some(Ipv4Addr::new(192, 0, 2, 1)));
    }

    #[test]
    fn else_the_first_address_of_the_network_is_the_next_hop_unless_it_is_ours() {
        let hop = |text| next_hop(COLLECTOR, &networks(&[text]));
        assert_eq!(hop("10.2.0.7/24"), Some(Ipv4Addr::new(10, 2, 0, 1)));
        assert_eq!(hop("10.2.0.1/24"), None);
        assert_eq!(hop("10.2.0.7/32"), None);
    }

    #[test]
    fn without_addresses_there_is_no_way() {
        assert_eq!(next_hop(COLLECTOR, &[]), None);
        assert_eq!(source(Some(COLLECTOR), &[]), None);
    }
}
