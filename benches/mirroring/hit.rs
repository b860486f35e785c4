//! The cost of mirroring a packet, compared with a program that only clones it to the same device.

use std::os::fd::AsFd;
use std::process::Command;

use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction;

use crate::Effort;
use crate::figure::{Figure, Part, Reach};
use crate::programs;
use crate::run::{Case, Samples};
use testkit::test_run::harness::{Harness, TC_ACT_UNSPEC, in_namespace, rule, tunnel};
use testkit::test_run::packets::udp;
use testkit::test_run::packets_ipv6::udp6;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    in_namespace(|| figures = measure_here(effort));
    figures
}

fn measure_here(effort: Effort) -> Vec<Figure> {
    let ifindex = sink();
    let frames = [
        udp("10.0.0.1:1000", "192.0.2.1:80").frame(),
        udp6("[2001:db8:1::1]:1000", "[2001:db8:2::1]:80").frame(),
    ];
    let to_sink = bpf::Tunnel { ifindex, ..tunnel() };
    let kinds = [
        ("IPv4, by protocol", "protocol=udp", 0),
        (
            "IPv4, by all five fields",
            "protocol=udp src-port=1000 dst-port=80 src-address=10.0.0.0/8 dst-address=192.0.2.0/24",
            0,
        ),
        ("IPv6, by protocol", "protocol=udp", 1),
    ];
    let harnesses = kinds.map(|(_, flags, _)| {
        let harness = Harness::new(Direction::Ingress, TC_ACT_UNSPEC);
        harness.install_to(&[rule(flags)], to_sink);
        harness
    });
    let programs: Vec<_> = harnesses.iter().map(|it| bpf::program(&it.object)).collect();
    let clone = programs::bare_clone(ifindex);

    let mut cases = Vec::new();
    for ((_, _, frame), program) in kinds.iter().zip(&programs) {
        cases.push(Case { program: clone.as_fd(), frame: &frames[*frame] });
        cases.push(Case { program: program.as_fd(), frame: &frames[*frame] });
    }
    let samples = Samples::take(&cases, effort.rounds(81), 5_000);
    for harness in &harnesses {
        let it = harness.maps.outcomes().expect("the counters");
        assert!(it.matched > 0 && it.matched == it.sent, "every copy is sent: {it:?}");
    }
    let mut figures = Vec::new();
    for (index, (what, _, _)) in kinds.iter().enumerate() {
        let (base, case) = (2 * index, 2 * index + 1);
        let figure = Figure::new(Part::Hit, *what, samples.over(case, base), "ns more")
            .against("a bare clone", samples.ratio(case, base));
        figures.push(match index {
            0 => figure.reach(Reach::ValueAtMost(30.0)),
            _ => figure,
        });
    }
    figures
}

/// Makes a device that accepts all packets and drops them at its far end. Returns its index.
fn sink() -> u32 {
    let links = "ip link add sink type veth peer name drain
                 ip link set sink up
                 ip link set drain up";
    let made = Command::new("sh").args(["-ec", links]).status();
    assert!(made.expect("sh").success(), "a veth pair");
    nix::net::if_::if_nametoindex("sink").expect("the device")
}
