//! `--dry-run` says what would be in force and what would change, and changes nothing.

use std::fs;

use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

/// What a dry run says below the table of rules.
fn changes(net: &Topology, args: &[&str]) -> String {
    let before = Snapshot::of(net.host());
    let output = command(net.host(), &[args, &["--dry-run"]].concat());
    assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("#  name"), "{text}");
    let table_ends = text.find(" of IPv6, ").expect("sizes");
    let (_, changes) = text[table_ends..].split_once("\n\n").expect("a line");
    changes.to_owned()
}

fn update(net: &Topology, args: &[&str]) -> String {
    let update = ["--cmd=update", "--iface=eth0", "--direction=ingress"];
    changes(net, &[&update[..], args].concat())
}

fn again(net: &Topology, args: &[&str]) -> String {
    let start = ["--iface=eth0", "--direction=ingress"];
    changes(net, &[&start[..], &TO_COLLECTOR, args].concat())
}

const NO_CHANGE: &str = "No change: these rules are in force on eth0 ingress (latest).\n";

#[test]
fn needs_root_a_dry_run_says_what_would_change() {
    Topology::run(|net| {
        assert_eq!(
            update(net, &["--dst-port=80"]),
            "No rules are in force on eth0 ingress (latest): there is nothing to update; start it \
             first.\n"
        );
        assert_eq!(
            again(net, &["--dst-port=80"]),
            "No rules are in force on eth0 ingress (latest): all of these are new.\n"
        );

        let rules = |text: &str| {
            fs::write("/run/rules.json", format!("{{\"rules\": [{text}]}}")).expect("a file");
        };
        let from_file = ["--rules-file=/run/rules.json"];
        rules(
            r#"{"name": "a", "src": ["10.0.0.0/8", "not 10.1.1.0/24", "::"], "dst_port": ["80-90"]},
               {"name": "b", "sample": {"one_in": 1000000, "by": "flow"}},
               {"name": "c", "action": "exclude", "icmp_type": ["echo-request"]}"#,
        );
        let daemon = start(net, "ingress", &from_file);
        let before = map_contents(Way::Ingress);
        assert_eq!(update(net, &from_file), NO_CHANGE);
        assert_eq!(again(net, &from_file), NO_CHANGE);
        // the same, typed in another way
        rules(
            r#"{"name": "a", "src": ["::", "10.0.0.0/8", "10.2.0.0/16", "not 10.1.1.0/24"],
                "dst_port": [90, "80-85", "85-89"]},
               {"name": "b", "sample": {"one_in": 1000000, "by": "flow"}, "vlan": ["any"]},
               {"name": "c", "action": "exclude", "icmp_type": ["echo-request"]}"#,
        );
        assert_eq!(update(net, &from_file), NO_CHANGE);

        rules(
            r#"{"name": "c", "action": "exclude", "icmp_type": [8]},
               {"name": "new"},
               {"name": "a", "src": ["0.0.0.0"], "dst_port": ["80-90"], "snaplen": 64}"#,
        );
        let expected = "\
Against the rules in force on eth0 ingress (latest):
- 2 b
~ 1 c: was number 3; icmp_type echo-request -> 8
+ 2 new
~ 3 a: src 10.0.0.0/8,::,not 10.1.1.0/24 -> 0.0.0.0; snaplen (none) -> 64
";
        assert_eq!(update(net, &from_file), expected);
        assert!(map_contents(Way::Ingress) == before, "maps have changed");

        // what an update puts into force is what it said
        command(net.host(), &["--cmd=update", "--iface=eth0", "--direction=ingress", from_file[0]]);
        assert_eq!(update(net, &from_file), NO_CHANGE);
        // also after the process is gone
        daemon.kill();
        assert_eq!(again(net, &from_file), NO_CHANGE);
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
    });
}

#[test]
fn needs_root_a_dry_run_says_whether_the_cap_would_change() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--max-rate=1gbit"]);
        assert_eq!(update(net, &["--protocol=any", "--max-rate=1000mbit"]), NO_CHANGE);
        let heading = "Against the rules in force on eth0 ingress (latest):\n";
        let expected = format!("{heading}~ max-rate 1gbit -> 2gbit\n");
        assert_eq!(update(net, &["--protocol=any", "--max-rate=2gbit"]), expected);
        let update_of_cap = command(
            net.host(),
            &[
                "--cmd=update",
                "--iface=eth0",
                "--direction=ingress",
                "--max-rate=2gbit",
                "--dry-run",
            ],
        );
        assert_eq!(
            String::from_utf8(update_of_cap.stdout).expect("text"),
            format!("No rules are given: those in force stay as they are.\n\n{expected}")
        );
        assert_eq!(again(net, &[]), format!("{heading}~ max-rate 1gbit -> (none)\n"));
        assert!(daemon.terminate().success());
    });
}

#[test]
fn needs_root_a_dry_run_shows_rules_to_everybody() {
    Topology::run(|net| {
        let mut command = net.host().command("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(testkit::binary());
        command.args(["--iface=eth0", "--direction=ingress", "--dry-run"]);
        let output = command.output().expect("setpriv");
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.starts_with("#  name   action  packets"), "{text}");
        assert!(
            text.contains("\nWhat would change is not known: missing privileges: CAP_"),
            "{text}"
        );
    });
}
