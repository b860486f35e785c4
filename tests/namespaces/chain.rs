//! Production comes first: the rest of the chain sees every packet, whatever becomes of the copies.

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// Sends traffic, and checks that the counter saw each frame that passed `eth0`.
fn check_all_are_seen(net: &Topology, direction: Direction, counter: &Counter, when: &str) {
    let before = counter.count();
    let capture = Capture::start(net.host(), "eth0");
    ping(net.client(), net.host(), 5, 56);
    udp_exchange(net.client(), net.host(), 5300, 5, 1472);
    tcp_exchange(net.client(), net.host(), 8080, 100_000);
    let frames = capture.stop().0;
    let passed = frames.iter().filter(|frame| frame.direction == direction).count();
    assert!(passed > 15, "{when}: {passed} frames");
    assert_eq!(counter.count() - before, passed as u64, "{when}");
}

/// With the tunnel up, then down, then deleted.
fn check_in_all_weather(net: &Topology, direction: Direction, counter: &Counter) {
    check_all_are_seen(net, direction, counter, "the tunnel is up");
    net.host().sh("ip link set gue1 down");
    check_all_are_seen(net, direction, counter, "the tunnel is down");
    net.host().sh("ip link delete gue1");
    check_all_are_seen(net, direction, counter, "the tunnel is deleted");
}

#[test]
fn needs_root_without_a_tunnel_the_next_program_sees_everything() {
    for (name, direction) in [("ingress", Direction::Received), ("egress", Direction::Sent)] {
        Topology::run(|net| {
            let root = Root::attach(net.host(), name);
            let _daemon = start_chained(net, name, &root, &[]);
            let behind = Counter::load();
            behind.follow(&jmp_table(name));
            check_in_all_weather(net, direction, &behind);
        });
    }
}

#[test]
fn needs_root_behind_l3afds_program_the_next_sees_every_packet() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        load_as_l3afd(Way::Ingress, &root);
        let behind = Counter::load();
        behind.follow(&jmp_table("ingress"));
        check_all_are_seen(net, Direction::Received, &behind, "the maps are empty yet");
        run_as_l3afd(net, "ingress", &[]);
        check_in_all_weather(net, Direction::Received, &behind);
    });
}

#[test]
fn needs_root_standalone_other_programs_see_every_packet() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &[]);
        // attached later, so behind us
        let root = Root::attach(net.host(), "ingress");
        let behind = Counter::load();
        root.put(std::os::fd::AsFd::as_fd(&behind.program));
        check_in_all_weather(net, Direction::Received, &behind);
    });
}

/// A program in front of us may end the processing of its packets with TC_ACT_OK, as tc-root does.
#[test]
fn needs_root_standalone_we_see_every_packet_beside_others() {
    Topology::run(|net| {
        let _root = Root::attach(net.host(), "ingress");
        let _daemon = start(net, "ingress", &[]);
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        assert_eq!(collector.stop_after_quiet(QUIET).0.len(), 3);
    });
}

#[test]
fn needs_root_the_program_in_the_slot_moves_behind_us_and_back() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let other = Counter::load();
        root.put(std::os::fd::AsFd::as_fd(&other.program));
        let daemon = start_chained(net, "ingress", &root, &[]);
        assert_ne!(root.slot(), Some(other.id()));
        check_all_are_seen(net, Direction::Received, &other, "we are in front of it");
        assert!(daemon.terminate().success());
        assert_eq!(root.slot(), Some(other.id()));
        check_all_are_seen(net, Direction::Received, &other, "we are gone");
    });
}

#[test]
fn needs_root_a_slot_that_others_have_taken_over_is_left_alone() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let daemon = start_chained(net, "ingress", &root, &[]);
        let other = Counter::load();
        root.put(std::os::fd::AsFd::as_fd(&other.program));
        assert!(daemon.terminate().success());
        assert_eq!(root.slot(), Some(other.id()));
    });
}

#[test]
fn needs_root_a_start_after_a_crash_keeps_the_chain_linked() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let daemon = start_chained(net, "ingress", &root, &[]);
        let behind = Counter::load();
        behind.follow(&jmp_table("ingress"));
        let first = root.slot();
        daemon.kill();
        check_all_are_seen(net, Direction::Received, &behind, "our process is dead");

        let daemon = start_chained(net, "ingress", &root, &[]);
        assert_ne!(root.slot(), first, "the new program is not in the slot");
        check_all_are_seen(net, Direction::Received, &behind, "another start took over");
        let collector = Collector::listen(net.collector(), GUE_PORT);
        ping(net.client(), net.host(), 3, 56);
        let copies = collector.stop_after_quiet(QUIET);
        assert_eq!(copies.0.len(), 3, "each packet is mirrored once");
        assert!(daemon.terminate().success());
        assert_eq!(root.slot(), Some(behind.id()));
    });
}
