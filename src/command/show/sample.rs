//! Reports for the tests of the pure modules.

use std::time::Instant;

use super::report::*;
use crate::bpf::GueCounters;
use crate::filter::file;
use crate::model::{LocalPort, Oversize};

/// Packets that matched, of which some were sent and the others excluded.
pub fn outcomes<T: Default>(matched: T, sent: T, excluded: T) -> Outcomes<T> {
    Outcomes { matched, sent, excluded, ..Default::default() }
}

pub fn entry(instance: Instance) -> Entry {
    let id = crate::model::InstanceId {
        interface: "eth0".parse().unwrap(),
        direction: "ingress".parse().unwrap(),
        version: Default::default(),
    };
    Entry { id, found: Ok(instance) }
}

/// Of another version.
pub fn unreadable() -> Entry {
    let mut entry = entry(instance());
    entry.id.version = "old".parse().unwrap();
    entry.found = Err("the map \"ingress_rule\" is another version's".to_owned());
    entry
}

/// An instance alone on its interface, with a built-in tunnel.
pub fn instance() -> Instance {
    Instance {
        interface: Some("eth0".to_owned()),
        state: State::Running,
        process: Some(Process { pid: 1234, alive: true }),
        launch_mode: LaunchMode::Tcx,
        program: Some(Program { id: 57, name: "_ingress_redire".to_owned() }),
        attached: true,
        previous: vec![],
        next: vec![Neighbour { by: By::Tcx, id: Some(62), name: "test".to_owned() }],
        rules: rules(r#"{"name": "web", "dst_port": [443], "snaplen": 128}"#),
        retired: Outcomes::default(),
        rates: None,
        tunnel: Some(built_in()),
        read_at: Instant::now(),
        installation: 1,
    }
}

/// As a file has them, between the brackets.
pub fn rules(text: &str) -> Vec<RuleReport> {
    let rules = file::rules(format!(r#"{{"rules": [{text}]}}"#).as_bytes()).unwrap().into_iter();
    rules.map(|rule| RuleReport { rule, outcomes: outcomes(10, 10, 0), rates: None }).collect()
}

pub fn built_in() -> Tunnel {
    Tunnel {
        device: Some(Device { name: "gue1".to_owned(), kind: Some("veth".to_owned()), up: true }),
        built_in: true,
        local_port: Some(LocalPort::Fixed(6080)),
        collector: Some([192, 0, 2, 50].into()),
        remote_port: Some(6080),
        next_hop: Some(NextHop { address: [192, 0, 2, 1].into(), state: HopState::Reachable }),
        nic: Some(Nic { name: "eth1".to_owned(), mtu: 1500, up: true }),
        max_unfragmented_len: Some(1468),
        max_len: 65503,
        oversize: Oversize::Fragment,
        max_rate: None,
        counters: Some(GueCounters { copies: 10, sent_whole: 10, ..Default::default() }),
    }
}

pub fn existing() -> Tunnel {
    Tunnel {
        device: Some(Device { name: "vx0".to_owned(), kind: Some("vxlan".to_owned()), up: false }),
        built_in: false,
        local_port: None,
        remote_port: Some(4789),
        next_hop: None,
        max_unfragmented_len: None,
        max_len: 1450,
        oversize: Oversize::Drop,
        counters: None,
        ..built_in()
    }
}
