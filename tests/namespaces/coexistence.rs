//! Programs and filters of others on the interface that is mirrored: they run on as without us, and we
//! remove nothing of theirs, whoever comes or goes first.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use etherparse::PacketBuilder;
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};
use nix::errno::Errno;
use traffic_mirroring::config::Direction as Way;

use crate::support::tcx::Place;
use crate::support::*;

const PORT: u16 = 5300;
const FRAMES: usize = 20;

/// How others attach theirs.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcx,
    Clsact,
}

fn kinds() -> &'static [Kind] {
    if has_tcx() { &[Kind::Tcx, Kind::Clsact] } else { &[Kind::Clsact] }
}

/// Programs of somebody else's on one hook of `eth0`, in the order in which they run. The last one sends
/// ingress packets elsewhere.
struct Theirs {
    way: Way,
    programs: Vec<Counter>,
    links: Vec<OwnedFd>,
    filters: Vec<TcHook>,
    /// filters of another kind behind those
    others: usize,
}

impl Theirs {
    /// Where they come after us, they go in front of us.
    fn attach(world: &World, kind: Kind, way: Way, come_first: bool) -> Self {
        match kind {
            Kind::Tcx => Self::attach_tcx(way, come_first),
            Kind::Clsact => Self::attach_filters(world, way, come_first),
        }
    }

    /// As Cilium does it: by links, at places that they name.
    fn attach_tcx(way: Way, come_first: bool) -> Self {
        let last = match way {
            Way::Ingress => Counter::load_redirecting("sink"),
            Way::Egress => Counter::load(),
        };
        let programs = vec![Counter::load_undecided(), Counter::load_undecided(), last];
        let [first, second, last] = [0, 1, 2].map(|n: usize| &programs[n]);
        let in_front = if come_first { Place::Before(last.id()) } else { Place::InFront };
        let places = [(last, Place::Behind), (first, in_front), (second, Place::After(first.id()))];
        let links = places.map(|(program, place)| {
            let revision = tcx::programs(way).revision;
            let link = tcx::attach_at_revision(program.program.as_fd(), way, place, revision);
            link.expect("a link")
        });
        Self { way, programs, links: links.into(), filters: vec![], others: 0 }
    }

    /// One with the priority and the handle that ours takes where they are free, one behind it, and one
    /// of another kind.
    fn attach_filters(world: &World, way: Way, come_first: bool) -> Self {
        let programs = vec![Counter::load_undecided(), Counter::load_undecided()];
        let handle = if come_first { 0x6d69 } else { 1 };
        let filters = vec![filter(&programs[0], way, 1, handle), filter(&programs[1], way, 7, 1)];
        world.host().sh(&format!(
            "tc filter add dev eth0 {way} prio 9 u32 match u32 0 0 at 0 \
             action mirred egress redirect dev sink"
        ));
        Self { way, programs, links: vec![], filters, others: 1 }
    }

    /// A single one, in front of all that are there.
    fn attach_in_front(program: Counter, way: Way) -> Self {
        let (mut links, mut filters) = (vec![], vec![]);
        match has_tcx() {
            true => links.push(tcx::attach(program.program.as_fd(), way, Place::InFront)),
            // of one priority, the one that came last is the first
            false => filters.push(filter(&program, way, 1, 1)),
        }
        Self { way, programs: vec![program], links, filters, others: 0 }
    }

    /// Their programs, links and filters, as the kernel has them.
    fn in_place(&self, world: &World) -> String {
        let ids: Vec<_> = self.programs.iter().map(Counter::id).collect();
        let mut attached = tcx::programs(self.way).attached;
        attached.retain(|(program, _)| ids.contains(program));
        // ours has our program's name; the others are filters, or say that there are some
        let ours = format!("_{}_redir", self.way);
        let filters = self.filters(world, "");
        let is_theirs = |line: &&str| {
            (line.contains(" handle ") || line.contains(" fh ")) && !line.contains(&ours)
        };
        let filters: Vec<_> = filters.lines().filter(is_theirs).collect();
        format!("{attached:?}\n{filters:#?}")
    }

    fn filters(&self, world: &World, options: &str) -> String {
        // without a clsact qdisc this is an error, and no news
        world.host().sh(&format!("tc {options} filter show dev eth0 {} 2>&1 || :", self.way))
    }

    /// How many packets each has seen.
    fn seen(&self, world: &World) -> Vec<usize> {
        let statistics = self.filters(world, "-s");
        let of_actions = statistics.lines().filter_map(|line| line.trim().strip_prefix("Sent "));
        let packets =
            |sent: &str| sent.split(' ').nth(2).expect("packets").parse().expect("number");
        let programs = self.programs.iter().map(|program| program.count() as usize);
        programs.chain(of_actions.map(packets)).collect()
    }

    /// Sends packets, all of which each of theirs is to see. Returns how many copies arrive.
    fn send(&self, world: &World) -> usize {
        let before = self.seen(world);
        let copies = send(world, self.way);
        let more = self.seen(world).into_iter().zip(before).map(|(after, before)| after - before);
        let expected = self.programs.len() + self.others;
        assert_eq!(more.collect::<Vec<_>>(), vec![FRAMES; expected], "what they saw");
        copies
    }

    fn detach(self, world: &World) {
        drop(self.links);
        for mut filter in self.filters {
            filter.detach().expect("a filter of theirs");
        }
        if self.others > 0 {
            world.host().sh(&format!("tc filter delete dev eth0 {} prio 9", self.way));
        }
    }
}

fn filter(program: &Counter, way: Way, priority: u32, handle: u32) -> TcHook {
    let mut hook = TcHookBuilder::new(program.program.as_fd())
        .ifindex(nix::net::if_::if_nametoindex("eth0").expect("eth0") as i32)
        .priority(priority)
        .handle(handle)
        .hook(if way == Way::Ingress { TC_INGRESS } else { TC_EGRESS });
    hook.create().and_then(|mut hook| hook.attach()).expect("a filter")
}

/// Sends datagrams through the hook. Returns how many copies arrive.
fn send(world: &World, way: Way) -> usize {
    let (host, client) = (world.host(), world.client());
    // who says that the port is closed would be one more to count
    let _takers = [host, client].map(|ns| bind(ns, || UdpSocket::bind((ns.address(), PORT))));
    let (from, macs, addresses) = match way {
        Way::Ingress => (client, [CLIENT_MAC, HOST_MAC], [CLIENT, HOST]),
        Way::Egress => (host, [HOST_MAC, CLIENT_MAC], [HOST, CLIENT]),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(addresses[0].octets(), addresses[1].octets(), 64)
        .udp(PORT, PORT)
        .write(&mut frame, &[0; 100])
        .expect("a frame");
    let collector = Collector::listen(world.collector(), GUE_PORT);
    inject_all(from, "eth0", vec![frame; FRAMES]);
    collector.stop_after_quiet(QUIET).0.len()
}

/// A device for what others send elsewhere.
fn make_sink(world: &World) {
    world.host().sh("
        ip link add sink type veth peer name sink-p
        ip link set sink up
        ip link set sink-p up");
    eventually(Duration::from_secs(20), "the sink", || {
        world.host().sh("ip -o link show sink").contains("state UP")
    });
}

/// Ours is updated, dies, and starts again, beside theirs.
fn live(world: &World, theirs: &Theirs, ours: Daemon, start: impl Fn() -> Daemon) -> Daemon {
    let in_place = theirs.in_place(world);
    let check = |when: &str| {
        assert_eq!(theirs.send(world), FRAMES, "copies {when}");
        assert_eq!(theirs.in_place(world), in_place, "{when}");
    };
    check("while we mirror");
    let direction = format!("--direction={}", theirs.way);
    command(world.host(), &["--cmd=update", "--iface=eth0", &direction, "--protocol=udp"]);
    ours.kill();
    check("after an update and a SIGKILL");
    let ours = start();
    check("after the next start");
    ours
}

#[test]
fn needs_root_standalone_theirs_run_on_as_they_were_whoever_comes_and_goes_first() {
    let kinds = kinds().iter().flat_map(|kind| [(*kind, true), (*kind, false)]);
    for (kind, come_first) in kinds {
        World::run(|world| {
            make_sink(world);
            for way in Way::ALL {
                let go_first = come_first == (way == Way::Ingress);
                println!("{kind:?} {way}: they come first: {come_first}, go first: {go_first}");
                let before = Snapshot::of(world.host());
                let theirs = || Theirs::attach(world, kind, way, come_first);
                let ours = || start(world, &way.to_string(), &[]);
                let (theirs, first, without_us) = if come_first {
                    let theirs = theirs();
                    let without_us = Snapshot::of(world.host());
                    (theirs, ours(), Some(without_us))
                } else {
                    let first = ours();
                    (theirs(), first, None)
                };
                let ours = live(world, &theirs, first, ours);
                if go_first {
                    theirs.detach(world);
                    assert_eq!(send(world, way), FRAMES, "without them");
                    assert!(ours.terminate().success());
                } else {
                    let in_place = theirs.in_place(world);
                    assert!(ours.terminate().success());
                    assert_eq!(theirs.send(world), 0, "after our end");
                    assert_eq!(theirs.in_place(world), in_place, "after our end");
                    if let Some(without_us) = without_us {
                        let changes = Snapshot::of(world.host()).changes_since(&without_us);
                        assert_eq!(changes, [""; 0], "after our end");
                    }
                    theirs.detach(world);
                }
                // a qdisc that they made is theirs, and so is one that they had a filter on when we ended
                world.host().sh("tc qdisc delete dev eth0 clsact 2>&1 || :");
                assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
            }
        });
    }
}

/// A start, an update, a SIGKILL and a stop change nothing at a hook that is a chain's.
#[test]
fn needs_root_in_a_chain_the_hook_stays_as_others_have_it() {
    World::run(|world| {
        for way in Way::ALL {
            // behind the root nobody sees a packet, whatever we do
            let root = Root::attach(world.host(), &way.to_string());
            let behind = Counter::load();
            root.put(behind.program.as_fd());
            let theirs = Theirs::attach_in_front(Counter::load_undecided(), way);
            let before = (Snapshot::of(world.host()), tcx::programs(way));
            let ours = || start_chained(world, &way.to_string(), &root, &[]);
            let seen = behind.count();
            let ours = live(world, &theirs, ours(), ours);
            assert_eq!(behind.count() - seen, 3 * FRAMES as u64);
            assert_eq!(tcx::programs(way), before.1);
            assert!(ours.terminate().success());
            assert_eq!(theirs.send(world), 0, "after our end");
            assert_eq!((Snapshot::of(world.host()), tcx::programs(way)), before);
            theirs.detach(world);
        }
    });
}

/// We attach in front of all who are there. Who comes in front of us later, and ends the way of its
/// packets, gets what it asks for.
#[test]
fn needs_root_packets_that_end_in_front_of_us_are_theirs_alone_until_they_go() {
    World::run(|world| {
        for way in Way::ALL {
            let ours = start(world, &way.to_string(), &[]);
            let theirs = Theirs::attach_in_front(Counter::load(), way);
            assert_eq!(theirs.send(world), 0);
            theirs.detach(world);
            assert_eq!(send(world, way), FRAMES);
            assert!(ours.terminate().success());
        }
    });
}

/// Cilium and others tell by a hook's revision whether it is as they last saw it, and name their places
/// by programs that are there, ours included.
#[test]
fn needs_root_who_goes_by_revisions_and_places_finds_ours_where_it_was() {
    World::run(|world| {
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
            let ours = start(world, &way.to_string(), &[]);
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
            let ours = start(world, &way.to_string(), &[]);
            assert_eq!(links().collect::<Vec<_>>(), before, "the same links in the same places");
            assert_eq!(send(world, way), FRAMES);
            assert!(ours.terminate().success());
            eventually(Duration::from_secs(10), "the end of our link", || links().count() == 2);
            assert_eq!(links().collect::<Vec<_>>(), [before[0], before[2]]);
        }
    });
}
