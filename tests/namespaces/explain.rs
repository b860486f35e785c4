//! `--cmd=explain`, with rules from a file and with the rules in force.

use std::fs;

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

const IN_FORCE: [&str; 3] = ["--cmd=explain", "--iface=eth0", "--direction=ingress"];

/// Returns what the command prints. It must change nothing on the host.
fn explain(net: &Topology, args: &[&str], packet: &str) -> String {
    let before = Snapshot::of(net.host());
    let packet = format!("--packet={packet}");
    let output = command(net.host(), &[args, &[packet.as_str()]].concat());
    assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn needs_root_given_rules_are_explained_where_nothing_runs() {
    Topology::run(|net| {
        // the command needs no BPF file system
        nix::mount::umount("/sys/fs/bpf").expect("no bpffs");
        fs::write(
            "/run/rules.json",
            r#"{"rules": [
                {"name": "no-backup", "action": "exclude", "dst": ["10.9.0.0/16"]},
                {"name": "web", "protocol": ["tcp"], "dst_port": [443]}]}"#,
        )
        .expect("a file of rules");
        let given = ["--cmd=explain", "--rules-file=/run/rules.json", "--vlan=7"];
        let packet = "10.0.0.1:1234 > 192.0.2.5:443 tcp syn";
        let expected = "\
10.0.0.1:1234 > 192.0.2.5:443 tcp syn length 40

#  name       action   the packet
1  no-backup  exclude  refused by dst 10.9.0.0/16
2  web        mirror   met
3  flags      mirror   not reached

Rule 2 (web) is the first that matches: the packet is mirrored.
";
        let explain = |args: &[&str], packet: &str| {
            let packet = format!("--packet={packet}");
            let output = command(net.host(), &[args, &[packet.as_str()]].concat());
            String::from_utf8(output.stdout).expect("text")
        };
        assert_eq!(explain(&given, packet), expected);
        let hex = "4500 0028 0000 0000 4006 0000 0a00 0001 c000 0205 \
                   04d2 01bb 0000 0000 0000 0000 5002 0000 0000 0000";
        assert_eq!(explain(&given, hex), expected);
        let of_tcpdump = "12:00:00.0 IP 10.0.0.1.1234 > 192.0.2.5.443: Flags [S], seq 1, length 0";
        assert_eq!(explain(&given, of_tcpdump), expected);
        let dump = "\t0x0000:  4500 0028 0000 0000 4006 0000 0a00 0001  E..(............\n\
                    \t0x0010:  c000 0205 04d2 01bb 0000 0000 0000 0000  ................\n\
                    \t0x0020:  5002 0000 0000 0000                      P.......\n";
        assert_eq!(explain(&given, dump), expected);

        let given = [&given[..], &["--direction=egress"]].concat();
        let expected = "\
vlan 7 vlan 8 [2001:db8::1]:1 > [2001:db8::2]:443 udp length 48

#  name       action   the packet
1  no-backup  exclude  refused by dst 10.9.0.0/16
2  web        mirror   refused by protocol tcp
3  flags      mirror   met

Rule 3 (flags) is the first that matches: the packet is mirrored.
";
        let tagged = "vlan 7 vlan 8 [2001:db8::1]:1 > [2001:db8::2]:443 udp";
        assert_eq!(explain(&given, tagged), expected);
        let none = explain(&given, "10.0.0.1 > 10.0.0.2 icmp");
        assert!(none.contains("3  flags      mirror   refused by vlan 7\n"), "{none}");
        assert!(none.ends_with("\nNo rule matches: the packet is not mirrored.\n"), "{none}");
        let fragment = explain(&given, &hex.replace("0000 0000 4006", "0000 00b9 4006"));
        assert!(
            fragment.contains("2  web        mirror   refused by dst_port 443\n"),
            "{fragment}"
        );
        assert!(fragment.contains("\nBeside its first fragment it meets "), "{fragment}");
    });
}

/// Works in either generation of the rules. After an update, the new rules are explained.
#[test]
fn needs_root_rules_in_force_are_explained_and_left_alone() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--protocol=icmp,udp,tcp", "--max-rate=1gbit"]);
        // makes counters, rate credit, and an entry for the datagram that these fragments belong to
        ping(net.client(), net.host(), 2, 3000);
        let before = map_contents(Way::Ingress);
        assert!(!before["ingress_datagram"].is_empty());

        let explain = |packet: &str| explain(net, &IN_FORCE, packet);
        let heading = "\nby the rules in force on eth0 ingress (latest)\n\n";
        let met = explain("10.1.0.2:1234 > 10.1.0.1:443 tcp syn");
        assert!(met.contains(heading), "{met}");
        assert!(met.contains("\n1  flags  mirror  met\n"), "{met}");
        assert!(met.ends_with("matches: the packet is mirrored.\n"), "{met}");
        let refused = explain("10.1.0.2 > 10.1.0.1 gre length 100");
        assert!(
            refused.contains("\n1  flags  mirror  refused by protocol icmp,tcp,udp\n"),
            "{refused}"
        );
        let guarded = explain("10.2.0.1:6080 > 10.2.0.2:6080 udp length 100");
        assert!(guarded.contains("the packet is not mirrored: it is a tunnel's"), "{guarded}");
        // the first fragment of a datagram, which the program remembers
        let first =
            explain("4500 001c 0001 2000 4011 0000 0a01 0002 0a01 0001 04d2 0035 0008 0000");
        assert!(first.ends_with("matches: the packet is mirrored.\n"), "{first}");
        assert!(map_contents(Way::Ingress) == before, "maps have changed");
        assert_eq!(copies_of_three_pings(net), 3);

        command(
            net.host(),
            &[
                "--cmd=update",
                "--iface=eth0",
                "--direction=ingress",
                "--dst-port=not 443",
                "--dscp=0",
            ],
        );
        let before = map_contents(Way::Ingress);
        let refused = explain("10.1.0.2:1234 > 10.1.0.1:443 tcp syn dscp ef");
        assert!(refused.contains("refused by dst_port not 443; dscp cs0\n"), "{refused}");
        assert!(map_contents(Way::Ingress) == before, "maps have changed");
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_what_the_tunnel_device_cannot_carry_is_explained() {
    Topology::run(|net| {
        net.host().sh("ip tuntap add dev tun0 mode tun; ip link set tun0 mtu 1400 up");
        let daemon = start(net, "ingress", &["--tunnel-interface-name=tun0"]);
        let explain = |packet: &str| explain(net, &IN_FORCE, packet);
        let oversize = explain("10.1.0.2:1 > 10.1.0.1:2 udp length 1401");
        assert!(oversize.contains("it is longer than the tunnel device carries"), "{oversize}");
        let fits = explain("10.1.0.2:1 > 10.1.0.1:2 udp length 1400");
        assert!(fits.ends_with("the packet is mirrored.\n"), "{fits}");
        let tagged = explain("vlan 7 10.1.0.2:1 > 10.1.0.1:2 udp");
        assert!(tagged.contains("carries no IPv6, or no VLAN tags"), "{tagged}");
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_what_cannot_be_explained_is_an_error() {
    Topology::run(|net| {
        let before = Snapshot::of(net.host());
        let packet = "--packet=10.1.0.2:1 > 10.1.0.1:2 udp";
        let cases: [(&[&str], i32, &str); 4] = [
            (
                &[packet],
                1,
                "eth0 ingress (latest) is not mirrored, so no rules are in force; start it",
            ),
            (&["--packet=10.1.0.2"], 2, "--packet: '.' is no hex digit; "),
            (&[], 2, "--packet is missing; give the packet, e.g. --packet="),
            (
                &["--packet=020000000001 020000000002 0800 4500", "--dst-port=1"],
                2,
                "--packet: the 16 bytes end within the IP header; give a whole packet",
            ),
        ];
        for (args, code, told) in cases {
            let output = mirroring(net.host(), [&IN_FORCE[..], args].concat());
            assert_eq!(output.status.code(), Some(code), "{args:?}");
            let stderr = String::from_utf8(output.stderr).expect("text");
            assert!(stderr.contains(told) && output.stdout.is_empty(), "{args:?}: {stderr}");
        }
        // the process is gone, but the instance's rules are still in force
        start(net, "ingress", &["--protocol=tcp"]).kill();
        let refused = explain(net, &IN_FORCE, "10.1.0.2:1 > 10.1.0.1:2 udp");
        assert!(refused.contains("refused by protocol tcp\n"), "{refused}");
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    });
}

/// Runs each command of the section, and expects the output that the section shows.
fn shown_in_the_docs() -> Vec<(String, String)> {
    let page = include_str!("../../docs/operate.md");
    let section = page.split("\n## ").find(|it| it.starts_with("Before a filter changes"));
    let blocks = section.expect("the section in docs/operate.md").split("```console\n# ").skip(1);
    let shown = blocks.map(|block| {
        let block = block.split("```").next().expect("a block").replace("\\\n", "");
        let (command, output) = block.split_once('\n').expect("a command");
        (command.to_owned(), output.to_owned())
    });
    shown.collect()
}

#[test]
fn needs_root_the_docs_show_what_is_printed() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--protocol=tcp", "--dst-port=80,443"]);
        fs::write("/run/rules.json", include_str!("../filter/rules/valid/as-in-the-readme.json"))
            .expect("a file of rules");
        let shown = shown_in_the_docs();
        assert_eq!(shown.len(), 2);
        for (command, expected) in shown {
            let arguments = command.strip_prefix("mirroring ").expect("a `mirroring` command");
            let binary = testkit::binary();
            let printed = net.host().sh(&format!("cd /run; {} {arguments}", binary.display()));
            assert_eq!(printed, expected, "{command}");
        }
        assert!(daemon.terminate().success());
    });
}
