//! What flags ask for, and what is wrong with them.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::args::Cli;
use super::from_args::DEFAULT_BPFFS;
use super::tunnel::{DEFAULT_PORT, DEFAULT_TUNNEL};
use super::*;
use crate::filter::Entries;
use crate::model::{LocalPort, Oversize, Version};
use crate::packet;
use clap::{CommandFactory, Parser};

fn request(args: &str) -> Result<Request> {
    let words = std::iter::once("mirroring").chain(args.split_whitespace());
    let cli = Cli::try_parse_from(words).expect(args);
    Request::from_cli(&cli, |path| panic!("reads {}", path.display()))
}

/// A start with what it needs, and more.
fn start(args: &str) -> Result<Start> {
    match request(&format!("--iface=eth0 --direction=ingress {args}"))?.command {
        Command::Start(start) => Ok(start),
        other => panic!("{other:?}"),
    }
}

/// The flags' rule, with no filter given.
fn flags_rule() -> Rule {
    Rule { name: "flags".to_owned(), ..Rule::default() }
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn little_needs_to_be_given() {
    let expected = Request {
        bpffs: "/sys/fs/bpf".into(),
        log_dir: "/var/log/l3af".into(),
        quiet: false,
        command: Command::Start(Start {
            id: InstanceId {
                interface: "eth0".parse().unwrap(),
                direction: Direction::Egress,
                version: Version::UNNAMED,
            },
            map_name: None,
            rules: vec![flags_rule()],
            tunnel: Tunnel {
                name: "gue1".parse().unwrap(),
                local_port: LocalPort::Fixed(6080),
                remote_port: 6080,
                remote_address: None,
                redirect_to: None,
                gateway: None,
                oversize: Oversize::Fragment,
                dscp: None,
                ttl: None,
            },
            max_rate: None,
            resident: false,
            dry_run: false,
        }),
    };
    assert_eq!(request("--iface=eth0 --direction=egress").unwrap(), expected);
}

#[test]
fn help_tells_the_defaults() {
    let port = DEFAULT_PORT.to_string();
    let ttl = crate::tunnel::encap::template::TTL.to_string();
    let version = Version::default();
    let defaults = [
        ("bpffs", DEFAULT_BPFFS),
        ("log-dir", args::DEFAULT_LOG_DIR),
        ("tunnel-interface-name", DEFAULT_TUNNEL),
        ("tunnel-local-port", &port),
        ("tunnel-remote-port", &port),
        ("version", version.as_str()),
        ("tunnel-dscp", "0"),
        ("tunnel-ttl", &ttl),
        ("oversize", "fragment"),
    ];
    let command = Cli::command();
    for (flag, default) in defaults {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
        let help = arg.get_help().unwrap().to_string();
        assert!(help.ends_with(&format!("[default: {default}]")), "--{flag}: {help}");
    }
}

#[test]
fn todays_payloads_are_understood() {
    let start = start(
        "--version=latest --src-address=0.0.0.0 --tunnel-interface-name=gue1 \
         --tunnel-local-port=6080 --tunnel-remote-port=6081 --tunnel-remote-address=127.0.0.1 \
         --redirect-to=lo --src-port=0 --dst-port=8080 --protocol=tcp,icmp --tunnel-type=gue \
         --gtw-address=192.0.2.1",
    )
    .unwrap();
    assert_eq!(
        start.rules,
        [Rule {
            // as ever, none of IPv6
            src_address: Entries::only(["0.0.0.0/0".parse().unwrap()]),
            dst_port: Entries::only([8080..=8080]),
            protocol: Entries::only([6, 1]),
            ..flags_rule()
        }]
    );
    assert_eq!(
        start.tunnel,
        Tunnel {
            name: "gue1".parse().unwrap(),
            local_port: LocalPort::Fixed(6080),
            remote_port: 6081,
            remote_address: Some(Ipv4Addr::LOCALHOST.into()),
            redirect_to: Some("lo".parse().unwrap()),
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            oversize: Oversize::Fragment,
            dscp: None,
            ttl: None,
        }
    );
}

#[test]
fn packets_too_long_for_the_tunnel_are_treated_as_asked() {
    for (text, expected) in [
        ("fragment", Oversize::Fragment),
        ("truncate", Oversize::Truncate),
        ("drop", Oversize::Drop),
    ] {
        assert_eq!(start(&format!("--oversize={text}")).unwrap().tunnel.oversize, expected);
    }
}

#[test]
fn the_cap_is_what_was_given() {
    let cap = |args| start(args).unwrap().max_rate.map(|rate| rate.to_string());
    assert_eq!(cap("--max-rate=500mbit").as_deref(), Some("500mbit"));
    assert_eq!(cap(""), None);
}

#[test]
fn the_outer_header_is_as_asked() {
    let tunnel = start("--tunnel-dscp=ef --tunnel-ttl=3 --tunnel-local-port=auto").unwrap().tunnel;
    assert_eq!((tunnel.dscp, tunnel.ttl), (Some(46), Some(3)));
    assert_eq!(tunnel.local_port, LocalPort::OfFlow);
}

#[test]
fn empty_values_count_as_not_given() {
    let empty = "--src-address= --dst-address= --src-port= --dst-port= --protocol= \
                 --tcp-flags= --vlan= --icmp-type= --dscp= --length= --sample-one-in= \
                 --sample-by= --snaplen= --dry-run= --packet= --format= --watch= --rules-file= --tunnel-remote-address= --redirect-to= --gtw-address= \
                 --tunnel-interface-name= --tunnel-type= --tunnel-local-port= \
                 --tunnel-remote-port= --tunnel-dscp= --tunnel-ttl= --oversize= --max-rate= --cmd= \
                 --map-name= --version= --resident= --bpffs= \
                 --log-dir= --quiet=";
    let needed = "--iface=eth0 --direction=egress";
    assert_eq!(request(&format!("{needed} {empty}")).unwrap(), request(needed).unwrap());
    assert!(error(request("--iface= --direction=egress")).starts_with("--iface is missing"));
}

#[test]
fn switches_are_read() {
    assert!(request("--cmd=status --quiet").unwrap().quiet);
    assert!(!request("--cmd=status --quiet=false").unwrap().quiet);
    assert!(start("--resident").unwrap().resident);
    assert!(!start("--resident=false").unwrap().resident);
    assert!(start("--dry-run").unwrap().dry_run);
    assert!(!start("--dry-run=false").unwrap().dry_run);
}

#[test]
fn an_update_takes_the_filter_and_the_cap_but_not_the_tunnel() {
    let request = request(
        "--cmd=update --iface=eth0 --direction=ingress --version=1.2 --src-port=53 \
         --max-rate=2gbit --tunnel-type=vxlan --tunnel-remote-address=nonsense --map-name=x",
    )
    .unwrap();
    let Command::Update(update) = request.command else { panic!("{request:?}") };
    assert_eq!(update.id.to_string(), "eth0 ingress (1_2)");
    let expected = Rule { src_port: Entries::only([53..=53]), ..flags_rule() };
    assert_eq!(update.rules, Some(vec![expected]));
    assert!(!update.dry_run);
    assert_eq!(update.max_rate.unwrap().to_string(), "2gbit");
}

/// l3afd runs one after each start, with what the payload says of updates, and that alone.
#[test]
fn an_update_that_says_nothing_of_packets_leaves_the_rules() {
    let request = request("--cmd=update --iface=eth0 --direction=egress --max-rate=2gbit");
    let request = request.unwrap();
    let Command::Update(update) = request.command else { panic!("{request:?}") };
    assert_eq!(update.rules, None);
    assert!(update.max_rate.is_some());
}

#[test]
fn a_packet_is_judged_by_given_rules_or_by_those_in_force() {
    let explain = |args: &[&str]| {
        let packet = "--packet=10.0.0.1 > 10.0.0.2 icmp";
        let words = [&["mirroring", "--cmd=explain", packet], args].concat();
        let cli = Cli::try_parse_from(words).expect("flags");
        Request::from_cli(&cli, |_| Ok(br#"{"rules": [{"name": "a"}]}"#.to_vec()))
    };
    let source = |args: &[&str]| match explain(args).unwrap().command {
        Command::Explain(Explain { frame, by }) => {
            assert_eq!(frame, packet::frame("10.0.0.1 > 10.0.0.2 icmp").unwrap());
            by
        }
        other => panic!("{other:?}"),
    };
    let id = InstanceId {
        interface: "eth0".parse().unwrap(),
        direction: Direction::Egress,
        version: Version::UNNAMED,
    };
    assert_eq!(source(&["--iface=eth0", "--direction=egress"]), RuleSource::InForce(id));
    let vlan = Rule { vlan: Entries::only([7..=7]), ..flags_rule() };
    let of = |args: &[&str]| match source(args) {
        RuleSource::Given(direction, rules) => (direction, rules),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(&["--vlan=7"]), (Direction::Ingress, vec![vlan.clone()]));
    let both = ["--iface=eth0", "--direction=egress", "--vlan=7"];
    assert_eq!(of(&both), (Direction::Egress, vec![vlan]));
    assert_eq!(of(&["--rules-file=/a"]).1[0].name, "a");
    assert_eq!(of(&["--snaplen=64"]).1[0].name, "flags");

    for args in [&[][..], &["--direction=ingress"], &["--iface=", "--vlan="]] {
        assert!(error(explain(args)).starts_with("there are no rules to judge the packet by; "));
    }
    assert!(error(explain(&["--iface=eth0"])).starts_with("--direction is missing; "));
    assert!(error(explain(&["--iface=a/b"])).starts_with("--iface: \"a/b\" cannot be "));
    assert!(error(request("--cmd=explain --vlan=7")).starts_with("--packet is missing; give "));
    let bad = error(request("--cmd=explain --vlan=7 --packet=10.0.0.1>10.0.0.2"));
    assert!(bad.starts_with("--packet: which protocol it is of is not said; "), "{bad}");
}

#[test]
fn stop_and_status_select_and_look_at_nothing_else() {
    let rest = "--src-port=nonsense --rules-file=x --tunnel-local-port=x --resident=x";
    let selection = |interface: Option<&str>, direction, version: Option<&str>| Selection {
        interface: interface.map(|name| name.parse().unwrap()),
        direction,
        version: version.map(|version| version.parse().unwrap()),
    };
    assert_eq!(
        request(&format!("--cmd=stop --iface=eth0 {rest}")).unwrap().command,
        Command::Stop(selection(Some("eth0"), None, None))
    );
    assert_eq!(
        request("--cmd=stop --iface=eth0 --direction=egress --version=v1").unwrap().command,
        Command::Stop(selection(Some("eth0"), Some(Direction::Egress), Some("v1")))
    );
    assert_eq!(
        request(&format!("--cmd=status {rest}")).unwrap().command,
        Command::Status(selection(None, None, None))
    );
}

#[test]
fn a_restart_of_l3afd_starts_and_stops_only_processes() {
    let args = "--iface=eth0 --direction=xdpingress --dst-port=80";
    let Command::Resume(start) = request(args).unwrap().command else { panic!("no resumption") };
    assert_eq!(start.id.interface.as_str(), "eth0");
    assert_eq!(
        request(&format!("--cmd=stop {args}")).unwrap().command,
        Command::StopProcesses(Selection {
            interface: Some("eth0".parse().unwrap()),
            direction: None,
            version: None,
        })
    );
    // to these it is no direction
    for rest in ["--dry-run", "--cmd=update", "--cmd=status", "--cmd=show"] {
        let error = error(request(&format!("{args} {rest}")));
        assert_eq!(error, r#"--direction: "xdpingress" is neither ingress nor egress"#);
    }
    assert!(error(request("--cmd=stop --direction=xdpingress")).starts_with("--iface is missing"));
}

#[test]
fn a_show_selects_and_has_a_format() {
    let show = |args: &str| match request(&format!("--cmd=show {args}"))?.command {
        Command::Show(show) => Ok(show),
        other => panic!("{other:?}"),
    };
    let all = Selection { interface: None, direction: None, version: None };
    let table = |watch| Format::Table { watch };
    assert_eq!(show("").unwrap(), Show { selection: all.clone(), format: table(false) });
    for (args, format) in [
        ("--format=table", table(false)),
        ("--watch", table(true)),
        ("--watch=false", table(false)),
        ("--format=json", Format::Json),
        ("--format=json --watch=false", Format::Json),
        ("--format=prometheus", Format::Prometheus),
    ] {
        assert_eq!(show(args).unwrap().format, format, "{args}");
    }
    let of_eth0 = Selection { interface: Some("eth0".parse().unwrap()), ..all };
    assert_eq!(show("--iface=eth0 --src-port=nonsense").unwrap().selection, of_eth0);
    for (args, expected) in [
        ("--format=xml", r#"--format: "xml" is none of table, json and prometheus"#),
        ("--format=json --watch", "--watch: only the table is shown again and again; leave "),
        ("--watch=1", r#"--watch: "1" is neither true nor false"#),
    ] {
        let error = error(show(args));
        assert!(error.starts_with(expected), "{args}: {error}");
    }
}

#[test]
fn what_a_command_needs_is_asked_for() {
    assert_eq!(
        error(request("--direction=ingress")),
        "--iface is missing; give the interface to mirror from, e.g. --iface=eth0"
    );
    assert_eq!(
        error(request("--cmd=update --iface=eth0")),
        "--direction is missing; give --direction=ingress or --direction=egress"
    );
    assert_eq!(
        error(request("--cmd=stop --direction=ingress")),
        "--iface is missing; give the interface, e.g. --iface=eth0"
    );
}

#[test]
fn bad_values_are_named_with_their_flags() {
    let cases = [
        (
            "--cmd=restart",
            r#"--cmd: "restart" is none of start, update, stop, status, show and explain"#,
        ),
        ("--direction=in", r#"--direction: "in" is neither ingress nor egress"#),
        ("--iface=../x", r#"--iface: "../x" cannot be the name of an interface"#),
        ("--version=../x", r#"--version: "../x" cannot be a version; "#),
        ("--src-address=1.2.3", r#"--src-address: "1.2.3" is not an address or a "#),
        ("--dst-address=::x", r#"--dst-address: "::x" is not an address or a "#),
        ("--src-port=9-8", r#"--src-port: "9-8" is a range whose end comes before its start"#),
        (
            "--dst-port=80,80-x",
            r#"--dst-port: "80-x" is not a port or a range of ports such as 8000-8100"#,
        ),
        ("--protocol=tcpp", r#"--protocol: "tcpp" is not a protocol; "#),
        ("--tcp-flags=sin", r#"--tcp-flags: "sin" is not a set of TCP flags"#),
        ("--vlan=4096", r#"--vlan: "4096" goes beyond the last VLAN ID, 4095"#),
        ("--icmp-type=ping", r#"--icmp-type: "ping" is not a type of ICMP messages; "#),
        ("--dscp=64", r#"--dscp: "64" is not a DSCP; "#),
        ("--length=9-8", r#"--length: "9-8" is a range whose end comes before its start"#),
        ("--sample-one-in=0", r#"--sample-one-in: "0" is not a number from 1 to "#),
        ("--sample-one-in=2 --sample-by=all", r#"--sample-by: "all" is neither packet nor "#),
        ("--sample-by=flow", "--sample-by: there is no --sample-one-in"),
        ("--snaplen=1", r#"--snaplen: "1" would not hold the headers; "#),
        ("--tunnel-type=vxlan", r#"--tunnel-type: "vxlan" is not a kind of tunnel that "#),
        ("--tunnel-interface-name=a/b", r#"--tunnel-interface-name: "a/b" cannot be the "#),
        ("--tunnel-local-port=0", r#"--tunnel-local-port: "0" is not a port from 1 to "#),
        ("--tunnel-remote-port=65536", r#"--tunnel-remote-port: "65536" is not a port from"#),
        ("--tunnel-remote-address=host", r#"--tunnel-remote-address: "host" is not an addr"#),
        ("--gtw-address=0.0.0.0", r#"--gtw-address: "0.0.0.0" is not the address of one host"#),
        ("--tunnel-remote-port=auto", r#"--tunnel-remote-port: "auto" is not a port from 1"#),
        ("--tunnel-dscp=64", r#"--tunnel-dscp: "64" is neither a code point from 0 to 63 nor "#),
        ("--tunnel-ttl=0", r#"--tunnel-ttl: "0" is not a number of hops from 1 to 255"#),
        ("--oversize=cut", r#"--oversize: "cut" is none of fragment, truncate and drop"#),
        ("--max-rate=fast", r#"--max-rate: "fast" is not a rate such as 500mbit, "#),
        ("--max-rate=0", r#"--max-rate: "0" would let no copy through; leave the flag out"#),
        ("--redirect-to=a:b", r#"--redirect-to: "a:b" cannot be the name of an interface"#),
        ("--redirect-to=gue1", r#"--redirect-to: "gue1" is the tunnel interface itself; "#),
        ("--iface=gue1", r#"--iface: "gue1" is the tunnel interface itself; "#),
        ("--bpffs=bpf", r#"--bpffs: "bpf" is not an absolute path without "..""#),
        ("--log-dir=/a/../b", r#"--log-dir: "/a/../b" is not an absolute path without "..""#),
        ("--map-name=a", r#"--map-name: "a" is not an absolute path without "..""#),
        ("--quiet=ja", r#"--quiet: "ja" is neither true nor false"#),
        ("--resident=1", r#"--resident: "1" is neither true nor false"#),
        ("--dry-run=1", r#"--dry-run: "1" is neither true nor false"#),
    ];
    for (args, expected) in cases {
        let error = error(start(args));
        assert!(error.starts_with(expected), "{args}: {error}");
    }
}

#[test]
fn the_collector_is_one_host_that_can_be_reached_from_any_link() {
    for address in [
        "0.0.0.0",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "10.0.0.0/8",
        "::",
        "ff02::1",
        "fe80::1",
        "2001:db8::/64",
        "[2001:db8::1]",
        "::ffff:192.0.2.50",
    ] {
        let error = error(start(&format!("--tunnel-remote-address={address}")));
        assert!(error.starts_with(&format!("--tunnel-remote-address: {address:?} ")), "{error}");
    }
    for address in ["127.0.0.1", "192.0.2.50", "::1", "2001:db8::50", "fd00::1"] {
        let start = start(&format!("--tunnel-remote-address={address}")).unwrap();
        assert_eq!(start.tunnel.remote_address, Some(address.parse().unwrap()));
    }
}

#[test]
fn the_next_hop_is_of_the_collectors_family() {
    let flags = |collector, gateway| {
        start(&format!("--tunnel-remote-address={collector} --gtw-address={gateway}"))
    };
    assert_eq!(
        flags("2001:db8::50", "fe80::1").unwrap().tunnel.gateway,
        Some("fe80::1".parse().unwrap())
    );
    for (collector, gateway) in [("2001:db8::50", "10.0.0.1"), ("192.0.2.50", "fe80::1")] {
        let error = error(flags(collector, gateway));
        let expected =
            format!("--gtw-address: {gateway} and the collector {collector} are not of the same");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn the_jump_table_lies_below_the_bpf_file_system() {
    let map_name = |args| start(args).map(|start| start.map_name.unwrap());
    assert_eq!(map_name("--map-name=/sys/fs/bpf/a/b").unwrap(), PathBuf::from("/sys/fs/bpf/a/b"));
    assert_eq!(map_name("--bpffs=/b/ --map-name=/b/m").unwrap(), PathBuf::from("/b/m"));
    for path in ["/tmp/map", "/sys/fs/bpf", "/sys/fs/bpf/", "/sys/fs/bpfx/map", "/"] {
        let error = error(start(&format!("--map-name={path}")));
        assert!(error.starts_with("--map-name: \"/") && error.contains("is not below"), "{error}");
    }
}
