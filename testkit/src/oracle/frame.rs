//! Parses a frame into the fields that rules can name, in the plainest form. `None` stands for a frame that no rule
//! matches: it is neither IPv4 nor IPv6, malformed, or cut short.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::evaluate::{Fragment, Packet, Ports};

/// EtherTypes of VLAN tags: IEEE 802.1Q, 802.1ad, and the one in use before 802.1ad.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MAX_TAGS: usize = 2;
/// A packet with more of them is malformed: nobody sends one.
const MAX_EXTENSION_HEADERS: usize = 8;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The end of the IP headers, and what follows it.
struct Upper<'a> {
    protocol: u8,
    fragment: Option<Fragment>,
    /// The bytes of the packet behind the headers, as many as there are. Padding is not among them.
    payload: &'a [u8],
}

pub fn packet(frame: &[u8]) -> Option<Packet> {
    let mut ethertype = word(frame, 12)?;
    let mut rest = &frame[14..];
    let mut vlan = None;
    for _ in 0..MAX_TAGS {
        if !TAGS.contains(&ethertype) {
            break;
        }
        vlan = vlan.or(Some(word(rest, 0)? & 0xfff));
        ethertype = word(rest, 2)?;
        rest = &rest[4..];
    }
    let version = rest.first()? >> 4;
    match (ethertype, version) {
        (0x0800, 4) => ipv4(rest, vlan),
        (0x86dd, 6) => ipv6(rest, vlan),
        _ => None,
    }
}

fn ipv4(ip: &[u8], vlan: Option<u16>) -> Option<Packet> {
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let length = word(ip, 2)?;
    if header_len < 20 || header_len > length.into() {
        return None;
    }
    let payload = ip[..ip.len().min(length.into())].get(header_len..)?;
    let fragment_word = word(ip, 6)?;
    let fragment = (fragment_word & 0x3fff != 0)
        .then_some(Fragment { is_first: fragment_word & 0x1fff == 0, id: word(ip, 4)?.into() });
    let upper = Upper { protocol: ip[9], fragment, payload };
    let address = |at: usize| IpAddr::V4(Ipv4Addr::from([0, 1, 2, 3].map(|byte| ip[at + byte])));
    with(upper, ICMP, address(12), address(16), vlan, ip[1] >> 2, length)
}

fn ipv6(ip: &[u8], vlan: Option<u16>) -> Option<Packet> {
    let length = 40 + usize::from(word(ip, 4)?);
    let source: [u8; 16] = ip.get(8..24)?.try_into().ok()?;
    let destination: [u8; 16] = ip.get(24..40)?.try_into().ok()?;
    let upper = upper(ip[6], &ip[40..ip.len().min(length)])?;
    let dscp = (ip[0] << 2 | ip[1] >> 6) & 0x3f;
    let [source, destination] = [source, destination].map(|it| IpAddr::V6(Ipv6Addr::from(it)));
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    with(upper, ICMPV6, source, destination, vlan, dscp, length)
}

/// Goes through the extension headers (RFC 8200, section 4; RFC 4302). In a later fragment, the fragment header is the
/// last one: data follows it, whatever its next-header field says.
fn upper(mut next: u8, mut rest: &[u8]) -> Option<Upper<'_>> {
    let mut headers = 0;
    let mut fragment: Option<Fragment> = None;
    while fragment.is_none_or(|fragment| fragment.is_first) {
        let len = match next {
            // hop-by-hop options, routing, destination options
            0 | 43 | 60 => 8 + 8 * usize::from(*rest.get(1)?),
            // authentication header
            51 => 8 + 4 * usize::from(*rest.get(1)?),
            // fragment
            44 => 8,
            _ => break,
        };
        headers += 1;
        if headers > MAX_EXTENSION_HEADERS {
            return None;
        }
        if next == 44 {
            let offset_and_more = word(rest, 2)?;
            let id = u32::from(word(rest, 4)?) << 16 | u32::from(word(rest, 6)?);
            // a single fragment that is the whole datagram counts as a packet without fragments
            if offset_and_more & 0xfff9 != 0 || fragment.is_some() {
                fragment = Some(Fragment { is_first: offset_and_more & 0xfff8 == 0, id });
            }
        }
        next = *rest.first()?;
        rest = rest.get(len..)?;
    }
    Some(Upper { protocol: next, fragment, payload: rest })
}

fn with(
    upper: Upper<'_>,
    icmp: u8,
    src: IpAddr,
    dst: IpAddr,
    vlan: Option<u16>,
    dscp: u8,
    length: u16,
) -> Option<Packet> {
    let Upper { protocol, fragment, payload } = upper;
    let later_fragment = fragment.is_some_and(|fragment| !fragment.is_first);
    let ports = match (has_ports(protocol), later_fragment) {
        (false, _) => Ports::None,
        (true, true) => Ports::Unknown,
        (true, false) => Ports::Known { src: word(payload, 0)?, dst: word(payload, 2)? },
    };
    let is_first = |wanted| protocol == wanted && !later_fragment;
    Some(Packet {
        protocol,
        src,
        dst,
        ports,
        tcp_flags: is_first(TCP).then(|| payload.get(13).copied()).flatten(),
        vlan,
        icmp_type: is_first(icmp).then(|| payload.first().copied()).flatten(),
        dscp,
        length,
        fragment,
    })
}

fn has_ports(protocol: u8) -> bool {
    // TCP, UDP, DCCP, SCTP, UDP-Lite
    [6, 17, 33, 132, 136].contains(&protocol)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
