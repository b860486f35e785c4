//! The man page and the shells' completions, in `manual/`: they are made from the flags, and these tests hold
//! them to those. `make manual` writes them anew.

use std::env;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use traffic_mirroring::request::args::Cli;

const NAME: &str = "mirroring";
/// The variable by which the files are written rather than compared.
const WRITE: &str = "WRITE_MANUAL";

/// What no flag says.
const MORE: &str = r#".SH "EXIT STATUS"
.IP 0
Done.
.IP 1
An error, which stderr and the log name.
.IP 2
A flag, its value or the file of rules is wrong.
.IP 3
\-\-cmd=status: nothing of that is running.
.SH FILES
.IP /var/log/l3af/mirroring.log
What starts, stops and changes, and what is wrong meanwhile.
.IP /sys/fs/bpf
The BPF file system, which has what outlives a process.
.SH "SEE ALSO"
.BR tc (8),
.BR tcpdump (8)
"#;

fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut Cli::command(), NAME, &mut text);
    String::from_utf8(text).expect("completions in UTF-8")
}

fn man_page() -> String {
    let mut page = Vec::new();
    let man = Man::new(Cli::command()).section("8").manual("Traffic Mirroring Tool");
    man.render(&mut page).expect("a man page in memory");
    String::from_utf8(page).expect("a man page in UTF-8") + MORE
}

#[track_caller]
fn assert_current(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manual").join(file);
    if env::var_os(WRITE).is_some() {
        fs::write(&path, expected).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "manual/{file} is not what the flags say; run: make manual");
}

#[test]
fn the_man_page_is_made_from_the_flags() {
    assert_current("mirroring.8", &man_page());
}

#[test]
fn the_completions_are_made_from_the_flags() {
    assert_current("mirroring.bash", &completions(Shell::Bash));
    assert_current("_mirroring", &completions(Shell::Zsh));
    assert_current("mirroring.fish", &completions(Shell::Fish));
}
