//! What mirroring a packet costs all the way to the collector, by this and by other means, and what it leaves
//! of the throughput of production.

use std::time::Duration;

use crate::Effort;
use crate::figure::{Figure, Part, Reach};
use crate::lane::{Lane, Way, stay_on_one_cpu, with_lanes};
use crate::spread::Spread;

/// Lengths of packets, bytes from the IP header on.
const LENGTHS: [usize; 2] = [64, 1_400];

/// The ways that are programs, or nothing.
const PROGRAMS: [Way; 4] = [Way::Nothing, Way::BareClone, Way::BuiltIn, Way::CloneToVxlan];

/// What each way took, in the order of [`Way::ALL`] or [`PROGRAMS`], of the rounds in turn.
type Rounds = Vec<Vec<f64>>;

pub fn measure(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    let (costs, from_wire, arrived, streams) = with_lanes(&Way::ALL, |lanes| {
        let streams = streams(lanes, effort);
        stay_on_one_cpu();
        let costs = LENGTHS.map(|length| costs(lanes, length, effort));
        let from_wire = LENGTHS.map(|length| costs_from_wire(lanes, length, effort));
        (costs, from_wire, arrived(lanes), streams)
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

fn costs(lanes: &mut [Lane<'_>], length: usize, effort: Effort) -> Rounds {
    let round = |_| lanes.iter().map(|lane| lane.send(5_000, length)).collect();
    (0..effort.rounds(25)).map(round).collect()
}

/// Of a packet that did not begin on this host: for that, only programs can be given one.
fn costs_from_wire(lanes: &[Lane<'_>], length: usize, effort: Effort) -> Rounds {
    let lanes: Vec<_> = lanes.iter().filter(|lane| PROGRAMS.contains(&lane.way)).collect();
    let round = |_| lanes.iter().map(|lane| lane.pass_on(5_000, length)).collect();
    (0..effort.rounds(25)).map(round).collect()
}

/// The share of the copies of many packets in a row that arrives, and how many those are in a second.
fn arrived(lanes: &mut [Lane<'_>]) -> Vec<Figure> {
    const COUNT: u32 = 50_000;
    let mirroring = lanes.iter().filter(|lane| lane.way != Way::Nothing);
    let figures = mirroring.map(|lane| {
        let before = lane.arrived();
        let nanoseconds = lane.send(COUNT, LENGTHS[0]);
        std::thread::sleep(Duration::from_millis(100));
        let share = (lane.arrived() - before) as f64 / f64::from(COUNT);
        let rate = share * 1e6 / nanoseconds;
        let what = format!("copies that arrive, {}", lane.way.name());
        let figure = Figure::new(Part::Throughput, what, Spread::exactly(rate), "1,000/s");
        figure.against("the packets sent", Spread::exactly(share))
    });
    figures.collect()
}

fn streams(lanes: &mut [Lane<'_>], effort: Effort) -> Rounds {
    let time = Duration::from_millis(200);
    let round = |_| lanes.iter_mut().map(|lane| lane.stream(time)).collect();
    (0..effort.rounds(9)).map(round).collect()
}

fn of_length(length: usize, rounds: &Rounds) -> Vec<Figure> {
    let index = |way| Way::ALL.iter().position(|it| *it == way).expect("one of all");
    // what a way adds to a packet that is not mirrored, in the same round
    let added = |round: &Vec<f64>, way| round[index(way)] - round[index(Way::Nothing)];
    let spread = |figure: &dyn Fn(&Vec<f64>) -> f64| Spread::of(rounds.iter().map(figure));
    let ours = Way::BuiltIn;
    let mut figures = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| *way != Way::Nothing) {
        let value = spread(&|round| added(round, way));
        let what = format!("{}, {length} bytes", way.name());
        let mut figure = Figure::new(Part::Path, what, value, "ns more");
        if way != Way::BareClone {
            let ratio = spread(&|round| added(round, way) / added(round, Way::BareClone));
            figure = figure.against("a bare clone to the NIC", ratio);
        }
        if way == ours && length == LENGTHS[0] {
            figure = figure.reach(Reach::RatioAtMost(1.5));
        }
        figures.push(figure);
    }
    let others = [
        (Way::MirredToVxlan, "tc u32 and mirred to VXLAN", 0.75),
        (Way::Tee, "iptables TEE", 0.55),
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
    let figures = PROGRAMS.into_iter().enumerate().skip(BARE_CLONE).map(|(index, way)| {
        let added = |round: &Vec<f64>, index: usize| round[index] - round[NOTHING];
        let value = Spread::of(rounds.iter().map(|round| added(round, index)));
        let what = format!("{}, {length} bytes", way.name());
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
    let figures = Way::ALL.into_iter().enumerate().map(|(index, way)| {
        let value = Spread::of(rounds.iter().map(|round| round[index] * GBIT_PER_BYTE));
        let what = format!("a TCP stream, {}", way.name());
        let figure = Figure::new(Part::Throughput, what, value, "Gbit/s");
        if way == Way::Nothing {
            return figure;
        }
        let kept = Spread::of(rounds.iter().map(|round| round[index] / round[0]));
        let figure = figure.against("no mirroring", kept);
        match way {
            Way::BuiltIn => figure.reach(Reach::RatioAtLeast(0.85)),
            _ => figure,
        }
    });
    figures.collect()
}
