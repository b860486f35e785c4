//! How many calls of bpf(2) a command takes: what it has opened once it goes on with.

use testkit::namespaces::*;

/// How many of these there are depends on what else is loaded on the host, or on its kernel, which may have no call
/// that reads all of a map.
const OTHERS: [u32; 7] = [
    libbpf_sys::BPF_PROG_GET_NEXT_ID,
    libbpf_sys::BPF_PROG_GET_FD_BY_ID,
    libbpf_sys::BPF_MAP_GET_NEXT_ID,
    libbpf_sys::BPF_MAP_GET_FD_BY_ID,
    libbpf_sys::BPF_OBJ_GET_INFO_BY_FD,
    libbpf_sys::BPF_MAP_LOOKUP_ELEM,
    libbpf_sys::BPF_MAP_LOOKUP_BATCH,
];

fn calls_of(net: &Topology, args: &[&str]) -> BpfCalls {
    let mut command = net.host().command(testkit::binary());
    command.arg("--log-dir=/tmp").args(args);
    BpfCalls::of(command)
}

fn assert_each_pin_is_opened_once(calls: &BpfCalls, expected: &[&str]) {
    let opened: Vec<_> = calls
        .opened
        .iter()
        .map(|(path, count)| (path.rsplit('/').next().expect("a name"), *count))
        .collect();
    let expected: Vec<_> = expected.iter().map(|name| (*name, 1)).collect();
    assert_eq!(opened, expected);
}

#[test]
fn needs_root_a_stop_of_one_of_two_opens_each_pin_once() {
    Topology::run(|net| {
        let killed = start(net, "ingress", &[]);
        let other = start(net, "egress", &[]);
        killed.kill();
        let calls = calls_of(net, &["--cmd=stop", "--iface=eth0", "--direction=ingress"]);
        assert_each_pin_is_opened_once(
            &calls,
            &[
                "_ingress_redirect_tc",
                "egress_config",
                "egress_endpoints",
                "egress_instance",
                "egress_tunnel",
                "ingress_config",
                "ingress_endpoints",
                "ingress_instance",
                "ingress_metrics",
                "ingress_outcomes",
                "mirroring_egress_jmp_table",
                "mirroring_ingress_jmp_table",
            ],
        );
        assert!(calls.but(&OTHERS) < 40, "{:?}", calls.commands);
        assert_eq!(copies_of_three_pings(net), 3, "the other one goes on");
        assert!(other.terminate().success());
    });
}

#[test]
fn needs_root_an_update_of_the_cap_takes_few_calls() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &[]);
        let args = ["--cmd=update", "--iface=eth0", "--direction=ingress", "--max-rate=1gbit"];
        let calls = calls_of(net, &args);
        assert_each_pin_is_opened_once(
            &calls,
            &[
                "_ingress_redirect_tc",
                "ingress_config",
                "ingress_instance",
                "ingress_tunnel",
                "mirroring_ingress_jmp_table",
            ],
        );
        assert!(calls.commands.len() <= 15, "{:?}", calls.commands);
        assert!(daemon.terminate().success());
    });
}
