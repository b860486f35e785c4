//! What a rule means for a frame, said as plainly as can be, from the bytes on. It shares nothing
//! with the programs nor with the compiled rules.

use std::net::Ipv4Addr;

use traffic_mirroring::filter::{Field, Rule};

use crate::packets::has_ports;

/// What rules speak of. `ports` of a later fragment, and of a protocol without any, are `None`.
struct Fields {
    protocol: u8,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ports: Option<(u16, u16)>,
}

pub fn any_matches(rules: &[Rule], frame: &[u8]) -> bool {
    match fields(frame) {
        Some(fields) => rules.iter().any(|rule| matches(rule, &fields)),
        None => false,
    }
}

fn matches(rule: &Rule, fields: &Fields) -> bool {
    accepts(&rule.protocol, |protocol| *protocol == fields.protocol)
        && accepts(&rule.src_address, |net| net.contains(fields.src))
        && accepts(&rule.dst_address, |net| net.contains(fields.dst))
        && match fields.ports {
            Some((src, dst)) => {
                accepts(&rule.src_port, |range| range.contains(&src))
                    && accepts(&rule.dst_port, |range| range.contains(&dst))
            }
            None => {
                let named_and_portless = !has_ports(fields.protocol) && !rule.protocol.is_any();
                named_and_portless || rule.src_port.is_any() && rule.dst_port.is_any()
            }
        }
}

fn accepts<T>(field: &Field<T>, holds: impl Fn(&T) -> bool) -> bool {
    field.is_any() || field.named().iter().any(holds)
}

/// `None` for what no rule matches.
fn fields(frame: &[u8]) -> Option<Fields> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..] != [0x08, 0x00] || ip.len() < 20 || ip[0] >> 4 != 4 {
        return None;
    }
    let word = |offset: usize| u16::from_be_bytes([ip[offset], ip[offset + 1]]);
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let total_len = usize::from(word(2));
    if header_len < 20 || header_len > total_len || header_len > ip.len() {
        return None;
    }
    let protocol = ip[9];
    let later_fragment = word(6) & 0x1fff != 0;
    let ports = if has_ports(protocol) && !later_fragment {
        if header_len + 4 > total_len || header_len + 4 > ip.len() {
            return None;
        }
        Some((word(header_len), word(header_len + 2)))
    } else {
        None
    };
    let address =
        |offset: usize| Ipv4Addr::new(ip[offset], ip[offset + 1], ip[offset + 2], ip[offset + 3]);
    Some(Fields { protocol, src: address(12), dst: address(16), ports })
}
