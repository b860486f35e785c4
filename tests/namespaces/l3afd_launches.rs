//! When l3afd launches what cannot work, the program ends with an error, because l3afd may wait for
//! its end.

use std::os::fd::AsFd;

use nix::mount::{MsFlags, mount};
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const ELSEWHERE: &str = "/run/bpf";

fn mount_elsewhere() {
    std::fs::create_dir(ELSEWHERE).expect("a place");
    mount(Some("bpf"), ELSEWHERE, Some("bpf"), MsFlags::empty(), None::<&str>).expect("a bpffs");
}

/// Launches `mirroring` as an l3afd would that holds the root's program and the pins.
fn launch(net: &Topology, root: &Root, maps: &[libbpf_rs::MapHandle], more: &[&str]) -> Daemon {
    let held: Vec<_> = [root.program()].into_iter().chain(maps.iter().map(AsFd::as_fd)).collect();
    let args = args("ingress", more);
    let args: Vec<&str> = args.iter().map(|arg| arg.as_ref()).collect();
    Daemon::mirroring_by_l3afd(net.host(), &held, &args)
}

/// Expects the process to end with this error and to have changed nothing.
fn assert_refused(mut daemon: Daemon, error: &str) {
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.output());
    let log = daemon.log();
    assert!(log.contains(error), "{log}");
}

fn jump_table(path: &std::path::Path) -> libbpf_rs::MapHandle {
    libbpf_rs::MapHandle::from_pinned_path(path).expect("the jump table")
}

#[test]
fn needs_root_maps_in_another_bpf_file_system_are_an_error() {
    for release in [Release::V2_0, Release::V2_1, Release::Main] {
        Topology::run(|net| {
            mount_elsewhere();
            let root = Root::attach(net.host(), "ingress");
            let pins = load_as(release, Way::Ingress, &root, ELSEWHERE);
            let maps = [jump_table(&pins.map("mirroring_ingress_jmp_table"))];
            let before = Snapshot::of(net.host());
            let advice = "add \"bpffs\": \"/run/bpf\" to start_args";
            assert_refused(launch(net, &root, &maps, &[]), advice);
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);

            let mut daemon = launch(net, &root, &maps, &["--bpffs=/run/bpf"]);
            assert!(daemon.wait().success(), "{release:?}: {}", daemon.output());
            assert_eq!(copies_of_three_pings(net), 3, "{release:?}");
        });
    }
}

#[test]
fn needs_root_a_package_of_another_name_is_named_in_an_error() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        let maps = [jump_table(&pins.map("mirroring_ingress_jmp_table"))];
        net.host().sh("cd /sys/fs/bpf/tc/globals/eth0 && mv traffic-mirroring mirror");
        let advice = "the payload's name is \"mirror\", and has to be \"traffic-mirroring\"";
        assert_refused(launch(net, &root, &maps, &[]), advice);
    });
}

#[test]
fn needs_root_objects_that_are_not_ours_are_an_error() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let theirs = Counter::load();
        root.put(theirs.program.as_fd());
        let said = "object_file and artifact of the payload have to be of this package";
        assert_refused(launch(net, &root, &[], &[]), said);

        let pins = load_as_l3afd(Way::Ingress, &root);
        std::fs::remove_file(pins.map("ingress_config")).expect("a pin to go");
        assert_refused(launch(net, &root, &[], &[]), said);
    });
}

/// l3afd without chaining, a payload without an `object_file`, and a manual start beside its chain.
#[test]
fn needs_root_where_l3afd_loaded_nothing_a_start_loads() {
    Topology::run(|net| {
        let _root = Root::attach(net.host(), "ingress");
        let elsewhere = Root::attach(net.host(), "egress");
        let mut daemon = launch(net, &elsewhere, &[], &[]);
        daemon.wait_ready("mirroring eth0 ingress");
        assert_eq!(copies_of_three_pings(net), 3);
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert!(daemon.wait().success());
        let by_hand = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(by_hand.terminate().success());
    });
}
