//! The command line as it is typed: flags and their help. Values are still text here; `from_args` checks them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Parser, ValueHint};

/// Where l3afd keeps its logs.
pub const DEFAULT_LOG_DIR: &str = "/var/log/l3af";

const WHAT: &str = "What to mirror";
const FILTER: &str = "Filter (a packet must match all that is given)";
const TUNNEL: &str = "Tunnel";
const RUNNING: &str = "Running";

const EXAMPLES: &str = "\
Examples:
  Mirror web traffic that comes in by eth0 to the collector 192.0.2.50, until Ctrl-C:
    mirroring --iface=eth0 --direction=ingress --protocol=tcp --dst-port=80,443 \\
              --tunnel-remote-address=192.0.2.50 --redirect-to=eth1

  The same, as the next program of a chain that tc-root begins:
    mirroring --iface=eth0 --direction=ingress --protocol=tcp --dst-port=80,443 \\
              --tunnel-remote-address=192.0.2.50 --redirect-to=eth1 \\
              --map-name=/sys/fs/bpf/tc/globals/eth0/tc-root/latest/tc_ingress_root_array

  Ask which of the rules in force on eth0 a packet would meet, and why:
    mirroring --cmd=explain --iface=eth0 --direction=ingress \\
              --packet='10.0.0.1:1234 > 192.0.2.5:443 tcp syn'

  Ask the same of rules that are not in force yet:
    mirroring --cmd=explain --rules-file=rules.json \\
              --packet='10.0.0.1:1234 > 192.0.2.5:443 tcp syn'

  Show what is mirrored here, with its rules and what they counted, each second anew:
    mirroring --cmd=show --watch

  The same as a file for the textfile collector of Prometheus' node_exporter:
    mirroring --cmd=show --format=prometheus

  Take away what an instance on eth0 left behind, whatever became of its process:
    mirroring --cmd=stop --iface=eth0

A flag that is given with an empty value counts as not given; of a repeated flag, the last counts.";

/// Mirrors the packets that match a filter to a collector, in a GUE tunnel
///
/// Copies the packets that match a filter, on one interface and in one direction, and sends the
/// copies to a collector in a GUE tunnel. The packets themselves go on as they were.
#[derive(Parser, Debug, Clone)]
#[command(
    name = "mirroring",
    version,
    verbatim_doc_comment,
    after_help = EXAMPLES,
    args_override_self = true,
    // --version takes a value here: it names the package version
    disable_version_flag = true,
    arg = Arg::new("print-version")
        .short('V')
        .action(ArgAction::Version)
        .help("Print the version of this program")
)]
pub struct Cli {
    /// Interface to mirror from
    #[arg(long, value_name = "NAME", help_heading = WHAT)]
    pub iface: Option<String>,

    /// Packets that come in or go out: ingress or egress
    #[arg(long, value_name = "DIRECTION", help_heading = WHAT)]
    pub direction: Option<String>,

    /// Source addresses, e.g. 10.0.0.0/8,not 10.9.0.0/16 [default: any]
    ///
    /// 0.0.0.0 is any IPv4 address, :: any IPv6 address. In all lists, `not` in front of an entry
    /// excludes it.
    #[arg(long, value_name = "LIST", help_heading = FILTER, verbatim_doc_comment)]
    pub src_address: Option<String>,

    /// Destination addresses [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub dst_address: Option<String>,

    /// Source ports and ranges, e.g. 80,8000-8100 [default: 0, any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub src_port: Option<String>,

    /// Destination ports and ranges [default: 0, any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub dst_port: Option<String>,

    /// Protocols by name or number, e.g. tcp,icmp,47 [default: any]
    ///
    /// A protocol that is named and has no ports (ICMP) matches whatever the ports say.
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub protocol: Option<String>,

    /// TCP flags, e.g. syn,fin+ack,not rst [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub tcp_flags: Option<String>,

    /// VLAN IDs and ranges of the outermost tag, or none [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub vlan: Option<String>,

    /// Types of ICMP messages, e.g. echo-request,3 [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub icmp_type: Option<String>,

    /// Differentiated services code points, e.g. ef,cs1,18 [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub dscp: Option<String>,

    /// Lengths of IP packets and ranges of them, in bytes [default: any]
    #[arg(long, value_name = "LIST", help_heading = FILTER)]
    pub length: Option<String>,

    /// Mirror one in so many of these packets [default: 1]
    #[arg(long, value_name = "N", help_heading = FILTER)]
    pub sample_one_in: Option<String>,

    /// Sample single packets or whole flows: packet or flow [default: packet]
    #[arg(long, value_name = "WHAT", help_heading = FILTER)]
    pub sample_by: Option<String>,

    /// Bytes that a copy keeps, or headers for just these [default: all]
    #[arg(long, value_name = "BYTES", help_heading = FILTER)]
    pub snaplen: Option<String>,

    /// File of rules, in JSON; the first rule that matches decides
    ///
    /// rules.schema.json in the package describes it. The rule of these flags comes behind those
    /// of the file, if it is given any field.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = FILTER, verbatim_doc_comment)]
    pub rules_file: Option<String>,

    /// IPv4 or IPv6 address of the collector; needed unless the tunnel interface exists
    #[arg(long, value_name = "ADDRESS", help_heading = TUNNEL)]
    pub tunnel_remote_address: Option<String>,

    /// Interface by which the copies leave for the collector [default: as the kernel routes]
    #[arg(long, value_name = "NAME", help_heading = TUNNEL)]
    pub redirect_to: Option<String>,

    /// Next hop towards the collector
    ///
    /// By default the collector itself where it is on the network of --redirect-to, else the
    /// first address of that network or, of IPv6, what the kernel's routes say.
    #[arg(long, value_name = "ADDRESS", help_heading = TUNNEL, verbatim_doc_comment)]
    pub gtw_address: Option<String>,

    /// Tunnel interface: used as it is if it exists, built otherwise [default: gue1]
    #[arg(long, value_name = "NAME", help_heading = TUNNEL)]
    pub tunnel_interface_name: Option<String>,

    /// Kind of tunnel: gue [default: gue]
    #[arg(long, value_name = "TYPE", help_heading = TUNNEL)]
    pub tunnel_type: Option<String>,

    /// UDP source port of the tunnel, or auto: from the flow [default: 6080]
    ///
    /// auto takes a port from 49152 on by the hash of the mirrored packet's flow, for both of its
    /// directions the same, so that a collector can spread copies over its queues.
    #[arg(long, value_name = "PORT", help_heading = TUNNEL, verbatim_doc_comment)]
    pub tunnel_local_port: Option<String>,

    /// UDP destination port of the tunnel [default: 6080]
    #[arg(long, value_name = "PORT", help_heading = TUNNEL)]
    pub tunnel_remote_port: Option<String>,

    /// DSCP of the tunnel's packets, 0 to 63 or a name such as cs1 or ef [default: 0]
    #[arg(long, value_name = "DSCP", help_heading = TUNNEL)]
    pub tunnel_dscp: Option<String>,

    /// Hops that the tunnel's packets may take, 1 to 255 [default: 64]
    #[arg(long, value_name = "HOPS", help_heading = TUNNEL)]
    pub tunnel_ttl: Option<String>,

    /// Packets too long for the built-in tunnel: fragment, truncate or drop [default: fragment]
    ///
    /// fragment sends the copy whole, in fragments of the outer packet; truncate sends as much of
    /// its beginning as fits; drop leaves it out.
    #[arg(long, value_name = "HOW", help_heading = TUNNEL, verbatim_doc_comment)]
    pub oversize: Option<String>,

    /// Most that leaves in copies, a second, e.g. 500mbit [default: no cap]
    ///
    /// Bits of outer packets, of all CPUs together; units are bit, kbit, mbit, gbit and tbit.
    /// Copies over it are left out and counted.
    #[arg(long, value_name = "RATE", help_heading = TUNNEL, verbatim_doc_comment)]
    pub max_rate: Option<String>,

    /// start, update (the filter), stop, status, show, explain [default: start]
    ///
    /// An update without --rules-file and filter flags leaves the rules as they are; one without
    /// --max-rate leaves that. --iface, --direction and --version select what is shown.
    #[arg(long, value_name = "COMMAND", help_heading = RUNNING, verbatim_doc_comment)]
    pub cmd: Option<String>,

    /// How --cmd=show shows it: table, json or prometheus [default: table]
    ///
    /// show.schema.json in the package describes the JSON. Rates are those of one second, which
    /// the table and JSON take to measure. prometheus is the text format, without rates.
    #[arg(long, value_name = "FORMAT", help_heading = RUNNING, verbatim_doc_comment)]
    pub format: Option<String>,

    /// Show the table each second anew, until Ctrl-C [default: false]
    #[arg(long, value_name = "BOOL", help_heading = RUNNING, num_args = 0..=1,
          default_missing_value = "true")]
    pub watch: Option<String>,

    /// Packet to explain, e.g. '10.0.0.1:1 > 192.0.2.5:80 tcp syn', or its hex
    ///
    /// As tcpdump -n, -x or -X prints it, or in words such as 10.0.0.1 > 192.0.2.5 echo-request,
    /// [2001:db8::1]:1 > [2001:db8::2]:53 udp vlan 100 dscp ef length 1500. It is judged by the
    /// rules that are given, or where there are none, by those in force on --iface.
    #[arg(long, value_name = "PACKET", help_heading = RUNNING, verbatim_doc_comment)]
    pub packet: Option<String>,

    /// Only print the rules, and what would change by them [default: false]
    #[arg(long, value_name = "BOOL", help_heading = RUNNING, num_args = 0..=1,
          default_missing_value = "true")]
    pub dry_run: Option<String>,

    /// Pin of the jump table (PROG_ARRAY) of the previous program in a chain
    ///
    /// Without it, mirroring fills in the maps of the program that l3afd loaded, or else
    /// attaches a program to the interface itself.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = RUNNING, verbatim_doc_comment)]
    pub map_name: Option<String>,

    /// Version of the package, a part of the names of pins [default: latest]
    #[arg(long, value_name = "VERSION", help_heading = RUNNING)]
    pub version: Option<String>,

    /// Stay with the tunnel when l3afd loaded the program [default: false]
    #[arg(long, value_name = "BOOL", help_heading = RUNNING, num_args = 0..=1,
          default_missing_value = "true")]
    pub resident: Option<String>,

    /// Root of the BPF file system [default: /sys/fs/bpf]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath, help_heading = RUNNING)]
    pub bpffs: Option<String>,

    /// Directory of the log file, mirroring.log [default: /var/log/l3af]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath, help_heading = RUNNING)]
    pub log_dir: Option<String>,

    /// Log to the file only, not to the terminal [default: false]
    #[arg(long, short, value_name = "BOOL", help_heading = RUNNING, num_args = 0..=1,
          default_missing_value = "true")]
    pub quiet: Option<String>,
}

/// Rewrites `--key =value`, as l3afd passes the arguments of `cmd_stop` and `cmd_status` (one
/// word, with a space), to `--key=value`. Everything else stays as it is.
pub fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    args.into_iter().map(|arg| without_space(arg.as_bytes()).unwrap_or(arg)).collect()
}

fn without_space(arg: &[u8]) -> Option<OsString> {
    let equals = arg.iter().position(|&byte| byte == b'=')?;
    let (flag, value) = arg.split_at(equals);
    let flag = flag.trim_ascii_end();
    // a flag has no space within, so a word that has one is a value
    let is_flag = flag.starts_with(b"--") && !flag.contains(&b' ');
    is_flag.then(|| OsString::from_vec([flag, value].concat()))
}

/// What is wrong with the flags, in a line; clap says it in paragraphs.
pub fn reason(error: &clap::Error) -> String {
    let text = |kind| error.get(kind).map(ToString::to_string).filter(|text| !text.is_empty());
    let flag = text(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let similar = text(ContextKind::SuggestedArg);
            let advice = similar.map(|similar| format!("; did you mean {similar}?"));
            format!("{flag:?} is not a flag that there is{}", advice.unwrap_or_default())
        }
        ErrorKind::InvalidValue => format!("{flag} needs a value"),
        ErrorKind::InvalidUtf8 => "a value is not valid UTF-8".to_owned(),
        other => format!("{flag}: {other}"),
    }
}

/// Where the log goes, read from normalized arguments that may be invalid otherwise: usage errors are logged, too.
/// A directory that cannot be used gives the default. (clap's `ignore_errors` ends at the first unknown flag, with
/// those behind it unread.)
pub fn log_dir_of(args: &[OsString]) -> PathBuf {
    let mut log_dir = None;
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        if arg == "--log-dir" {
            log_dir = args.next_if(|value| !value.as_bytes().starts_with(b"-")).cloned();
        } else if let Some(value) = arg.as_bytes().strip_prefix(b"--log-dir=") {
            log_dir = Some(OsString::from_vec(value.to_vec()));
        }
    }
    log_dir
        .map(PathBuf::from)
        .filter(|path| is_plain_path(path))
        .unwrap_or_else(|| DEFAULT_LOG_DIR.into())
}

/// Whether a path is absolute and says where it leads: no `..` in it.
pub fn is_plain_path(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn words(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        let args = words(&["mirroring"]).into_iter().chain(words(args));
        Cli::try_parse_from(normalize(args))
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_contract_is_known() {
        let mut flags: Vec<String> = Cli::command()
            .get_arguments()
            .filter_map(|arg| arg.get_long().map(str::to_owned))
            .collect();
        flags.sort();
        let contract = [
            "bpffs",
            "cmd",
            "direction",
            "dry-run",
            "dscp",
            "dst-address",
            "dst-port",
            "format",
            "gtw-address",
            "icmp-type",
            "iface",
            "length",
            "log-dir",
            "map-name",
            "max-rate",
            "oversize",
            "packet",
            "protocol",
            "quiet",
            "redirect-to",
            "resident",
            "rules-file",
            "sample-by",
            "sample-one-in",
            "snaplen",
            "src-address",
            "src-port",
            "tcp-flags",
            "tunnel-dscp",
            "tunnel-interface-name",
            "tunnel-local-port",
            "tunnel-remote-address",
            "tunnel-remote-port",
            "tunnel-ttl",
            "tunnel-type",
            "version",
            "vlan",
            "watch",
        ];
        assert_eq!(flags, contract);
    }

    #[test]
    fn values_follow_an_equals_sign_a_space_or_both() {
        for args in [&["--iface=eth0"][..], &["--iface", "eth0"], &["--iface =eth0"]] {
            assert_eq!(parse(args).unwrap().iface.as_deref(), Some("eth0"), "{args:?}");
        }
    }

    #[test]
    fn the_last_of_repeated_flags_counts() {
        let cli = parse(&["--iface=eth0", "--quiet", "--iface=eth1", "--quiet=false"]).unwrap();
        assert_eq!(cli.iface.as_deref(), Some("eth1"));
        assert_eq!(cli.quiet.as_deref(), Some("false"));
    }

    #[test]
    fn switches_take_a_value_but_need_none() {
        let quiet = |args: &[&str]| parse(args).unwrap().quiet;
        assert_eq!(quiet(&[]), None);
        for args in [&["--quiet"][..], &["-q"], &["--quiet=true"], &["-q=true"], &["-q", "true"]] {
            assert_eq!(quiet(args).as_deref(), Some("true"), "{args:?}");
        }
        let cli = parse(&["--quiet", "--resident", "--iface=eth0"]).unwrap();
        assert_eq!(cli.quiet.as_deref(), Some("true"));
        assert_eq!(cli.resident.as_deref(), Some("true"));
        assert_eq!(cli.iface.as_deref(), Some("eth0"));
        let cli = parse(&["--resident =false"]).unwrap();
        assert_eq!(cli.resident.as_deref(), Some("false"));
    }

    #[test]
    fn version_is_the_packages_and_a_capital_v_prints_ours() {
        assert_eq!(parse(&["--version=1.2"]).unwrap().version.as_deref(), Some("1.2"));
        let printed = parse(&["-V"]).unwrap_err();
        assert_eq!(printed.kind(), ErrorKind::DisplayVersion);
        assert_eq!(printed.to_string(), format!("mirroring {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn unknown_flags_and_stray_words_are_refused() {
        for args in [&["--ifacee=eth0"][..], &["eth0"], &["--iface", "eth0", "eth1"]] {
            assert_eq!(parse(args).unwrap_err().kind(), ErrorKind::UnknownArgument, "{args:?}");
        }
    }

    #[test]
    fn wrong_flags_are_told_in_a_line() {
        let cases: [(&[&str], &str); 5] = [
            (
                &["--ifacee=eth0"],
                r#""--ifacee" is not a flag that there is; did you mean --iface?"#,
            ),
            (&["--nonsense"], r#""--nonsense" is not a flag that there is"#),
            (&["eth0"], r#""eth0" is not a flag that there is"#),
            (&["--iface"], "--iface <NAME> needs a value"),
            (&["--quiet", "yes", "no"], r#""no" is not a flag that there is"#),
        ];
        for (args, expected) in cases {
            assert_eq!(reason(&parse(args).unwrap_err()), expected);
        }
        let not_utf8 = OsString::from_vec(b"--iface=\xff".to_vec());
        let error = Cli::try_parse_from([OsString::from("mirroring"), not_utf8]).unwrap_err();
        assert_eq!(reason(&error), "a value is not valid UTF-8");
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = Cli::command();
        for help in [command.render_help(), command.render_long_help()] {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn only_the_space_before_a_flags_equals_sign_goes() {
        let cases = [
            ("--src-port =80", "--src-port=80"),
            ("--src-port  ==80 ", "--src-port==80 "),
            ("--src-port =", "--src-port="),
            ("--src-port=a =b", "--src-port=a =b"),
            ("--src-port 80 =90", "--src-port 80 =90"),
            ("--src-port", "--src-port"),
            ("-q =true", "-q =true"),
            ("a =b", "a =b"),
        ];
        for (given, expected) in cases {
            assert_eq!(normalize(words(&[given])), words(&[expected]));
        }
        let not_utf8 = OsString::from_vec(b"--iface =\xff".to_vec());
        assert_eq!(normalize([not_utf8]), [OsString::from_vec(b"--iface=\xff".to_vec())]);
    }

    #[test]
    fn the_log_directory_is_found_among_invalid_arguments() {
        let found = |args: &[&str]| log_dir_of(&normalize(words(args)));
        assert_eq!(found(&["--nonsense", "--log-dir=/a", "x"]), Path::new("/a"));
        assert_eq!(found(&["--log-dir", "/a"]), Path::new("/a"));
        assert_eq!(found(&["--log-dir =/a"]), Path::new("/a"));
        assert_eq!(found(&["--log-dir=/a", "--log-dir=/b"]), Path::new("/b"));
        let unusable: [&[&str]; 6] = [
            &[],
            &["--log-dir"],
            &["--log-dir="],
            &["--log-dir", "--iface=eth0"],
            &["--log-dir=logs"],
            &["--log-dir=/var/../etc"],
        ];
        for args in unusable {
            assert_eq!(found(args), Path::new(DEFAULT_LOG_DIR), "{args:?}");
        }
    }
}
