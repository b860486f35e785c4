//! Datagrams longer than the MTU. If the first fragment matched, all fragments arrive. Fragments of
//! other datagrams do not.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use etherparse::PacketBuilder;
use libbpf_rs::{MapCore, MapHandle};
use traffic_mirroring::bpf::map_defs;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// `MIRRORING_DATAGRAMS` of `bpf/mirroring.h`.
const ROOM: usize = map_defs::DATAGRAM.entries as usize;

/// Two fragments, of which the second is as short as possible; three; six.
const SIZES: [usize; 3] = [1473, 4000, 8000];

fn rules(port: &str) -> String {
    format!(
        r#"{{"rules": [
            {{"action": "exclude", "{port}": [5302]}},
            {{"{port}": ["5300-5304", "not 5303"]}}
        ]}}"#
    )
}

#[test]
fn needs_root_all_fragments_of_a_datagram_arrive_or_none() {
    in_every_launch_mode(|net, launcher| {
        one_frame_per_packet(net);
        with_ipv6(net);
        let both @ [ingress, egress] = &[rules("dst_port"), rules("src_port")];
        let _both = launcher.start_both(both);
        let (copies, frames) = observe(net, || {
            for size in SIZES {
                for port in 5299..=5304 {
                    udp_exchange(net.client(), net.host(), port, 2, size);
                    udp_exchange6(net, port, 2, size);
                }
            }
        });

        let of_port = |frames: &Frames| {
            let received = to_be_mirrored(ingress, frames, Direction::Received).len();
            received + to_be_mirrored(egress, frames, Direction::Sent).len()
        };
        // 2, 3 and 6 fragments, for 2 datagrams and their replies, to each of 3 ports, in 2
        // families
        assert_eq!(of_port(&frames), (2 + 3 + 6) * 2 * 3 * 2 * 2);
        let received = to_be_mirrored(ingress, &frames, Direction::Received);
        let sent = to_be_mirrored(egress, &frames, Direction::Sent);
        assert_same(copies.ip(), [received, sent].concat());

        let mut of_ipv4 = copies.ip();
        of_ipv4.retain(|copy| source(copy).is_ipv4());
        let whole = datagrams(&of_ipv4);
        assert_eq!(whole.len(), SIZES.len() * 2 * 3 * 2);
        whole.iter().for_each(|datagram| assert_sums(datagram));
        for way in [Way::Ingress, Way::Egress] {
            assert_eq!(
                outcomes(way).excluded,
                (2 + 3 + 6) * 2 * 2,
                "fragments to port 5302, {way}"
            );
        }
    });
}

/// The number of remembered datagrams, and the memory that the kernel reports for the map.
fn remembered() -> (usize, String) {
    let path = "/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/ingress_datagram";
    let map = MapHandle::from_pinned_path(path).expect("the pinned map of datagrams");
    let info = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let info = fs::read_to_string(info).expect("the map's fdinfo");
    let memory = info.lines().find(|line| line.starts_with("memlock:")).expect("a memlock line");
    (map.keys().count(), memory.to_owned())
}

/// Sends more first fragments than the map has room for, without their later fragments, and whole
/// packets in between.
#[test]
fn needs_root_a_flood_of_fragments_takes_no_more_memory() {
    const ROUNDS: u16 = 10;
    const EACH: u16 = 2000;
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--dst-port=5300"]);
        let (none, memory) = remembered();
        assert_eq!(none, 0);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(CLIENT_MAC, HOST_MAC)
            .ipv4(CLIENT.octets(), HOST.octets(), 64)
            .udp(40_000, 5300)
            .write(&mut frame, &[0; 64])
            .expect("a frame");
        for round in 0..ROUNDS {
            let collector = Collector::listen(net.collector(), GUE_PORT);
            let flood = (0..EACH).map(|n| {
                // sets an ID and "more fragments"; the checksum is wrong now, so the host drops the
                // fragment
                frame[18..20].copy_from_slice(&(round * EACH + n).to_be_bytes());
                frame[20..22].copy_from_slice(&[0x20, 0]);
                frame.clone()
            });
            inject_all(net.client(), "eth0", flood);
            udp_exchange(net.client(), net.host(), 5300, 20, 2000);
            let copies = collector.stop_after_quiet(QUIET).ip().len();
            assert_eq!(copies, usize::from(EACH) + 20 * 2);
        }
        let (count, after) = remembered();
        assert!((ROOM / 2..=ROOM).contains(&count), "{count} datagrams");
        assert_eq!(after, memory);
    });
}
