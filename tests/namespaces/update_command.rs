//! `--cmd=update` in every launch mode: what it changes, and what it leaves as it is.

use std::fs;

use traffic_mirroring::instance::host::Host;
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// As l3afd begins an update.
const UPDATE: [&str; 5] = [
    "--iface=eth0",
    "--direction=ingress",
    "--cmd=update",
    "--version=latest",
    "--log-dir=/var/log",
];

const LEFT: &str = "left eth0 ingress (latest) unchanged: neither rules (filter flags or \
                    --rules-file) nor --max-rate are given";

fn update(net: &Topology, more: &[&str]) {
    command(net.host(), &[&UPDATE[..], more].concat());
}

/// The destination ports of the copies of three pings and of datagrams to three ports.
fn mirrored(net: &Topology) -> Vec<Option<u16>> {
    let collector = Collector::listen(net.collector(), GUE_PORT);
    ping(net.client(), net.host(), 3, 56);
    for port in [5300, 5301, 5302] {
        udp_exchange(net.client(), net.host(), port, 1, 100);
    }
    let copies = collector.stop_after_quiet(QUIET).packets();
    copies.into_iter().map(|copy| copy.ports.map(|ports| ports.1)).collect()
}

#[test]
fn needs_root_an_update_with_a_file_changes_the_rules() {
    in_every_launch_mode(|net, launcher| {
        let before = rules_file(
            "before",
            r#"{"rules": [{"action": "exclude", "dst_port": [5301]}, {"protocol": ["udp"]}]}"#,
        );
        let after = rules_file(
            "after",
            r#"{"rules": [{"action": "exclude", "dst_port": [5300, 5302]}, {}]}"#,
        );
        let _daemon = launcher.start(Way::Ingress, &[&before]);
        assert_eq!(mirrored(net), [Some(5300), Some(5302)]);
        update(net, &[&after]);
        assert_eq!(mirrored(net), [None, None, None, Some(5301)]);
        update(net, &["--dst-port=5302"]);
        assert_eq!(mirrored(net), [Some(5302)]);
        update(net, &[&before, "--protocol=icmp"]);
        assert_eq!(mirrored(net), [None, None, None, Some(5300), Some(5302)]);
    });
}

/// l3afd runs one after every start, with what the payload says of updates, and that alone.
#[test]
fn needs_root_an_update_without_filter_flags_keeps_the_rules() {
    in_every_launch_mode(|net, launcher| {
        let rules = rules_file(
            "rules",
            r#"{"rules": [{"action": "exclude", "dst_port": ["5301"]}, {"protocol": ["udp"]}]}"#,
        );
        let _daemon = launcher.start(Way::Ingress, &[&rules]);
        let rate = || instance(Way::Ingress).tunnel().expect("its tunnels").expect("a tunnel").rate;
        for (flags, said, bytes_per_second) in [
            (&[][..], LEFT, 0),
            (
                &["--max-rate=80mbit"],
                "updated the cap of eth0 ingress (latest) to 80mbit; its rules are unchanged",
                10_000_000,
            ),
            (&["--protocol=", "--rules-file="], LEFT, 10_000_000),
        ] {
            update(net, flags);
            let log = fs::read_to_string("/var/log/mirroring.log").expect("a log");
            assert!(log.trim_end().ends_with(said), "{log}");
            assert_eq!(rate(), bytes_per_second);
            assert_eq!(mirrored(net), [Some(5300), Some(5302)], "{flags:?}");
        }
        let dry = command(net.host(), &[&UPDATE[..], &["--dry-run"]].concat());
        let dry = String::from_utf8_lossy(&dry.stdout);
        assert!(dry.contains("those in force stay as they are"), "{dry}");
        // and this is how to ask for all packets
        update(net, &["--protocol=any"]);
        assert_eq!(mirrored(net).len(), 6);
    });
}

/// l3afd does not wait for a user program that stays before it runs the update: neither for one whose program
/// it has loaded nor for one that loads it, nor over what is in force since a crash.
#[test]
fn needs_root_an_update_waits_for_a_start_that_is_on_its_way() {
    for (loaded, crashed) in [(true, false), (true, true), (false, false), (false, true)] {
        println!("loaded by l3afd: {loaded}; after a crash: {crashed}");
        Topology::run(|net| {
            let root = Root::attach(net.host(), "ingress");
            let map_name = format!("--map-name={}", root.map_path.display());
            let flags = [if loaded { "--resident" } else { &map_name }, "--protocol=udp"];
            let load = || loaded.then(|| load_as_l3afd(Way::Ingress, &root));
            let pins = load();
            if crashed {
                start(net, "ingress", &flags).kill();
                if let Some(pins) = pins {
                    fs::remove_file(pins.program()).expect("the pin of the program");
                }
                load();
            }

            // both processes run before either gets the lock
            let host = Host::open("/sys/fs/bpf".as_ref()).expect("the host");
            let lock = host.lock().expect("the lock");
            let flags = args("ingress", &flags);
            let _daemon = Daemon::mirroring(net.host(), flags.iter().map(|flag| flag.as_ref()));
            let update = [&UPDATE[..4], &["--protocol=icmp"]].concat();
            let mut update = Daemon::mirroring(net.host(), update);
            drop(lock);
            assert!(update.wait().success());
            assert_eq!(mirrored(net), [None; 3]);
        });
    }
}

#[test]
fn needs_root_an_update_of_what_is_not_started_says_so() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        load_as_l3afd(Way::Ingress, &root);
        let output = mirroring(net.host(), UPDATE);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("is not mirrored, so there is nothing to update"), "{stderr}");
    });
}

/// The text of a file with 100,000 prefixes and every second port from `port` on, each on its own; sources
/// are the client's address and others that begin with `net`.
fn many(net: u8, port: u16) -> String {
    let v4 = |n: u32| format!("\"{net}.{}.{}.0/24\"", n >> 8, n & 255);
    let v6 = |n: u32| format!("\"2001:db8:{net:x}:{n:x}::/64\"");
    let list = |entries: Vec<String>| entries.join(", ");
    let prefixes = || list((0..25_000).flat_map(|n| [v4(n), v6(n)]).collect());
    let ports = || list((port..=u16::MAX).step_by(2).map(|port| port.to_string()).collect());
    format!(
        r#"{{"rules": [
            {{"protocol": ["udp"], "src": ["{CLIENT}", {}], "dst_port": [{}]}},
            {{"protocol": ["tcp"], "dst": [{}], "src_port": [{}]}}
        ]}}"#,
        prefixes(),
        ports(),
        prefixes(),
        ports()
    )
}

#[test]
fn needs_root_100000_prefixes_and_every_port_are_replaced() {
    Topology::run(|net| {
        let sets = [rules_file("even", &many(20, 2)), rules_file("odd", &many(30, 1))];
        let _daemon = start(net, "ingress", &[&sets[1]]);
        for (set, expected) in [(&sets[0], [5300, 5302]), (&sets[1], [5301, 5303])] {
            let update = mirroring(net.host(), [&UPDATE[..4], &[set.as_str()]].concat());
            assert!(update.status.success());
            let collector = Collector::listen(net.collector(), GUE_PORT);
            for port in 5300..=5303 {
                udp_exchange(net.client(), net.host(), port, 1, 100);
            }
            let copies = collector.stop_after_quiet(QUIET).packets();
            let ports: Vec<_> = copies.iter().filter_map(|copy| Some(copy.ports?.1)).collect();
            assert_eq!(ports, expected);
        }
    });
}
