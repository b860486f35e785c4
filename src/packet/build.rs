//! From the description of a packet to its frame. Checksums behind the IP header stay 0, since no rule looks at
//! them.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use etherparse::{IpDscp, IpNumber, Ipv4Header, Ipv6Header};

use super::describe::{Description, Length};
use super::hex::ETHERNET_ADDRESSES;

const TTL: u8 = 64;
/// Of TCP: what most packets have.
const ACK: u8 = 16;
const ECHO_REQUEST: (u8, u8) = (8, 128);

pub fn frame(packet: &Description) -> Result<Vec<u8>> {
    let mut upper = upper(packet);
    let ip_header = if packet.src.is_ipv4() { Ipv4Header::MIN_LEN } else { Ipv6Header::LEN };
    let header_len = ip_header + upper.len();
    let length = match packet.length {
        None => header_len,
        Some(Length::Packet(length)) => length.into(),
        // tcpdump counts the header of ICMP
        Some(Length::Payload(length)) if packet.icmp_type.is_some() => {
            ip_header + usize::from(length)
        }
        Some(Length::Payload(length)) => header_len + usize::from(length),
    };
    ensure!(length >= header_len, "length {length} does not hold the headers, {header_len} bytes");
    upper.resize(length - ip_header, 0);

    let (ethertype, header) = ip_header_of(packet, upper.len())?;
    let mut frame = ETHERNET_ADDRESSES.to_vec();
    for (index, id) in packet.vlans.iter().enumerate() {
        // of two tags, the outer one is a provider's
        let is_outer = index + 1 < packet.vlans.len();
        frame.extend(if is_outer { [0x88, 0xa8] } else { [0x81, 0x00] });
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype);
    frame.extend(header);
    frame.extend(upper);
    Ok(frame)
}

fn ip_header_of(packet: &Description, payload: usize) -> Result<([u8; 2], Vec<u8>)> {
    let payload = u16::try_from(payload).ok().context("the packet is longer than IP allows")?;
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let protocol = IpNumber(packet.protocol);
            let mut header = Ipv4Header::new(payload, TTL, protocol, src.octets(), dst.octets())
                .context("the packet is longer than IP allows")?;
            header.dscp = IpDscp::try_new(packet.dscp)?;
            header.header_checksum = header.calc_header_checksum();
            Ok(([0x08, 0x00], header.to_bytes().to_vec()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: packet.dscp << 2,
                payload_length: payload,
                next_header: IpNumber(packet.protocol),
                hop_limit: TTL,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            Ok(([0x86, 0xdd], header.to_bytes().to_vec()))
        }
        // a description has one family
        _ => unreachable!("{packet:?}"),
    }
}

/// The upper-layer header, as short as possible.
fn upper(packet: &Description) -> Vec<u8> {
    let mut header = Vec::new();
    if let Some((src, dst)) = packet.ports {
        header.extend(src.to_be_bytes());
        header.extend(dst.to_be_bytes());
    }
    match packet.protocol {
        6 => {
            header.resize(20, 0);
            header[12] = 5 << 4;
            header[13] = packet.tcp_flags.unwrap_or(ACK);
        }
        17 | 136 => header.resize(8, 0),
        33 | 132 => header.resize(12, 0),
        1 | 58 => {
            let (v4, v6) = ECHO_REQUEST;
            let default = if packet.protocol == 1 { v4 } else { v6 };
            header = vec![packet.icmp_type.unwrap_or(default), 0, 0, 0, 0, 0, 0, 0];
        }
        _ => {}
    }
    header
}
