//! `mirroring`: see `mirroring --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    traffic_mirroring::run::run(std::env::args_os())
}
