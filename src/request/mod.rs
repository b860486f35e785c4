//! What was asked for, checked once. Later code relies on these types and does not check again.
//!
//! Only the flags that a command uses are checked: l3afd passes to each command the flags of the others
//! as well. The checks ask nothing of the machine; whether an interface exists, for example, is checked
//! where it is used.

use std::path::PathBuf;

use crate::filter::Rule;
use crate::model::{Direction, InstanceId, Rate, Selection, Tunnel};

pub mod args;
mod flags;
mod from_args;
mod rules;
mod tunnel;
mod values;

#[cfg(test)]
mod tests;

/// What this run of the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Root of the BPF file system.
    pub bpffs: PathBuf,
    /// Directory of the log file.
    pub log_dir: PathBuf,
    /// Log to the file only.
    pub quiet: bool,
    /// What to do, with all that it needs to know.
    pub command: Command,
}

/// What `--cmd` asks for, with the flags that this command uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin to mirror; the default.
    Start(Start),
    /// Go on with an instance whose process l3afd ended because it restarts. l3afd does not say the
    /// direction, so the one in here is a guess.
    Resume(Start),
    /// Change rules or the cap of an instance that mirrors.
    Update(Update),
    /// Always of one interface.
    Stop(Selection),
    /// End the processes that stay, and leave everything else as it is. Always of one interface.
    StopProcesses(Selection),
    /// Print whether any of these instances runs, in the words that l3afd expects.
    Status(Selection),
    /// Print what these instances do, and their counters.
    Show(Show),
    /// Tell what a given packet would meet. Nothing is mirrored.
    Explain(Explain),
}

impl Command {
    /// The instance or the instances that it is about, for the log: `eth0 ingress`, `eth0`; empty where
    /// it is about all of them or none.
    pub fn subject(&self) -> String {
        match self {
            Self::Start(start) => start.id.subject(),
            Self::Resume(start) => start.id.interface.to_string(),
            Self::Update(update) => update.id.subject(),
            Self::Stop(selection) | Self::StopProcesses(selection) | Self::Status(selection) => {
                selection.to_string()
            }
            Self::Show(show) => show.selection.to_string(),
            Self::Explain(Explain { by: RuleSource::InForce(id), .. }) => id.subject(),
            Self::Explain(Explain { by: RuleSource::Given(..), .. }) => String::new(),
        }
    }
}

/// Mirror, until told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The instance to start: interface, direction and version.
    pub id: InstanceId,
    /// Pin of the previous program's PROG_ARRAY, below the root of the BPF file system. `None`: l3afd
    /// has loaded our program, or we attach it to the interface.
    pub map_name: Option<PathBuf>,
    /// In the order in which they are tried; at least one.
    pub rules: Vec<Rule>,
    /// Where the copies go.
    pub tunnel: Tunnel,
    /// Cap on the rate at which copies leave.
    pub max_rate: Option<Rate>,
    /// Stay, even where l3afd has loaded the program.
    pub resident: bool,
    /// Only print the rules, and what would change.
    pub dry_run: bool,
}

/// Put other rules, or another cap, into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The instance to change. It has to mirror already.
    pub id: InstanceId,
    /// In the order in which they are tried; at least one. `None`: the rules stay as they are.
    pub rules: Option<Vec<Rule>>,
    /// `None`: the cap stays as it is.
    pub max_rate: Option<Rate>,
    /// Only print the rules, and what would change.
    pub dry_run: bool,
}

/// Show what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Show {
    /// The instances to show.
    pub selection: Selection,
    /// How to print them.
    pub format: Format,
}

/// The value of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, in columns.
    Table {
        /// Refresh it each second.
        watch: bool,
    },
    /// One JSON document, as show.schema.json describes it.
    Json,
    /// Prometheus' text format, with counters alone.
    Prometheus,
}

/// Tell which rule matches a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// From its Ethernet header on.
    pub frame: Vec<u8>,
    /// The rules that the packet is checked against.
    pub by: RuleSource,
}

/// Where the rules come from that a packet is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleSource {
    /// From the command line and the file of rules, in the order in which they are tried.
    Given(Direction, Vec<Rule>),
    /// From an instance: those that it has in force.
    InForce(InstanceId),
}
