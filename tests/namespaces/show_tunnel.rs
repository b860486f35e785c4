//! `--cmd=show`: the tunnel, as Prometheus gets it, too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use traffic_mirroring::model::Direction as Way;

use testkit::namespaces::*;

fn tunnel(net: &Topology) -> Value {
    shown_one(net)["tunnel"].take()
}

#[test]
fn needs_root_a_built_in_tunnel_is_shown_with_its_next_hop() {
    Topology::run(|net| {
        let flags = ["--tunnel-local-port=auto", "--max-rate=1gbit", "--protocol=icmp"];
        let _daemon = start(net, "ingress", &flags);
        ping(net.client(), net.host(), 3, 56);
        ping(net.client(), net.host(), 2, 1472);
        let tunnel = tunnel(net);
        let counters = &tunnel["counters"];
        let counts = ["copies", "sent_whole", "via_veth", "sent_fragmented", "fragments"]
            .map(|it| &counters[it]);
        assert_eq!(counts, [5, 3, 2, 2, 4]);
        let dropped = counters["dropped"].as_object().expect("reasons");
        assert!(dropped.values().all(|count| count == 0), "{dropped:?}");
        let mut expected = json!({
            "device": "gue1",
            "state": "up",
            "built_in": true,
            "kind": "gue",
            "collector": "10.2.0.2",
            "remote_port": 6080,
            "local_port": "auto",
            "next_hop": { "address": "10.2.0.2", "state": "reachable", "reachable": true },
            "nic": { "name": "eth1", "mtu": 1500, "up": true },
            "max_unfragmented_len": 1468,
            "max_len": 65503,
            "oversize": "fragment",
            "max_rate": 1_000_000_000
        });
        expected["counters"] = counters.clone();
        assert_eq!(tunnel, expected);
    });
}

#[test]
fn needs_root_what_becomes_of_long_packets_is_told() {
    Topology::run(|net| {
        for (oversize, max_len) in [("fragment", 65503), ("truncate", 1468), ("drop", 1468)] {
            let daemon = start(net, "ingress", &[&format!("--oversize={oversize}")]);
            let tunnel = tunnel(net);
            assert_eq!(
                (&tunnel["oversize"], &tunnel["max_len"]),
                (&json!(oversize), &json!(max_len))
            );
            assert!(daemon.terminate().success());
        }
    });
}

#[test]
fn needs_root_a_tunnel_that_is_down_or_gone_is_shown_as_such() {
    Topology::run(|net| {
        // nobody looks after the tunnel, or asks for the next hop again
        start(net, "ingress", &["--gtw-address=10.2.0.99"]).kill();
        eventually("a next hop that does not answer", || {
            let hop = tunnel(net)["next_hop"].take();
            assert_eq!(hop["address"], "10.2.0.99");
            hop["state"] == "unreachable" && hop["reachable"] == false
        });
        net.host().sh("ip link set gue1 down; ip link set eth1 down");
        let down = tunnel(net);
        assert_eq!((&down["state"], &down["nic"]["up"]), (&json!("down"), &json!(false)));
        net.host().sh("ip link delete gue1");
        let gone = tunnel(net);
        assert_eq!((&gone["state"], &gone["device"]), (&json!("gone"), &Value::Null));
        assert_eq!((&gone["built_in"], &gone["collector"]), (&json!(true), &json!("10.2.0.2")));
        assert!(show(net, &[]).contains("its device (built-in GUE) is gone, to 10.2.0.2:6080\n"));
    });
}

#[test]
fn needs_root_an_existing_device_is_told_as_what_it_is() {
    Topology::run(|net| {
        vxlan(net);
        let _daemon = start(net, "ingress", &["--tunnel-interface-name=vx0"]);
        ping(net.client(), net.host(), 3, 56);
        let shown = shown_one(net);
        assert_eq!(shown["outcomes"]["sent"], 3);
        let expected = json!({
            "device": "vx0",
            "state": "up",
            "built_in": false,
            "kind": "vxlan",
            "collector": "10.2.0.2",
            "remote_port": 4789,
            "local_port": null,
            "next_hop": { "address": "10.2.0.2", "state": "reachable", "reachable": true },
            "nic": { "name": "eth1", "mtu": 1500, "up": true },
            "max_unfragmented_len": null,
            "max_len": 1450,
            "oversize": "drop",
            "max_rate": null,
            "counters": null
        });
        assert_eq!(shown["tunnel"], expected);
        let table = show(net, &[]);
        assert!(table.contains("\n  tunnel    vx0 (existing vxlan) is up, to 10.2.0.2:4789\n"));
    });
}

#[test]
fn needs_root_a_collector_over_ipv6_is_told() {
    Topology::run(|net| {
        with_ipv6_to_collector(net);
        let _daemon = start(net, "ingress", &TO_COLLECTOR6);
        ping(net.client(), net.host(), 3, 56);
        let tunnel = tunnel(net);
        assert_eq!(tunnel["collector"], COLLECTOR6.to_string());
        let hop = json!({ "address": COLLECTOR6, "state": "reachable", "reachable": true });
        assert_eq!(tunnel["next_hop"], hop);
        assert_eq!(
            (&tunnel["max_unfragmented_len"], &tunnel["counters"]["sent_whole_via_veth"]),
            (&json!(1448), &json!(3))
        );
        assert!(show(net, &[]).contains(" to [fd02::2]:6080\n"));
    });
}

/// What a text in Prometheus' format says, of which each family stands together, behind its HELP and
/// TYPE.
fn samples(text: &str) -> BTreeMap<&str, u64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("help");
            assert!(families.insert(name) && !help.is_empty(), "{line}");
            family = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            let suits = if name.ends_with("_total") { kind == "counter" } else { kind == "gauge" };
            assert!(name == family && suits, "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let (name, labels) = series.split_once('{').expect("labels");
            assert!(name == family && labels.ends_with("\"}"), "{line}");
            let value = value.parse().expect("a number");
            assert_eq!(samples.insert(series, value), None, "{series} is there twice");
        }
    }
    samples
}

#[test]
fn needs_root_prometheus_gets_what_the_maps_have() {
    Topology::run(|net| {
        let rules = r#"{"rules": [
            {"name": "a \"b\" \\", "protocol": ["icmp"]}, {"name": "c", "action": "exclude"}]}"#;
        let _ingress = start(net, "ingress", &[&rules_file("rules", rules)]);
        let _egress = start(net, "egress", &["--protocol=icmp", "--max-rate=8mbit"]);
        ping(net.client(), net.host(), 3, 56);
        udp_exchange(net.client(), net.host(), 53, 4, 100);
        let text = show(net, &["--format=prometheus"]);
        let samples = samples(&text);
        let of = |name: &str, labels: &str| {
            let series = format!("{name}{{{labels}}}");
            *samples.get(series.as_str()).unwrap_or_else(|| panic!("no {series} in {text}"))
        };
        for way in Way::ALL {
            let labels = format!("interface=\"eth0\",direction=\"{way}\",version=\"latest\"");
            for name in ["readable", "running", "live", "tunnel_up"] {
                assert_eq!(of(&format!("mirroring_{name}"), &labels), 1);
            }
            let counted = outcomes(way);
            let outcome = |outcome: &str| {
                of("mirroring_packets_total", &format!("{labels},outcome=\"{outcome}\""))
            };
            assert_eq!((outcome("sent"), outcome("excluded")), (counted.sent, counted.excluded));
        }
        let ingress = r#"interface="eth0",direction="ingress",version="latest""#;
        let of_rule = |more: &str| of("mirroring_rule_packets_total", &format!("{ingress},{more}"));
        assert_eq!(of_rule(r#"rule="a \"b\" \\",outcome="sent""#), 3);
        assert_eq!(of_rule(r#"rule="c",outcome="excluded""#), 4);
        let egress = r#"interface="eth0",direction="egress",version="latest""#;
        assert_eq!(of("mirroring_max_rate_bytes_per_second", egress), 1_000_000);
        assert_eq!(of("mirroring_tunnel_copies_total", r#"device="gue1""#), 6);
        assert_eq!(of("mirroring_tunnel_next_hop_reachable", r#"device="gue1""#), 1);
        assert_eq!(of("mirroring_tunnel_nic_mtu_bytes", r#"device="gue1",nic="eth1""#), 1500);
    });
}
