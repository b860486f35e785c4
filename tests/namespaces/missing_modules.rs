//! Kernels that lack a module which the tunnel or the hook needs.
//!
//! Only a guest can lack them. `make test-kernels` runs these before any other test loads modules.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use traffic_mirroring::attach::clsact::ClsactFilter;
use traffic_mirroring::model::Direction as Way;
use traffic_mirroring::netlink::Netlink;

use testkit::namespaces::*;

/// Holds the path of the program that the kernel runs to load a module.
const MODPROBE: &str = "/proc/sys/kernel/modprobe";

/// Keeps the kernel from loading modules until dropped.
struct NoModules(String);

impl NoModules {
    fn from_now_on() -> Self {
        let modprobe = fs::read_to_string(MODPROBE).expect("the path of modprobe");
        fs::write(MODPROBE, "/bin/false").expect("the path is replaced");
        Self(modprobe)
    }
}

impl Drop for NoModules {
    fn drop(&mut self) {
        fs::write(MODPROBE, &self.0).expect("the path is restored");
    }
}

fn load(module: &str) {
    assert!(Command::new("modprobe").arg(module).status().expect("modprobe").success(), "{module}");
}

/// Returns the error of a filter on `eth0`.
fn refusal(net: &Topology) -> String {
    let before = Snapshot::of(net.host());
    let ifindex = nix::net::if_::if_nametoindex("eth0").expect("eth0");
    let mut netlink = Netlink::open().expect("netlink");
    let program = Counter::load();
    let attached = ClsactFilter::attach(
        program.program.as_fd(),
        ifindex,
        Way::Egress,
        &mut netlink,
        |_, _| {},
    );
    assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    format!("{:#}", attached.expect_err("a filter without its module"))
}

/// Expects a start to name what is missing. With TCX, nothing is missing.
fn check_start(net: &Topology, parts: &[&str]) {
    let before = Snapshot::of(net.host());
    if has_tcx() {
        drop(start(net, "ingress", &[]));
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
    } else {
        check_refused(net.host(), &args("ingress", &[]), parts);
    }
    assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
}

fn check_refused<A: AsRef<str>>(ns: &Ns, flags: &[A], parts: &[&str]) {
    let output = mirroring(ns, flags.iter().map(AsRef::as_ref));
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[test]
#[ignore = "wants a kernel that has loaded no modules: make test-kernels"]
fn needs_root_a_module_that_the_kernel_lacks_is_named() {
    let _none = NoModules::from_now_on();
    Topology::without_links(|host| {
        let flags = ["--iface=lo", "--direction=ingress", "--tunnel-remote-address=127.0.0.2"];
        check_refused(host, &flags, &["no veth devices", "CONFIG_VETH", "modprobe veth"]);
    });

    load("veth");
    Topology::run(|net| {
        let missing = ["no clsact qdisc", "CONFIG_NET_SCH_INGRESS", "modprobe sch_ingress"];
        let refusal_of_all = refusal(net);
        assert!(missing.iter().all(|part| refusal_of_all.contains(part)), "{refusal_of_all}");
        check_start(net, &missing);

        load("sch_ingress");
        let missing = ["no bpf filter", "CONFIG_NET_CLS_BPF", "modprobe cls_bpf"];
        let refusal_of_filter = refusal(net);
        assert!(missing.iter().all(|part| refusal_of_filter.contains(part)), "{refusal_of_filter}");
        check_start(net, &missing);

        load("cls_bpf");
        start(net, "ingress", &[]);
    });
}
