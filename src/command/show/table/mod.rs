//! The report as a table for people to read (pure).

use std::fmt::Display;
use std::net::SocketAddr;

use super::report::{By, Entry, HopState, Instance, LaunchMode, Neighbour, Nic, State, Tunnel};
use crate::filter::render;
use crate::model::{InstanceId, Oversize};

mod rules;

/// A block of lines for each instance, with empty lines between them.
pub fn text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "nothing is mirrored here\n".to_owned();
    }
    entries.iter().map(of_entry).collect::<Vec<_>>().join("\n")
}

fn of_entry(entry: &Entry) -> String {
    match &entry.found {
        Ok(instance) => of_instance(&entry.id, instance),
        Err(error) => format!("{}: cannot be shown: {error}\n", entry.id),
    }
}

fn of_instance(id: &InstanceId, instance: &Instance) -> String {
    let name = match instance.interface.as_deref() {
        Some(now) if now == id.interface.as_str() => String::new(),
        Some(now) => format!(", called \"{now}\" now"),
        None => ", an interface that is gone".to_owned(),
    };
    let mut text = format!("{id}{name}: {}\n", state(instance));
    let mut line = |label: &str, what: &str| text += &format!("  {label:8}  {what}\n");
    line("program", &program(instance));
    line("previous", &neighbours(&instance.previous));
    line("next", &neighbours(&instance.next));
    if let Some(tunnel) = &instance.tunnel {
        line("tunnel", &device(tunnel));
        line("path", &path(tunnel));
        line("copies", &copies(tunnel));
        line("dropped", &dropped(tunnel));
    }
    for row in render::aligned(&rules::rows(instance)).lines() {
        text += &format!("  {row}\n");
    }
    text
}

fn state(instance: &Instance) -> String {
    let pid = instance.process.map(|process| process.pid);
    match (instance.state, pid) {
        (State::Running, Some(pid)) => format!("running, process {pid}"),
        (State::Running, None) => "running, without a process".to_owned(),
        (State::Unattended, _) => {
            let process = pid.map_or_else(String::new, |pid| format!(" {pid}"));
            format!("mirrors on without its process{process}; the next start takes over")
        }
        (State::Stopped, _) if instance.interface.is_none() => {
            "stopped: no packets come".to_owned()
        }
        (State::Stopped, _) => "stopped: no rules are in force".to_owned(),
    }
}

fn program(instance: &Instance) -> String {
    let mode = match instance.launch_mode {
        LaunchMode::L3afd => "loaded by l3afd",
        LaunchMode::Chain => "in a chain",
        LaunchMode::Tcx => "on the interface (TCX)",
        LaunchMode::Clsact => "on the interface (clsact)",
    };
    let program = match &instance.program {
        Some(program) => format!("{} {}", program.id, program.name),
        None => "none".to_owned(),
    };
    let attached = if instance.attached { "" } else { ", but no packets come to it" };
    format!("{program}, {mode}{attached}")
}

fn neighbours(neighbours: &[Neighbour]) -> String {
    let one = |neighbour: &Neighbour| {
        let id = neighbour.id.map_or_else(String::new, |id| format!("{id} "));
        let by = match neighbour.by {
            By::TailCall => "tail call",
            By::Tcx => "TCX",
            By::Clsact => "clsact",
        };
        format!("{id}{} ({by})", neighbour.name)
    };
    or_none(neighbours.iter().map(one))
}

fn device(tunnel: &Tunnel) -> String {
    let (name, kind) = match &tunnel.device {
        Some(device) => (device.name.as_str(), device.kind.as_deref()),
        None => ("its device", None),
    };
    let kind = match (tunnel.built_in, kind) {
        (true, _) => "built-in GUE".to_owned(),
        (false, Some(kind)) => format!("existing {kind}"),
        (false, None) => "existing".to_owned(),
    };
    let from = tunnel.local_port.map(|port| format!("from port {port}"));
    let to = tunnel.collector.map(|address| match tunnel.remote_port {
        Some(port) => format!("to {}", SocketAddr::new(address, port)),
        None => format!("to {address}"),
    });
    let ends: Vec<_> = from.into_iter().chain(to).collect();
    let comma = if ends.is_empty() { "" } else { ", " };
    format!("{name} ({kind}) is {}{comma}{}", tunnel.state(), ends.join(" "))
}

fn path(tunnel: &Tunnel) -> String {
    let nic = tunnel.nic.as_ref().map(|Nic { name, mtu, up }| {
        format!("by {name} (MTU {mtu}{})", if *up { "" } else { ", down" })
    });
    let hop = tunnel.next_hop.map(|hop| {
        let state = match hop.state {
            HopState::Reachable => "reachable",
            HopState::Resolving => "no answer yet",
            HopState::Unreachable => "does not answer",
            HopState::Unknown => "not asked recently",
        };
        format!("next hop {} ({state})", hop.address)
    });
    let parts: Vec<_> = nic.into_iter().chain(hop).collect();
    if parts.is_empty() { "not known".to_owned() } else { parts.join(", ") }
}

fn copies(tunnel: &Tunnel) -> String {
    let longest = tunnel.max_len;
    let size = match (tunnel.oversize, tunnel.max_unfragmented_len) {
        (Oversize::Fragment, Some(whole)) => {
            format!("whole up to {longest} bytes, from {} on in fragments", whole + 1)
        }
        (Oversize::Fragment, None) => format!("whole up to {longest} bytes"),
        (Oversize::Truncate, _) => format!("whole up to {longest} bytes, longer ones truncated"),
        (Oversize::Drop, _) => format!("whole up to {longest} bytes, longer ones left out"),
    };
    let cap = tunnel.max_rate.map_or_else(String::new, |rate| format!("; at most {rate}"));
    size + &cap
}

fn dropped(tunnel: &Tunnel) -> String {
    let Some(counters) = &tunnel.counters else {
        return "not known; the device's own statistics may say".to_owned();
    };
    let dropped = counters.dropped().into_iter().filter(|(_, count)| *count > 0);
    or_none(dropped.map(|(reason, count)| format!("{count} {reason}")))
}

fn or_none(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::rates;
    use super::super::report::{HopState, Process};
    use super::super::sample::{entry, existing, instance, outcomes, unreadable};
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_is_said_in_a_line() {
        assert_eq!(text(&[]), "nothing is mirrored here\n");
    }

    #[test]
    fn an_instance_is_a_block_of_lines_and_a_table_of_its_rules() {
        let before = instance();
        let mut after = before.clone();
        after.read_at += Duration::from_secs(1);
        after.rules[0].outcomes = outcomes(1234, 1230, 4);
        let mut entries = [entry(after)];
        rates::fill_in(&[entry(before)], &mut entries);
        let expected = "\
eth0 ingress (latest): running, process 1234
  program   57 _ingress_redire, on the interface (TCX)
  previous  none
  next      62 test (TCX)
  tunnel    gue1 (built-in GUE) is up, from port 6080 to 192.0.2.50:6080
  path      by eth1 (MTU 1500), next hop 192.0.2.1 (reachable)
  copies    whole up to 65503 bytes, from 1469 on in fragments
  dropped   none
  #  name  action  packets       snaplen  matched  a second  sent  a second  left out
  1  web   mirror  dst_port 443  128         1234      1224  1230      1220  4 excluded (4.0 a second)
";
        assert_eq!(text(&entries), expected);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let mut instance = instance();
        instance.interface = Some("eth9".to_owned());
        instance.state = State::Unattended;
        instance.process = Some(Process { pid: 7, alive: false });
        instance.attached = false;
        instance.next = vec![];
        let mut tunnel = existing();
        tunnel.next_hop = None;
        tunnel.nic = Some(Nic { name: "eth1".to_owned(), mtu: 1400, up: false });
        instance.tunnel = Some(tunnel.clone());
        let block = "\
eth0 ingress (latest), called \"eth9\" now: mirrors on without its process 7; the next start takes over
  program   57 _ingress_redire, on the interface (TCX), but no packets come to it
  previous  none
  next      none
  tunnel    vx0 (existing vxlan) is down, to 192.0.2.50:4789
  path      by eth1 (MTU 1400, down)
  copies    whole up to 1450 bytes, longer ones left out
  dropped   not known; the device's own statistics may say
";
        let shown = text(&[entry(instance.clone())]);
        assert!(shown.starts_with(block), "{shown}");

        (tunnel.device, tunnel.collector, tunnel.nic) = (None, None, None);
        instance.tunnel = Some(tunnel);
        (instance.interface, instance.program) = (None, None);
        let shown = text(&[entry(instance)]);
        for part in [
            "eth0 ingress (latest), an interface that is gone: mirrors on",
            "  program   none, on the interface (TCX)",
            "  tunnel    its device (existing) is gone\n",
            "  path      not known\n",
        ] {
            assert!(shown.contains(part), "{part:?} in {shown}");
        }
    }

    #[test]
    fn a_stopped_instance_says_what_it_has_counted() {
        let mut stopped = instance();
        stopped.state = State::Stopped;
        (stopped.process, stopped.tunnel, stopped.rules) = (None, None, vec![]);
        stopped.retired = outcomes(5, 5, 0);
        let shown = text(&[entry(stopped)]);
        assert!(shown.starts_with("eth0 ingress (latest): stopped: no rules are in force\n"));
        assert!(shown.contains("\n  (all) ") && !shown.contains("tunnel"), "{shown}");
    }

    #[test]
    fn a_next_hop_that_does_not_answer_is_named() {
        for (state, words) in [
            (HopState::Resolving, "no answer yet"),
            (HopState::Unreachable, "does not answer"),
            (HopState::Unknown, "not asked recently"),
        ] {
            let mut instance = instance();
            let tunnel = instance.tunnel.as_mut().unwrap();
            tunnel.next_hop.as_mut().unwrap().state = state;
            let shown = text(&[entry(instance)]);
            assert!(shown.contains(&format!("next hop 192.0.2.1 ({words})\n")), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named_beside_the_others() {
        let shown = text(&[unreadable(), entry(instance())]);
        let expected = "\
eth0 ingress (old): cannot be shown: the map \"ingress_rule\" is another version's

eth0 ingress (latest): running";
        assert!(shown.starts_with(expected), "{shown}");
    }
}
