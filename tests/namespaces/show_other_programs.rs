//! `--cmd=show`: the programs before and behind ours.

use std::os::fd::AsFd;

use serde_json::{Value, json};
use traffic_mirroring::attach::clsact::ClsactFilter;
use traffic_mirroring::attach::tcx::TcxLink;
use traffic_mirroring::bpf::pins;
use traffic_mirroring::model::Direction as Way;
use traffic_mirroring::netlink::Netlink;

use testkit::namespaces::*;

fn eth0() -> u32 {
    nix::net::if_::if_nametoindex("eth0").expect("eth0")
}

fn neighbour(by: &str, id: u32) -> Value {
    json!({ "by": by, "id": id, "name": "test" })
}

fn root_of(way: Way, by: &str, root: &Root) -> Value {
    json!({ "by": by, "id": root.id(), "name": format!("tc_{way}_root") })
}

/// The kind of hook that a start and `Root` attach to.
fn hook() -> &'static str {
    if has_tcx() { "tcx" } else { "clsact" }
}

#[test]
fn needs_root_a_chains_previous_and_next_programs_are_shown() {
    for way in Way::ALL {
        Topology::run(|net| {
            let name = way.to_string();
            let root = Root::attach(net.host(), &name);
            let daemon = start_chained(net, &name, &root, &[]);
            let shown = shown_one(net);
            assert_eq!(shown["launch_mode"], "chain");
            assert_eq!(shown["previous"], json!([root_of(way, "tail_call", &root)]));
            assert_eq!(shown["next"], json!([]));

            let behind = Counter::load();
            behind.follow(&jmp_table(&name));
            let shown = shown_one(net);
            assert_eq!(shown["next"], json!([neighbour("tail_call", behind.id())]));
            let table = show(net, &[]);
            for line in [
                format!("\n  previous  {} tc_{name}_root (tail call)\n", root.id()),
                format!("\n  next      {} test (tail call)\n", behind.id()),
            ] {
                assert!(table.contains(&line), "{table}");
            }

            // somebody takes us out of the chain
            root.clear();
            let shown = shown_one(net);
            assert_eq!((&shown["attached"], &shown["previous"]), (&json!(false), &json!([])));
            assert!(show(net, &[]).contains(", in a chain, but no packets come to it\n"));
            drop(daemon);
        });
    }
}

#[test]
fn needs_root_a_program_of_l3afds_has_its_neighbours_too() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "egress");
        load_as_l3afd(Way::Egress, &root);
        run_as_l3afd(net, "egress", &[]);
        let behind = Counter::load();
        behind.follow(&jmp_table("egress"));
        let shown = shown_one(net);
        assert_eq!((&shown["launch_mode"], &shown["process"]), (&json!("l3afd"), &Value::Null));
        assert_eq!(shown["previous"], json!([root_of(Way::Egress, "tail_call", &root)]));
        assert_eq!(shown["next"], json!([neighbour("tail_call", behind.id())]));
        assert!(show(net, &[]).starts_with("eth0 egress (latest): running, without a process\n"));
    });
}

#[test]
fn needs_root_tcx_programs_before_and_behind_us_are_in_order() {
    for way in Way::ALL {
        Topology::run(|net| {
            let name = way.to_string();
            let _daemon = start(net, &name, &[]);
            let behind = Root::attach(net.host(), &name);
            let shown = shown_one(net);
            assert_eq!(shown["launch_mode"], hook());
            assert_eq!(shown["previous"], json!([]));
            assert_eq!(shown["next"], json!([root_of(way, hook(), &behind)]));

            let called = Counter::load();
            called.follow(&jmp_table(&name));
            net.host().sh(&format!(
                "tc qdisc show dev eth0 | grep -q clsact || tc qdisc add dev eth0 clsact
                tc filter add dev eth0 {name} prio 9 u32 match u32 0 0 at 0
                tc filter add dev eth0 {name} prio 9 u32 match u32 1 1 at 0"
            ));
            let filter = json!({ "by": "clsact", "id": null, "name": "u32" });
            let next = [neighbour("tail_call", called.id()), root_of(way, hook(), &behind), filter];
            assert_eq!(shown_one(net)["next"], json!(next));

            let before = Counter::load_undecided();
            let link = TcxLink::attach(before.program.as_fd(), eth0(), way).expect("the hook");
            assert_eq!(link.is_some(), has_tcx());
            let previous = link.iter().map(|_| neighbour("tcx", before.id()));
            assert_eq!(shown_one(net)["previous"], Value::from_iter(previous));
        });
    }
}

/// As a start attaches where there is no TCX.
#[test]
fn needs_root_clsact_filters_are_shown_with_their_priorities() {
    Topology::run(|net| {
        net.host().sh("
            tc qdisc add dev eth0 clsact
            tc filter add dev eth0 ingress prio 1 u32 match u32 0xffffffff 0xffffffff at 0");
        let daemon = start(net, "ingress", &[]);
        let instance = instance(Way::Ingress);
        if has_tcx() {
            // from the one hook to the other
            let program = libbpf_rs::Program::fd_from_pinned_path(instance.pins.program());
            let note = |filter: &ClsactFilter, _| {
                let mut record = instance.record();
                filter.note_in(&mut record);
                instance.common.instance.write(0, record);
            };
            let mut netlink = Netlink::open().expect("netlink");
            let program = program.expect("the program");
            ClsactFilter::attach(program.as_fd(), eth0(), Way::Ingress, &mut netlink, note)
                .expect("a filter");
            pins::remove(&instance.pins.link()).expect("the link's pin");
        }
        let foreign = Counter::load();
        let mut hook = libbpf_rs::TcHookBuilder::new(foreign.program.as_fd())
            .ifindex(eth0() as i32)
            .priority(7)
            .hook(libbpf_rs::TC_INGRESS);
        hook.attach().expect("a foreign filter");

        // the kernel ends a link some time after its pin
        eventually("the end of the link", || {
            traffic_mirroring::attach::tcx::programs(eth0(), Way::Ingress).is_empty()
        });
        let shown = shown_one(net);
        assert_eq!((&shown["launch_mode"], &shown["attached"]), (&json!("clsact"), &json!(true)));
        assert_eq!(shown["previous"], json!([{ "by": "clsact", "id": null, "name": "u32" }]));
        assert_eq!(shown["next"], json!([neighbour("clsact", foreign.id())]));
        assert!(daemon.terminate().success());
    });
}
