//! The counters in the form that l3afd's `monitor_maps` reads: keys of 4 bytes, integers of 8
//! bytes.

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::signal::Signal;
use traffic_mirroring::bpf;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// In the order of `struct mirroring_outcomes`, which docs/monitoring.md repeats.
const MATCHED: usize = 0;
const SENT: usize = 1;
const EXCLUDED: usize = 2;
const KEYS: u32 = 9;

const RULES: &str = r#"{"rules": [
    {"action": "exclude", "protocol": ["udp"], "dst_port": ["5301"]},
    {"action": "mirror", "protocol": ["udp"], "dst_port": ["5300-5302"]}
]}"#;

fn map(direction: Way) -> MapHandle {
    let dir = "/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest";
    MapHandle::from_pinned_path(format!("{dir}/{direction}_metrics")).expect("the metrics")
}

/// Reads them as l3afd does.
fn metrics(direction: Way) -> Vec<u64> {
    let map = map(direction);
    let metric = |key: u32| {
        let value =
            map.lookup(&key.to_ne_bytes(), MapFlags::ANY).expect("to read").expect("a value");
        u64::from_ne_bytes(value.try_into().expect("8 bytes"))
    };
    (0..KEYS).map(metric).collect()
}

/// What l3afd writes whenever it loads the program.
fn write_0_to_key_0(direction: Way) {
    map(direction).update(&[0; 4], &[0; 8], MapFlags::ANY).expect("to write");
}

/// Sends to the ports from all CPUs at once. Returns how many packets each port was sent.
fn blast<const N: usize>(net: &Topology, ports: [u16; N]) -> [u64; N] {
    let time = Duration::from_millis(500);
    ports.map(|port| udp_blast(net.client(), net.host(), port, 100, 10_000, time, &cpus()) as u64)
}

#[test]
fn needs_root_every_packet_is_in_the_metrics_soon() {
    in_every_launch_mode(|net, launcher| {
        let rules = rules_file("rules", RULES);
        let daemon = launcher.start(Way::Ingress, &[&rules]);
        let awaited = |sent: u64, excluded: u64| {
            eventually("every packet in the metrics", || {
                if daemon.is_none() {
                    // only `--cmd=status` publishes here
                    let status = status(net, &["--iface=eth0"]);
                    assert_eq!(status, ("RUNNING".to_owned(), Some(0)));
                }
                metrics(Way::Ingress)[MATCHED] >= sent + excluded
            });
            let mut expected = vec![0; KEYS as usize];
            (expected[MATCHED], expected[SENT], expected[EXCLUDED]) =
                (sent + excluded, sent, excluded);
            assert_eq!(metrics(Way::Ingress), expected);
        };
        let [sent, excluded] = blast(net, [5300, 5301]);
        awaited(sent, excluded);

        // what removed rules counted stays in the sums
        let other = RULES.replace("5302", "5303");
        let other = rules_file("other", &other);
        command(net.host(), &["--cmd=update", "--iface=eth0", "--direction=ingress", &other]);
        let more = blast(net, [5300, 5301]);
        awaited(sent + more[0], excluded + more[1]);
    });
}

#[test]
fn needs_root_metrics_go_on_after_a_crash_of_whoever_is_there() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        load_as_l3afd(Way::Ingress, &root);
        let flags = ["--resident", "--protocol=udp", "--dst-port=5300"];
        let mut daemon = start(net, "ingress", &flags);
        let [first] = blast(net, [5300]);
        let awaited = |sent| {
            eventually("every packet in the metrics", || {
                metrics(Way::Ingress)[..2] == [sent, sent]
            });
        };
        awaited(first);

        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        let [second] = blast(net, [5300]);
        assert_eq!(
            metrics(Way::Ingress)[..2],
            [first, first],
            "nothing publishes without a process"
        );
        let mut daemon = start(net, "ingress", &flags);
        awaited(first + second);

        // l3afd crashes as well, and loads again with the maps that it left
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        load_as_l3afd(Way::Ingress, &root);
        write_0_to_key_0(Way::Ingress);
        let daemon = start(net, "ingress", &flags);
        awaited(first + second);

        // the last counts are published as well
        let [third] = blast(net, [5300]);
        let all = (first + second + third) as usize;
        assert_eq!(Summary::at_end_of(daemon).sent, all);
        assert_eq!(metrics(Way::Ingress)[..2], [all as u64, all as u64]);
    });
}

#[test]
fn there_is_a_key_for_every_counter() {
    assert_eq!(KEYS as usize, size_of::<bpf::Outcomes>() / size_of::<u64>());
}
