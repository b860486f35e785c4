//! The clsact filter, which takes the place of TCX before Linux 6.6: it shares an interface with
//! filters of others, and neither side harms the other.
//!
//! With a kernel that has TCX, a start never uses clsact, so most of these tests call it directly. The thread of
//! a test is in the host's namespace.

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::thread;

use libbpf_rs::{TC_INGRESS, TcHook, TcHookBuilder};
use traffic_mirroring::attach::clsact::{ClsactFilter, remove_qdisc};
use traffic_mirroring::model::Direction as Way;
use traffic_mirroring::netlink::Netlink;

use testkit::namespaces::*;

/// An EtherType for experiments (IEEE Std 802): nobody answers, so nothing else comes in.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

fn netlink() -> Netlink {
    Netlink::open().expect("netlink")
}

fn eth0() -> u32 {
    nix::net::if_::if_nametoindex("eth0").expect("eth0")
}

/// Returns the record that was written last.
fn attach(program: &Counter, way: Way) -> (ClsactFilter, bool) {
    let noted = Cell::new(None);
    let note = |filter: &ClsactFilter, made_clsact| noted.set(Some((*filter, made_clsact)));
    ClsactFilter::attach(program.program.as_fd(), eth0(), way, &mut netlink(), note)
        .expect("a filter");
    noted.into_inner().expect("a note")
}

/// Removes the filter if it runs `program`.
fn detach(filter: &ClsactFilter, program: &Counter) {
    filter.detach(program.program.as_fd(), |id| id == program.id()).expect("a filter to remove");
}

fn remove(any: &Counter) -> bool {
    remove_qdisc(any.program.as_fd(), eth0(), &mut netlink()).expect("a look at the qdisc")
}

/// A program of somebody else on ingress, behind ours.
fn attach_foreign(program: &Counter) -> TcHook {
    let mut hook = TcHookBuilder::new(program.program.as_fd())
        .ifindex(eth0() as i32)
        .priority(7)
        .hook(TC_INGRESS);
    hook.create().and_then(|mut hook| hook.attach()).expect("a foreign filter")
}

/// Has `count` frames come in at the host, and says how many each program saw of them.
fn seen<const N: usize>(net: &Topology, count: u64, programs: [&Counter; N]) -> [u64; N] {
    let before = programs.map(Counter::count);
    for _ in 0..count {
        send_frame(net);
    }
    let mut counts = [0; N];
    for (i, program) in programs.iter().enumerate() {
        counts[i] = program.count() - before[i];
    }
    counts
}

fn send_frame(net: &Topology) {
    let frame = [&HOST_MAC[..], &CLIENT_MAC, &EXPERIMENTAL, &[0; 46]].concat();
    inject(net.client(), "eth0", &frame);
}

#[test]
fn needs_root_a_start_uses_tcx_where_possible_and_else_clsact() {
    Topology::run(|net| {
        for way in ["ingress", "egress"] {
            let before = Snapshot::of(net.host());
            let daemon = start(net, way, &[]);
            let changes = Snapshot::of(net.host()).changes_since(&before);
            let is_new = |topic: &str| changes.iter().any(|change| change.starts_with(topic));
            let (tcx, filter) = (format!("+ tcx on eth0 {way}"), format!("+ filter on eth0 {way}"));
            assert_eq!((is_new(&tcx), is_new(&filter)), (has_tcx(), !has_tcx()), "{changes:#?}");
            assert!(daemon.terminate().success());
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        }
    });
}

#[test]
fn needs_root_a_clsact_filter_runs_and_leaves_nothing_behind() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        for way in [Way::Ingress, Way::Egress] {
            let ours = Counter::load_undecided();
            let (filter, made_clsact) = attach(&ours, way);
            assert!(made_clsact);
            assert_eq!((filter.ifindex, filter.direction), (eth0(), way));
            assert!(filter.handle != 0 && filter.priority != 0, "{filter:?}");
            ping(net.client(), net.host(), 3, 56);
            assert!(ours.count() >= 3, "{}", ours.count());

            detach(&filter, &ours);
            assert!(remove(&ours));
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        }
    });
}

#[test]
fn needs_root_both_directions_share_one_clsact_qdisc() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let (ingress, egress) = (Counter::load_undecided(), Counter::load_undecided());
        let (filter_in, made_by_first) = attach(&ingress, Way::Ingress);
        let (filter_out, made_by_second) = attach(&egress, Way::Egress);
        assert_eq!((made_by_first, made_by_second), (true, false));

        detach(&filter_in, &ingress);
        assert!(!remove(&ingress), "the other direction still uses it");
        ping(net.client(), net.host(), 3, 56);
        assert!(egress.count() >= 3, "{}", egress.count());
        detach(&filter_out, &egress);
        assert!(remove(&egress));
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_foreign_filter_runs_on_and_keeps_the_qdisc() {
    Topology::run(|net| {
        let (ours, foreign) = (Counter::load_undecided(), Counter::load());
        // it was there before us, so the qdisc is not ours
        let mut hook = attach_foreign(&foreign);
        let before = Snapshot::of(net.host());
        let (filter, made_clsact) = attach(&ours, Way::Ingress);
        assert!(!made_clsact);
        assert_eq!(seen(net, 5, [&ours, &foreign]), [5, 5], "ours in front, both in turn");
        detach(&filter, &ours);
        assert_eq!(seen(net, 5, [&ours, &foreign]), [0, 5]);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        hook.detach().expect("the foreign filter to go");
        assert!(remove(&ours));

        // it came after us: we made the qdisc, but no longer use it alone
        let (filter, made_clsact) = attach(&ours, Way::Ingress);
        assert!(made_clsact);
        let mut hook = attach_foreign(&foreign);
        detach(&filter, &ours);
        assert!(!remove(&ours));
        assert_eq!(seen(net, 5, [&ours, &foreign]), [0, 5]);
        hook.detach().expect("the foreign filter to go");
        assert!(remove(&ours));
    });
}

#[test]
fn needs_root_a_clsact_qdisc_of_others_is_not_taken_for_ours() {
    Topology::run(|net| {
        // the older ingress qdisc stands in the same place
        for qdisc in ["clsact", "ingress"] {
            net.host().sh(&format!("tc qdisc add dev eth0 {qdisc}"));
            let before = Snapshot::of(net.host());
            let ours = Counter::load_undecided();
            let (filter, made_clsact) = attach(&ours, Way::Ingress);
            assert!(!made_clsact, "{qdisc}");
            assert_eq!(seen(net, 5, [&ours]), [5], "{qdisc}");
            detach(&filter, &ours);
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0], "{qdisc}");
            net.host().sh(&format!("tc qdisc delete dev eth0 {qdisc}"));
        }
    });
}

#[test]
fn needs_root_a_replaced_program_misses_no_packet() {
    const FRAMES: u64 = 200;
    Topology::run(|net| {
        let programs = [Counter::load_undecided(), Counter::load_undecided()];
        let (filter, _) = attach(&programs[0], Way::Ingress);
        // the text about the filter up to the name of its program
        let place = || {
            let filters = net.host().sh("tc filter show dev eth0 ingress");
            filters.split(" test:[").next().expect("text").to_owned()
        };
        let before = place();
        thread::scope(|scope| {
            let sender = scope.spawn(|| (0..FRAMES).for_each(|_| send_frame(net)));
            for next in [1, 0].into_iter().cycle() {
                filter.replace(programs[next].program.as_fd()).expect("another program");
                if sender.is_finished() {
                    break;
                }
            }
        });
        let [one, other] = programs.each_ref().map(Counter::count);
        assert_eq!(one + other, FRAMES, "each frame by one program, none by both");
        assert!(one > 0 && other > 0, "{one} and {other}");
        assert_eq!(place(), before);
    });
}

/// A SIGKILL may come between any two steps of an attach: the record that is written by then leads to everything
/// that was made.
#[test]
fn needs_root_a_clsact_filter_is_noted_before_it_is_made() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        // takes the first priority, so that there are two attempts
        net.host().sh("
            tc qdisc add dev eth0 clsact
            tc filter add dev eth0 ingress prio 1 u32 match u32 0xffffffff 0xffffffff at 0");
        for foreign in [true, false] {
            if !foreign {
                net.host().sh("tc qdisc delete dev eth0 clsact");
            }
            let there = || {
                let look = "tc qdisc show dev eth0; tc filter show dev eth0 ingress 2>&1 || :";
                let found = net.host().sh(look);
                (found.contains("clsact"), found.contains(" bpf "))
            };
            let ours = Counter::load_undecided();
            let notes = RefCell::new(Vec::new());
            let note = |filter: &ClsactFilter, made_clsact| {
                notes.borrow_mut().push((there(), filter.priority, made_clsact));
            };
            ClsactFilter::attach(ours.program.as_fd(), eth0(), Way::Ingress, &mut netlink(), note)
                .expect("a filter");
            let notes = notes.into_inner();
            let expected = match foreign {
                true => [1, 1, 2].map(|priority| ((true, false), priority, false)).to_vec(),
                false => vec![((false, false), 1, true), ((true, false), 1, true)],
            };
            assert_eq!(notes, expected);
            assert_eq!(there(), (true, true));
        }
        net.host().sh("tc qdisc delete dev eth0 clsact");
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_only_a_program_of_ours_is_detached() {
    Topology::run(|net| {
        let (ours, foreign) = (Counter::load_undecided(), Counter::load());
        let (filter, _) = attach(&ours, Way::Ingress);
        // somebody puts a program of their own into our place
        filter.replace(foreign.program.as_fd()).expect("another program");
        detach(&filter, &ours);
        assert_eq!(seen(net, 5, [&ours, &foreign]), [0, 5]);
        assert!(!remove(&ours));
        detach(&filter, &foreign);
        // and where there is none any more, nothing is left to do
        detach(&filter, &ours);
        assert!(remove(&ours));
    });
}

#[test]
fn needs_root_a_foreign_filter_of_another_kind_does_not_stop_us() {
    Topology::run(|net| {
        net.host().sh("
            tc qdisc add dev eth0 clsact
            tc filter add dev eth0 ingress prio 1 u32 match u32 0xffffffff 0xffffffff at 0
            tc filter add dev eth0 ingress prio 9 u32 match u32 0xffffffff 0xffffffff at 0");
        let before = Snapshot::of(net.host());
        let ours = Counter::load_undecided();
        let (filter, made_clsact) = attach(&ours, Way::Ingress);
        assert!(!made_clsact);
        assert_eq!(filter.priority, 2, "as far in front as may be");
        assert_eq!(seen(net, 5, [&ours]), [5]);
        detach(&filter, &ours);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_foreign_filter_keeps_its_priority_and_handle() {
    Topology::run(|net| {
        let (ours, foreign) = (Counter::load_undecided(), Counter::load_undecided());
        let before = Snapshot::of(net.host());
        let (as_ours, _) = attach(&foreign, Way::Ingress);
        let with_theirs = Snapshot::of(net.host());
        let (filter, made_clsact) = attach(&ours, Way::Ingress);
        assert!(!made_clsact);
        assert_eq!((filter.handle, filter.priority), (as_ours.handle, as_ours.priority + 1));
        assert_eq!(seen(net, 5, [&ours, &foreign]), [5, 5]);
        detach(&filter, &ours);
        assert_eq!(seen(net, 5, [&ours, &foreign]), [0, 5]);
        assert_eq!(Snapshot::of(net.host()).changes_since(&with_theirs), [""; 0]);
        detach(&as_ours, &foreign);
        assert!(remove(&ours));
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_qdisc_that_others_deleted_is_no_error() {
    Topology::run(|net| {
        let ours = Counter::load_undecided();
        let any = ours.program.as_fd();
        let ifindex = eth0();
        for deletion in ["tc qdisc delete dev eth0 clsact", "ip link delete eth0"] {
            let (filter, _) = attach(&ours, Way::Ingress);
            net.host().sh(deletion);
            detach(&filter, &ours);
            let gone = remove_qdisc(any, ifindex, &mut netlink());
            assert!(gone.expect("a look at the qdisc"), "{deletion}");
        }
    });
}

/// The kernel would take an egress filter on a qdisc for ingress alone, and run it on ingress.
#[test]
fn needs_root_an_attach_that_fails_says_so_and_changes_nothing() {
    Topology::run(|net| {
        net.host().sh("tc qdisc add dev eth0 ingress");
        let before = Snapshot::of(net.host());
        let ours = Counter::load_undecided();
        let ignore = |_: &ClsactFilter, _| {};
        let result =
            ClsactFilter::attach(ours.program.as_fd(), eth0(), Way::Egress, &mut netlink(), ignore);
        let error = format!("{:#}", result.expect_err("no place on egress"));
        assert!(error.contains("cannot attach to egress (clsact)"), "{error}");
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}
