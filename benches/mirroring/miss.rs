//! The cost of a packet that no rule matches, compared with a program that does nothing.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction;

use crate::Effort;
use crate::figure::{Figure, Part, Reach};
use crate::programs;
use crate::run::{Case, Samples};
use testkit::test_run::harness::{Harness, TC_ACT_UNSPEC, rule};
use testkit::test_run::packets::udp;
use testkit::test_run::packets_ipv6::udp6;

/// A kind of rules that the packet does not match.
struct Kind {
    what: String,
    flags: String,
    rules: usize,
    is_ipv6: bool,
    reach: Option<f64>,
}

pub fn measure(effort: Effort) -> Vec<Figure> {
    let kinds = kinds(effort);
    let frames = [
        udp("10.0.0.1:1000", "192.0.2.1:80").frame(),
        udp6("[2001:db8:1::1]:1000", "[2001:db8:2::1]:80").frame(),
    ];
    let harness = |kind: &Kind| {
        let harness = Harness::new(Direction::Ingress, TC_ACT_UNSPEC);
        harness.install(&vec![rule(&kind.flags); kind.rules]);
        assert!(!harness.matches(&frames[usize::from(kind.is_ipv6)]), "{}", kind.what);
        harness
    };
    let harnesses: Vec<Harness> = kinds.iter().map(harness).collect();
    let programs: Vec<_> = harnesses.iter().map(|it| bpf::program(&it.object)).collect();
    let empty = programs::empty();

    let mut cases = vec![Case { program: empty.as_fd(), frame: &frames[0] }];
    cases.extend(kinds.iter().zip(&programs).map(|(kind, program)| Case {
        program: program.as_fd(),
        frame: &frames[usize::from(kind.is_ipv6)],
    }));
    let samples = Samples::take(&cases, effort.rounds(41), 50_000);
    let figures = (1..).zip(kinds).map(|(case, kind)| {
        let figure = Figure::new(Part::Miss, kind.what, samples.over(case, 0), "ns more")
            .against("an empty program", samples.ratio(case, 0));
        match kind.reach {
            Some(most) => figure.reach(Reach::ValueAtMost(most)),
            None => figure,
        }
    });
    figures.collect()
}

fn kinds(effort: Effort) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for is_ipv6 in [false, true] {
        let version = if is_ipv6 { "IPv6" } else { "IPv4" };
        let [far, near] = match is_ipv6 {
            false => ["198.51.100.0/24", "192.0.3.0/24"],
            true => ["2001:db9::/32", "2001:db8:3::/48"],
        };
        let (far, near) = (format!("dst-address={far}"), format!("dst-address={near}"));
        for rules in [1, 8, 32] {
            let plural = if rules == 1 { "rule" } else { "rules" };
            for (by, flags, most) in [
                ("protocol", "protocol=tcp,icmp", 5.0),
                ("port", "protocol=udp dst-port=81-90", 5.0),
                ("address", far.as_str(), 8.0),
            ] {
                // there is no target for 8 rules
                let reach = (!is_ipv6 && rules != 8 && by != "address").then_some(most);
                let what = format!("{version}, by {by}, {rules} {plural}");
                kinds.push(Kind { what, flags: flags.to_owned(), rules, is_ipv6, reach });
            }
        }
        for count in effort.of(&[1_000, 100_000][..], &[1_000]) {
            let what = format!("{version}, by address, {count} prefixes");
            let reach = (!is_ipv6 && *count == 1_000).then_some(8.0);
            kinds.push(Kind { what, flags: prefixes(*count, is_ipv6), rules: 1, is_ipv6, reach });
        }
        // here a trie lookup is needed
        let what = format!("{version}, by address, next to a prefix");
        kinds.push(Kind { what, flags: near, rules: 1, is_ipv6, reach: None });
    }
    kinds
}

/// A rule with `count` prefixes. They are spread over allocated address space, far from the packet.
fn prefixes(count: u32, is_ipv6: bool) -> String {
    let prefix = |number: u32| match is_ipv6 {
        // /24s spread over 16.0.0.0 to 175.255.255.0
        false => {
            let net = (0x10_0000 + number.wrapping_mul(40_503) % 0xa0_0000) << 8;
            format!("{}/24", Ipv4Addr::from_bits(net))
        }
        // /48s spread over 2400::/8
        true => {
            let net = (0x2400_u128 << 32) + u128::from(number.wrapping_mul(2_654_435_761));
            format!("{}/48", Ipv6Addr::from_bits(net << 80))
        }
    };
    let prefixes: Vec<String> = (0..count).map(prefix).collect();
    format!("dst-address={}", prefixes.join(","))
}
