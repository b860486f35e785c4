//! The report in Prometheus' text format (pure). It has counters and no rates: Prometheus computes those.

use std::collections::HashSet;
use std::fmt::{Display, Write};

use super::report::{Entry, HopState, Instance, Outcomes, State, Tunnel};
use crate::model::InstanceId;

/// A metric with all its samples, which the format requires to be together.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: String,
}

impl Family {
    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: "gauge", help, samples: String::new() }
    }

    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: "counter", help, samples: String::new() }
    }

    fn add(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        // writing to a String cannot fail
        let _ = writeln!(self.samples, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, kind, help, samples } = self;
        if samples.is_empty() {
            return Ok(());
        }
        write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}")
    }
}

/// Escapes the value of a label (Prometheus documentation, exposition formats).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub fn text(entries: &[Entry]) -> String {
    let text = of_instances(entries) + &of_devices(entries);
    if text.is_empty() { "# nothing is mirrored here\n".to_owned() } else { text }
}

fn of_instances(entries: &[Entry]) -> String {
    let mut readable = Family::gauge(
        "mirroring_readable",
        "Whether this version of mirroring can read the instance; if not, it has no other metrics.",
    );
    let mut running =
        Family::gauge("mirroring_running", "Whether everything works, as --cmd=status tells.");
    let mut live = Family::gauge(
        "mirroring_live",
        "Whether rules are in force and the program receives packets.",
    );
    let mut info = Family::gauge("mirroring_info", "What the instance is; always 1.");
    let mut packets = Family::counter(
        "mirroring_packets_total",
        "Packets that matched, by what became of their copies.",
    );
    let mut of_rules = Family::counter(
        "mirroring_rule_packets_total",
        "Packets that a rule in force was the first to match, by what became of their copies; 0 after an update of the rules.",
    );
    let mut cap = Family::gauge(
        "mirroring_max_rate_bytes_per_second",
        "Cap on the rate of copies (--max-rate); absent if there is none.",
    );
    let mut tunnel_up =
        Family::gauge("mirroring_tunnel_up", "Whether the tunnel device exists and is up.");
    let mut max_len = Family::gauge(
        "mirroring_tunnel_max_packet_bytes",
        "Length of the longest packet whose copy can be sent in full length, from its IP header on.",
    );
    for Entry { id, found } in entries {
        let labels = &labels(id)[..];
        readable.add(labels, u8::from(found.is_ok()));
        let Ok(instance) = found else { continue };
        running.add(labels, u8::from(instance.state == State::Running));
        live.add(labels, u8::from(instance.state != State::Stopped && instance.attached));
        let device = instance.tunnel.as_ref().and_then(|tunnel| tunnel.device.as_ref());
        let device = device.map_or("", |device| &device.name);
        let mode = instance.launch_mode.as_str();
        info.add(&[labels, &[("launch_mode", mode), ("tunnel", device)]].concat(), 1);
        for (outcome, count) in by_outcome(&instance.total()) {
            packets.add(&[labels, &[("outcome", outcome)]].concat(), count);
        }
        for rule in &instance.rules {
            for (outcome, count) in by_outcome(&rule.outcomes) {
                let more = [("rule", rule.rule.name.as_str()), ("outcome", outcome)];
                of_rules.add(&[labels, &more].concat(), count);
            }
        }
        if let Some(tunnel) = &instance.tunnel {
            tunnel_up.add(labels, u8::from(tunnel.state() == "up"));
            max_len.add(labels, tunnel.max_len);
            if let Some(rate) = tunnel.max_rate {
                cap.add(labels, rate.bits() / 8);
            }
        }
    }
    let families = [readable, running, live, info, packets, of_rules, cap, tunnel_up, max_len];
    families.iter().map(Family::to_string).collect()
}

fn labels(id: &InstanceId) -> [(&'static str, &str); 3] {
    [
        ("interface", id.interface.as_str()),
        ("direction", id.direction.as_str()),
        ("version", id.version.as_str()),
    ]
}

/// `sent` and the reasons for which packets were left out. Their sum is `matched`.
fn by_outcome(it: &Outcomes<u64>) -> impl Iterator<Item = (&'static str, u64)> {
    [("sent", it.sent)].into_iter().chain(it.left_out())
}

/// Instances may share a device, so each device is reported once.
fn of_devices(entries: &[Entry]) -> String {
    let mut reachable = Family::gauge(
        "mirroring_tunnel_next_hop_reachable",
        "Whether the next hop's link-layer address is known.",
    );
    let mut mtu = Family::gauge(
        "mirroring_tunnel_nic_mtu_bytes",
        "MTU of the interface that copies leave by.",
    );
    let mut copies = Family::counter(
        "mirroring_tunnel_copies_total",
        "Copies that instances gave to the built-in tunnel.",
    );
    let mut fragments = Family::counter(
        "mirroring_tunnel_fragments_total",
        "Outer fragments that the built-in tunnel sent.",
    );
    let mut dropped = Family::counter(
        "mirroring_tunnel_dropped_packets_total",
        "Copies that the built-in tunnel could not send, by reason.",
    );
    let mut told = HashSet::new();
    for tunnel in entries.iter().filter_map(tunnel_of) {
        let Some(device) = tunnel.device.as_ref().filter(|it| told.insert(it.name.as_str())) else {
            continue;
        };
        let device = ("device", device.name.as_str());
        if let Some(hop) = tunnel.next_hop {
            reachable.add(&[device], u8::from(hop.state == HopState::Reachable));
        }
        if let Some(nic) = &tunnel.nic {
            mtu.add(&[device, ("nic", &nic.name)], nic.mtu);
        }
        if let Some(counters) = &tunnel.counters {
            copies.add(&[device], counters.copies);
            fragments.add(&[device], counters.fragments);
            for (reason, count) in counters.dropped() {
                dropped.add(&[device, ("reason", reason)], count);
            }
        }
    }
    [reachable, mtu, copies, fragments, dropped].iter().map(Family::to_string).collect()
}

fn tunnel_of(entry: &Entry) -> Option<&Tunnel> {
    let instance: &Instance = entry.found.as_ref().ok()?;
    instance.tunnel.as_ref()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{entry, existing, instance, outcomes, rules, unreadable};
    use super::*;

    #[test]
    fn nothing_is_a_comment() {
        assert_eq!(text(&[]), "# nothing is mirrored here\n");
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd"), r#"a\\b\"c\nd"#);
        let mut instance = instance();
        instance.rules = rules(r#"{"name": "say \"hi\" \\"}"#);
        let expected = r#"rule="say \"hi\" \\",outcome="sent"} 10"#;
        let text = text(&[entry(instance)]);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn each_family_has_its_samples_behind_its_help_and_type() {
        let mut other = entry(instance());
        other.id.direction = "egress".parse().unwrap();
        let text = text(&[entry(instance()), other, unreadable()]);
        let expected = r#"
# HELP mirroring_readable Whether this version of mirroring can read the instance; if not, it has no other metrics.
# TYPE mirroring_readable gauge
mirroring_readable{interface="eth0",direction="ingress",version="latest"} 1
mirroring_readable{interface="eth0",direction="egress",version="latest"} 1
mirroring_readable{interface="eth0",direction="ingress",version="old"} 0
# HELP mirroring_running Whether everything works, as --cmd=status tells.
# TYPE mirroring_running gauge
mirroring_running{interface="eth0",direction="ingress",version="latest"} 1
mirroring_running{interface="eth0",direction="egress",version="latest"} 1
"#;
        assert!(format!("\n{text}").starts_with(expected), "{text}");
        let mut families = HashSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} is there twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        assert_eq!(families.len(), 13);
    }

    #[test]
    fn a_device_that_instances_share_is_counted_once() {
        let mut other = entry(instance());
        other.id.direction = "egress".parse().unwrap();
        let text = text(&[entry(instance()), other]);
        let copies: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("mirroring_tunnel_copies_total{"))
            .collect();
        assert_eq!(copies, [r#"mirroring_tunnel_copies_total{device="gue1"} 10"#]);
        assert!(
            text.contains("mirroring_tunnel_nic_mtu_bytes{device=\"gue1\",nic=\"eth1\"} 1500\n")
        );
    }

    #[test]
    fn an_update_takes_nothing_from_the_sum() {
        let mut instance = instance();
        instance.retired = outcomes(5, 3, 2);
        let text = text(&[entry(instance)]);
        let labels = r#"interface="eth0",direction="ingress",version="latest""#;
        for line in [
            format!("mirroring_packets_total{{{labels},outcome=\"sent\"}} 13\n"),
            format!("mirroring_packets_total{{{labels},outcome=\"excluded\"}} 2\n"),
            format!("mirroring_rule_packets_total{{{labels},rule=\"web\",outcome=\"sent\"}} 10\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn a_tunnel_that_is_down_or_gone_is_not_up() {
        let mut down = instance();
        down.tunnel = Some(existing());
        let mut gone = instance();
        gone.tunnel.as_mut().unwrap().device = None;
        for instance in [down, gone] {
            let text = text(&[entry(instance)]);
            let line = text.lines().find(|line| line.starts_with("mirroring_tunnel_up{")).unwrap();
            assert!(line.ends_with(" 0"), "{line}");
            assert!(!text.contains("mirroring_tunnel_copies_total"), "{text}");
        }
    }
}
