//! Later fragments meet the rule that their datagram's first fragment met.

use libbpf_rs::MapCore;
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::map_defs;
use traffic_mirroring::model::Direction;

use testkit::test_run::harness::{Context, Fate, Harness, TC_ACT_OK, exclude, rule, side_by_side};
use testkit::test_run::packets::{Packet, udp};
use testkit::test_run::packets_ipv6::{Packet6, udp6};

/// `MIRRORING_DATAGRAMS` of `bpf/mirroring.h`.
const ROOM: usize = map_defs::DATAGRAM.entries as usize;

const A: &str = "10.0.0.1:1000";
const A6: &str = "[2001:db8::1]:1000";

fn first(id: u16, port: u16) -> Vec<u8> {
    udp(A, &format!("192.0.2.1:{port}")).with_id(id).fragment(0, true).frame()
}

/// The payload's bytes do not look like ports.
fn later(id: u16) -> Packet {
    udp("10.0.0.1:7", "192.0.2.1:7").with_id(id).fragment(185, false)
}

fn first6(id: u32, port: u16) -> Vec<u8> {
    udp6(A6, &format!("[2001:db8::2]:{port}")).fragment(id, 0, true).frame()
}

fn later6(id: u32) -> Packet6 {
    udp6("[2001:db8::1]:7", "[2001:db8::2]:7").fragment(id, 1480, false)
}

#[test]
fn needs_root_fragments_meet_the_rule_that_the_first_one_met() {
    Harness::each(|harness| {
        harness.install(&[exclude("dst-port=81"), rule("dst-port=80")]);
        let cases = [(80, Fate::Failed), (81, Fate::Excluded), (82, Fate::NoMatch)];
        let mut expected = [0, 0];
        for (port, fate) in cases {
            let (id, id6) = (port, port.into());
            for (first, later) in
                [(first(id, port), later(id).frame()), (first6(id6, port), later6(id6).frame())]
            {
                assert_eq!(
                    harness.fate(&later),
                    Fate::NoMatch,
                    "{port}, before the first fragment"
                );
                assert_eq!(harness.fate(&first), fate, "{port}");
                for _ in 0..2 {
                    assert_eq!(harness.fate(&later), fate, "{port}");
                }
                match fate {
                    Fate::Excluded => expected[0] += 3,
                    Fate::Failed => expected[1] += 3,
                    _ => {}
                }
                assert_eq!([harness.met(0), harness.met(1)], expected);
            }
        }
    });
}

#[test]
fn needs_root_fragments_of_other_datagrams_do_not() {
    let of_another = |src, dst| udp(src, dst).with_id(1).fragment(185, true).frame();
    let mut of_tcp = later(1);
    of_tcp.header.protocol = etherparse::IpNumber::TCP;
    Harness::each(|harness| {
        harness.install(&[rule("dst-port=80")]);
        harness.fate(&first(1, 80));
        harness.fate(&first6(1, 80));
        for (name, frame) in [
            ("another number", later(2).frame()),
            ("another source", of_another("10.0.0.2:7", "192.0.2.1:7")),
            ("another destination", of_another("10.0.0.1:7", "192.0.2.2:7")),
            ("the other direction", of_another("192.0.2.1:7", "10.0.0.1:7")),
            ("another protocol", of_tcp.frame()),
            ("another number in IPv6", later6(2).frame()),
            ("more of the number than IPv4 has", later6(0x1_0001).frame()),
            (
                "the other direction in IPv6",
                udp6("[2001:db8::2]:7", A6).fragment(1, 1480, true).frame(),
            ),
            ("a whole packet", udp(A, "192.0.2.1:81").with_id(1).frame()),
        ] {
            assert_eq!(harness.fate(&frame), Fate::NoMatch, "{name}");
        }
        assert_eq!(harness.fate(&later(1).frame()), Fate::Failed);
        assert_eq!(harness.fate(&later6(1).frame()), Fate::Failed);
    });
}

/// Whatever next header a later fragment names, its data is not read as that header.
#[test]
fn needs_root_the_next_header_of_later_fragments_is_ignored() {
    Harness::each(|harness| {
        harness.install(&[rule("protocol=udp dst-port=80")]);
        harness.fate(&first6(1, 80));
        for next in [6, 17, 58, 60, 255] {
            let later = Packet6::new(next, A6, "[2001:db8::2]:80").fragment(1, 1480, false);
            assert_eq!(harness.fate(&later.frame()), Fate::Failed, "{next}");
        }
    });
}

#[test]
fn needs_root_a_sample_has_all_fragments_of_a_datagram_or_none() {
    Harness::each(|harness| {
        for sample in ["one-in-packets=2", "one-in-flows=2"] {
            harness.install(&[rule(&format!("dst-port=1-60000 {sample}"))]);
            let mut mirrored = 0;
            for id in 0..200_u16 {
                let port = 1 + id;
                for (first, later) in [
                    (first(id, port), later(id).frame()),
                    (first6(id.into(), port), later6(id.into()).frame()),
                ] {
                    let fate = harness.fate(&first);
                    mirrored += usize::from(fate == Fate::Failed);
                    for _ in 0..4 {
                        assert_eq!(harness.fate(&later), fate, "{sample} {id}");
                    }
                }
            }
            // of 400 datagrams, with six standard deviations to either side
            assert!((140..=260).contains(&mirrored), "{sample}: {mirrored}");
        }
    });
}

#[test]
fn needs_root_an_update_forgets_what_first_fragments_met() {
    Harness::each(|harness| {
        let rules = [rule("dst-port=80")];
        harness.install(&rules);
        harness.fate(&first(1, 80));
        harness.fate(&first6(1, 80));
        // updates alternate between the generations, and a new rule gets the old rule's bit
        for update in 0..4 {
            harness.install(&rules);
            for later in [later(1).frame(), later6(1).frame()] {
                assert_eq!(harness.fate(&later), Fate::NoMatch, "update {update}");
            }
        }
        harness.fate(&first(1, 80));
        assert_eq!(harness.fate(&later(1).frame()), Fate::Failed);
        harness.maps.disable();
        assert_eq!(harness.fate(&later(1).frame()), Fate::NoMatch);
    });
}

#[test]
fn needs_root_a_full_map_knows_the_newest_datagrams() {
    side_by_side(Direction::ALL, |direction| {
        let harness = Harness::new(direction, TC_ACT_OK);
        harness.install(&[rule("dst-port=80")]);
        let pass = |frame: &[u8]| harness.pass(frame, Context::default());
        (0..2 * ROOM as u16).for_each(|id| pass(&first(id, 80)));
        let newest = 2 * ROOM as u16 - 1000..2 * ROOM as u16;
        newest.for_each(|id| pass(&later(id).frame()));
        assert_eq!(harness.met(0), 2 * ROOM as u64 + 1000);
        assert_eq!(harness.fate(&later(0).frame()), Fate::NoMatch);
        let datagrams = bpf::map(&harness.object, &map_defs::DATAGRAM.name(direction)).unwrap();
        let known = datagrams.keys().count();
        assert!((ROOM / 2..=ROOM).contains(&known), "{known}");
    });
}
