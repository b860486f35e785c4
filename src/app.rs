//! From the words of the command line to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::command::{dry_run, explain, show, start, status, stop, update};
use crate::instance::host::Host;
use crate::request::args::{self, Cli};
use crate::request::{Command, Request};
use crate::{logging, rules_file};

/// `--cmd=status`: what was asked about is not running (as in the LSB's init scripts).
const NOT_RUNNING: u8 = 3;
/// A flag, its value or the file of rules is wrong.
const USAGE: u8 = 2;

/// Runs one command. Errors are on stderr and in the log when it returns.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = args::normalize(args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let request = match Request::from_cli(&cli, rules_file::read) {
        Ok(request) => request,
        Err(error) => {
            logging::init(&args::log_dir_of(&args), true);
            failure(&error);
            return USAGE.into();
        }
    };
    logging::set_subject(request.command.subject());
    // l3afd takes anything but the one word that status prints for a failure, and `show --watch` would fill the
    // log
    if !matches!(request.command, Command::Status(_) | Command::Show(_)) {
        logging::init(&request.log_dir, request.quiet);
    }
    log::debug!("command line: {args:?}");
    carry_out(&request).unwrap_or_else(|error| {
        failure(&error);
        ExitCode::FAILURE
    })
}

fn carry_out(request: &Request) -> Result<ExitCode> {
    let bpffs = &request.bpffs;
    let host = || Host::open(bpffs);
    match &request.command {
        // these do some of their work without privileges, and without a host's help
        Command::Start(start) if start.dry_run => dry_run::start(bpffs, start)?,
        Command::Update(update) if update.dry_run => dry_run::update(bpffs, update)?,
        Command::Explain(explain) => explain::explain(bpffs, explain)?,
        Command::Start(start) => start::start(&host()?, start)?,
        Command::Resume(start) => start::resume(&host()?, start)?,
        Command::Update(update) => update::update(&host()?, update)?,
        Command::Show(show) => show::show(&host()?, show)?,
        Command::Stop(selection) => stop::stop(&host()?, selection)?,
        Command::StopProcesses(selection) => stop::stop_processes(&host()?, selection)?,
        Command::Status(selection) => {
            let running = status::status(&host()?, selection)?;
            return Ok(if running { ExitCode::SUCCESS } else { NOT_RUNNING.into() });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: &anyhow::Error) {
    log::error!("{error:#}");
    logging::to_stderr("error: ", &format!("{error:#}"));
}

/// Help that was asked for, or what is wrong with the flags.
fn usage(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // nobody is left to tell where even this fails
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    logging::init(&args::log_dir_of(args), true);
    let reason = args::reason(error);
    log::error!("{reason}");
    logging::to_stderr("error: ", &format!("{reason}; `mirroring --help` lists the flags"));
    USAGE.into()
}
