//! An update is atomic, and nothing of the old rules remains.

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::map_defs::MapDef;
use traffic_mirroring::bpf::mmap_array::MmapArray;
use traffic_mirroring::filter::{self, Rule, Table};
use traffic_mirroring::maps::Layout;
use traffic_mirroring::model::Direction;

use testkit::test_run::harness::{Context, Harness, TC_ACT_OK, nowhere, rule, run, side_by_side};
use testkit::test_run::packets::{tcp, udp};

/// Rounds for each direction.
const FLIPS: u32 = 100;

/// The offsets of the masks in `struct mirroring_config`. `live` is the first one.
fn config_masks() -> Vec<usize> {
    let of_no_table = [
        offset_of!(bpf::Config, live),
        offset_of!(bpf::Config, any_more),
        offset_of!(bpf::Config, unconditional),
        offset_of!(bpf::Config, portless),
    ];
    of_no_table.into_iter().chain(Table::all().map(|table| Layout::of(table).any)).collect()
}

/// All maps that an update writes.
struct Tables {
    masks: Vec<MmapArray<u64>>,
    prefixes: Vec<MapHandle>,
}

/// The maps' contents, by map and position, without zeros.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    masks: BTreeMap<(usize, usize), u64>,
    prefixes: BTreeMap<(usize, Vec<u8>), u64>,
}

impl Tables {
    fn of(harness: &Harness, direction: Direction) -> Self {
        let open = |map: MapDef| bpf::map(&harness.object, &map.name(direction)).unwrap();
        let layouts = || Table::all().map(Layout::of);
        Self {
            masks: layouts()
                .map(|Layout { values, .. }| {
                    MmapArray::new(&open(values), values.entries as usize).unwrap()
                })
                .collect(),
            prefixes: layouts().filter_map(|layout| layout.prefixes).map(open).collect(),
        }
    }

    /// The contents in the generation in force, moved to generation 0. The other generation must be
    /// empty.
    fn contents(&self, harness: &Harness) -> Contents {
        let live = harness.maps.common.config.live().load(Ordering::Relaxed);
        let shift = if live as u32 == 0 { 32 } else { 0 };
        let in_force = |word: u64| {
            assert_eq!(
                word & !(u64::from(u32::MAX) << shift),
                0,
                "the other generation is not empty, live is {live:#x}"
            );
            word >> shift
        };
        let config = config_masks()
            .into_iter()
            .map(|offset| harness.maps.common.config.word(offset).load(Ordering::Relaxed));
        let mut masks: BTreeMap<_, _> =
            config.enumerate().map(|(place, word)| ((0, place), in_force(word))).collect();
        for (table, words) in (1..).zip(&self.masks) {
            for (place, word) in words.words().iter().enumerate() {
                match word.load(Ordering::Relaxed) {
                    0 => {}
                    word => drop(masks.insert((table, place), in_force(word))),
                }
            }
        }
        let mut prefixes = BTreeMap::new();
        for (table, map) in self.prefixes.iter().enumerate() {
            for key in map.keys() {
                let mask = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
                let mask = u64::from_ne_bytes(mask.try_into().unwrap());
                prefixes.insert((table, key), in_force(mask));
            }
        }
        Contents { masks, prefixes }
    }
}

/// The maps' contents after these updates, with the last one in force.
fn contents_after(direction: Direction, updates: &[&[Rule]]) -> Contents {
    let harness = Harness::new(direction, TC_ACT_OK);
    for rules in updates {
        harness.install(rules);
    }
    Tables::of(&harness, direction).contents(&harness)
}

/// A rule with many entries in every field.
fn wide() -> Vec<Rule> {
    let nets: Vec<String> =
        (0..2000).map(|n| format!("10.{}.{}.0/{}", n / 250, n % 250, 20 + n % 5)).collect();
    let nets = nets.join(",");
    let nets6: Vec<String> = (0..500).map(|n| format!("2001:db8:{n:x}::/{}", 48 + n % 5)).collect();
    let nets6 = nets6.join(",");
    let flags = format!(
        "protocol=tcp,udp,47 src-port=1-30000 dst-port=80,8000-9000 \
         src-address=10.0.0.0/8,{nets},{nets6} dst-address={nets},{nets6},192.0.2.0/24 \
         tcp-flags=syn,not ack vlan=none,1-4095 icmp-type=not echo-reply dscp=not ef length=64-9000"
    );
    vec![rule(&flags), rule("dst-port=80 src-address=10.1.0.0/16"), rule("protocol=icmp"), rule("")]
}

fn narrow() -> Vec<Rule> {
    vec![rule(
        "protocol=tcp dst-port=80 src-address=10.1.2.0/24,2001:db8:7::/48 \
         dst-address=192.0.2.1,2001:db8::1 tcp-flags=ack vlan=7 dscp=0 length=40-1500",
    )]
}

#[test]
fn needs_root_after_an_update_only_the_new_rule_matches() {
    let one = udp("10.0.0.1:1", "192.0.2.1:53").frame();
    let other = tcp("172.16.0.1:2", "198.51.100.1:80").frame();
    Harness::each(|harness| {
        for _ in 0..3 {
            harness.install(&[rule("protocol=udp src-address=10.0.0.0/8 dst-port=53")]);
            assert!(harness.matches(&one) && !harness.matches(&other));
            harness.install(&[rule("protocol=tcp src-address=172.16.0.0/12 dst-port=80")]);
            assert!(harness.matches(&other) && !harness.matches(&one));
        }
        harness.maps.disable();
        assert!(!harness.matches(&other) && !harness.matches(&one));
    });
}

#[test]
fn needs_root_an_update_leaves_nothing_of_the_rules_before() {
    side_by_side(Direction::ALL, |direction| {
        let fresh = contents_after(direction, &[&narrow()]);
        assert_eq!(fresh.prefixes.len(), 4);
        assert_eq!(contents_after(direction, &[&wide(), &narrow()]), fresh);
        assert_eq!(contents_after(direction, &[&narrow(), &wide(), &narrow()]), fresh);
        assert_eq!(contents_after(direction, &[&narrow(), &narrow()]), fresh);
        let open = contents_after(direction, &[&wide(), &[rule("")]]);
        assert_eq!((open.masks.len(), open.prefixes.len()), (config_masks().len(), 0));
    });
}

#[test]
fn needs_root_an_update_after_a_disable_leaves_no_old_rules() {
    side_by_side(Direction::ALL, |direction| {
        let fresh = contents_after(direction, &[&narrow()]);
        // the rules are removed while generation 0 is in force, and then while generation 1 is
        for updates in [&[wide()][..], &[narrow(), wide()]] {
            let harness = Harness::new(direction, TC_ACT_OK);
            for rules in updates {
                harness.install(rules);
            }
            harness.maps.disable();
            harness.install(&narrow());
            assert_eq!(Tables::of(&harness, direction).contents(&harness), fresh);
        }
    });
}

#[test]
fn needs_root_an_update_cleans_up_after_one_that_was_cut_short() {
    side_by_side(Direction::ALL, |direction| {
        let harness = Harness::new(direction, TC_ACT_OK);
        let tables = Tables::of(&harness, direction);
        let fresh = contents_after(direction, &[&narrow()]);
        for _ in 0..3 {
            let live = harness.maps.common.config.live().load(Ordering::Relaxed);
            let stray = if live as u32 == 0 { u64::from(u32::MAX) } else { !u64::from(u32::MAX) };
            for offset in &config_masks()[1..] {
                harness.maps.common.config.word(*offset).fetch_or(stray, Ordering::Relaxed);
            }
            for word in tables.masks.iter().flat_map(|table| table.words()) {
                word.fetch_or(stray, Ordering::Relaxed);
            }
            for map in &tables.prefixes {
                // addresses within a prefix of the rule, and outside of all
                for address in [[10, 1, 2, 99], [172, 16, 0, 1]] {
                    let mut key = vec![0; map.key_size() as usize];
                    let len = 8 * (key.len() - 4) as u32;
                    key[..4].copy_from_slice(&len.to_ne_bytes());
                    key[4..8].copy_from_slice(&address);
                    map.update(&key, &stray.to_ne_bytes(), MapFlags::ANY).unwrap();
                }
            }
            harness.install(&narrow());
            assert_eq!(tables.contents(&harness), fresh);
        }
    });
}

/// Gives this thread real-time priority. It can then run at any moment, even in the middle of a
/// program if the kernel lets programs be preempted (PREEMPT_RT).
fn preempt_others() -> io::Result<()> {
    let urgent = libc::sched_param { sched_priority: 1 };
    // SAFETY: it concerns this thread only, and the parameters outlive the call
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &urgent) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs the program on both packets again and again while updates alternate between the two rules.
/// The first packet must always match, and the second one never.
fn flip_under_traffic(direction: Direction, rules: [Rule; 2], always: &[u8], never: &[u8]) {
    const BATCH: u32 = 512;
    let Harness { object, maps, .. } = &Harness::new(direction, TC_ACT_OK);
    let [one, other] = rules.map(|rule| filter::compile(&[rule]).unwrap());
    maps.apply(&other, nowhere()).unwrap();

    let (runs, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                run(object, always, Context::default(), BATCH);
                run(object, never, Context::default(), BATCH);
                runs.fetch_add(u64::from(BATCH), Ordering::Relaxed);
                // often enough to hit every moment of an update, but without holding it up
                thread::sleep(Duration::from_micros(100));
            }
        });
        let flip = |flip: u32| {
            thread::sleep(Duration::from_micros(u64::from(flip * 37 % 211)));
            maps.apply(if flip % 2 == 0 { &one } else { &other }, nowhere())
        };
        let flips =
            preempt_others().map_err(Into::into).and_then(|()| (0..FLIPS).try_for_each(flip));
        // the traffic must end even if an update failed
        done.store(true, Ordering::Relaxed);
        flips.unwrap();
    });
    let runs = runs.into_inner();
    assert!(runs > u64::from(FLIPS), "only {runs} runs");
    assert_eq!(maps.outcomes().unwrap().matched, runs);
}

#[test]
fn needs_root_no_packet_is_judged_by_half_of_an_update() {
    // each rule names the fields that the other one leaves open
    let rules = [
        rule("protocol=udp dst-address=10.0.0.0/8 src-port=1-100"),
        rule("dst-port=53 dst-address=10.1.2.0/24,20.0.0.0/8 src-address=172.16.0.0/12"),
    ];
    let both_accept = udp("172.16.0.1:7", "10.1.2.3:53").frame();
    // each field of this packet is accepted by one of the rules
    let neither_accepts = udp("172.16.0.1:7", "20.0.0.1:54").frame();
    side_by_side(Direction::ALL, |direction| {
        flip_under_traffic(direction, rules.clone(), &both_accept, &neither_accepts);
    });
}
