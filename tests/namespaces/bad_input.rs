//! Bad input: a clear error on stderr and in the log, an exit code that is not 0, and nothing
//! changed on the host.

use std::fs;

use testkit::namespaces::*;

/// Flags of a start that would work, and then those that make it fail (the last one counts), with
/// what the error must say.
const BAD_FLAGS: [(&[&str], &[&str]); 44] = [
    (&["--iface=nosuch0"], &["--iface", "\"nosuch0\"", "ip link"]),
    (&["--iface="], &["--iface is missing"]),
    (&["--iface=../../etc"], &["--iface", "\"../../etc\""]),
    (&["--iface=.."], &["--iface", "\"..\""]),
    (&["--iface=sixteen-letters-"], &["--iface", "15"]),
    (&["--iface=eth0 x"], &["--iface", "\"eth0 x\""]),
    (&["--iface=tun0"], &["--iface", "\"tun0\"", "Ethernet"]),
    (&["--direction=sideways"], &["--direction", "\"sideways\"", "ingress"]),
    (&["--direction="], &["--direction is missing"]),
    (&["--version=../x"], &["--version", "\"../x\""]),
    (&["--version=a/b"], &["--version", "\"a/b\""]),
    (&["--protocol=tcp,carrier-pigeon"], &["--protocol", "\"carrier-pigeon\""]),
    (&["--protocol=256"], &["--protocol", "\"256\""]),
    (&["--src-address=10.0.0.0/8,1.2.3"], &["--src-address", "\"1.2.3\""]),
    (&["--dst-address=10.0.0.0/33"], &["--dst-address", "\"10.0.0.0/33\""]),
    (&["--dst-address=2001:db8::/129"], &["--dst-address", "\"2001:db8::/129\""]),
    (&["--src-address=1.2.3.4,,5.6.7.8"], &["--src-address", "empty"]),
    (&["--src-port=80,http"], &["--src-port", "\"http\""]),
    (&["--dst-port=65536"], &["--dst-port", "\"65536\""]),
    (&["--dst-port=8100-8000"], &["--dst-port", "\"8100-8000\""]),
    (&["--dst-port=not 0"], &["--dst-port", "\"not 0\""]),
    (&["--tcp-flags=sin"], &["--tcp-flags", "\"sin\""]),
    (&["--snaplen=10"], &["--snaplen", "\"10\"", "64"]),
    (&["--rules-file=/no/such/rules"], &["--rules-file", "\"/no/such/rules\"", "No such file"]),
    (&["--rules-file=/dev/zero"], &["--rules-file", "\"/dev/zero\"", "ordinary file"]),
    (&["--rules-file=/proc/self/status"], &["--rules-file", "\"/proc/self/status\"", "JSON"]),
    (&["--tunnel-type=vxlan"], &["--tunnel-type", "\"vxlan\"", "gue"]),
    (&["--tunnel-local-port=0"], &["--tunnel-local-port", "\"0\""]),
    (&["--tunnel-remote-port=70000"], &["--tunnel-remote-port", "\"70000\""]),
    (&["--tunnel-remote-address=collector"], &["--tunnel-remote-address", "\"collector\""]),
    (&["--tunnel-remote-address=224.0.0.1"], &["--tunnel-remote-address", "\"224.0.0.1\""]),
    (
        &["--tunnel-remote-address=", "--tunnel-interface-name=gue7"],
        &["\"gue7\" does not exist", "--tunnel-remote-address", "create the device"],
    ),
    (&["--tunnel-interface-name=a/b"], &["--tunnel-interface-name", "\"a/b\""]),
    (&["--tunnel-interface-name=eth0"], &["\"eth0\"", "tunnel interface"]),
    (&["--redirect-to=nosuch1"], &["--redirect-to", "\"nosuch1\""]),
    (&["--redirect-to=bare0"], &["--redirect-to", "\"bare0\"", "IPv4 address"]),
    (&["--gtw-address=10.2.0"], &["--gtw-address", "\"10.2.0\""]),
    (&["--map-name=/sys/fs/bpf/tc/nosuch"], &["--map-name", "/sys/fs/bpf/tc/nosuch"]),
    (&["--map-name=/sys/fs/bpf/other"], &["--map-name", "PROG_ARRAY"]),
    (&["--map-name=/etc/passwd"], &["--map-name", "/etc/passwd", "/sys/fs/bpf"]),
    (&["--map-name=/sys/fs/bpf/../../../etc/passwd"], &["--map-name", ".."]),
    (&["--bpffs=/no/such/place"], &["--bpffs", "/no/such/place"]),
    (&["--cmd=restart"], &["--cmd", "\"restart\"", "stop"]),
    (&["--mirror-everything"], &["--mirror-everything"]),
];

#[test]
fn needs_root_bad_flags_are_refused_by_name_and_change_nothing() {
    Topology::run(|net| {
        let host = net.host();
        host.sh("ip tuntap add dev tun0 mode tun; ip link set tun0 up");
        host.sh("ip link add bare0 type veth peer name bare1; ip link set bare0 up");
        eventually("a link that has settled", || {
            host.sh("ip -o link show bare0").contains("LOWERLAYERDOWN")
        });
        let no_prog_array = Counter::load();
        no_prog_array.pin_counts("/sys/fs/bpf/other");
        let before = Snapshot::of(host);
        for (flags, told) in BAD_FLAGS {
            check_refused(net, &args("ingress", flags), told, &before);
        }
    });
}

#[test]
fn needs_root_a_symlink_out_of_the_bpf_file_system_is_refused() {
    Topology::run(|net| {
        // a second BPF file system, in which somebody else may have pinned something
        fs::create_dir("/run/other").expect("a directory");
        net.host().sh("mount -t bpf bpf /run/other");
        let root = Root::attach(net.host(), "ingress");
        root.pin_map("/run/other/root_array");
        std::os::unix::fs::symlink("/run/other", "/sys/fs/bpf/elsewhere").expect("a link");
        let before = Snapshot::of(net.host());
        let flag = ["--map-name=/sys/fs/bpf/elsewhere/root_array"];
        let told = ["--map-name", "outside the BPF file system"];
        check_refused(net, &args("ingress", &flag), &told, &before);
    });
}

#[test]
fn needs_root_a_start_that_fails_halfway_undoes_what_it_did() {
    Topology::run(|net| {
        // no bpffs yet, and a tunnel's far end whose name is taken: the pair cannot be made
        nix::mount::umount("/sys/fs/bpf").expect("no bpffs");
        net.host().sh("ip link add gue1-p type veth peer name other-end");
        let mounts = || fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
        let mounts_before = mounts();
        let before = Snapshot::of(net.host());
        check_refused(net, &args("ingress", &[]), &["\"gue1\"", "File exists"], &before);
        assert_eq!(mounts(), mounts_before);
    });
}

/// Our own jump table as the previous program's: the program would lead to itself.
#[test]
fn needs_root_an_instance_is_not_chained_to_itself() {
    Topology::run(|net| {
        start(net, "ingress", &[]).kill();
        let before = Snapshot::of(net.host());
        let own = "--map-name=/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/mirroring_ingress_jmp_table";
        check_refused(net, &args("ingress", &[own]), &["--map-name", "itself"], &before);
    });
}

/// A root array of another kind refuses our program. By then, the tunnel and the pins are there.
#[test]
fn needs_root_a_start_that_its_chain_refuses_leaves_nothing() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        // owned by a program of another attach type, an array refuses ours (Linux 6.18 and on);
        // frozen for system calls, it does on every kernel
        root.freeze();
        let before = Snapshot::of(net.host());
        let flag = format!("--map-name={}", root.map_path.display());
        check_refused(net, &args("ingress", &[&flag]), &["PROG_ARRAY", "refuses"], &before);
    });
}

#[test]
fn needs_root_missing_privileges_are_named() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let with_capabilities = |bounds: &str, args: &[&str]| {
            let mut command = net.host().command("setpriv");
            command.args([&format!("--bounding-set={bounds}"), "--inh-caps=-all"]);
            command.arg(testkit::binary()).args(args);
            let output = command.output().expect("setpriv");
            (output.status.code(), String::from_utf8(output.stderr).expect("text"))
        };
        let start = ["--iface=eth0", "--direction=ingress", TO_COLLECTOR[0], TO_COLLECTOR[1]];
        let explain = ["--cmd=explain", "--dst-port=1", "--packet=10.0.0.1 > 10.0.0.2 icmp"];
        let stop = ["--cmd=stop", "--iface=eth0"];
        for command in [&start[..], &stop, &["--cmd=status"], &["--cmd=show"], &explain] {
            let (code, stderr) = with_capabilities("-all", command);
            assert_eq!(code, Some(1));
            for part in ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "root"] {
                assert!(stderr.contains(part), "{part:?} in {stderr}");
            }
        }
        let (_, stderr) = with_capabilities("-net_admin", &start);
        assert!(stderr.contains("CAP_NET_ADMIN") && !stderr.contains("CAP_SYS"), "{stderr}");
        assert_eq!(Snapshot::of(net.host()), before);
    });
}

/// A container has 64 KiB of locked memory, and not the capability to raise that.
#[test]
fn needs_root_a_limit_of_locked_memory_is_named_where_it_counts() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let args = args("ingress", &[]);
        let mut command = net.host().command("sh");
        let confined =
            r#"ulimit -l 64; exec setpriv --bounding-set=-all,+net_admin,+sys_admin "$@""#;
        command.args(["-c", confined, "sh"]).arg(testkit::binary());
        command.args(args.iter().map(AsRef::<str>::as_ref));
        let mut process = Daemon::start(command);
        if has_limited_maps() {
            assert_eq!(process.wait().code(), Some(1));
            let stderr = process.stderr();
            for part in ["locked memory", "64 KiB", "RLIMIT_MEMLOCK", "CAP_SYS_RESOURCE"] {
                assert!(stderr.contains(part), "{part:?} in {stderr}");
            }
            assert!(!stderr.contains("lacks"), "{stderr}");
            assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
        } else {
            eventually("an instance that runs", || {
                let status = ["--cmd=status", "--iface=eth0", "--direction=ingress"];
                mirroring(net.host(), status).stdout.starts_with(b"RUNNING")
            });
        }
    });
}

/// Runs a command that must fail, and checks its exit code, its error and that nothing has changed.
fn check_refused<A: AsRef<str>>(net: &Topology, args: &[A], told: &[&str], before: &Snapshot) {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let mut process = Daemon::mirroring(net.host(), &args);
    let status = process.wait();
    assert!(matches!(status.code(), Some(1 | 2)), "{args:?}: {status}");
    for text in [process.stderr(), process.log()] {
        for part in told {
            assert!(text.contains(part), "{args:?}: {part:?} in {text:?}");
        }
    }
    let changes = Snapshot::of(net.host()).changes_since(before);
    assert_eq!(changes, [""; 0], "{args:?}");
}
