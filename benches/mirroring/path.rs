//! The cost of mirroring a packet all the way to the collector, by several methods, and the
//! throughput that production keeps.

use std::time::Duration;

use crate::Effort;
use crate::figure::{Figure, Part, Reach};
use crate::spread::Spread;
use crate::testbed::{Method, Testbed, stay_on_one_cpu, with_testbeds};

/// Lengths of packets, in bytes from the IP header on.
const LENGTHS: [usize; 2] = [64, 1_400];

/// The methods that are tc programs, and no mirroring.
const PROGRAMS: [Method; 4] =
    [Method::Nothing, Method::BareClone, Method::BuiltIn, Method::CloneToVxlan];

/// Rounds of measurements. Each has one value per method, in the order of [`Method::ALL`] or
/// [`PROGRAMS`].
type Rounds = Vec<Vec<f64>>;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    let (costs, from_wire, arrived, streams) = with_testbeds(&Method::ALL, |testbeds| {
        let streams = streams(testbeds, effort);
        stay_on_one_cpu();
        let costs = LENGTHS.map(|length| costs(testbeds, length, effort));
        let from_wire = LENGTHS.map(|length| costs_from_wire(testbeds, length, effort));
        (costs, from_wire, arrived(testbeds), streams)
    });
    for (length, rounds) in LENGTHS.into_iter().zip(&costs) {
        figures.extend(of_length(length, rounds));
    }
    for (length, rounds) in LENGTHS.into_iter().zip(&from_wire) {
        figures.extend(of_length_from_wire(length, rounds));
    }
    figures.extend(of_streams(&streams));
    figures.extend(arrived);
    figures
}

fn costs(testbeds: &mut [Testbed<'_>], length: usize, effort: Effort) -> Rounds {
    let round = |_| testbeds.iter().map(|testbed| testbed.send(5_000, length)).collect();
    (0..effort.rounds(25)).map(round).collect()
}

/// The costs for a forwarded packet. Only tc programs can be given one.
fn costs_from_wire(testbeds: &[Testbed<'_>], length: usize, effort: Effort) -> Rounds {
    let testbeds: Vec<_> =
        testbeds.iter().filter(|testbed| PROGRAMS.contains(&testbed.method)).collect();
    let round = |_| testbeds.iter().map(|testbed| testbed.pass_on(5_000, length)).collect();
    (0..effort.rounds(25)).map(round).collect()
}

/// The share of many packets in a row whose copies arrive, and the copies per second.
fn arrived(testbeds: &mut [Testbed<'_>]) -> Vec<Figure> {
    const COUNT: u32 = 50_000;
    let mirroring = testbeds.iter().filter(|testbed| testbed.method != Method::Nothing);
    let figures = mirroring.map(|testbed| {
        let before = testbed.arrived();
        let nanoseconds = testbed.send(COUNT, LENGTHS[0]);
        std::thread::sleep(Duration::from_millis(100));
        let share = (testbed.arrived() - before) as f64 / f64::from(COUNT);
        let rate = share * 1e6 / nanoseconds;
        let what = format!("copies that arrive, {}", testbed.method.name());
        let figure = Figure::new(Part::Throughput, what, Spread::exactly(rate), "1,000/s");
        figure.against("the packets sent", Spread::exactly(share))
    });
    figures.collect()
}

fn streams(testbeds: &mut [Testbed<'_>], effort: Effort) -> Rounds {
    let time = Duration::from_millis(200);
    let round = |_| testbeds.iter_mut().map(|testbed| testbed.stream(time)).collect();
    (0..effort.rounds(9)).map(round).collect()
}

fn of_length(length: usize, rounds: &Rounds) -> Vec<Figure> {
    let index = |method| Method::ALL.iter().position(|it| *it == method).expect("a method of ALL");
    // what a method adds to the cost of an unmirrored packet, in the same round
    let added = |round: &Vec<f64>, method| round[index(method)] - round[index(Method::Nothing)];
    let spread = |figure: &dyn Fn(&Vec<f64>) -> f64| Spread::of(rounds.iter().map(figure));
    let ours = Method::BuiltIn;
    let mut figures = Vec::new();
    for method in Method::ALL.into_iter().filter(|method| *method != Method::Nothing) {
        let value = spread(&|round| added(round, method));
        let what = format!("{}, {length} bytes", method.name());
        let mut figure = Figure::new(Part::Path, what, value, "ns more");
        if method != Method::BareClone {
            let ratio = spread(&|round| added(round, method) / added(round, Method::BareClone));
            figure = figure.against("a bare clone to the NIC", ratio);
        }
        if method == ours && length == LENGTHS[0] {
            figure = figure.reach(Reach::RatioAtMost(1.5));
        }
        figures.push(figure);
    }
    let others = [
        (Method::MirredToVxlan, "tc u32 and mirred to VXLAN", 0.75),
        (Method::Tee, "iptables TEE", 0.55),
    ];
    for (other, name, most) in others {
        let value = spread(&|round| added(round, ours) - added(round, other));
        let ratio = spread(&|round| added(round, ours) / added(round, other));
        let what = format!("{}, {length} bytes", ours.name());
        let mut figure = Figure::new(Part::Path, what, value, "ns more").against(name, ratio);
        if length == LENGTHS[0] {
            figure = figure.reach(Reach::RatioAtMost(most));
        }
        figures.push(figure);
    }
    figures
}

fn of_length_from_wire(length: usize, rounds: &Rounds) -> Vec<Figure> {
    const NOTHING: usize = 0;
    const BARE_CLONE: usize = 1;
    let figures = PROGRAMS.into_iter().enumerate().skip(BARE_CLONE).map(|(index, method)| {
        let added = |round: &Vec<f64>, index: usize| round[index] - round[NOTHING];
        let value = Spread::of(rounds.iter().map(|round| added(round, index)));
        let what = format!("{}, {length} bytes", method.name());
        let figure = Figure::new(Part::FromWire, what, value, "ns more");
        if index == BARE_CLONE {
            return figure;
        }
        let ratio = rounds.iter().map(|round| added(round, index) / added(round, BARE_CLONE));
        figure.against("a bare clone to the NIC", Spread::of(ratio))
    });
    figures.collect()
}

fn of_streams(rounds: &Rounds) -> Vec<Figure> {
    const GBIT_PER_BYTE: f64 = 8e-9;
    let figures = Method::ALL.into_iter().enumerate().map(|(index, method)| {
        let value = Spread::of(rounds.iter().map(|round| round[index] * GBIT_PER_BYTE));
        let what = format!("a TCP stream, {}", method.name());
        let figure = Figure::new(Part::Throughput, what, value, "Gbit/s");
        if method == Method::Nothing {
            return figure;
        }
        let kept = Spread::of(rounds.iter().map(|round| round[index] / round[0]));
        let figure = figure.against("no mirroring", kept);
        match method {
            Method::BuiltIn => figure.reach(Reach::RatioAtLeast(0.85)),
            _ => figure,
        }
    });
    figures.collect()
}
