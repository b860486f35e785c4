//! Crashes: whichever process dies, the kernel goes on mirroring, the next start takes over, and a stop cleans up.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use traffic_mirroring::bpf;
use traffic_mirroring::bpf::map_defs;
use traffic_mirroring::bpf::pins::{self, Pins};
use traffic_mirroring::instance::Instance;
use traffic_mirroring::model::{Direction as Way, InstanceId};

use testkit::namespaces::*;

#[test]
fn needs_root_stop_after_a_sigkill_leaves_the_host_as_it_was() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "egress");
        let before = Snapshot::of(net.host());
        start(net, "ingress", &[]).kill();
        start_chained(net, "egress", &root, &[]).kill();
        assert_eq!(copies_of_three_pings(net), 6, "the kernel side goes on");

        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(root.slot(), None);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        assert_eq!(copies_of_three_pings(net), 0);
    });
}

#[test]
fn needs_root_after_a_sigkill_a_start_mirrors_each_packet_once() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        start(net, "ingress", &[]).kill();
        let daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// l3afd kills whatever has our name and starts anew, without waiting for the dead to be gone.
#[test]
fn needs_root_a_start_waits_for_a_process_that_is_dying() {
    Topology::run(|net| {
        let mut daemon = start(net, "ingress", &[]);
        for _ in 0..10 {
            daemon.signal(Signal::SIGKILL);
            daemon = start(net, "ingress", &[]);
        }
        assert_eq!(copies_of_three_pings(net), 3);
    });
}

/// Pins are made and removed one after the other, so a SIGKILL can come between any two.
#[test]
fn needs_root_incomplete_pins_are_taken_over_or_removed() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let id = InstanceId {
            interface: "eth0".parse().expect("a name"),
            direction: Way::Ingress,
            version: Default::default(),
        };
        let pins = Pins::new("/sys/fs/bpf".as_ref(), &id);
        let cut_short = |left: usize| {
            start(net, "ingress", &[]).kill();
            let mut later = vec![pins.program()];
            if has_tcx() {
                later.push(pins.link());
            } else {
                // attached after the last pin
                net.host().sh("tc qdisc delete dev eth0 clsact");
            }
            later.extend(pins::map_names(Way::Ingress)[left..].iter().map(|name| pins.map(name)));
            for pin in later {
                fs::remove_file(pin).expect("a pin");
            }
        };
        for left in [1, 3, 11] {
            cut_short(left);
            assert_eq!(status(net, &[]).0, "STOPPED");
            command(net.host(), &["--cmd=stop", "--iface=eth0"]);
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0], "{left} maps");
        }
        cut_short(3);
        let daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// A start over a dead instance pins its program last. Without that pin, nobody knows whose the maps are.
#[test]
fn needs_root_an_incomplete_instance_takes_only_a_start() {
    Topology::run(|net| {
        start(net, "ingress", &[]).kill();
        pins::remove(&instance(Way::Ingress).pins.program()).expect("the program's pin to go");
        let update = ["--cmd=update", "--iface=eth0", "--direction=ingress", "--protocol=udp"];
        let output = mirroring(net.host(), update);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("was cut short; start it once more"), "{stderr}");
        assert_eq!(copies_of_three_pings(net), 3, "as before");
        let daemon = start(net, "ingress", &[]);
        command(net.host(), &update);
        assert_eq!(copies_of_three_pings(net), 0);
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_a_pin_takes_another_ones_place_at_one_instant() {
    Topology::run(|_| {
        let path = Path::new("/sys/fs/bpf/pin");
        let counters = [Counter::load(), Counter::load()];
        let pin = |of: &Counter| pins::pin(of.program.as_fd(), path).expect("a pin");
        pin(&counters[0]);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let look = || {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(path.exists(), "after {looks} looks");
                    looks += 1;
                }
                looks
            };
            let looks = scope.spawn(look);
            counters.iter().cycle().take(2000).for_each(pin);
            done.store(true, Ordering::Relaxed);
            assert!(looks.join().expect("a pin, always") > 0);
        });
        // a SIGKILL may leave this much of a pin
        let unfinished = Path::new("/sys/fs/bpf/pin-new");
        pins::pin(counters[0].program.as_fd(), unfinished).expect("a pin");
        pins::remove(path).expect("all of it to go");
        assert!(!path.exists() && !unfinished.exists());
    });
}

/// As a SIGKILL leaves it between making the device and completing it.
#[test]
fn needs_root_an_incomplete_tunnel_is_replaced_or_removed() {
    const HALF_MADE: &str = "
        ip link add gue1 address 02:6d:69:72:72:6f type veth \
            peer name gue1-p address 02:6d:69:72:72:6f";
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        net.host().sh(HALF_MADE);
        let daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);

        net.host().sh(HALF_MADE);
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// A start over a dead standalone instance joined a chain, and then died.
#[test]
fn needs_root_a_stop_finds_the_slot_that_a_killed_start_took() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let before = Snapshot::of(net.host());
        start(net, "ingress", &[]).kill();
        let id = InstanceId {
            interface: "eth0".parse().expect("a name"),
            direction: Way::Ingress,
            version: Default::default(),
        };
        let dead = Instance::open(Pins::new("/sys/fs/bpf".as_ref(), &id));
        let dead = dead.expect("the pins").expect("an instance");
        let jmp_table = map_defs::JMP_TABLE.name(Way::Ingress);
        let reuse = [(jmp_table.as_str(), &dead.common.jmp_table)];
        let killed = bpf::load(bpf::object_bytes(Way::Ingress), &reuse).expect("the object");
        root.put(bpf::program(&killed).as_fd());
        drop((dead, killed));

        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(root.slot(), None);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

#[test]
fn needs_root_after_a_sigkill_a_start_changes_the_launch_mode() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let before = Snapshot::of(net.host());
        start(net, "ingress", &[]).kill();
        let daemon = start_chained(net, "ingress", &root, &[]);
        assert_eq!(copies_of_three_pings(net), 3, "once each");

        daemon.kill();
        let daemon = start(net, "ingress", &[]);
        assert_eq!(root.slot(), None);
        assert_eq!(copies_of_three_pings(net), 3, "once each");
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// A standalone instance died, and l3afd loads its own program over the maps that are still there.
#[test]
fn needs_root_l3afd_takes_over_from_a_dead_standalone_instance() {
    Topology::run(|net| {
        start(net, "ingress", &[]).kill();
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &["--protocol=icmp"]);
        assert_eq!(copies_of_three_pings(net), 3, "once each");
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(copies_of_three_pings(net), 0);
        assert!(pins.program().exists() && root.slot().is_some(), "l3afd's are l3afd's");
    });
}

/// l3afd crashed, and its program is gone. Only maps are left, which no program uses.
#[test]
fn needs_root_maps_left_by_a_crashed_l3afd_do_not_stop_a_start() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let root = Root::attach(net.host(), "ingress");
        let pins = load_as_l3afd(Way::Ingress, &root);
        run_as_l3afd(net, "ingress", &[]);
        pins::remove(&pins.program()).expect("the program's pin to go");
        drop(root);
        net.host().sh("rm -r /sys/fs/bpf/tc/globals/eth0/tc-root");

        let daemon = start(net, "ingress", &[]);
        assert_eq!(copies_of_three_pings(net), 3);
        assert!(daemon.terminate().success());
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}
