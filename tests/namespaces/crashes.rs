//! Crashes: whoever dies, the kernel side goes on, the next start takes over, a stop clears up.

use std::fs;

use traffic_mirroring::config::{Direction as Way, InstanceId};
use traffic_mirroring::pins::{self, Pins};

use crate::support::*;

#[test]
fn needs_root_stop_after_a_sigkill_leaves_the_host_as_it_was() {
    World::run(|world| {
        let root = Root::attach(world.host(), "egress");
        let before = Snapshot::of(world.host());
        start(world, "ingress", &[]).kill();
        start_chained(world, "egress", &root, &[]).kill();
        assert_eq!(copies_of_three_pings(world), 6, "the kernel side goes on");

        command(world.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(root.slot(), None);
        assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
        assert_eq!(copies_of_three_pings(world), 0);
    });
}

#[test]
fn needs_root_a_start_after_a_sigkill_takes_over_and_mirrors_each_packet_once() {
    World::run(|world| {
        let before = Snapshot::of(world.host());
        start(world, "ingress", &[]).kill();
        let daemon = start(world, "ingress", &[]);
        assert_eq!(copies_of_three_pings(world), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
    });
}

/// Pins are made one after the other, and removed so: a SIGKILL can come between any two.
#[test]
fn needs_root_pins_cut_short_are_in_nobodys_way_and_go_with_a_stop() {
    World::run(|world| {
        let before = Snapshot::of(world.host());
        let id = InstanceId {
            interface: "eth0".parse().expect("a name"),
            direction: Way::Ingress,
            version: Default::default(),
        };
        let pins = Pins::new("/sys/fs/bpf".as_ref(), &id);
        let cut_short = |left: usize| {
            start(world, "ingress", &[]).kill();
            let mut later = vec![pins.link(), pins.program()];
            later.extend(pins::map_names(Way::Ingress)[left..].iter().map(|name| pins.map(name)));
            for pin in later {
                fs::remove_file(pin).expect("a pin");
            }
        };
        for left in [1, 3, 11] {
            cut_short(left);
            assert_eq!(status(world, &[]).0, "STOPPED");
            command(world.host(), &["--cmd=stop", "--iface=eth0"]);
            assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0], "{left} maps");
        }
        cut_short(3);
        let daemon = start(world, "ingress", &[]);
        assert_eq!(copies_of_three_pings(world), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_a_start_after_a_sigkill_takes_over_from_another_launch_mode() {
    World::run(|world| {
        let root = Root::attach(world.host(), "ingress");
        let before = Snapshot::of(world.host());
        start(world, "ingress", &[]).kill();
        let daemon = start_chained(world, "ingress", &root, &[]);
        assert_eq!(copies_of_three_pings(world), 3, "once each");

        daemon.kill();
        let daemon = start(world, "ingress", &[]);
        assert_eq!(root.slot(), None);
        assert_eq!(copies_of_three_pings(world), 3, "once each");
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
    });
}

/// A standalone instance died, and l3afd loads its own program over the maps that are still there.
#[test]
fn needs_root_l3afd_takes_over_from_a_dead_standalone_instance() {
    World::run(|world| {
        start(world, "ingress", &[]).kill();
        let root = Root::attach(world.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(world, "ingress", &["--protocol=icmp"]);
        assert_eq!(copies_of_three_pings(world), 3, "once each");
        command(world.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(copies_of_three_pings(world), 0);
        assert!(pins.program().exists() && root.slot().is_some(), "l3afd's are l3afd's");
    });
}

/// l3afd crashed and its program went with it: what is left are maps that nobody fills with packets.
#[test]
fn needs_root_maps_that_a_crashed_l3afd_left_without_a_program_are_in_nobodys_way() {
    World::run(|world| {
        let before = Snapshot::of(world.host());
        let root = Root::attach(world.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(world, "ingress", &[]);
        pins::remove(&pins.program()).expect("the program's pin to go");
        drop(root);
        world.host().sh("rm -r /sys/fs/bpf/tc/globals/eth0/tc-root");

        let daemon = start(world, "ingress", &[]);
        assert_eq!(copies_of_three_pings(world), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(world.host()).changes_since(&before), [""; 0]);
    });
}
