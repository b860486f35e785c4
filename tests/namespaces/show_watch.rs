//! `--cmd=show --watch`: a table that is shown again and again, until a signal ends it.

use std::fs::File;
use std::io::Read;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use testkit::namespaces::*;

const WATCH: [&str; 2] = ["--cmd=show", "--watch"];

#[test]
fn needs_root_without_a_terminal_tables_follow_until_a_signal() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--protocol=icmp"]);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut watch = Daemon::mirroring(net.host(), WATCH);
            eventually("three tables", || watch.output().matches("  1  flags").count() >= 3);
            watch.signal(signal);
            assert_eq!(watch.wait().code(), Some(0), "{signal}");
            let output = watch.output();
            let tables: Vec<_> = output.split("\n\n").collect();
            assert!(tables.iter().all(|it| it.starts_with("eth0 ingress (latest): running")));
            // the first one has nothing to compare with
            let rate = |table: &str| table.split_whitespace().rev().nth(1).map(str::to_owned);
            assert_eq!(rate(tables[0]).as_deref(), Some("-"));
            assert_eq!(rate(tables[1]).as_deref(), Some("0"));
        }
    });
}

#[test]
fn needs_root_each_table_counts_since_the_one_before() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &["--protocol=udp"]);
        let mut watch = Daemon::mirroring(net.host(), WATCH);
        watch.wait_ready("  1  flags");
        let stream = Stream::start(net.client(), net.host(), 5300);
        let rate_of_last = |watch: &Daemon| -> Option<f64> {
            let output = watch.output();
            let row = output.lines().rfind(|row| row.starts_with("  1  flags"))?;
            row.split_whitespace().rev().nth(3)?.parse().ok()
        };
        eventually("a rate", || rate_of_last(&watch) > Some(10.0));
        stream.stop();
        eventually("no rate", || rate_of_last(&watch) == Some(0.0));
        assert!(watch.terminate().success());
    });
}

#[test]
fn needs_root_what_starts_meanwhile_is_shown() {
    Topology::run(|net| {
        let mut watch = Daemon::mirroring(net.host(), WATCH);
        watch.wait_ready("nothing is mirrored here\n\nnothing");
        let _daemon = start(net, "ingress", &[]);
        watch.wait_ready("nothing is mirrored here\n\neth0 ingress");
        assert!(watch.terminate().success());
    });
}

/// l3afd kills processes by their names, and nothing gives the terminal back then.
#[test]
fn needs_root_who_shows_has_another_name_than_what_l3afd_ends() {
    Topology::run(|net| {
        let mut watch = Daemon::mirroring(net.host(), WATCH);
        watch.wait_ready("nothing is mirrored here");
        let name = std::fs::read_to_string(format!("/proc/{}/comm", watch.pid())).expect("a name");
        assert!(!name.contains("mirroring"), "{name}");
        assert!(watch.terminate().success());
    });
}

fn read_until(terminal: &mut File, what: &str) -> String {
    let mut said = String::new();
    while !said.contains(what) {
        let mut buffer = [0; 4096];
        let length = terminal.read(&mut buffer).expect("words on the terminal");
        said += &String::from_utf8_lossy(&buffer[..length]);
    }
    said
}

#[test]
fn needs_root_on_a_terminal_tables_replace_each_other() {
    Topology::run(|net| {
        let _daemon = start(net, "ingress", &[]);
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let (mut terminal, inner) = pty();
            let mut command = net.host().command(testkit::binary());
            command.args(WATCH).stdout(inner);
            let mut process = command.spawn().expect("mirroring");
            drop(command);
            let first = read_until(&mut terminal, "\x1b[J");
            // the other screen, without a cursor
            assert!(
                first.starts_with("\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[Heth0 ingress"),
                "{first:?}"
            );
            let second = read_until(&mut terminal, "\x1b[J");
            assert!(second.starts_with("\x1b[Heth0 ingress (latest): running"), "{second:?}");
            kill(Pid::from_raw(process.id() as i32), signal).expect("a signal");
            let last = read_until(&mut terminal, "\x1b[?1049l");
            assert!(last.ends_with("\x1b[?25h\x1b[?7h\x1b[?1049l"), "{last:?}");
            assert_eq!(process.wait().expect("an exit").code(), Some(0), "{signal}");
        }
    });
}
