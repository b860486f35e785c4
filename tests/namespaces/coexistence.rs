//! Programs and filters of others on the interface that is mirrored: they run on as without us, and we
//! remove nothing of theirs, whoever comes or goes first.

use std::os::fd::AsFd;

use nix::errno::Errno;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::foreign_programs::{FRAMES, Theirs, kinds, make_sink, send};
use testkit::namespaces::tcx::Place;
use testkit::namespaces::*;

/// Ours is updated, dies, and starts again, beside theirs.
fn live(net: &Topology, theirs: &Theirs, ours: Daemon, start: impl Fn() -> Daemon) -> Daemon {
    let in_place = theirs.in_place(net);
    let check = |when: &str| {
        assert_eq!(theirs.send(net), FRAMES, "copies {when}");
        assert_eq!(theirs.in_place(net), in_place, "{when}");
    };
    check("while we mirror");
    let direction = format!("--direction={}", theirs.way);
    command(net.host(), &["--cmd=update", "--iface=eth0", &direction, "--protocol=udp"]);
    ours.kill();
    check("after an update and a SIGKILL");
    let ours = start();
    check("after the next start");
    ours
}

#[test]
fn needs_root_standalone_other_programs_run_on_undisturbed() {
    let kinds = kinds().iter().flat_map(|kind| [(*kind, true), (*kind, false)]);
    for (kind, come_first) in kinds {
        Topology::run(|net| {
            make_sink(net);
            for way in Way::ALL {
                let go_first = come_first == (way == Way::Ingress);
                println!("{kind:?} {way}: they come first: {come_first}, go first: {go_first}");
                let before = Snapshot::of(net.host());
                let theirs = || Theirs::attach(net, kind, way, come_first);
                let ours = || start(net, &way.to_string(), &[]);
                let (theirs, first, without_us) = if come_first {
                    let theirs = theirs();
                    let without_us = Snapshot::of(net.host());
                    (theirs, ours(), Some(without_us))
                } else {
                    let first = ours();
                    (theirs(), first, None)
                };
                let ours = live(net, &theirs, first, ours);
                if go_first {
                    theirs.detach(net);
                    assert_eq!(send(net, way), FRAMES, "without them");
                    assert!(ours.terminate().success());
                } else {
                    let in_place = theirs.in_place(net);
                    assert!(ours.terminate().success());
                    assert_eq!(theirs.send(net), 0, "after our end");
                    assert_eq!(theirs.in_place(net), in_place, "after our end");
                    if let Some(without_us) = without_us {
                        let changes = Snapshot::of(net.host()).changes_since(&without_us);
                        assert_eq!(changes, [""; 0], "after our end");
                    }
                    theirs.detach(net);
                }
                // a qdisc is theirs if they made it, or if it had a filter of theirs when we ended
                net.host().sh("tc qdisc delete dev eth0 clsact 2>&1 || :");
                assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
            }
        });
    }
}

/// A start, an update, a SIGKILL and a stop change nothing at a hook that is a chain's.
#[test]
fn needs_root_in_a_chain_the_hook_stays_as_others_have_it() {
    Topology::run(|net| {
        for way in Way::ALL {
            // the root ends the processing, so a program behind it sees no packet
            let root = Root::attach(net.host(), &way.to_string());
            let behind = Counter::load();
            root.put(behind.program.as_fd());
            let theirs = Theirs::attach_in_front(Counter::load_undecided(), way);
            let before = (Snapshot::of(net.host()), tcx::programs(way));
            let ours = || start_chained(net, &way.to_string(), &root, &[]);
            let seen = behind.count();
            let ours = live(net, &theirs, ours(), ours);
            assert_eq!(behind.count() - seen, 3 * FRAMES as u64);
            assert_eq!(tcx::programs(way), before.1);
            assert!(ours.terminate().success());
            assert_eq!(theirs.send(net), 0, "after our end");
            assert_eq!((Snapshot::of(net.host()), tcx::programs(way)), before);
            theirs.detach(net);
        }
    });
}

/// We attach in front of all programs that are there. A program that comes in front of us later, and ends the
/// processing of its packets, keeps them from us.
#[test]
fn needs_root_packets_that_end_in_front_of_us_are_not_ours() {
    Topology::run(|net| {
        for way in Way::ALL {
            let ours = start(net, &way.to_string(), &[]);
            let theirs = Theirs::attach_in_front(Counter::load(), way);
            assert_eq!(theirs.send(net), 0);
            theirs.detach(net);
            assert_eq!(send(net, way), FRAMES);
            assert!(ours.terminate().success());
        }
    });
}

/// Cilium and others tell by a hook's revision whether it is as they last saw it, and name their places
/// by programs that are there, ours included.
#[test]
fn needs_root_tcx_programs_at_named_places_are_undisturbed() {
    Topology::run(|net| {
        for way in Way::ALL {
            let theirs = [Counter::load_undecided(), Counter::load_undecided()];
            let attach = |n: usize, place, revision| {
                tcx::attach_at_revision(theirs[n].program.as_fd(), way, place, revision)
            };
            if !has_tcx() {
                let refused = attach(0, Place::InFront, 0).expect_err("no such hook");
                assert_eq!(refused, Errno::EINVAL);
                continue;
            }
            let stale = tcx::programs(way).revision.max(1);
            let ours = start(net, &way.to_string(), &[]);
            let now = tcx::programs(way);
            let our_id = now.attached[0].0;
            let refused = attach(0, Place::Before(our_id), stale).expect_err("another revision");
            assert_eq!(refused, Errno::ESTALE);
            let _in_front = attach(0, Place::Before(our_id), now.revision).expect("a link");
            let revision = tcx::programs(way).revision;
            let _behind = attach(1, Place::After(our_id), revision).expect("a link");

            let links = || tcx::programs(way).attached.into_iter().map(|(_, link)| link);
            let before: Vec<_> = links().collect();
            ours.kill();
            let ours = start(net, &way.to_string(), &[]);
            assert_eq!(links().collect::<Vec<_>>(), before, "the same links in the same places");
            assert_eq!(send(net, way), FRAMES);
            assert!(ours.terminate().success());
            eventually("the end of our link", || links().count() == 2);
            assert_eq!(links().collect::<Vec<_>>(), [before[0], before[2]]);
        }
    });
}
