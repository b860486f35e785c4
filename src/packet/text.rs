//! A frame in words, as far as possible in words that `describe` parses.

use etherparse::{Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket};

use super::describe::has_ports;
use crate::filter::fields::{dscp, icmp_type, protocol, tcp_flags};
use crate::filter::{IcmpType, TcpFlags};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Byte of the TCP header (RFC 9293).
const FLAGS: usize = 13;

/// What is told of an IP packet.
struct Ip<'a> {
    /// Source, destination.
    ends: [std::net::IpAddr; 2],
    protocol: u8,
    traffic_class: u8,
    /// Bytes from the IP header on.
    length: usize,
    /// Of a fragment: bytes of the datagram in front of it.
    fragment: Option<u32>,
    payload: &'a [u8],
}

/// The packet in a frame in one line, in the words of `--packet`; `frame` begins with the Ethernet header.
pub fn text(frame: &[u8]) -> String {
    let Some((tags, ip)) = ip(frame) else {
        return format!("{} bytes that are no packet of IPv4 or IPv6", frame.len());
    };
    let is_later = ip.fragment.is_some_and(|offset| offset > 0);
    // of a later fragment it is data
    let header = if is_later { &[] } else { ip.payload };
    let mut words: Vec<String> = tags.iter().map(|id| format!("vlan {id}")).collect();
    let [src, dst] = match header {
        [a, b, c, d, ..] if has_ports(ip.protocol) => {
            let port = |bytes| Some(u16::from_be_bytes(bytes));
            [(ip.ends[0], port([*a, *b])), (ip.ends[1], port([*c, *d]))]
        }
        _ => ip.ends.map(|address| (address, None)),
    }
    .map(|(address, port)| match port {
        None => address.to_string(),
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
    });
    words.extend([format!("{src} > {dst}"), protocol::text(&ip.protocol)]);
    match (ip.protocol, header) {
        (TCP, _) if header.len() > FLAGS => {
            let flags = tcp_flags::text(&TcpFlags(header[FLAGS]));
            words.push(if flags.is_empty() { "without flags".to_owned() } else { flags });
        }
        (ICMP | ICMPV6, [kind, ..]) => words.push(icmp_text(ip.protocol, *kind)),
        _ => {}
    }
    if ip.traffic_class >> 2 != 0 {
        words.push(format!("dscp {}", dscp::text(&(ip.traffic_class >> 2))));
    }
    words.push(format!("length {}", ip.length));
    words.extend(match ip.fragment {
        None => None,
        Some(0) => Some("(the first fragment of a datagram)".to_owned()),
        Some(offset) => Some(format!("(a fragment of a datagram, from its byte {offset} on)")),
    });
    words.join(" ")
}

/// Whether the frame is a fragment without the headers of the transport layer: its offset is not 0.
pub fn is_later_fragment(frame: &[u8]) -> bool {
    ip(frame).is_some_and(|(_, ip)| ip.fragment.is_some_and(|offset| offset > 0))
}

/// IDs of VLAN tags, and what they are in front of.
fn ip(frame: &[u8]) -> Option<(Vec<u16>, Ip<'_>)> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let tags = packet.vlan_ids().iter().map(|id| id.value()).collect();
    let ip = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let offset = 8 * u32::from(header.fragments_offset().value());
            Ip {
                ends: [header.source_addr().into(), header.destination_addr().into()],
                protocol: header.protocol().0,
                traffic_class: header.dcp().value() << 2,
                length: header.total_len().into(),
                fragment: (offset > 0 || header.more_fragments()).then_some(offset),
                payload: ip.payload().payload,
            }
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let fragment = ip.extensions().clone().into_iter().find_map(|header| match header {
                Ipv6ExtensionSlice::Fragment(it) if it.is_fragmenting_payload() => {
                    Some(8 * u32::from(it.fragment_offset().value()))
                }
                _ => None,
            });
            Ip {
                ends: [header.source_addr().into(), header.destination_addr().into()],
                protocol: ip.payload().ip_number.0,
                traffic_class: header.traffic_class(),
                length: header.slice().len() + usize::from(header.payload_length()),
                fragment,
                payload: ip.payload().payload,
            }
        }
        _ => return None,
    };
    Some((tags, ip))
}

fn icmp_text(protocol: u8, kind: u8) -> String {
    let of_family = |it: &IcmpType| if protocol == ICMP { it.v4 } else { it.v6 };
    let name = icmp_type::names().find(|it| of_family(it) == Some(kind));
    name.map_or_else(|| format!("type {kind}"), |name| icmp_type::text(&name))
}
