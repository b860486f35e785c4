//! The log: a file for whoever comes later, and the terminal for whoever is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, LineWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use log::LevelFilter;

use crate::request::args::DEFAULT_LOG_DIR;

const FILE: &str = "mirroring.log";

/// Sends log lines to `<dir>/mirroring.log` and, unless it is to be quiet, to a terminal on
/// stderr. A file that cannot be opened is said on stderr, and no reason to stop.
pub fn init(dir: &Path, quiet: bool) {
    let mut log = fern::Dispatch::new()
        .level(LevelFilter::Warn)
        .level_for("traffic_mirroring", LevelFilter::Debug)
        .level_for("libbpf", LevelFilter::Debug);
    match open(dir) {
        Ok(file) => log = log.chain(to_file(file)),
        Err(error) => to_stderr(&format!(
            "cannot open the log {}: {error}; going on without it",
            dir.join(FILE).display()
        )),
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
                "{} {} {:<5} {message}",
                humantime::format_rfc3339_millis(SystemTime::now()),
                std::process::id(),
                record.level(),
            ));
        })
        .chain(tolerant(file))
}

/// Errors are not for here: `main` prints the one that ends the command.
fn to_terminal() -> fern::Dispatch {
    fern::Dispatch::new()
        .filter(|record| matches!(record.level(), log::Level::Info | log::Level::Warn))
        .format(|out, message, record| match record.level() {
            log::Level::Warn => out.finish(format_args!("mirroring: warning: {message}")),
            _ => out.finish(format_args!("mirroring: {message}")),
        })
        .chain(tolerant(io::stderr()))
}

/// Says something on stderr, as far as anybody listens. (`eprintln!` panics where nobody does.)
pub fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "mirroring: {text}");
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
