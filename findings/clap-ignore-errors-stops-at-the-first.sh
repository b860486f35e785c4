#!/usr/bin/env bash
# clap 4.6.9 (crates.io): with `ignore_errors(true)` the parser does not read on behind a word that it does not know: a
# flag in front of that word is found, the same flag behind it is not. "Try not to fail on parse errors" does not say so.
# So it cannot serve to find out one flag (where to log, say) of a command line that is wrong.
#
# Seen: --log-dir=/a --nonsense x -> Some("/a"); --nonsense --log-dir=/a x -> None.
#
# Needs cargo and crates.io. Exits 1 if any of that is otherwise.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
clap = "=4.6.9"
TOML
cat >"$work/src/main.rs" <<'RUST'
use clap::{Arg, Command};

fn main() {
    for line in ["x --log-dir=/a --nonsense x", "x --nonsense --log-dir=/a x"] {
        let command = Command::new("x").ignore_errors(true).arg(Arg::new("log-dir").long("log-dir"));
        let found = command.try_get_matches_from(line.split(' ')).expect("errors are ignored");
        println!("{:?}", found.get_one::<String>("log-dir"));
    }
}
RUST
said=$(cargo run --quiet --manifest-path "$work/Cargo.toml")
echo "$said"
[ "$said" = $'Some("/a")\nNone' ] || {
    echo "changed: Some(\"/a\") and None were seen" >&2
    exit 1
}
