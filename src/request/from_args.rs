//! From the flags to a request: which of them a command needs, and which go together.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::args::{Cli, DEFAULT_LOG_DIR};
use super::flags::{given, needed, switch, value};
use super::{Command, Explain, Format, Request, RuleSource, Show, Start, Update, rules, values};
use crate::model::{Direction, InstanceId, Rate, Selection, Tunnel, Version};
use crate::packet;

pub(super) const DEFAULT_BPFFS: &str = "/sys/fs/bpf";
/// The direction that l3afd passes when it restarts, whatever the program's is: first to `cmd_stop`, then to
/// `cmd_start` of programs whose process stays.
const RESTART: &str = "xdpingress";

impl Request {
    /// `read` reads the file of rules, whose text is checked here like everything else.
    ///
    /// # Errors
    /// Name the flag and, in quotes, what is wrong in its value.
    pub fn from_cli(cli: &Cli, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Self> {
        let bpffs =
            value("--bpffs", &cli.bpffs, values::path)?.unwrap_or_else(|| DEFAULT_BPFFS.into());
        let log_dir = value("--log-dir", &cli.log_dir, values::path)?
            .unwrap_or_else(|| DEFAULT_LOG_DIR.into());
        let quiet = switch("--quiet", &cli.quiet)?;
        let restarts = given(&cli.direction) == Some(RESTART);
        let with_direction = |direction: Option<Direction>| Cli {
            direction: direction.map(|direction| direction.to_string()),
            ..cli.clone()
        };
        let command = match given(&cli.cmd).unwrap_or("start") {
            "start" if restarts && !switch("--dry-run", &cli.dry_run)? => {
                let cli = with_direction(Some(Direction::Ingress));
                Command::Resume(Start::from_cli(&cli, &bpffs, read)?)
            }
            "stop" if restarts => Command::StopProcesses(to_stop(&with_direction(None))?),
            "start" => Command::Start(Start::from_cli(cli, &bpffs, read)?),
            "update" => Command::Update(Update {
                id: instance(cli)?,
                rules: rules::from_cli(cli, read)?,
                max_rate: max_rate(cli)?,
                dry_run: switch("--dry-run", &cli.dry_run)?,
            }),
            "stop" => Command::Stop(to_stop(cli)?),
            "status" => Command::Status(selection(cli)?),
            "show" => {
                Command::Show(Show { selection: selection(cli)?, format: Format::from_cli(cli)? })
            }
            "explain" => Command::Explain(Explain::from_cli(cli, read)?),
            other => {
                bail!("--cmd: {other:?} is none of start, update, stop, status, show and explain")
            }
        };
        Ok(Self { bpffs, log_dir, quiet, command })
    }
}

impl Start {
    fn from_cli(cli: &Cli, bpffs: &Path, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Self> {
        let start = Self {
            id: instance(cli)?,
            map_name: value("--map-name", &cli.map_name, |text| values::pin(text, bpffs))?,
            rules: rules::from_cli(cli, read)?.unwrap_or_else(|| vec![rules::default()]),
            tunnel: Tunnel::from_cli(cli)?,
            max_rate: max_rate(cli)?,
            resident: switch("--resident", &cli.resident)?,
            dry_run: switch("--dry-run", &cli.dry_run)?,
        };
        ensure!(
            start.id.interface != start.tunnel.name,
            "--iface: \"{}\" is the tunnel interface itself; mirror from the interface whose \
             packets you want, or name another --tunnel-interface-name",
            start.id.interface
        );
        Ok(start)
    }
}

impl Format {
    fn from_cli(cli: &Cli) -> Result<Self> {
        let watch = switch("--watch", &cli.watch)?;
        let format = match given(&cli.format).unwrap_or("table") {
            "table" => return Ok(Self::Table { watch }),
            "json" => Self::Json,
            "prometheus" => Self::Prometheus,
            other => bail!("--format: {other:?} is none of table, json and prometheus"),
        };
        ensure!(
            !watch,
            "--watch: only the table is shown again and again; leave out --watch, or --format"
        );
        Ok(format)
    }
}

impl Explain {
    fn from_cli(cli: &Cli, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Self> {
        let frame = value("--packet", &cli.packet, packet::frame)?;
        let example = "the packet, e.g. --packet='10.0.0.1:1234 > 192.0.2.5:443 tcp syn'";
        let by = if let Some(rules) = rules::from_cli(cli, read)? {
            let direction = selection(cli)?.direction.unwrap_or(Direction::Ingress);
            RuleSource::Given(direction, rules)
        } else {
            ensure!(
                given(&cli.iface).is_some(),
                "there are no rules to judge the packet by; give some (filter flags, --rules-file), \
                 or the --iface and --direction on which they are in force"
            );
            RuleSource::InForce(instance(cli)?)
        };
        Ok(Self { frame: needed("--packet", example, frame)?, by })
    }
}

fn instance(cli: &Cli) -> Result<InstanceId> {
    let Selection { interface, direction, version } = selection(cli)?;
    Ok(InstanceId {
        interface: needed("--iface", "the interface to mirror from, e.g. --iface=eth0", interface)?,
        direction: needed("--direction", "--direction=ingress or --direction=egress", direction)?,
        version: version.unwrap_or(Version::UNNAMED),
    })
}

fn selection(cli: &Cli) -> Result<Selection> {
    Ok(Selection {
        interface: value("--iface", &cli.iface, str::parse)?,
        direction: value("--direction", &cli.direction, str::parse)?,
        version: value("--version", &cli.version, str::parse)?,
    })
}

/// What a stop is about: always one interface.
fn to_stop(cli: &Cli) -> Result<Selection> {
    let selection = selection(cli)?;
    needed("--iface", "the interface, e.g. --iface=eth0", selection.interface.as_ref())?;
    Ok(selection)
}

fn max_rate(cli: &Cli) -> Result<Option<Rate>> {
    value("--max-rate", &cli.max_rate, str::parse)
}
