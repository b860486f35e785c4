//! An update is atomic: two sets of rules that differ in every field take turns under traffic. Every copy follows
//! one set of rules, never a mixture of both.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use traffic_mirroring::filter::{self, Action, Rule, Snaplen, file};
use traffic_mirroring::instance::host::Host;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;
use testkit::oracle::{evaluate, frame};

/// Updates of each of the two instances.
const FLIPS: usize = 500;
/// How many of these go through `--cmd=update`.
const BY_COMMAND: usize = 10;

/// Frames that are sent at once, and the pause after them, so that a collector in a test build keeps up.
const BURST: u64 = 8;
const PAUSE: Duration = Duration::from_millis(2);

/// A value of each field that both sets accept, and what one of them accepts besides.
struct Values {
    src: [&'static str; 2],
    dst: [&'static str; 2],
    src_port: &'static str,
    dst_port: &'static str,
    protocol: &'static str,
    tcp_flags: &'static str,
    icmp_type: &'static str,
    vlan: &'static str,
    dscp: &'static str,
    length: &'static str,
    /// of what both accept otherwise
    excluded_port: u16,
    snaplen: &'static str,
}

const A: Values = Values {
    src: ["10.2.0.0/16", "2001:db8:2::/48"],
    dst: ["10.5.0.0/16", "2001:db8:5::/48"],
    src_port: "2000-2999",
    dst_port: "5000-5999",
    protocol: "200",
    tcp_flags: "syn",
    icmp_type: "13",
    vlan: "100",
    dscp: "ef",
    length: "150-199",
    excluded_port: 1500,
    snaplen: r#""snaplen": 128"#,
};
const B: Values = Values {
    src: ["10.3.0.0/16", "2001:db8:3::/48"],
    dst: ["10.6.0.0/16", "2001:db8:6::/48"],
    src_port: "3000-3999",
    dst_port: "6000-6999",
    protocol: "201",
    tcp_flags: "fin",
    icmp_type: "17",
    vlan: "200",
    dscp: "cs1",
    length: "450-499",
    excluded_port: 1600,
    snaplen: r#""snaplen": "headers""#,
};

/// The text of a file of rules, of which one comes first and the others in one of three orders. No packet
/// matches two of these, so that the order says only which bits they get.
fn rules(of: &Values, order: usize) -> String {
    let Values { src_port, dst_port, protocol, tcp_flags, icmp_type, snaplen, .. } = of;
    let common = format!(
        r#""src": ["10.1.0.0/16", "2001:db8:1::/48", "{}", "{}"],
           "dst": ["10.4.0.0/16", "2001:db8:4::/48", "{}", "{}"],
           "vlan": ["none", "{}"], "dscp": ["cs0", "{}"], "length": ["300-349", "{}"]"#,
        of.src[0], of.src[1], of.dst[0], of.dst[1], of.vlan, of.dscp, of.length
    );
    let ports = format!(
        r#""src_port": ["1000-1999", "{src_port}"], "dst_port": ["4000-4999", "{dst_port}"]"#
    );
    let excluded = format!(r#"{{"action": "exclude", "src_port": [{}]}}"#, of.excluded_port);
    let mut others = [
        format!(
            r#"{{"protocol": ["tcp"], "tcp_flags": ["ack", "{tcp_flags}"], {ports}, {common},
                {snaplen}}}"#
        ),
        format!(r#"{{"protocol": ["udp", "{protocol}"], {ports}, {common}}}"#),
        format!(
            r#"{{"protocol": ["icmp", "icmpv6"], "icmp_type": ["8", "{icmp_type}"], {common}}}"#
        ),
    ];
    others.rotate_left(order);
    format!(r#"{{"rules": [{excluded}, {}]}}"#, others.join(", "))
}

/// Where the number of a packet stands, behind its IP header: of TCP, these are the sequence numbers.
const NUMBER: Range<usize> = 4..12;

/// The frame with this number. Each of its fields has a value that both sets accept, or that only one of them
/// accepts. In one of four kinds of frames, the fields differ in that.
fn numbered(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let kind = random.below(4);
    let mut value = |of_a: u16, of_b: u16, of_both: u16| match kind {
        0 => of_both,
        1 => random.pick(&[of_a, of_both, of_both]),
        2 => random.pick(&[of_b, of_both, of_both]),
        _ => random.pick(&[of_a, of_b, of_both]),
    };
    let [src, dst] = [value(2, 3, 1), value(5, 6, 4)];
    let [src_port, dst_port] = [value(2500, 3500, 1500), value(5500, 6500, 4500)];
    let (vlan, dscp, length) = (value(100, 200, 0), value(46, 8, 0), value(150, 450, 300));
    let (flags, icmp) = (value(0x02, 0x01, 0x10), value(13, 17, 8));
    let protocol = value(200, 201, 17);
    let [is_ipv6, is_tcp, is_icmp] = [2, 3, 4].map(|n| random.one_in(n));
    let src_port = src_port + random.pick(&[0, 1, 100]);
    let length = usize::from(length) + random.below(40) as usize;

    let protocol = match (is_tcp, is_icmp, is_ipv6) {
        (true, ..) => 6,
        (_, true, false) => 1,
        (_, true, true) => 58,
        _ => protocol as u8,
    };
    let mut rest = [0xa5; 20];
    rest[NUMBER].copy_from_slice(&number.to_be_bytes());
    if protocol == 1 || protocol == 58 {
        rest[..2].copy_from_slice(&[icmp as u8, 0]);
    } else {
        rest[..4].copy_from_slice(&[src_port.to_be_bytes(), dst_port.to_be_bytes()].concat());
        // of TCP: a header of 5 words, and its flags
        rest[12..14].copy_from_slice(&[0x50, flags as u8]);
    }
    let class = (dscp as u8) << 2;
    let mut packet = if is_ipv6 {
        let address =
            |network: u16| [0x2001, 0x0db8, network, 0, 0, 0, 0, 7].map(u16::to_be_bytes).concat();
        let payload_len = (length as u16 - 40).to_be_bytes();
        let fixed =
            [0x60 | class >> 4, class << 4, 0, 0, payload_len[0], payload_len[1], protocol, 64];
        [&fixed[..], &address(src), &address(dst)].concat()
    } else {
        let total_len = (length as u16).to_be_bytes();
        let fixed = [0x45, class, total_len[0], total_len[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
        [&fixed[..], &[10, src as u8, 0, 7], &[10, dst as u8, 0, 7]].concat()
    };
    packet.extend(rest);
    packet.resize(length, number as u8);
    let ethertype = if is_ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let tag = if vlan == 0 { vec![] } else { vec![0x81, 0, 0, vlan as u8] };
    [&HOST_MAC[..], &CLIENT_MAC, &tag, &ethertype, &packet].concat()
}

/// The length of the copy that a set of rules makes of a frame, if it makes one.
fn copied_by(rules: &[Rule], frame: &[u8]) -> Option<usize> {
    let packet = frame::packet(frame).expect("a packet");
    let length = usize::from(packet.length);
    match rules[evaluate::verdict(rules, &packet)?].action {
        Action::Exclude => None,
        Action::Mirror { snaplen: None, .. } => Some(length),
        Action::Mirror { snaplen: Some(Snaplen::Bytes(bytes)), .. } => {
            Some(length.min(bytes.into()))
        }
        // TCP headers have no options here
        Action::Mirror { .. } => Some(if packet.src.is_ipv4() { 40 } else { 60 }),
    }
}

/// The packet in a frame of these.
fn ip(frame: &[u8]) -> &[u8] {
    if frame[12..14] == [0x81, 0] { &frame[18..] } else { &frame[14..] }
}

fn number_of(packet: &[u8]) -> u64 {
    let header_len = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let number = packet[header_len..].get(NUMBER);
    let number = number.unwrap_or_else(|| panic!("neither has so little of it: {packet:02x?}"));
    u64::from_be_bytes(number.try_into().expect("8 bytes"))
}

/// Sends frames with every second number from `first` on until it is `done`; returns the first number
/// that was not sent.
fn traffic(ns: &Ns, first: u64, done: &AtomicBool) -> u64 {
    let mut number = first;
    let frames = std::iter::from_fn(|| {
        if (number / 2) % BURST == 0 {
            thread::sleep(patient(PAUSE));
        }
        let frame = (!done.load(Ordering::Relaxed)).then(|| numbered(number))?;
        number += 2;
        Some(frame)
    });
    inject_all(ns, "eth0", frames);
    number
}

/// Ends the traffic, also where something has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many frames there were, by whether A and whether B has a copy of them.
type Seen = BTreeMap<(bool, bool), u64>;

/// Holds the copies of one direction to the frames with every second number up to `end`.
fn check(way: Way, copies: &[&[u8]], numbers: Range<u64>) -> Seen {
    let [a, b] =
        [rules(&A, 0), rules(&B, 0)].map(|text| file::rules(text.as_bytes()).expect("rules"));
    let mut found: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for copy in copies {
        found.entry(number_of(copy)).or_default().push(copy);
    }
    let mut seen = Seen::new();
    for number in numbers.step_by(2) {
        let frame = numbered(number);
        let packet = ip(&frame);
        let (by_a, by_b) = (copied_by(&a, &frame), copied_by(&b, &frame));
        *seen.entry((by_a.is_some(), by_b.is_some())).or_default() += 1;
        let copies = found.remove(&number).unwrap_or_default();
        let is_as_one_has_it = |copy: &&[u8]| {
            [by_a, by_b].contains(&Some(copy.len())) && **copy == packet[..copy.len()]
        };
        assert!(
            copies.len() <= 1
                && copies.iter().all(is_as_one_has_it)
                && (copies.len() == 1 || by_a.is_none() || by_b.is_none()),
            "{way} {number}: A has {by_a:?} bytes of it, B {by_b:?}, there are {:?}\n{packet:02x?}",
            copies.iter().map(|copy| copy.len()).collect::<Vec<_>>()
        );
    }
    assert_eq!(found.len(), 0, "{way}: copies of nothing");
    seen
}

#[test]
fn needs_root_every_copy_is_of_the_old_rules_or_of_the_new_ones() {
    undisturbed(|| Topology::run(take_turns));
}

fn take_turns(net: &Topology) {
    // no update writes the rules that are in its generation already
    let sets = [rules(&A, 0), rules(&B, 1), rules(&A, 2), rules(&B, 0)];
    let files = [0, 1, 2, 3].map(|n| rules_file(&format!("set-{n}"), &sets[n]));
    let compiled = sets
        .map(|text| filter::compile(&file::rules(text.as_bytes()).expect("rules")).expect("masks"));
    let _daemons = Way::ALL.map(|way| start(net, &way.to_string(), &[&files[3]]));
    let collector = Collector::listen(net.collector(), GUE_PORT);
    let done = AtomicBool::new(false);
    let flip = |way: Way| {
        let maps = instance(way).maps().expect("its maps");
        let tunnel = maps.tunnel().expect("a tunnel");
        (0..FLIPS - BY_COMMAND).for_each(|n| maps.apply(&compiled[n % 4], tunnel).expect("rules"));
    };
    let sent = thread::scope(|scope| {
        let sources = [net.client(), net.host()];
        let done = &done;
        let senders = [0, 1].map(|n| scope.spawn(move || traffic(sources[n], n as u64, done)));
        let end = End(done);
        let host = Host::open("/sys/fs/bpf".as_ref()).expect("the host");
        let lock = host.lock().expect("the lock");
        thread::scope(|scope| {
            for way in Way::ALL {
                let flip = &flip;
                scope.spawn(move || flip(way));
            }
        });
        drop(lock);
        for file in files.iter().cycle().take(BY_COMMAND) {
            for way in Way::ALL {
                let way = format!("--direction={way}");
                command(net.host(), &["--cmd=update", "--iface=eth0", &way, file]);
            }
        }
        drop(end);
        senders.map(|sender| sender.join().expect("a sender"))
    });
    let copies = collector.stop_after_quiet(QUIET);
    for (n, way) in Way::ALL.into_iter().enumerate() {
        let mut of_way = copies.ip();
        of_way.retain(|copy| number_of(copy) % 2 == n as u64);
        let seen = check(way, &of_way, n as u64..sent[n]);
        println!("{way}: {} copies, of (A, B) {seen:?}", of_way.len());
        for class in [(false, false), (false, true), (true, false), (true, true)] {
            let count = seen.get(&class).copied().unwrap_or(0);
            assert!(count > FLIPS as u64, "{way}: {count} of {class:?}");
        }
        assert_eq!(outcomes(way).sent as usize, of_way.len(), "{way}");
    }
}
