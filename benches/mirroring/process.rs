//! What the process costs: time until it mirrors, time of an update, memory, size of the maps.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::MapHandle;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use traffic_mirroring::bpf::pins;
use traffic_mirroring::model::Direction;

use crate::Effort;
use crate::figure::{Figure, Part, Reach};
use crate::spread::Spread;
use testkit::namespaces::{Daemon, GUE_PORT, Topology};

const PORT: u16 = 5300;
const PREFIXES: u32 = 10_000;

pub fn measure(effort: Effort) -> Vec<Figure> {
    Topology::run(|net| {
        let mut figures = starts(net, effort);
        let daemon =
            testkit::namespaces::start(net, "ingress", &["--protocol=udp", "--dst-port=5300"]);
        figures.extend(updates(net, effort));
        figures.extend(room(&daemon));
        // last, because the tries keep the memory for its prefixes
        figures.push(largest_update(net, effort));
        figures
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time from the start of the process to the first copy, while packets keep arriving.
fn starts(net: &Topology, effort: Effort) -> Vec<Figure> {
    let (client, host, collector) = (net.client(), net.host(), net.collector());
    let listener =
        testkit::namespaces::bind(collector, || UdpSocket::bind((collector.address(), GUE_PORT)));
    let sender = testkit::namespaces::bind(client, || UdpSocket::bind((client.address(), 0)));
    sender.connect((host.address(), PORT)).expect("connect");
    let _receiver = testkit::namespaces::bind(host, || UdpSocket::bind((host.address(), PORT)));
    let stop = AtomicBool::new(false);
    let mut to_first_copy = Vec::new();
    let mut nothing = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                sender.send(b"a packet").expect("send");
                thread::sleep(Duration::from_micros(200));
            }
        });
        for _ in 0..effort.rounds(11) {
            let began = Instant::now();
            testkit::namespaces::command(host, &["-V"]);
            nothing.push(milliseconds(began.elapsed()));

            let began = Instant::now();
            let args = testkit::namespaces::args("ingress", &["--protocol=udp", "--dst-port=5300"]);
            let daemon = Daemon::mirroring(host, args.iter().map(|arg| arg.as_ref()));
            let mut buffer = [0; 2048];
            listener.recv(&mut buffer).expect("a copy");
            to_first_copy.push(milliseconds(began.elapsed()));
            assert!(daemon.terminate().success());
            while drained(&listener, &mut buffer) {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    let ratio = Spread::of(to_first_copy.iter().zip(&nothing).map(|(it, base)| it / base));
    let figure =
        Figure::new(Part::Process, "start to the first copy", Spread::of(to_first_copy), "ms")
            .against("mirroring -V", ratio)
            .reach(Reach::ValueAtMost(100.0));
    vec![figure]
}

/// Receives one waiting packet; false if there is none.
fn drained(listener: &UdpSocket, buffer: &mut [u8]) -> bool {
    listener.set_nonblocking(true).expect("a non-blocking socket");
    let any = listener.recv(buffer).is_ok();
    listener.set_nonblocking(false).expect("a blocking socket");
    any
}

/// The time of an update command to a filter of many prefixes, compared with one prefix.
fn updates(net: &Topology, effort: Effort) -> Vec<Figure> {
    let rules = |name: &str, prefixes: Vec<String>| {
        let rules = serde_json::json!({"rules": [{"action": "mirror", "dst": prefixes}]});
        testkit::namespaces::rules_file(name, &rules.to_string())
    };
    let prefix = |number: u32| format!("{}/24", Ipv4Addr::from_bits((0x10_0000 + number * 7) << 8));
    let one = rules("one", vec![prefix(0)]);
    let many = [0, 1]
        .map(|n| rules(&format!("many-{n}"), (0..PREFIXES).map(|i| prefix(2 * i + n)).collect()));
    let update = |file: &str| {
        let began = Instant::now();
        let args = ["--cmd=update", "--iface=eth0", "--direction=ingress", file];
        testkit::namespaces::command(net.host(), &args);
        milliseconds(began.elapsed())
    };
    let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
    for round in 0..effort.rounds(11) {
        of_one.push(update(&one));
        of_many.push(update(&many[round % 2]));
    }
    let ratio = Spread::of(of_many.iter().zip(&of_one).map(|(it, base)| it / base));
    let figure = Figure::new(Part::Process, "update to 10,000 prefixes", Spread::of(of_many), "ms")
        .against("update to one", ratio)
        .reach(Reach::ValueAtMost(50.0));
    vec![figure]
}

/// The CPU time of an update that replaces all of a very large number of prefixes and ports.
fn largest_update(net: &Topology, effort: Effort) -> Figure {
    const PREFIXES: u32 = 100_000;
    let set = |first: u32| {
        let prefix = |number: u32| format!("{}/28", Ipv4Addr::from_bits((number * 2 + first) << 4));
        let prefixes: Vec<_> = (PREFIXES..2 * PREFIXES).map(prefix).collect();
        let ports: Vec<_> = (first as u16..=u16::MAX).step_by(2).map(|it| it.to_string()).collect();
        let rules = serde_json::json!({"rules": [{"dst": prefixes, "dst_port": ports}]});
        testkit::namespaces::rules_file(&format!("largest-{first}"), &rules.to_string())
    };
    let sets = [1, 2].map(set);
    let times = (0..effort.rounds(5)).map(|round| {
        let args = ["--cmd=update", "--iface=eth0", "--direction=ingress", &sets[round % 2]];
        milliseconds(cpu_time(Daemon::mirroring(net.host(), args)))
    });
    Figure::new(
        Part::Process,
        "update to 100,000 prefixes, every port: CPU",
        Spread::of(times),
        "ms",
    )
}

/// Waits until the process exits by itself. Returns the CPU time that it used.
fn cpu_time(mut process: Daemon) -> Duration {
    let pid = Pid::from_raw(process.pid() as i32);
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("an exit");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat file");
    // clock ticks (proc_pid_stat(5), fields 14 and 15; field 2 ends with a parenthesis)
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|it| it.parse::<u64>().expect("ticks")).sum();
    assert!(process.wait().success(), "{}", process.output());
    Duration::from_millis(10 * ticks)
}

fn room(daemon: &Daemon) -> Vec<Figure> {
    const MIB: f64 = (1 << 20) as f64;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("its status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    let maps: u64 = pins::map_names(Direction::Ingress).iter().map(|name| memory(name)).sum();
    let binary = fs::metadata(testkit::binary()).expect("the binary").len();
    let figure =
        |what: &str, mebibytes| Figure::new(Part::Process, what, Spread::exactly(mebibytes), "MiB");
    vec![
        figure("resident memory of the process", resident / 1024.0).reach(Reach::ValueAtMost(6.0)),
        figure("maps of one instance", maps as f64 / MIB),
        figure("the binary, with all programs", binary as f64 / MIB),
    ]
}

/// Bytes that the kernel charges for a map (`memlock` in its fdinfo).
fn memory(name: &str) -> u64 {
    use std::os::fd::{AsFd, AsRawFd};
    let path = format!("/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/{name}");
    let map = MapHandle::from_pinned_path(path).expect("a pinned map");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()));
    let info = info.expect("the map's fdinfo");
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("memlock");
    bytes.trim().parse().expect("bytes")
}
