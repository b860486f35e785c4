//! Packets captured on real networks. For each filter, the program matches exactly the packets that
//! tcpdump's filter lets through.
//!
//! The captures come from tcpdump's own tests. `CAPTURES` names their directory (see `make test`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use traffic_mirroring::model::Direction;

use testkit::test_run::harness::{Harness, TC_ACT_OK, hex, rule};

/// No test run takes shorter frames, and not every kernel takes longer ones.
const FRAMES: std::ops::RangeInclusive<usize> = 14..=3000;

/// Selects the packets on which both must agree. They have complete headers, as far as rules look
/// at them. They have no IPv6 extension headers, because tcpdump does not skip these and we do.
const PLAIN: &str = "
    (ip and ip[0] & 0xf0 = 0x40 and ip[0] & 0xf >= 5 and ip[2:2] >= (ip[0] & 0xf) * 4 + 14
        and ip[(ip[0] & 0xf) * 4 + 13] >= 0)
    or (ip6 and ip6[0] & 0xf0 = 0x60 and ip6[4:2] >= 14 and ip6[53] >= 0
        and not (ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60))";

/// A filter as our flags and as pcap-filter(7). (In the latter, `and` and `or` have equal
/// precedence.)
const FILTERS: [(&str, &str); 23] = [
    ("src-address=0.0.0.0", "ip"),
    ("src-address=::", "ip6"),
    ("protocol=tcp", "tcp"),
    ("protocol=udp", "udp"),
    ("protocol=sctp", "sctp"),
    ("protocol=icmp", "icmp"),
    ("protocol=ipv6-icmp", "icmp6"),
    ("protocol=not tcp,not udp", "not tcp and not udp"),
    ("protocol=tcp,udp,sctp dst-port=53", "dst port 53"),
    ("protocol=udp src-port=1-1023", "udp src portrange 1-1023"),
    ("protocol=tcp dst-port=not 1024-65535", "tcp dst portrange 0-1023"),
    ("src-address=10.0.0.0/8,192.168.0.0/16", "src net 10.0.0.0/8 or src net 192.168.0.0/16"),
    (
        "dst-address=224.0.0.0/4 src-address=not 10.0.0.0/8",
        "dst net 224.0.0.0/4 and not src net 10.0.0.0/8",
    ),
    ("dst-address=fe80::/10,ff00::/8", "dst net fe80::/10 or dst net ff00::/8"),
    ("src-address=2000::/3", "src net 2000::/3"),
    ("tcp-flags=syn", "(tcp[13] & 2 != 0) or (ip6[6] = 6 and ip6[53] & 2 != 0)"),
    ("tcp-flags=syn+ack", "(tcp[13] & 18 = 18) or (ip6[6] = 6 and ip6[53] & 18 = 18)"),
    ("icmp-type=echo-request", "icmp[0] = 8 or icmp6[0] = 128"),
    ("src-address=0.0.0.0 dscp=cs6", "ip and ip[1] & 0xfc = 0xc0"),
    ("src-address=:: dscp=0", "ip6 and ip6[0:2] & 0x0fc0 = 0"),
    ("src-address=0.0.0.0 length=0-128", "ip and ip[2:2] <= 128"),
    ("src-address=:: length=128-1500", "ip6 and ip6[4:2] >= 88 and ip6[4:2] <= 1460"),
    (
        "protocol=udp length=not 0-100",
        "(ip proto 17 and ip[2:2] > 100) or (ip6 proto 17 and ip6[4:2] > 60)",
    ),
];

/// Filters on the VLAN tags themselves. They apply to the whole frame.
const TAG_FILTERS: [(&str, &str); 3] = [
    ("vlan=none", "not vlan"),
    ("vlan=0-99", "vlan and ether[14:2] & 0xfff <= 99"),
    ("vlan=not none,not 0-99", "vlan and ether[14:2] & 0xfff > 99"),
];

/// Prefixes of a tcpdump filter that make it look behind no VLAN tag, one tag or two tags.
const BEHIND_TAGS: [&str; 3] = ["", "vlan and ", "vlan and vlan and "];

/// All frames of all captures, in one file for tcpdump.
struct Captures {
    frames: Vec<Vec<u8>>,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Captures {
    fn read(folder: &Path) -> Self {
        let mut paths: Vec<_> = fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{folder:?}: {error}"))
            .map(|entry| entry.expect("an entry of the folder").path())
            .collect();
        paths.sort();
        let frames: Vec<_> = paths.iter().flat_map(|path| frames(path)).collect();

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("all.pcap");
        let header = PcapHeader { datalink: DataLink::ETHERNET, ..Default::default() };
        let mut writer = PcapWriter::with_header(File::create(&file).expect("a file"), header)
            .expect("a header");
        for (number, frame) in (0..).zip(&frames) {
            // the timestamp identifies the frame
            let packet = PcapPacket::new(Duration::from_secs(number), frame.len() as u32, frame);
            writer.write_packet(&packet).expect("a packet");
        }
        Self { frames, file, _folder: folder }
    }

    /// Whether the filter lets each frame through.
    fn filtered(&self, filter: &str) -> Vec<bool> {
        let output = Command::new("tcpdump")
            .args(["-r", self.file.to_str().expect("UTF-8"), "-w", "-", filter])
            .output()
            .expect("tcpdump (is it installed?)");
        assert!(
            output.status.success(),
            "tcpdump {filter:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut passed = vec![false; self.frames.len()];
        let mut reader = PcapReader::new(output.stdout.as_slice()).expect("a capture");
        while let Some(packet) = reader.next_packet() {
            passed[packet.expect("a packet").timestamp.as_secs() as usize] = true;
        }
        passed
    }

    /// The same for plain packets, with or without VLAN tags.
    fn filtered_behind_tags(&self, filter: &str) -> Vec<bool> {
        let mut any = vec![false; self.frames.len()];
        for tags in BEHIND_TAGS {
            for (any, passed) in
                any.iter_mut().zip(self.filtered(&format!("{tags}({PLAIN}) and ({filter})")))
            {
                *any |= passed;
            }
        }
        any
    }
}

/// The Ethernet frames of a file; empty if it is no capture or has another link type.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    // some files are broken on purpose, to test tcpdump
    let Ok(mut reader) = PcapReader::new(file) else { return Vec::new() };
    if reader.header().datalink != DataLink::ETHERNET {
        return Vec::new();
    }
    let mut frames = Vec::new();
    while let Some(Ok(packet)) = reader.next_packet() {
        if FRAMES.contains(&packet.data.len()) {
            frames.push(packet.data.into_owned());
        }
    }
    frames
}

fn check(captures: &Captures, plain: &[bool], flags: &str, filter: &str, expected: &[bool]) {
    let harness = Harness::new(Direction::Ingress, TC_ACT_OK);
    harness.install(&[rule(flags)]);
    let (mut both, mut neither, mut wrong) = (0, 0, Vec::new());
    for (number, frame) in captures.frames.iter().enumerate().filter(|(number, _)| plain[*number]) {
        let before = harness.met(0);
        harness.pass(frame, Default::default());
        match (harness.met(0) != before, expected[number]) {
            (true, true) => both += 1,
            (false, false) => neither += 1,
            (ours, _) => wrong.push(format!("we say {ours}: {}", hex(frame))),
        }
    }
    println!("{flags:42} {both:6} match, {neither:6} do not");
    assert!(
        wrong.is_empty(),
        "{flags} and {filter:?} differ on {} frames:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    assert!(both > 0 && neither > 0, "{flags}: the frames do not tell matches from misses");
}

#[test]
#[ignore = "wants captures: make test"]
fn needs_root_captured_packets_match_as_with_tcpdumps_filters() {
    let folder = std::env::var("CAPTURES").expect("CAPTURES, the folder of captures");
    let captures = Captures::read(Path::new(&folder));
    let plain = captures.filtered_behind_tags("len >= 0");
    let count = plain.iter().filter(|plain| **plain).count();
    println!("{} frames, of which {count} are plain", captures.frames.len());
    assert!(count > 3000, "{count} plain packets");
    for (flags, filter) in FILTERS {
        check(&captures, &plain, flags, filter, &captures.filtered_behind_tags(filter));
    }
    for (flags, filter) in TAG_FILTERS {
        check(&captures, &plain, flags, filter, &captures.filtered(filter));
    }
}
