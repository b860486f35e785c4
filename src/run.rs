//! From the words of the command line to an exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{self, Cli};
use crate::config::{Command, Config};
use crate::filter::{self, Rule, show};
use crate::{logging, rules_file, start, status, stop, update};

/// `--cmd=status`: what was asked about is not running (as in the LSB's init scripts).
const NOT_RUNNING: u8 = 3;
/// The command line makes no sense.
const USAGE: u8 = 2;

/// Runs one command. Errors are on stderr and in the log when it returns.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = cli::normalize(args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let config = match Config::from_cli(&cli, rules_file::read) {
        Ok(config) => config,
        Err(error) => {
            logging::init(&cli::log_dir_of(&args), true);
            return failure(&error);
        }
    };
    // l3afd takes anything but the one word that status prints for a failure
    if !matches!(config.command, Command::Status(_)) {
        logging::init(&config.log_dir, config.quiet);
    }
    log::debug!("called as {args:?}");
    carry_out(&config).unwrap_or_else(|error| failure(&error))
}

fn carry_out(config: &Config) -> Result<ExitCode> {
    let bpffs = &config.bpffs;
    match &config.command {
        Command::Start(start) if start.dry_run => show_rules(&start.rules)?,
        Command::Update(update) if update.dry_run => match &update.rules {
            Some(rules) => show_rules(rules)?,
            None => print("no rules are given: those in force stay as they are\n")?,
        },
        Command::Start(start) => start::start(bpffs, start)?,
        Command::Update(update) => update::update(bpffs, update)?,
        Command::Stop(selection) => stop::stop(bpffs, selection)?,
        Command::Status(selection) => {
            let running = status::status(bpffs, selection)?;
            return Ok(if running { ExitCode::SUCCESS } else { NOT_RUNNING.into() });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_rules(rules: &[Rule]) -> Result<()> {
    print(&show::table(rules, &filter::compile(rules)?))
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot print the rules")
}

fn failure(error: &anyhow::Error) -> ExitCode {
    log::error!("{error:#}");
    logging::to_stderr(&format!("error: {error:#}"));
    ExitCode::FAILURE
}

/// Help that was asked for, or what is wrong with the flags.
fn usage(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // nobody is left to tell where even this fails
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    logging::init(&cli::log_dir_of(args), true);
    log::error!("{}", error.to_string().trim_end());
    let _ = error.print();
    USAGE.into()
}
