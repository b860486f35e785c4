//! `mirroring`: see `mirroring --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    traffic_mirroring::app::run(std::env::args_os())
}
