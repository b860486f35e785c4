//! The report as JSON, which `show.schema.json` describes (pure).

use serde_json::{Map, Value, json};

use super::report::{Entry, HopState, Instance, Neighbour, Outcomes, RuleReport, Tunnel};
use crate::bpf::GueCounters;
use crate::filter::{self, Action, SampleBy, Snaplen, render};
use crate::model::{LocalPort, Oversize};

/// A list with an object for each instance.
pub fn text(entries: &[Entry]) -> String {
    let list = Value::from_iter(entries.iter().map(of_entry));
    format!("{list:#}\n")
}

fn of_entry(entry: &Entry) -> Value {
    let mut object = match &entry.found {
        Ok(instance) => of_instance(instance),
        Err(error) => json!({ "error": error }),
    };
    object["interface"] = json!(entry.id.interface.as_str());
    object["direction"] = json!(entry.id.direction.as_str());
    object["version"] = json!(entry.id.version.as_str());
    object
}

fn of_instance(it: &Instance) -> Value {
    json!({
        "interface_now": it.interface,
        "state": it.state.as_str(),
        "process": it.process.map(|process| json!({
            "pid": process.pid,
            "alive": process.alive,
        })),
        "launch_mode": it.launch_mode.as_str(),
        "program": it.program.as_ref().map(|program| json!({
            "id": program.id,
            "name": program.name,
        })),
        "attached": it.attached,
        "previous": Value::from_iter(it.previous.iter().map(neighbour)),
        "next": Value::from_iter(it.next.iter().map(neighbour)),
        "rules": Value::from_iter(it.rules.iter().enumerate().map(|(at, it)| rule(at + 1, it))),
        "former_rules": outcomes(&it.retired),
        "outcomes": outcomes(&it.total()),
        "rates": it.rates.as_ref().map(outcomes),
        "tunnel": it.tunnel.as_ref().map(tunnel),
    })
}

fn neighbour(it: &Neighbour) -> Value {
    json!({ "by": it.by.as_str(), "id": it.id, "name": it.name })
}

fn rule(number: usize, it: &RuleReport) -> Value {
    json!({
        "number": number,
        "rule": as_in_a_file(&it.rule),
        "outcomes": outcomes(&it.outcomes),
        "rates": it.rates.as_ref().map(outcomes),
    })
}

/// A rule in the form of `rules.schema.json`.
fn as_in_a_file(rule: &filter::Rule) -> Value {
    let fields = render::fields(rule).into_iter();
    let mut object: Map<_, _> =
        fields.map(|(key, entries)| (key.to_owned(), json!(entries))).collect();
    object.insert("name".to_owned(), json!(rule.name));
    match rule.action {
        Action::Exclude => {
            object.insert("action".to_owned(), json!("exclude"));
        }
        Action::Mirror { sample, snaplen } => {
            object.insert("action".to_owned(), json!("mirror"));
            if let Some(sample) = sample {
                let by = match sample.by {
                    SampleBy::Packet => "packet",
                    SampleBy::Flow => "flow",
                };
                let sample = json!({ "one_in": sample.one_in.get(), "by": by });
                object.insert("sample".to_owned(), sample);
            }
            if let Some(snaplen) = snaplen {
                let snaplen = match snaplen {
                    Snaplen::Bytes(bytes) => json!(bytes),
                    Snaplen::Headers => json!("headers"),
                };
                object.insert("snaplen".to_owned(), snaplen);
            }
        }
    }
    Value::Object(object)
}

fn outcomes<T: Copy + serde::Serialize>(it: &Outcomes<T>) -> Value {
    let mut object: Map<_, _> =
        it.left_out().into_iter().map(|(reason, it)| (reason.to_owned(), json!(it))).collect();
    object.insert("matched".to_owned(), json!(it.matched));
    object.insert("sent".to_owned(), json!(it.sent));
    Value::Object(object)
}

fn tunnel(it: &Tunnel) -> Value {
    let device = it.device.as_ref();
    json!({
        "device": device.map(|device| &device.name),
        "state": it.state(),
        "built_in": it.built_in,
        "kind": if it.built_in { Some("gue") } else { device.and_then(|it| it.kind.as_deref()) },
        "collector": it.collector,
        "remote_port": it.remote_port,
        "local_port": it.local_port.map(|port| match port {
            LocalPort::Fixed(port) => json!(port),
            LocalPort::OfFlow => json!("auto"),
        }),
        "next_hop": it.next_hop.map(|hop| json!({
            "address": hop.address,
            "state": hop.state.as_str(),
            "reachable": hop.state == HopState::Reachable,
        })),
        "nic": it.nic.as_ref().map(|nic| json!({
            "name": nic.name,
            "mtu": nic.mtu,
            "up": nic.up,
        })),
        "max_unfragmented_len": it.max_unfragmented_len,
        "max_len": it.max_len,
        "oversize": match it.oversize {
            Oversize::Fragment => "fragment",
            Oversize::Truncate => "truncate",
            Oversize::Drop => "drop",
        },
        "max_rate": it.max_rate.map(|rate| rate.bits()),
        "counters": it.counters.as_ref().map(counters),
    })
}

fn counters(it: &GueCounters) -> Value {
    json!({
        "copies": it.copies,
        "sent_whole": it.sent_whole,
        "via_veth": it.via_veth,
        "veth_packets": it.veth_packets,
        "veth_received": it.veth_received,
        "sent_whole_via_veth": it.sent_whole_via_veth,
        "sent_fragmented": it.sent_fragmented,
        "fragments": it.fragments,
        "dropped": Value::from_iter(it.dropped()),
        "not_a_copy": it.not_a_copy,
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::{HopState, State};
    use super::super::sample::{entry, existing, instance, outcomes, rules, unreadable};
    use super::*;
    use crate::model::rate::Rate;

    /// What is printed, held to the schema.
    fn shown(entries: &[Entry]) -> Value {
        let list = serde_json::from_str(&text(entries)).unwrap();
        if let Err(error) = testkit::schemas::validator("show.schema.json").validate(&list) {
            panic!("{error} in {list:#}");
        }
        list
    }

    fn sent(count: u64) -> Value {
        json!({
            "matched": count, "sent": count, "excluded": 0, "loop_guard": 0, "not_sampled": 0,
            "unsupported": 0, "oversize": 0, "rate_limited": 0, "failed": 0
        })
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(text(&[]), "[]\n");
        shown(&[]);
    }

    #[test]
    fn an_instance_is_an_object() {
        let mut counters = json!({
            "copies": 10, "sent_whole": 10, "via_veth": 0, "veth_packets": 0, "veth_received": 0, "sent_whole_via_veth": 0,
            "sent_fragmented": 0, "fragments": 0, "not_a_copy": 0, "dropped": {}
        });
        for reason in [
            "not_ip",
            "unreadable",
            "encap_failed",
            "nested_tunnel_too_long",
            "next_hop_unresolved",
            "backlog_full",
            "truncate_failed",
            "checksum_failed",
            "fragment_send_failed",
        ] {
            counters["dropped"][reason] = json!(0);
        }
        let expected = json!([{
            "interface": "eth0",
            "direction": "ingress",
            "version": "latest",
            "interface_now": "eth0",
            "state": "running",
            "process": { "pid": 1234, "alive": true },
            "launch_mode": "tcx",
            "program": { "id": 57, "name": "_ingress_redire" },
            "attached": true,
            "previous": [],
            "next": [{ "by": "tcx", "id": 62, "name": "test" }],
            "rules": [{
                "number": 1,
                "rule": {
                    "name": "web", "action": "mirror", "dst_port": ["443"], "snaplen": 128
                },
                "outcomes": sent(10),
                "rates": null
            }],
            "former_rules": sent(0),
            "outcomes": sent(10),
            "rates": null,
            "tunnel": {
                "device": "gue1",
                "state": "up",
                "built_in": true,
                "kind": "gue",
                "collector": "192.0.2.50",
                "remote_port": 6080,
                "local_port": 6080,
                "next_hop": { "address": "192.0.2.1", "state": "reachable", "reachable": true },
                "nic": { "name": "eth1", "mtu": 1500, "up": true },
                "max_unfragmented_len": 1468,
                "max_len": 65503,
                "oversize": "fragment",
                "max_rate": null,
                "counters": counters
            }
        }]);
        assert_eq!(shown(&[entry(instance())]), expected);
    }

    #[test]
    fn rules_are_as_in_a_file_that_has_them() {
        let text = r#"
            {"name": "a", "action": "exclude", "src": ["10.0.0.0/8", "not 10.1.0.0/16", "::/0"],
             "src_port": ["80-90", "not 85"], "protocol": ["tcp", "47"]},
            {"name": "b", "action": "mirror", "tcp_flags": ["fin+ack"], "vlan": ["none", "7"],
             "icmp_type": ["echo-request", "9"], "dscp": ["ef"], "length": ["0-128"],
             "sample": {"one_in": 100, "by": "flow"}, "snaplen": "headers"}"#;
        let mut instance = instance();
        instance.rules = rules(text);
        let list = shown(&[entry(instance)]);
        let rules = list[0]["rules"].as_array().unwrap().iter();
        let printed = Value::from_iter(rules.map(|rule| rule["rule"].clone()));
        let again = filter::file::rules(json!({ "rules": printed }).to_string().as_bytes());
        let typed = filter::file::rules(format!(r#"{{"rules": [{text}]}}"#).as_bytes());
        assert_eq!(again.unwrap(), typed.unwrap());
    }

    #[test]
    fn whatever_an_instance_is_like_the_schema_has_it() {
        let mut bare = instance();
        (bare.interface, bare.process, bare.program, bare.tunnel) = (None, None, None, None);
        (bare.state, bare.rules) = (State::Stopped, vec![]);
        let mut moving = instance();
        moving.rates = Some(outcomes(0.0, 1e9, 0.5));
        moving.rules[0].rates = moving.rates;
        let mut tunnel = existing();
        tunnel.local_port = Some(LocalPort::OfFlow);
        tunnel.max_rate = Some("500mbit".parse::<Rate>().unwrap());
        let mut gone = existing();
        (gone.device, gone.nic, gone.next_hop, gone.collector) = (None, None, None, None);
        let of = |tunnel| {
            let mut instance = instance();
            instance.tunnel = Some(tunnel);
            entry(instance)
        };
        let list = shown(&[unreadable(), entry(bare), entry(moving), of(tunnel), of(gone)]);
        assert_eq!(list[0]["error"], r#"the map "ingress_rule" is another version's"#);
        assert_eq!(list[1]["tunnel"], Value::Null);
        assert_eq!(list[2]["rules"][0]["rates"]["excluded"], 0.5);
        let capped = &list[3]["tunnel"];
        assert_eq!((&capped["kind"], &capped["state"]), (&json!("vxlan"), &json!("down")));
        assert_eq!(
            (&capped["local_port"], &capped["max_rate"]),
            (&json!("auto"), &json!(500_000_000))
        );
        assert_eq!(
            (&list[4]["tunnel"]["state"], &list[4]["tunnel"]["kind"]),
            (&json!("gone"), &Value::Null)
        );
    }

    #[test]
    fn every_state_of_a_next_hop_is_in_the_schema() {
        for state in
            [HopState::Reachable, HopState::Resolving, HopState::Unreachable, HopState::Unknown]
        {
            let mut instance = instance();
            instance.tunnel.as_mut().unwrap().next_hop.as_mut().unwrap().state = state;
            let hop = shown(&[entry(instance)])[0]["tunnel"]["next_hop"].clone();
            assert_eq!(hop["reachable"], state == HopState::Reachable);
        }
    }
}
