//! The pin layout of l3afd 2.0 and 2.1: one directory for all packages of an interface, without a
//! version.

use std::path::Path;

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const RELEASES: [Release; 2] = [Release::V2_0, Release::V2_1];
const DIR: &str = "/sys/fs/bpf/tc/globals/eth0";

/// Maps of other packages in the same directory. The name of the first one begins like ours.
const THEIRS: [&str; 2] = ["ingress_flow_record_info_map", "rl_config_map"];

fn roots(net: &Topology) -> [Root; 2] {
    let roots = Way::ALL.map(|way| {
        let root = Root::attach(net.host(), way.as_str());
        root.pin_map(&format!("{DIR}/tc_{way}_root_array"));
        root
    });
    for name in THEIRS {
        Counter::load().pin_counts(&format!("{DIR}/{name}"));
    }
    roots
}

fn assert_theirs_are_there() {
    for name in THEIRS {
        assert!(Path::new(DIR).join(name).exists(), "{name} is gone");
    }
}

#[test]
fn needs_root_an_older_l3afds_program_takes_every_command() {
    for release in RELEASES {
        Topology::run(|net| {
            println!("{release:?}");
            let host = net.host();
            let roots = roots(net);
            let before = Snapshot::of(host);
            for (way, root) in Way::ALL.into_iter().zip(&roots) {
                load_as(release, way, root, "/sys/fs/bpf");
            }
            let loaded = Snapshot::of(host);
            assert_eq!(status(net, &[]).0, "STOPPED", "no rules are in force yet");
            for way in Way::ALL {
                run_as_l3afd(net, way.as_str(), &["--protocol=icmp"]);
            }
            assert_eq!(copies_of_three_pings(net), 6);
            assert_eq!(status(net, &[]), ("RUNNING".to_owned(), Some(0)));
            let list = shown(net, &[]);
            assert_eq!(list.len(), 2);
            for (way, it) in ["egress", "ingress"].iter().zip(&list) {
                let keys = ["direction", "version", "state", "launch_mode"].map(|key| &it[key]);
                assert_eq!(keys, [way, "latest", "running", "l3afd"]);
            }
            // l3afd names no version here either
            command(
                host,
                &["--cmd=update", "--iface=eth0", "--direction=ingress", "--protocol=udp"],
            );
            assert_eq!(copies_of_three_pings(net), 3);
            command(host, &["--cmd =stop", "--iface=eth0", "--direction=egress"]);
            assert_eq!(copies_of_three_pings(net), 0);
            command(host, &["--cmd =stop", "--iface=eth0", "--direction=ingress"]);
            assert_eq!(status(net, &[]).0, "STOPPED");
            assert_eq!(
                Snapshot::of(host).changes_since(&loaded),
                [""; 0],
                "l3afd's pins must stay"
            );
            assert_theirs_are_there();
            drop(before);
        });
    }
}

#[test]
fn needs_root_a_process_over_an_older_l3afd_ends_in_order() {
    for release in RELEASES {
        Topology::run(|net| {
            let roots = roots(net);
            load_as(release, Way::Ingress, &roots[0], "/sys/fs/bpf");
            let loaded = Snapshot::of(net.host());
            let resident = start(net, "ingress", &["--resident=true"]);
            assert_eq!(copies_of_three_pings(net), 3, "{release:?}");
            resident.kill();
            assert_eq!(
                copies_of_three_pings(net),
                3,
                "{release:?}: the kernel side keeps mirroring"
            );
            assert_eq!(status(net, &[]).0, "STOPPED");
            let resident = start(net, "ingress", &["--resident=true"]);
            assert_eq!(status(net, &[]).0, "RUNNING");
            assert!(resident.terminate().success());
            assert_eq!(copies_of_three_pings(net), 0);
            assert_eq!(Snapshot::of(net.host()).changes_since(&loaded), [""; 0]);
        });
    }
}

/// l3afd looks for the jump table there, both at the start and at the end.
#[test]
fn needs_root_an_older_l3afds_chain_has_our_pins_beside_others() {
    Topology::run(|net| {
        let _roots = roots(net);
        let before = Snapshot::of(net.host());
        let jmp_table = format!("{DIR}/mirroring_ingress_jmp_table");
        let map_name = format!("--map-name={DIR}/tc_ingress_root_array");
        for _ in 0..2 {
            let daemon = start(net, "ingress", &[&map_name]);
            assert!(Path::new(&jmp_table).exists());
            assert_eq!(copies_of_three_pings(net), 3);
            daemon.kill();
            let daemon = start(net, "ingress", &[&map_name]);
            assert_eq!(
                copies_of_three_pings(net),
                3,
                "a start that takes over from a dead instance"
            );
            assert_eq!(shown_one(net)["launch_mode"], "chain");
            assert!(daemon.terminate().success());
            assert_theirs_are_there();
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        }
    });
}

#[test]
fn needs_root_beside_an_older_l3afd_a_start_has_its_own_version() {
    Topology::run(|net| {
        let roots = roots(net);
        load_as(Release::V2_1, Way::Ingress, &roots[0], "/sys/fs/bpf");
        run_as_l3afd(net, "ingress", &["--protocol=icmp"]);
        let daemon = start(net, "ingress", &["--protocol=icmp", "--version=latest"]);
        assert_eq!(copies_of_three_pings(net), 6);
        assert_eq!(shown(net, &["--version=latest"]).len(), 2);
        // without a version, l3afd's instance is meant
        command(
            net.host(),
            &["--cmd=update", "--iface=eth0", "--direction=ingress", "--protocol=udp"],
        );
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());
        assert_eq!(copies_of_three_pings(net), 0);
        assert_eq!(shown_one(net)["state"], "running");
    });
}
