//! A table of flags, packets, and whether each packet is mirrored.

use testkit::test_run::harness::{Harness, rule};
use testkit::test_run::packets::{Packet, frame, ping, tagged, tcp, udp};
use testkit::test_run::packets_ipv6::{DESTINATION, HOP_BY_HOP, Packet6, tcp6, udp6};

const A: &str = "10.0.0.1:1000";
const B: &str = "192.0.2.1:80";

const YES: bool = true;
const NO: bool = false;

type Case = (&'static str, Vec<u8>, bool);

/// Runs both programs with the filter of each entry, and checks the cases listed below it.
fn check(table: &[(&str, &[Case])]) {
    Harness::each(|harness| {
        for (flags, cases) in table {
            harness.install(&[rule(flags)]);
            for (name, frame, expected) in *cases {
                assert_eq!(harness.matches(frame), *expected, "{flags:?}: {name}");
            }
        }
    });
}

/// A packet to this port of the second host.
fn to_port(port: u16) -> Vec<u8> {
    tcp(A, &format!("192.0.2.1:{port}")).frame()
}

fn from(address: &str) -> Vec<u8> {
    tcp(&format!("{address}:1000"), B).frame()
}

fn to(address: &str) -> Vec<u8> {
    udp(A, &format!("{address}:80")).frame()
}

#[test]
fn needs_root_protocols_by_name_and_number() {
    let of = |protocol| Packet::new(protocol, A, B).frame();
    check(&[
        (
            "",
            &[
                ("TCP", of(6), YES),
                ("UDP", of(17), YES),
                ("ICMP", of(1), YES),
                ("the first number", of(0), YES),
                ("the last number", of(255), YES),
            ],
        ),
        (
            "protocol=tcp",
            &[("TCP", of(6), YES), ("UDP", of(17), NO), ("ICMP", of(1), NO), ("GRE", of(47), NO)],
        ),
        ("protocol=udp", &[("UDP", of(17), YES), ("TCP", of(6), NO), ("UDP-Lite", of(136), NO)]),
        ("protocol=icmp", &[("ping", ping(A, B).frame(), YES), ("TCP", of(6), NO)]),
        ("protocol=sctp", &[("SCTP", of(132), YES), ("DCCP", of(33), NO)]),
        ("protocol=47", &[("GRE", of(47), YES), ("ESP", of(50), NO), ("TCP", of(6), NO)]),
        (
            "protocol=0,gre,255",
            &[
                ("the first number", of(0), YES),
                ("a name in between", of(47), YES),
                ("the last number", of(255), YES),
                ("a neighbour", of(254), NO),
            ],
        ),
    ]);
}

#[test]
fn needs_root_ports_lists_and_ranges() {
    check(&[
        (
            "dst-port=80",
            &[
                ("the port", to_port(80), YES),
                ("its neighbour", to_port(81), NO),
                ("the port, as the source", tcp("10.0.0.1:80", "192.0.2.1:1000").frame(), NO),
                ("UDP", udp(A, B).frame(), YES),
                ("SCTP", Packet::new(132, A, B).frame(), YES),
                ("DCCP", Packet::new(33, A, B).frame(), YES),
                ("UDP-Lite", Packet::new(136, A, B).frame(), YES),
            ],
        ),
        (
            "src-port=1000",
            &[
                ("the port", tcp(A, B).frame(), YES),
                ("its neighbour", tcp("10.0.0.1:1001", B).frame(), NO),
                ("the port, as the destination", tcp("10.0.0.1:80", "192.0.2.1:1000").frame(), NO),
            ],
        ),
        (
            "src-port=1000 dst-port=80",
            &[
                ("both ports", tcp(A, B).frame(), YES),
                ("only the source", to_port(81), NO),
                ("only the destination", tcp("10.0.0.1:1001", B).frame(), NO),
            ],
        ),
        (
            "dst-port=443,80,8443",
            &[
                ("the first of a list", to_port(443), YES),
                ("one inside a list", to_port(80), YES),
                ("the last of a list", to_port(8443), YES),
                ("none of a list", to_port(8080), NO),
            ],
        ),
        (
            "dst-port=8000-8100",
            &[
                ("below a range", to_port(7999), NO),
                ("the start of a range", to_port(8000), YES),
                ("inside a range", to_port(8050), YES),
                ("the end of a range", to_port(8100), YES),
                ("above a range", to_port(8101), NO),
            ],
        ),
        (
            "dst-port=0-1,65535",
            &[
                ("the first port", to_port(0), YES),
                ("the last port", to_port(65535), YES),
                ("between them", to_port(2), NO),
            ],
        ),
        (
            "dst-port=0 src-port=0",
            &[
                ("0 is any port", to_port(1234), YES),
                ("0 is open to what has no ports", ping(A, B).frame(), YES),
            ],
        ),
        // a packet whose named protocol has no ports matches whatever the port fields say
        (
            "protocol=tcp,icmp,gre dst-port=443",
            &[
                ("ICMP that was named", ping(A, B).frame(), YES),
                ("GRE that was named", Packet::new(47, A, B).frame(), YES),
                ("ESP that was not", Packet::new(50, A, B).frame(), NO),
                ("TCP to the port", to_port(443), YES),
                ("TCP to another port", to_port(80), NO),
            ],
        ),
        (
            "src-port=443",
            &[
                ("ICMP that was not named", ping(A, B).frame(), NO),
                ("GRE that was not named", Packet::new(47, A, B).frame(), NO),
            ],
        ),
    ]);
}

#[test]
fn needs_root_addresses_and_prefixes() {
    check(&[
        (
            "src-address=10.0.0.0/8,1.2.3.4",
            &[
                ("the first address of a /8", from("10.0.0.0"), YES),
                ("the last address of a /8", from("10.255.255.255"), YES),
                ("below a /8", from("9.255.255.255"), NO),
                ("above a /8", from("11.0.0.0"), NO),
                ("an address of its own", from("1.2.3.4"), YES),
                ("its neighbour, which a /8 would cover", from("1.2.3.5"), NO),
                ("the address, as the destination", tcp("11.0.0.1:1", "1.2.3.4:2").frame(), NO),
            ],
        ),
        (
            "dst-address=192.0.2.1",
            &[
                ("the address", to("192.0.2.1"), YES),
                ("its neighbour", to("192.0.2.0"), NO),
                ("another with the same first half", to("192.0.200.1"), NO),
                ("the address, as the source", tcp("192.0.2.1:1", "10.0.0.1:2").frame(), NO),
            ],
        ),
        (
            "src-address=10.0.0.1 dst-address=192.0.2.0/24",
            &[
                ("both addresses", from("10.0.0.1"), YES),
                ("only the source", tcp(A, "192.0.3.1:80").frame(), NO),
                ("only the destination", from("10.0.0.2"), NO),
            ],
        ),
        (
            "dst-address=172.16.128.0/17",
            &[
                ("below a /17, in its /16", to("172.16.127.255"), NO),
                ("the first address of a /17", to("172.16.128.0"), YES),
                ("the last address of a /17", to("172.16.255.255"), YES),
                ("above a /17", to("172.17.128.0"), NO),
            ],
        ),
        (
            "dst-address=172.16.0.0/16",
            &[
                ("below a /16", to("172.15.255.255"), NO),
                ("the first address of a /16", to("172.16.0.0"), YES),
                ("the last address of a /16", to("172.16.255.255"), YES),
                ("above a /16", to("172.17.0.0"), NO),
            ],
        ),
        (
            "src-address=172.16.0.0/15",
            &[
                ("below a /15", from("172.15.255.255"), NO),
                ("the first address of a /15", from("172.16.0.0"), YES),
                ("the last address of a /15", from("172.17.255.255"), YES),
                ("above a /15", from("172.18.0.0"), NO),
            ],
        ),
        (
            "src-address=128.0.0.0/1",
            &[("below a /1", from("127.255.255.255"), NO), ("in a /1", from("255.0.0.1"), YES)],
        ),
        (
            "dst-address=255.255.255.255,0.0.0.0/32",
            &[
                ("the last address", to("255.255.255.255"), YES),
                ("the first address", to("0.0.0.0"), YES),
                ("the last but one", to("255.255.255.254"), NO),
            ],
        ),
        ("dst-address=1.2.3.4/0", &[("any address is in a /0", to("192.0.2.1"), YES)]),
        (
            "dst-address=10.0.0.0/8,10.1.0.0/16,10.1.2.3",
            &[
                ("only in the shortest prefix", to("10.2.0.0"), YES),
                ("in the one in the middle, too", to("10.1.9.9"), YES),
                ("in all of them", to("10.1.2.3"), YES),
            ],
        ),
    ]);
}

#[test]
fn needs_root_ip_options_before_the_ports() {
    let table: Vec<Case> = (0..=10)
        .flat_map(|words| {
            let with = |port| tcp(A, &format!("192.0.2.1:{port}")).with_options(words).frame();
            [("the port behind options", with(443), YES), ("another behind options", with(80), NO)]
        })
        .collect();
    // options of "no operation" could be taken for ports if they were not skipped
    let options: [Case; 1] = [("options are no port", tcp(A, B).with_options(1).frame(), NO)];
    check(&[("src-port=1000 dst-port=443", &table), ("dst-port=257", &options)]);
}

#[test]
fn needs_root_fragments() {
    // fragments of datagrams whose other fragments are not seen
    let of = |protocol, id| Packet::new(protocol, A, B).with_id(id);
    let first = |protocol| of(protocol, 1).fragment(0, true).frame();
    let later = |protocol| of(protocol, 2).fragment(1, true).frame();
    let last = |protocol| of(protocol, 3).fragment(0x1fff, false).frame();
    let mut unfragmented = udp(A, B);
    unfragmented.header.dont_fragment = true;
    check(&[
        (
            "dst-port=80",
            &[
                ("a first fragment has ports", first(17), YES),
                ("the bytes of a later one are no ports", later(17), NO),
                ("nor those of the last one", last(6), NO),
                ("don't fragment is no fragment", unfragmented.frame(), YES),
            ],
        ),
        ("src-port=1000", &[("a later fragment, source port given", later(17), NO)]),
        ("dst-port=443", &[("a first fragment to another port", first(17), NO)]),
        (
            "protocol=udp src-address=10.0.0.0/8",
            &[
                ("a later fragment, ports open", later(17), YES),
                ("the last fragment, ports open", last(17), YES),
                ("a later fragment of another protocol", later(6), NO),
            ],
        ),
        ("protocol=udp dst-port=80", &[("naming UDP gives a later one no port", later(17), NO)]),
        (
            "protocol=icmp dst-port=80",
            &[("a later fragment of what never has ports", later(1), YES)],
        ),
    ]);
}

#[test]
fn needs_root_what_is_not_ip_or_malformed_matches_nothing() {
    let packet = tcp(A, B);
    let options = packet.clone().with_options(10);
    let gre = Packet::new(47, A, B).with_options(10);
    check(&[(
        "",
        &[
            ("as it should be", packet.frame(), YES),
            ("header length below the least", packet.frame_with(0, 0x44), NO),
            ("header length 0", packet.frame_with(0, 0x40), NO),
            ("version 6 under IPv4's number", packet.frame_with(0, 0x65), NO),
            ("version 0", packet.frame_with(0, 0x05), NO),
            ("total length 0", packet.frame_saying(0), NO),
            ("total length within the header", packet.frame_saying(19), NO),
            ("total length within the options", options.frame_saying(59), NO),
            ("total length right before the ports", packet.frame_saying(20), NO),
            ("total length within the ports", packet.frame_saying(23), NO),
            ("total length right behind the ports", packet.frame_saying(24), YES),
            ("total length beyond the frame", packet.frame_saying(2000), YES),
            ("cut right before the options", options.frame_cut_to(20), NO),
            ("cut within the options", options.frame_cut_to(59), NO),
            ("cut within the options, no ports", gre.frame_cut_to(59), NO),
            ("cut behind the options, no ports", gre.frame_cut_to(60), YES),
            ("cut before the ports", packet.frame_cut_to(20), NO),
            ("cut within the ports", packet.frame_cut_to(23), NO),
            ("cut behind the ports", packet.frame_cut_to(24), YES),
            ("cut within ports behind options", options.frame_cut_to(63), NO),
            ("version 4 under IPv6's number", frame(0x86dd, &options.bytes()), NO),
            ("ARP", frame(0x0806, &[0; 28]), NO),
            ("a length in place of a type", frame(46, &packet.bytes()), NO),
            ("an Ethernet header alone", frame(0x0806, &[]), NO),
        ],
    )]);
}

#[test]
fn needs_root_padding_of_short_frames_is_no_part_of_the_packet() {
    let short = |protocol, len| Packet::new(protocol, A, B).of_length(len).padded_frame();
    check(&[
        (
            "dst-port=80",
            &[
                ("UDP without data", short(17, 28), YES),
                ("no room for ports", short(17, 20), NO),
                ("no room for both ports", short(17, 23), NO),
            ],
        ),
        ("dst-port=0-1", &[("padding is no port", short(17, 20), NO)]),
        (
            "protocol=icmp",
            &[("ICMP without data", short(1, 28), YES), ("a header alone", short(1, 20), YES)],
        ),
    ]);
}

const A6: &str = "[2001:db8::1]:1000";
const B6: &str = "[2001:db8:1::1]:80";

fn to6(address: &str) -> Vec<u8> {
    udp6(A6, &format!("[{address}]:80")).frame()
}

#[test]
fn needs_root_ipv6_addresses_and_prefixes() {
    check(&[
        (
            "dst-address=2001:db8:1::/48,fe80::/10,::1",
            &[
                ("below a /48", to6("2001:db8:0:ffff:ffff:ffff:ffff:ffff"), NO),
                ("the first address of a /48", to6("2001:db8:1::"), YES),
                ("the last address of a /48", to6("2001:db8:1:ffff:ffff:ffff:ffff:ffff"), YES),
                ("above a /48", to6("2001:db8:2::"), NO),
                ("the last address of a /10", to6("febf:ffff::1"), YES),
                ("above a /10", to6("fec0::"), NO),
                ("an address of its own", to6("::1"), YES),
                ("its neighbour", to6("::2"), NO),
                ("the same place in the array of networks", to6("db8:2001:1::1"), NO),
                ("the address, as the source", udp6("[::1]:80", A6).frame(), NO),
                ("IPv4", to("192.0.2.1"), NO),
            ],
        ),
        (
            "src-address=not 2001:db8::/32",
            &[
                ("what is excluded", udp6(A6, B6).frame(), NO),
                ("what is not", udp6("[2001:db9::1]:80", B6).frame(), YES),
                ("IPv4", to("192.0.2.1"), YES),
            ],
        ),
        (
            "dst-address=::",
            &[("all of IPv6", to6("ffff::"), YES), ("none of IPv4", to("192.0.2.1"), NO)],
        ),
        (
            "dst-address=0.0.0.0",
            &[("none of IPv6", to6("ffff::"), NO), ("all of IPv4", to("192.0.2.1"), YES)],
        ),
        ("dst-address=any", &[("IPv6", to6("ffff::"), YES), ("IPv4", to("192.0.2.1"), YES)]),
    ]);
}

#[test]
fn needs_root_ports_behind_the_extension_headers_of_ipv6() {
    let packet = udp6(A6, B6);
    let many = |count| {
        (0..count).fold(packet.clone(), |packet, n| packet.behind(DESTINATION, n % 3)).frame()
    };
    let fragment = |offset| packet.clone().fragment(7, offset, false).frame();
    check(&[
        (
            "protocol=udp dst-port=80",
            &[
                ("without", packet.frame(), YES),
                ("one", many(1), YES),
                ("eight", many(8), YES),
                ("nine are not followed", many(9), NO),
                ("hop-by-hop options", packet.clone().behind(HOP_BY_HOP, 1).frame(), YES),
                ("a datagram in one fragment", fragment(0), YES),
                ("a later fragment", fragment(8), NO),
                ("cut within the ports", packet.frame()[..14 + 43].to_vec(), NO),
                ("cut behind the ports", packet.frame()[..14 + 44].to_vec(), YES),
            ],
        ),
        ("protocol=60", &[("an extension header is no protocol", many(1), NO)]),
        ("dst-port=81", &[("another port", many(1), NO)]),
    ]);
}

#[test]
fn needs_root_vlan_ids_of_the_outermost_tag() {
    let frame = tcp(A, B).frame();
    let with = |tags: &[(u16, u16)]| tagged(tags, &frame);
    let v6 = tagged(&[(0x8100, 7)], &udp6(A6, B6).frame());
    check(&[
        (
            "vlan=7,100-200 dst-port=80",
            &[
                ("the ID", with(&[(0x8100, 7)]), YES),
                ("with a priority", with(&[(0x8100, 0xf007)]), YES),
                ("of IPv6", v6, YES),
                ("a provider's", with(&[(0x88a8, 7)]), YES),
                ("in a range", with(&[(0x8100, 200)]), YES),
                ("above a range", with(&[(0x8100, 201)]), NO),
                ("the outer of two", with(&[(0x88a8, 7), (0x8100, 9)]), YES),
                ("the inner of two", with(&[(0x88a8, 9), (0x8100, 7)]), NO),
                ("three are not followed", with(&[(0x8100, 7); 3]), NO),
                ("no tag", frame.clone(), NO),
            ],
        ),
        ("vlan=none", &[("no tag", frame.clone(), YES), ("ID 0", with(&[(0x8100, 0)]), NO)]),
        ("vlan=not none", &[("no tag", frame.clone(), NO), ("ID 0", with(&[(0x8100, 0)]), YES)]),
        ("dst-port=80", &[("a tag that nobody asks for", with(&[(0x8100, 9)]), YES)]),
    ]);
}

#[test]
fn needs_root_tcp_flags_icmp_types_dscp_and_length() {
    const FLAGS: usize = 13;
    let flags = |byte: u8| {
        let mut packet = tcp(A, B);
        packet.payload[FLAGS] = byte;
        packet.frame()
    };
    let mut cut = tcp(A, B).of_length(20 + FLAGS).frame();
    // padding, no flags
    cut.resize(60, 0xff);
    check(&[
        (
            "tcp-flags=syn,not ack",
            &[
                ("SYN", flags(0x02), YES),
                ("SYN and ACK", flags(0x12), NO),
                ("SYN and PSH", flags(0x0a), YES),
                ("none", flags(0), NO),
                ("of IPv6", tcp6(A6, B6).with(FLAGS, 2).frame(), YES),
                ("UDP has none", udp(A, B).frame(), NO),
                ("cut short before them", cut.clone(), NO),
            ],
        ),
        ("tcp-flags=syn+ack", &[("both", flags(0x12), YES), ("one", flags(0x02), NO)]),
        ("tcp-flags=not syn", &[("none", flags(0), YES), ("UDP has none", udp(A, B).frame(), NO)]),
        (
            "icmp-type=echo-request",
            &[
                ("of ICMP", ping(A, B).frame(), YES),
                ("of ICMPv6", Packet6::icmp(128, A6, B6).frame(), YES),
                ("what is none in ICMPv6", Packet6::icmp(8, A6, B6).frame(), NO),
                ("TCP has none", tcp(A, B).frame(), NO),
                ("ICMP over IPv6 is none", Packet6::new(1, A6, B6).with(0, 8).frame(), NO),
            ],
        ),
        (
            "dscp=ef",
            &[
                ("the code point", tcp(A, B).frame_with(1, 46 << 2), YES),
                ("with ECN", tcp(A, B).frame_with(1, 46 << 2 | 3), YES),
                ("another", tcp(A, B).frame_with(1, 45 << 2), NO),
                ("of IPv6", udp6(A6, B6).with_class(46 << 2 | 1).frame(), YES),
                ("another of IPv6", udp6(A6, B6).with_class(47 << 2).frame(), NO),
            ],
        ),
        (
            "length=100-200",
            &[
                ("too short", udp(A, B).of_length(99).frame(), NO),
                ("the shortest", udp(A, B).of_length(100).frame(), YES),
                ("the longest", udp(A, B).of_length(200).frame(), YES),
                ("too long", udp(A, B).of_length(201).frame(), NO),
                ("of IPv6, too short", udp6(A6, B6).of_length(99).frame(), NO),
                ("of IPv6", udp6(A6, B6).of_length(100).frame(), YES),
            ],
        ),
    ]);
}
