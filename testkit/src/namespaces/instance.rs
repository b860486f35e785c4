//! Starts the program under test in its various roles.

use std::os::fd::AsFd;
use std::process::Output;
use std::time::Duration;

use libbpf_rs::{MapCore, MapHandle};
use nix::sys::signal::Signal;
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::pins::{self, Pins};
use traffic_mirroring::model::{Direction as Way, InstanceId, Version};

use super::{Collector, Daemon, GUE_PORT, Ns, Root, Topology, mirroring, ping};

/// If no copy has come for this long, none is on its way any more.
pub const QUIET: Duration = Duration::from_millis(300);

/// Flags for the way to the collector in most tests.
pub const TO_COLLECTOR: [&str; 2] = ["--tunnel-remote-address=10.2.0.2", "--redirect-to=eth1"];

/// `--iface=eth0 --direction=<direction>` and the collector, then `more`.
pub fn args<'a>(direction: &str, more: &[&'a str]) -> Vec<std::borrow::Cow<'a, str>> {
    let mut args = vec!["--iface=eth0".into(), format!("--direction={direction}").into()];
    args.extend(TO_COLLECTOR.map(Into::into));
    args.extend(more.iter().map(|arg| (*arg).into()));
    args
}

/// Starts mirroring `eth0` on the host, and returns when packets are mirrored.
pub fn start(net: &Topology, direction: &str, more: &[&str]) -> Daemon {
    let args = args(direction, more);
    let mut daemon = Daemon::mirroring(net.host(), args.iter().map(|arg| arg.as_ref()));
    daemon.wait_ready(&format!("mirroring eth0 {direction}"));
    daemon
}

/// The same, behind `root` in a chain.
pub fn start_chained(net: &Topology, direction: &str, root: &Root, more: &[&str]) -> Daemon {
    let map_name = format!("--map-name={}", root.map_path.display());
    start(net, direction, &[more, &[&map_name]].concat())
}

/// Path of the pinned jump table of an instance on `eth0`: the next program of the chain goes there.
pub fn jmp_table(direction: &str) -> String {
    format!("/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/mirroring_{direction}_jmp_table")
}

/// Runs a command that ends by itself, such as `--cmd=stop`. It must succeed.
pub fn command(ns: &Ns, args: &[&str]) -> Output {
    let output = mirroring(ns, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}: {stderr}", output.status);
    output
}

/// Releases of l3afd that pin in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Pins the maps in the directory of the interface, and does not pin the program.
    V2_0,
    /// Pins the program as well, in such a directory.
    V2_1,
    /// Pins both in directories of the package and its version.
    Main,
}

/// Does what l3afd does before it runs the user program: loads the object, pins program and maps, and puts the program
/// into the root's slot.
pub fn load_as_l3afd(direction: Way, root: &Root) -> Pins {
    load_as(Release::Main, direction, root, "/sys/fs/bpf")
}

/// The same in the way of this release, in the BPF file system at `bpffs`.
pub fn load_as(release: Release, direction: Way, root: &Root, bpffs: &str) -> Pins {
    let id = InstanceId {
        interface: "eth0".parse().expect("a name"),
        direction,
        version: if release == Release::Main { Version::default() } else { Version::UNNAMED },
    };
    let pins = Pins::new(bpffs.as_ref(), &id);
    // l3afd reuses the maps that it left pinned when it crashed, if they fit the object
    let fresh = bpf::load(bpf::object_bytes(direction), &[]).expect("the object");
    let mut left: Vec<(String, MapHandle)> = vec![];
    for map in fresh.maps() {
        let name = map.name().to_string_lossy().into_owned();
        let Ok(pinned) = MapHandle::from_pinned_path(pins.map(&name)) else { continue };
        let suits = map.map_type() == pinned.map_type()
            && map.value_size() == pinned.value_size()
            && map.max_entries() == pinned.max_entries();
        match suits {
            true => left.push((name, pinned)),
            false => pins::remove(&pins.map(&name)).expect("a pin to go"),
        }
    }
    let reuse: Vec<_> = left.iter().map(|(name, map)| (name.as_str(), map)).collect();
    let object = bpf::load(bpf::object_bytes(direction), &reuse).expect("the object");
    for map in object.maps() {
        let path = pins.map(&map.name().to_string_lossy());
        if !path.exists() {
            pins::pin(map.as_fd(), &path).expect("a map's pin");
        }
    }
    let program = bpf::program(&object);
    if release != Release::V2_0 {
        pins::pin(program.as_fd(), &pins.program()).expect("the program's pin");
    }
    root.put(program.as_fd());
    pins
}

/// Runs the user program as l3afd does, which waits for its exit.
pub fn run_as_l3afd(net: &Topology, direction: &str, more: &[&str]) {
    let args = args(direction, more);
    let output = mirroring(net.host(), args.iter().map(|arg| arg.as_ref()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
}

/// Sends three pings from the client, and returns how many copies arrive.
pub fn copies_of_three_pings(net: &Topology) -> usize {
    let collector = Collector::listen(net.collector(), GUE_PORT);
    ping(net.client(), net.host(), 3, 56);
    collector.stop_after_quiet(QUIET).0.len()
}

/// What `--cmd=status` prints, stdout and then stderr, and its exit code.
pub fn status(net: &Topology, args: &[&str]) -> (String, Option<i32>) {
    let output = mirroring(net.host(), [&["--cmd=status"], args].concat());
    let both = [output.stdout, output.stderr].concat();
    (String::from_utf8(both).expect("text"), output.status.code())
}

/// The counts of packets that an instance logs at its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub matched: usize,
    pub sent: usize,
    pub loop_guard: usize,
    pub oversize: usize,
    pub rate_limited: usize,
    pub failed: usize,
}

impl Summary {
    /// Ends an instance, and checks that the counts add up to all packets that matched.
    pub fn at_end_of(mut daemon: Daemon) -> Self {
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        let log = daemon.log();
        let words =
            log.lines().find_map(|line| Some(line.split_once("stopped ")?.1.split_once("): ")?.1));
        let words = words.unwrap_or_else(|| panic!("no summary in {log}"));
        let numbers =
            words.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let [matched, sent, dropped, loop_guard, oversize, rate_limited, failed] = numbers[..]
        else {
            panic!("seven counts in {words}")
        };
        assert_eq!(dropped, loop_guard + oversize + rate_limited + failed, "{words}");
        assert_eq!(matched, sent + dropped, "{words}");
        Self { matched, sent, loop_guard, oversize, rate_limited, failed }
    }
}
