//! Programs and filters of other users on `eth0`, and packets that they have to see.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

use etherparse::PacketBuilder;
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder};
use traffic_mirroring::model::Direction as Way;

use super::tcx::{self, Place};
use super::{
    CLIENT, CLIENT_MAC, Collector, Counter, GUE_PORT, HOST, HOST_MAC, QUIET, Topology, bind,
    eventually, has_tcx, inject_all,
};

const PORT: u16 = 5300;
pub const FRAMES: usize = 20;

/// How the other programs are attached.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tcx,
    Clsact,
}

pub fn kinds() -> &'static [Kind] {
    if has_tcx() { &[Kind::Tcx, Kind::Clsact] } else { &[Kind::Clsact] }
}

/// Programs of other users on one hook of `eth0`, in the order in which they run.
pub struct Theirs {
    pub way: Way,
    programs: Vec<Counter>,
    links: Vec<OwnedFd>,
    filters: Vec<TcHook>,
    /// whether the last of them redirects packets to the sink
    redirect: bool,
}

impl Theirs {
    /// Attaches them. `come_first`: they are attached before the program under test. Otherwise they are attached later,
    /// and in front of it.
    pub fn attach(net: &Topology, kind: Kind, way: Way, come_first: bool) -> Self {
        match kind {
            Kind::Tcx => Self::attach_tcx(way, come_first),
            Kind::Clsact => Self::attach_filters(net, way, come_first),
        }
    }

    /// Attaches three programs as Cilium does: by links, with their places named. On ingress the last one redirects.
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
        Self { way, programs, links: links.into(), filters: vec![], redirect: way == Way::Ingress }
    }

    /// Attaches three filters. If they come first, the first one has the priority and the handle that the program under
    /// test would take. The last one is of another kind and redirects.
    fn attach_filters(net: &Topology, way: Way, come_first: bool) -> Self {
        let programs = vec![Counter::load_undecided(), Counter::load_undecided()];
        let handle = if come_first { 0x6d69 } else { 1 };
        let filters = vec![filter(&programs[0], way, 1, handle), filter(&programs[1], way, 7, 1)];
        net.host().sh(&format!(
            "tc filter add dev eth0 {way} prio 9 u32 match u32 0 0 at 0 \
             action mirred egress redirect dev sink"
        ));
        Self { way, programs, links: vec![], filters, redirect: true }
    }

    /// Attaches a single program in front of all others.
    pub fn attach_in_front(program: Counter, way: Way) -> Self {
        let (mut links, mut filters) = (vec![], vec![]);
        match has_tcx() {
            true => links.push(tcx::attach(program.program.as_fd(), way, Place::InFront)),
            // among filters of one priority, the newest runs first
            false => filters.push(filter(&program, way, 1, 1)),
        }
        Self { way, programs: vec![program], links, filters, redirect: false }
    }

    /// Their programs, links and filters as the kernel lists them, to compare with a later list.
    pub fn in_place(&self, net: &Topology) -> String {
        let ids: Vec<_> = self.programs.iter().map(Counter::id).collect();
        let mut attached = tcx::programs(self.way).attached;
        attached.retain(|(program, _)| ids.contains(program));
        // a line with our program's name is our filter; other lines may only head a list
        let ours = format!("_{}_redir", self.way);
        // without a clsact qdisc the command fails, which is fine
        let filters = net.host().sh(&format!("tc filter show dev eth0 {} 2>&1 || :", self.way));
        let is_theirs = |line: &&str| {
            (line.contains(" handle ") || line.contains(" fh ")) && !line.contains(&ours)
        };
        let filters: Vec<_> = filters.lines().filter(is_theirs).collect();
        format!("{attached:?}\n{filters:#?}")
    }

    /// Sends packets, and checks that each of their programs sees all of them. Returns how many copies arrive.
    pub fn send(&self, net: &Topology) -> usize {
        let seen = || self.programs.iter().map(Counter::count).collect::<Vec<_>>();
        let redirected = || {
            let path = "/sys/class/net/sink/statistics/tx_packets";
            let sent = self.redirect.then(|| fs::read_to_string(path).expect("a count"));
            sent.map_or(0, |sent| sent.trim().parse::<usize>().expect("a number"))
        };
        let before = (seen(), redirected());
        let copies = send(net, self.way);
        let more = seen().into_iter().zip(before.0).map(|(after, before)| after - before);
        let expected = vec![FRAMES as u64; self.programs.len()];
        assert_eq!(more.collect::<Vec<_>>(), expected, "what they saw");
        let expected = if self.redirect { FRAMES } else { 0 };
        assert_eq!(redirected() - before.1, expected, "what they redirected");
        copies
    }

    pub fn detach(self, net: &Topology) {
        drop(self.links);
        let has_another_kind = self.redirect && !self.filters.is_empty();
        for mut filter in self.filters {
            filter.detach().expect("a filter of theirs");
        }
        if has_another_kind {
            net.host().sh(&format!("tc filter delete dev eth0 {} prio 9", self.way));
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
pub fn send(net: &Topology, way: Way) -> usize {
    let (host, client) = (net.host(), net.client());
    // with a closed port, an ICMP error would be one more packet to count
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
    let collector = Collector::listen(net.collector(), GUE_PORT);
    inject_all(from, "eth0", vec![frame; FRAMES]);
    collector.stop_after_quiet(QUIET).0.len()
}

/// Makes the device `sink`, to which other programs redirect packets.
pub fn make_sink(net: &Topology) {
    net.host().sh("
        ip link add sink type veth peer name sink-p
        ip link set sink up
        ip link set sink-p up");
    eventually("the sink", || net.host().sh("ip -o link show sink").contains("state UP"));
}
