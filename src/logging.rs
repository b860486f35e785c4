//! The log: a file for whoever comes later, and the terminal for whoever is there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, LineWriter, Write};
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use log::LevelFilter;

use crate::request::args::DEFAULT_LOG_DIR;

const FILE: &str = "mirroring.log";

/// What every line is about: the instance, `eth0 ingress`, or the instances that a command is for, `eth0`.
static SUBJECT: RwLock<String> = RwLock::new(String::new());

/// Has every line from here on name what this process is about, also those of [`to_stderr`].
pub fn set_subject(subject: String) {
    *SUBJECT.write().unwrap_or_else(PoisonError::into_inner) = subject;
}

/// Sends log lines to `<dir>/mirroring.log` and, unless it is to be quiet, to a terminal on
/// stderr. A file that cannot be opened is said on stderr, and no reason to stop.
pub fn init(dir: &Path, quiet: bool) {
    let mut log = fern::Dispatch::new()
        .level(LevelFilter::Warn)
        .level_for("traffic_mirroring", LevelFilter::Debug)
        .level_for("libbpf", LevelFilter::Debug);
    match open(dir) {
        Ok(file) => log = log.chain(to_file(file)),
        Err(error) => to_stderr(
            "warning: ",
            &format!(
                "cannot open the log {}: {error}; going on without it",
                dir.join(FILE).display()
            ),
        ),
    }
    if io::stderr().is_terminal() && !quiet {
        log = log.chain(to_terminal());
    }
    // fails only where a logger is in place already
    log.apply().expect("logging is set up once");
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, |_, line| {
        log::debug!(target: "libbpf", "{}", line.trim_end());
    })));
}

fn open(dir: &Path) -> io::Result<File> {
    // only our own directory is made: a mistyped --log-dir is better told than filled
    if dir == Path::new(DEFAULT_LOG_DIR) {
        fs::create_dir_all(dir)?;
    }
    let path = dir.join(FILE);
    OpenOptions::new().create(true).append(true).open(path)
}

fn to_file(file: File) -> fern::Dispatch {
    fern::Dispatch::new()
        .format(|out, message, record| {
            out.finish(format_args!(
                "{} {} {:<5} {}",
                humantime::format_rfc3339_millis(SystemTime::now()),
                std::process::id(),
                record.level(),
                with_subject(message),
            ));
        })
        .chain(tolerant(file))
}

/// Errors are not for here: `main` prints the one that ends the command.
fn to_terminal() -> fern::Dispatch {
    fern::Dispatch::new()
        .filter(|record| matches!(record.level(), log::Level::Info | log::Level::Warn))
        .format(|out, message, record| {
            let kind = if record.level() == log::Level::Warn { "warning: " } else { "" };
            let message = with_subject(message);
            out.finish(format_args!("mirroring: {kind}{message}"));
        })
        .chain(tolerant(io::stderr()))
}

/// Prints a message of this kind, `error: ` say, on stderr. Unlike `eprintln!` it does not panic where nobody
/// reads that.
pub fn to_stderr(kind: &str, message: &str) {
    let _ = writeln!(io::stderr(), "mirroring: {kind}{}", with_subject(message));
}

fn with_subject(message: impl fmt::Display) -> String {
    let subject = SUBJECT.read().unwrap_or_else(PoisonError::into_inner);
    prefixed(&message.to_string(), &subject)
}

/// The message, behind the subject unless it names that itself.
fn prefixed(message: &str, subject: &str) -> String {
    let names_it = format!(" {message} ").contains(&format!(" {subject} "));
    if subject.is_empty() || names_it {
        message.to_owned()
    } else {
        format!("{subject}: {message}")
    }
}

/// Where a full disk or a terminal that has gone is no reason to end: fern panics where it can write
/// neither a line nor, to stderr, that it could not. A hangup does both at once.
struct Tolerant<W>(W);

fn tolerant(writer: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    // lines are written whole: instances share a file
    Box::new(Tolerant(LineWriter::new(writer)))
}

impl<W: Write> Write for Tolerant<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_its_instance_once() {
        let named = "received SIGTERM, stopping eth0 ingress (latest)";
        assert_eq!(prefixed(named, "eth0 ingress"), named);
        assert_eq!(
            prefixed("resolved: no carrier", "eth0 ingress"),
            "eth0 ingress: resolved: no carrier"
        );
        assert_eq!(
            prefixed("stopping veth0 ingress (1)", "eth0"),
            "eth0: stopping veth0 ingress (1)"
        );
        assert_eq!(prefixed("nothing to stop", ""), "nothing to stop");
    }
}
