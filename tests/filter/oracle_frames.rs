//! The oracle reads frames correctly. All other tests rely on that.

use testkit::oracle::evaluate::{Fragment, Packet, Ports};
use testkit::oracle::frame::packet;

/// Spaces in the text are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const MAC: &str = "020000000001 020000000002";

/// Fills in the correct length.
fn ipv6(first: u8, rest: &str) -> Vec<u8> {
    let rest = hex(rest);
    let length = format!("{:04x}", rest.len());
    let header = format!("{MAC} 86dd 6b80 0000 {length} {first:02x} 40");
    let addresses = "20010db8000000000000000000000001 20010db8000000000000000000000002";
    [hex(&header), hex(addresses), rest].concat()
}

fn ipv4(protocol: u8, fragment: &str, rest: &str) -> Vec<u8> {
    let rest = hex(rest);
    let header = format!(
        "{MAC} 0800 45b8 {:04x} 0001 {fragment} 40 {protocol:02x} 0000 0a000001 0a000002",
        20 + rest.len()
    );
    [hex(&header), rest].concat()
}

const TCP: &str = "04d2 0050 00000000 00000000 5012 0000 0000 0000";

fn known(packet: &Packet) -> (u8, Option<u8>, Option<u8>, u16) {
    match packet.ports {
        Ports::Known { src: 1234, dst: 80 } => {}
        other => panic!("{other:?}"),
    }
    (packet.protocol, packet.tcp_flags, packet.icmp_type, packet.length)
}

#[test]
fn fields_are_where_they_are() {
    let found = packet(&ipv4(6, "0000", TCP)).unwrap();
    assert_eq!(known(&found), (6, Some(0x12), None, 40));
    assert_eq!((found.dscp, found.vlan), (46, None));
    assert_eq!(found.src.to_string(), "10.0.0.1");
    let found = packet(&ipv6(6, TCP)).unwrap();
    assert_eq!(known(&found), (6, Some(0x12), None, 60));
    assert_eq!((found.dscp, found.dst.to_string().as_str()), (46, "2001:db8::2"));
}

#[test]
fn extension_headers_lead_to_the_protocol() {
    // hop-by-hop of 16 bytes, routing, authentication of 12 bytes, first fragment, destination
    let headers = "2b01 0000 00000000 00000000 00000000 \
                   3300 0000 00000000 \
                   2c01 0000 00000000 00000000 \
                   3c00 0001 00000007 \
                   0600 0000 00000000";
    let found = packet(&ipv6(0, &format!("{headers} {TCP}"))).unwrap();
    assert_eq!(known(&found), (6, Some(0x12), None, 40 + 16 + 8 + 12 + 8 + 8 + 20));
}

#[test]
fn eight_extension_headers_are_enough() {
    let headers = |count: usize| "3c00 0000 00000000".repeat(count - 1) + "0600 0000 00000000";
    assert!(packet(&ipv6(60, &format!("{} {TCP}", headers(8)))).is_some());
    assert!(packet(&ipv6(60, &format!("{} {TCP}", headers(9)))).is_none());
}

#[test]
fn data_of_later_fragments_is_no_header() {
    let found = packet(&ipv6(44, &format!("0600 0008 00000007 {TCP}"))).unwrap();
    assert!(matches!(found.ports, Ports::Unknown) && found.tcp_flags.is_none());
    // the next header field announces another header, but data follows
    let found = packet(&ipv6(44, "3c00 0008 00000007")).unwrap();
    assert!(found.protocol == 60 && matches!(found.ports, Ports::None));
    let found = packet(&ipv6(44, "3a00 fff9 00000007 80")).unwrap();
    assert_eq!(found.icmp_type, None);
    let found = packet(&ipv4(1, "0001", "0800")).unwrap();
    assert_eq!(found.icmp_type, None);
    let found = packet(&ipv4(17, "2001", TCP)).unwrap();
    assert!(matches!(found.ports, Ports::Unknown));
}

#[test]
fn fragments_say_which_datagram_they_are_of() {
    let fragment = |frame: Vec<u8>| packet(&frame).unwrap().fragment;
    let first = |id| Some(Fragment { is_first: true, id });
    let later = |id| Some(Fragment { is_first: false, id });
    assert_eq!(fragment(ipv4(6, "4000", TCP)), None);
    assert_eq!(fragment(ipv4(6, "2000", TCP)), first(1));
    assert_eq!(fragment(ipv4(6, "00b9", TCP)), later(1));
    let v6 = |header: &str| fragment(ipv6(44, &format!("{header} {TCP}")));
    assert_eq!(v6("0600 0000 01020304"), None);
    assert_eq!(v6("0600 0001 01020304"), first(0x0102_0304));
    assert_eq!(v6("0600 05c9 01020304"), later(0x0102_0304));
    // the innermost fragment header counts
    assert_eq!(v6("2c00 0001 00000001 0600 0000 00000002"), first(2));
    assert_eq!(v6("2c00 0001 00000001 0600 0008 00000002"), later(2));
}

#[test]
fn types_of_icmp_are_those_of_the_family() {
    assert_eq!(packet(&ipv4(1, "2000", "08")).unwrap().icmp_type, Some(8));
    assert_eq!(packet(&ipv6(58, "80")).unwrap().icmp_type, Some(128));
    assert_eq!(packet(&ipv6(1, "80")).unwrap().icmp_type, None);
    assert_eq!(packet(&ipv4(58, "0000", "80")).unwrap().icmp_type, None);
    assert_eq!(packet(&ipv4(1, "0000", "")).unwrap().icmp_type, None);
}

#[test]
fn up_to_two_tags_are_looked_through() {
    let tagged = |tags: &str| {
        let frame = ipv6(6, TCP);
        [&frame[..12], &hex(tags), &frame[12..]].concat()
    };
    for tags in
        ["8100 e064", "88a8 1064", "9100 0064", "88a8 0064 8100 0fff", "8100 0064 8100 0001"]
    {
        assert_eq!(packet(&tagged(tags)).unwrap().vlan, Some(100), "{tags}");
    }
    assert!(packet(&tagged("8100 0001 8100 0001 8100 0001")).is_none());
    assert!(packet(&tagged("8101 0001")).is_none());
}

#[test]
fn what_is_cut_short_is_no_packet() {
    let frames = [
        (ipv4(6, "0000", TCP), 14 + 20 + 4),
        (ipv4(47, "0000", ""), 14 + 20),
        (ipv6(6, TCP), 14 + 40 + 4),
        (ipv6(60, "3b01 0000 00000000 00000000 00000000"), 14 + 40 + 16),
        (ipv6(44, "0600 0008 00000007"), 14 + 40 + 8),
    ];
    for (frame, least) in frames {
        for len in 0..frame.len() {
            let found = packet(&frame[..len]);
            assert_eq!(found.is_some(), len >= least, "{len} of {frame:02x?}");
        }
    }
    // bytes beyond the length in the header do not count, even if the frame has them
    let mut frame = ipv6(60, &format!("0600 0000 00000000 {TCP}"));
    for (length, is_packet) in [(7, false), (8, false), (11, false), (12, true)] {
        frame[19] = length;
        assert_eq!(packet(&frame).is_some(), is_packet, "{length}");
    }
    frame[18..20].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(packet(&frame).unwrap().length, 65535);
}
