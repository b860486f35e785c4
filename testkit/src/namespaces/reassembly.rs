//! Reassembles datagrams from fragments, and a stream from TCP segments.

use std::collections::BTreeMap;

use etherparse::{IpFragOffset, Ipv4Slice, SlicedPacket, TransportSlice};

/// The packets, with fragments reassembled. A packet that lacks a fragment is left out.
pub fn datagrams(packets: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut parts: BTreeMap<_, Vec<Ipv4Slice>> = BTreeMap::new();
    for packet in packets {
        let ip = Ipv4Slice::from_slice(packet).expect("an IPv4 packet");
        let header = ip.header();
        if header.is_fragmenting_payload() {
            let datagram = (header.source(), header.destination(), header.identification());
            parts.entry(datagram).or_default().push(ip);
        } else {
            whole.push(packet.to_vec());
        }
    }
    whole.extend(parts.into_values().filter_map(joined));
    whole
}

fn joined(mut fragments: Vec<Ipv4Slice>) -> Option<Vec<u8>> {
    fragments.sort_by_key(|fragment| fragment.header().fragments_offset());
    let mut payload = Vec::new();
    for fragment in &fragments {
        let offset = usize::from(fragment.header().fragments_offset().value()) * 8;
        if offset != payload.len() {
            return None;
        }
        payload.extend_from_slice(fragment.payload().payload);
    }
    if fragments.last()?.header().more_fragments() {
        return None;
    }
    let mut header = fragments.first()?.header().to_header();
    header.more_fragments = false;
    header.fragment_offset = IpFragOffset::ZERO;
    header.set_payload_len(payload.len()).ok()?;
    header.header_checksum = header.calc_header_checksum();
    Some([&header.to_bytes()[..], &payload].concat())
}

/// The pieces of a TCP stream in the packets of one direction, each with its offset in the stream. Offsets count from
/// the SYN; without it, there are no pieces. A piece that was retransmitted is there more than once.
pub fn stream<'a>(packets: &[&'a [u8]]) -> Vec<(usize, &'a [u8])> {
    let packets: Vec<_> = packets
        .iter()
        .map(|packet| match SlicedPacket::from_ip(packet).expect("a packet").transport {
            Some(TransportSlice::Tcp(tcp)) => tcp,
            other => panic!("not TCP: {other:?}"),
        })
        .collect();
    let Some(syn) = packets.iter().find(|tcp| tcp.syn()) else { return Vec::new() };
    let start = syn.sequence_number().wrapping_add(1);
    packets
        .iter()
        .filter(|tcp| !tcp.payload().is_empty())
        .map(|tcp| (tcp.sequence_number().wrapping_sub(start) as usize, tcp.payload()))
        .collect()
}
