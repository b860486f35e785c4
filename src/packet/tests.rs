use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};

use super::{frame, is_later_fragment, text};

fn error(text: &str) -> String {
    format!("{:#}", frame(text).unwrap_err())
}

/// Vlan IDs, addresses, DSCP, length of the IP packet, and what lies behind: as somebody else
/// reads the frame.
fn read(text: &str) -> String {
    let frame = frame(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let vlans: String = packet
        .link_exts
        .iter()
        .map(|tag| match tag {
            LinkExtSlice::Vlan(tag) => format!("vlan {} ", tag.vlan_identifier().value()),
            other => panic!("{other:?}"),
        })
        .collect();
    let ip = match packet.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            format!(
                "{} {} dscp {} length {}",
                header.source_addr(),
                header.destination_addr(),
                header.dcp().value(),
                header.total_len()
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            format!(
                "{} {} dscp {} length {}",
                header.source_addr(),
                header.destination_addr(),
                header.traffic_class() >> 2,
                40 + header.payload_length()
            )
        }
        other => panic!("{other:?}"),
    };
    let upper = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = tcp.slice()[13];
            format!("tcp {} {} flags {flags:#04x}", tcp.source_port(), tcp.destination_port())
        }
        Some(TransportSlice::Udp(udp)) => {
            format!("udp {} {}", udp.source_port(), udp.destination_port())
        }
        Some(TransportSlice::Icmpv4(icmp)) => format!("icmp {}", icmp.type_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => format!("icmpv6 {}", icmp.type_u8()),
        _ => "else".to_owned(),
    };
    format!("{vlans}{ip} {upper}")
}

#[test]
fn packets_are_described_in_a_few_words() {
    let cases = [
        (
            "10.0.0.1:1234 > 192.0.2.5:443 tcp syn",
            "10.0.0.1 192.0.2.5 dscp 0 length 40 tcp 1234 443 flags 0x02",
        ),
        (
            "10.0.0.1:1234>192.0.2.5:443 TCP fin+ack",
            "10.0.0.1 192.0.2.5 dscp 0 length 40 tcp 1234 443 flags 0x11",
        ),
        (
            "10.0.0.1:1 > 192.0.2.5:2 syn ack",
            "10.0.0.1 192.0.2.5 dscp 0 length 40 tcp 1 2 flags 0x12",
        ),
        (
            "10.0.0.1:1 > 192.0.2.5:2, tcp, dscp ef, length 1500, vlan 100",
            "vlan 100 10.0.0.1 192.0.2.5 dscp 46 length 1500 tcp 1 2 flags 0x10",
        ),
        (
            "vlan 7 vlan 4095 10.0.0.1:1 > 192.0.2.5:2 udp",
            "vlan 7 vlan 4095 10.0.0.1 192.0.2.5 dscp 0 length 28 udp 1 2",
        ),
        (
            "[2001:db8::1]:53 > [2001:db8::2]:1234 udp length 100",
            "2001:db8::1 2001:db8::2 dscp 0 length 100 udp 53 1234",
        ),
        (
            "2001:db8::1 > [2001:db8::2] echo-request dscp 63",
            "2001:db8::1 2001:db8::2 dscp 63 length 48 icmpv6 128",
        ),
        ("10.0.0.1 > 10.0.0.2 icmp time-exceeded", "10.0.0.1 10.0.0.2 dscp 0 length 28 icmp 11"),
        ("10.0.0.1 > 10.0.0.2 icmp type 4", "10.0.0.1 10.0.0.2 dscp 0 length 28 icmp 4"),
        ("10.0.0.1 > 10.0.0.2 icmp", "10.0.0.1 10.0.0.2 dscp 0 length 28 icmp 8"),
        ("10.0.0.1 > 10.0.0.2 gre length 24", "10.0.0.1 10.0.0.2 dscp 0 length 24 else"),
        ("10.0.0.1:1 > 10.0.0.2:2 sctp", "10.0.0.1 10.0.0.2 dscp 0 length 32 else"),
        ("::1 > ::2 proto 59", "::1 ::2 dscp 0 length 40 else"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn lines_of_tcpdump_are_understood() {
    let cases = [
        (
            "IP 10.0.0.1.1234 > 10.1.2.3.80: Flags [S], length 0",
            "10.0.0.1 10.1.2.3 dscp 0 length 40 tcp 1234 80 flags 0x02",
        ),
        (
            "12:00:00.123456 IP 10.0.0.1.1234 > 10.1.2.3.80: Flags [P.], seq 1:101, ack 1, win 502, \
             options [nop,nop,TS val 1 ecr 2], length 100: HTTP: GET / HTTP/1.1",
            "10.0.0.1 10.1.2.3 dscp 0 length 140 tcp 1234 80 flags 0x18",
        ),
        (
            "IP6 2001:db8::1.53 > 2001:db8::2.40000: UDP, length 64",
            "2001:db8::1 2001:db8::2 dscp 0 length 112 udp 53 40000",
        ),
        (
            "eth0  In  IP 10.0.0.1.40000 > 10.1.2.3.53: 4321+ A? example.org. (29)",
            "10.0.0.1 10.1.2.3 dscp 0 length 28 udp 40000 53",
        ),
        (
            "IP 10.0.0.1 > 10.1.2.3: ICMP echo request, id 1, seq 2, length 64",
            "10.0.0.1 10.1.2.3 dscp 0 length 84 icmp 8",
        ),
        (
            "IP6 fe80::1 > fe80::: ICMP6, echo reply, id 1, seq 2, length 64",
            "fe80::1 fe80:: dscp 0 length 104 icmpv6 129",
        ),
        (
            "IP 10.0.0.1 > 10.1.2.3: ICMP 10.1.2.4 udp port 53 unreachable, length 36",
            "10.0.0.1 10.1.2.3 dscp 0 length 56 icmp 3",
        ),
        (
            "IP6 fe80::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fe80::2, length 32",
            "fe80::1 ff02::1:ff00:2 dscp 0 length 72 icmpv6 135",
        ),
        (
            "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 802.1Q (0x8100), length 78: vlan 100, \
             p 0, ethertype IPv4 (0x0800), 10.0.0.1.1234 > 10.1.2.3.80: Flags [.], ack 1, length 0",
            "vlan 100 10.0.0.1 10.1.2.3 dscp 0 length 40 tcp 1234 80 flags 0x10",
        ),
        (
            "12:00:00.1 IP (tos 0xb8, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60)\n    \
             10.0.0.1.1234 > 10.1.2.3.80: Flags [S], cksum 0x1 (correct), seq 1, length 0",
            "10.0.0.1 10.1.2.3 dscp 46 length 60 tcp 1234 80 flags 0x02",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let cases = [
        ("10.0.0.1:1 > 10.0.0.2:2", "which protocol it is of is not said; add one, such as tcp"),
        ("10.0.0.1 > 10.0.0.2 tcp", "tcp has ports; give both, as in "),
        ("10.0.0.1:1 > 10.0.0.2 tcp", "tcp has ports; give both, as in "),
        ("10.0.0.1:1 > 10.0.0.2:2 icmp", "icmp has no ports; leave them out"),
        ("10.0.0.1 > ::1 gre", "10.0.0.1 and ::1 are not of one family; "),
        ("10.0.0.1 > 10.0.0.2 icmpv6", "icmpv6 goes with the other family; between "),
        ("10.0.0.1 > 10.0.0.2 packet-too-big", "there is no packet-too-big in icmp"),
        ("10.0.0.1:1 > 10.0.0.2:2 udp syn", "udp has no flags of TCP"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp echo-reply", "tcp has no type of ICMP"),
        ("10.0.0.1.http > 10.0.0.2.1 tcp", "\"10.0.0.1.http\" is not an address with or without a"),
        ("10.0.0.1 > gateway icmp", "\"gateway\" is not an address with or without a port, "),
        ("10.0.0.1:70000 > 10.0.0.2:2 tcp", "\"10.0.0.1:70000\" is not an address with or"),
        ("10.0.0.1:1 >", "\"\" is not an address with or without a port, "),
        (">", "there is no \"source > destination\""),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp sny", "\"sny\" is not known; behind the addresses come "),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp 6", "\"6\" is not known; behind the addresses come "),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp vlan", "what follows \"vlan\" is missing"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp vlan none", "\"none\" is not one VLAN ID"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp vlan 1 vlan 2 vlan 3", "there are 3 VLAN tags; two are the"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp length 39", "length 39 does not hold the headers, 40 bytes"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp length 40-50", "\"40-50\" is not one length"),
        ("10.0.0.1:1 > 10.0.0.2:2 tcp dscp 64", "\"64\" is not a DSCP; "),
        ("IP 10.0.0.1.1 > 10.0.0.2.2: Flags [X], length 0", "'X' in \"[X]\" is no TCP flag"),
        ("IP 10.0.0.1 > 10.0.0.2: ICMP redirect to host", "the type of the ICMP message is not "),
        ("IP 10.0.0.1.1 > 10.0.0.2.2: Flags [.], length 65530", "the packet is longer than IP"),
    ];
    for (text, expected) in cases {
        let error = error(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn frames_are_told_in_words_that_describe_them() {
    for words in [
        "10.0.0.1:1234 > 192.0.2.5:443 tcp syn length 40",
        "10.0.0.1:1234 > 192.0.2.5:443 tcp fin+ack dscp ef length 1500",
        "vlan 7 vlan 4095 10.0.0.1:1 > 192.0.2.5:2 udp length 28",
        "[2001:db8::1]:53 > [2001:db8::2]:1234 udp dscp 63 length 100",
        "2001:db8::1 > 2001:db8::2 icmpv6 echo-request length 48",
        "10.0.0.1 > 10.0.0.2 icmp type 6 length 28",
        "10.0.0.1 > 10.0.0.2 gre length 24",
        "10.0.0.1:1 > 10.0.0.2:2 sctp length 32",
    ] {
        let frame = frame(words).unwrap();
        assert_eq!(text(&frame), words);
        assert!(!is_later_fragment(&frame));
    }
}

#[test]
fn what_words_cannot_describe_is_told_all_the_same() {
    let ip =
        "45b8 0024 0001 2000 4011 0000 0a00 0001 0a01 0203 04d2 0035 0010 0000 00000000 00000000";
    let ip6 = "6000 0000 0018 2c40 20010db8000000000000000000000001 20010db8000000000000000000000002 \
               1100 05c9 00000007 04d2 0035 0010 0000 00000000 00000000";
    let cases = [
        (
            ip.to_owned(),
            "10.0.0.1:1234 > 10.1.2.3:53 udp dscp ef length 36 (the first fragment of a datagram)",
        ),
        (
            ip.replace("2000 4011", "00b9 4011"),
            "10.0.0.1 > 10.1.2.3 udp dscp ef length 36 (a fragment of a datagram, from its byte 1480 on)",
        ),
        (
            ip6.to_owned(),
            "2001:db8::1 > 2001:db8::2 udp length 64 (a fragment of a datagram, from its byte 1480 on)",
        ),
        (
            ip6.replace("1100 05c9", "1100 0000"),
            "[2001:db8::1]:1234 > [2001:db8::2]:53 udp length 64",
        ),
        (
            "020000000002 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"
                .to_owned(),
            "42 bytes that are no packet of IPv4 or IPv6",
        ),
        (
            // with a header of four words
            "020000000002 020000000001 0800 44000014000100004011 0000 0a000001 0a000002".to_owned(),
            "34 bytes that are no packet of IPv4 or IPv6",
        ),
    ];
    for (hex, expected) in cases {
        let frame = frame(&hex).unwrap();
        assert_eq!(text(&frame), expected);
        assert_eq!(is_later_fragment(&frame), expected.contains("from its byte"));
    }
    let mut no_flags = frame("10.0.0.1:1 > 10.0.0.2:2 tcp").unwrap();
    no_flags[14 + 20 + 13] = 0;
    assert_eq!(text(&no_flags), "10.0.0.1:1 > 10.0.0.2:2 tcp without flags length 40");
}
