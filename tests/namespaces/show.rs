//! `--cmd=show` reports what is there, however an instance was launched and whatever has happened to it.

use serde_json::{Value, json};
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

#[test]
fn needs_root_where_nothing_runs_that_is_said_and_no_error() {
    Topology::run(|net| {
        for mounted in [true, false] {
            if !mounted {
                nix::mount::umount("/sys/fs/bpf").expect("no bpffs");
            }
            let said = |format: &str| {
                let output = command(net.host(), &["--cmd=show", &format!("--format={format}")]);
                String::from_utf8(output.stdout).expect("text")
            };
            assert_eq!(said("table"), "nothing is mirrored here\n");
            assert_eq!(said("json"), "[]\n");
            assert_eq!(said("prometheus"), "# nothing is mirrored here\n");
        }
    });
}

const RULES: &str = r#"{"rules": [
    {"name": "no-dns", "action": "exclude", "protocol": ["udp"], "dst_port": ["53"]},
    {"name": "pings", "protocol": ["icmp"], "snaplen": 128},
    {"name": "udp", "protocol": ["udp"]}]}"#;

/// Those that are not 0.
fn counted(outcomes: &Value) -> Value {
    let mut outcomes = outcomes.as_object().expect("outcomes").clone();
    outcomes.retain(|_, count| *count != 0);
    outcomes.into()
}

#[test]
fn needs_root_rules_are_shown_with_their_counters() {
    in_every_launch_mode(|net, launcher| {
        let daemon = launcher.start(Way::Ingress, &[&rules_file("rules", RULES)]);
        ping(net.client(), net.host(), 5, 56);
        udp_exchange(net.client(), net.host(), 53, 7, 100);
        udp_exchange(net.client(), net.host(), 54, 3, 100);
        let shown = shown_one(net);
        let id = [&shown["interface"], &shown["direction"], &shown["version"]];
        assert_eq!(id, ["eth0", "ingress", "latest"]);
        assert_eq!((&shown["state"], &shown["attached"]), (&json!("running"), &json!(true)));
        let process = daemon.as_ref().map(|it| json!({ "pid": it.pid(), "alive": true }));
        assert_eq!(shown["process"], json!(process));
        assert_eq!(shown["program"]["id"], json!(instance(Way::Ingress).program()));

        let rules = shown["rules"].as_array().expect("rules");
        let texts = Value::from_iter(rules.iter().map(|rule| rule["rule"].clone()));
        let mut typed: Value = serde_json::from_str(RULES).expect("JSON");
        typed["rules"][1]["action"] = json!("mirror");
        typed["rules"][2]["action"] = json!("mirror");
        assert_eq!(texts, typed["rules"]);
        let counts = [
            json!({ "matched": 7, "excluded": 7 }),
            json!({ "matched": 5, "sent": 5 }),
            json!({ "matched": 3, "sent": 3 }),
        ];
        for (rule, expected) in rules.iter().zip(&counts) {
            assert_eq!(&counted(&rule["outcomes"]), expected);
            assert_eq!(rule["rates"]["matched"], 0.0);
        }
        let all = json!({ "matched": 15, "sent": 8, "excluded": 7 });
        assert_eq!(counted(&shown["outcomes"]), all);
        assert_eq!(shown["tunnel"]["counters"]["copies"], 8);

        // another filter: what the old one counted is not forgotten
        command(
            net.host(),
            &["--cmd=update", "--iface=eth0", "--direction=ingress", "--protocol=icmp"],
        );
        ping(net.client(), net.host(), 2, 56);
        let shown = shown_one(net);
        assert_eq!(counted(&shown["former_rules"]), all);
        assert_eq!(counted(&shown["rules"][0]["outcomes"]), json!({ "matched": 2, "sent": 2 }));
        let all = json!({ "matched": 17, "sent": 10, "excluded": 7 });
        assert_eq!(counted(&shown["outcomes"]), all);
    });
}

#[test]
fn needs_root_rates_are_those_of_the_traffic() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--protocol=udp"]);
        let matched = || outcomes(Way::Ingress).matched as f64;
        let stream = Stream::start(net.client(), net.host(), 5300);
        let before = matched();
        let shown = shown_one(net);
        let after = matched();
        stream.stop();
        // the two samples are a second apart at least, and within what was counted here
        for rates in [&shown["rates"], &shown["rules"][0]["rates"]] {
            let rate = rates["matched"].as_f64().expect("a rate");
            assert!(rate > 0.0 && rate <= after - before, "{rate} of {}", after - before);
            assert_eq!(rates["sent"], rates["matched"]);
            assert_eq!(rates["excluded"], 0.0);
        }
        let table = show(net, &[]);
        let row = table.lines().find(|row| row.starts_with("  1  flags")).expect("a row");
        let words: Vec<_> = row.split_whitespace().collect();
        let count = format!("{}", matched());
        assert_eq!(words[words.len() - 5..], [&count, "0", &count, "0", "none"]);
    });
}

#[test]
fn needs_root_a_renamed_interface_is_selected_by_both_names() {
    Topology::run(|net| {
        let daemons = ["ingress", "egress"].map(|way| start(net, way, &[]));
        let directions = |args: &[&str]| -> Vec<Value> {
            shown(net, args).iter().map(|it| it["direction"].clone()).collect()
        };
        assert_eq!(directions(&[]), ["egress", "ingress"]);
        assert_eq!(directions(&["--iface=eth0", "--direction=egress"]), ["egress"]);
        assert_eq!(directions(&["--version=other"]), [""; 0]);

        net.host().sh("ip link set eth0 down; ip link set eth0 name eth9");
        assert_eq!(directions(&["--iface=eth9"]), ["egress", "ingress"]);
        for instance in shown(net, &["--iface=eth0"]) {
            assert_eq!(
                (&instance["interface"], &instance["interface_now"]),
                (&json!("eth0"), &json!("eth9"))
            );
        }
        let table = show(net, &["--direction=egress"]);
        let heading = "eth0 egress (latest), called \"eth9\" now: running, process ";
        assert!(table.starts_with(heading), "{table}");

        net.host().sh("ip link delete eth9");
        for instance in shown(net, &[]) {
            assert_eq!(instance["interface_now"], Value::Null);
            assert_eq!((&instance["attached"], &instance["next"]), (&json!(false), &json!([])));
        }
        drop(daemons);
    });
}

#[test]
fn needs_root_an_instance_with_a_dead_process_is_unattended() {
    Topology::run(|net| {
        let daemon = start(net, "ingress", &["--protocol=icmp"]);
        let pid = daemon.pid();
        daemon.kill();
        ping(net.client(), net.host(), 3, 56);
        let shown = shown_one(net);
        assert_eq!((&shown["state"], &shown["attached"]), (&json!("unattended"), &json!(true)));
        assert_eq!(shown["process"], json!({ "pid": pid, "alive": false }));
        assert_eq!(counted(&shown["outcomes"]), json!({ "matched": 3, "sent": 3 }));
        let table = show(net, &[]);
        assert!(table.contains(&format!("mirrors on without its process {pid}; ")), "{table}");
    });
}

#[test]
fn needs_root_a_stopped_instance_of_l3afds_is_shown_as_stopped() {
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        load_as_l3afd(Way::Ingress, &root);
        // not started yet, either
        assert_eq!(shown_one(net)["state"], "stopped");
        run_as_l3afd(net, "ingress", &[]);
        ping(net.client(), net.host(), 3, 56);
        command(net.host(), &["--cmd=stop", "--iface=eth0"]);
        let shown = shown_one(net);
        assert_eq!((&shown["state"], &shown["launch_mode"]), (&json!("stopped"), &json!("l3afd")));
        assert_eq!((&shown["rules"], &shown["tunnel"]), (&json!([]), &Value::Null));
        assert_eq!(counted(&shown["outcomes"]), json!({ "matched": 3, "sent": 3 }));
        assert!(
            show(net, &[]).starts_with("eth0 ingress (latest): stopped: no rules are in force\n")
        );
    });
}

#[test]
fn needs_root_what_cannot_be_read_is_named_beside_the_others() {
    Topology::run(|net| {
        let _ingress = start(net, "ingress", &[]);
        let _egress = start(net, "egress", &[]);
        // as a version whose maps are of another make has it
        let map = "/sys/fs/bpf/tc/globals/eth0/traffic-mirroring/latest/egress_rule";
        std::fs::remove_file(map).expect("the pin");
        Counter::load().pin_counts(map);
        let list = shown(net, &[]);
        let error = list[0]["error"].as_str().expect("an error");
        assert!(error.contains("are another version's"), "{error}");
        assert_eq!(list[1]["state"], "running");
        let table = show(net, &[]);
        assert!(table.starts_with("eth0 egress (latest): cannot be shown: "), "{table}");
        let metrics = show(net, &["--format=prometheus"]);
        for line in [
            r#"mirroring_readable{interface="eth0",direction="egress",version="latest"} 0"#,
            r#"mirroring_readable{interface="eth0",direction="ingress",version="latest"} 1"#,
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }
        assert!(!metrics.contains(r#"mirroring_running{interface="eth0",direction="egress""#));
    });
}

#[test]
fn needs_root_the_docs_show_what_is_printed() {
    let page = include_str!("../../docs/monitoring.md");
    let example = page.split("# mirroring --cmd=show\n").nth(1).expect("an example");
    let example = example.split("```").next().expect("its end");
    Topology::run(|net| {
        let root = Root::attach(net.host(), "ingress");
        let rules = r#"{"rules": [
            {"name": "no-dns", "action": "exclude", "protocol": ["udp"], "dst_port": ["53"]},
            {"name": "syslog", "protocol": ["udp"], "dst_port": ["514"]}]}"#;
        let rules = rules_file("rules", rules);
        let _daemon = start_chained(net, "ingress", &root, &[&rules, "--max-rate=500mbit"]);
        let streams = [53, 514].map(|port| Stream::start(net.client(), net.host(), port));
        let printed = show(net, &[]);
        for stream in streams {
            stream.stop();
        }
        assert_eq!(without_numbers(&printed), without_numbers(example), "{printed}");
    });
}

/// The text without its numbers and the spaces in front of them.
fn without_numbers(text: &str) -> String {
    let words = text.lines().map(|line| {
        let words = line.split_whitespace().map(|word| {
            let number = word.trim_matches(['(', ')', ',']).parse::<f64>();
            number.map_or_else(|_| word.to_owned(), |_| "0".to_owned())
        });
        words.collect::<Vec<_>>().join(" ")
    });
    words.collect::<Vec<_>>().join("\n")
}
