#!/usr/bin/env bash
# nix 0.31.3 (crates.io), Linux: `if_indextoname` of an index that no interface has is Ok with an empty name, not an
# error. C's if_indextoname(3) returns a null pointer then, with ENXIO; nix compares the pointer with -1, as for calls
# like mmap, so the null passes. `if_nametoindex` of a missing name is an error, as one expects.
#
# Seen: index 2147483647 -> Ok(""); name "no-such-if" -> Err(ENODEV).
# Who asks "is this interface still there?" this way hears yes for ever.
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
nix = { version = "=0.31.3", features = ["net"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use nix::net::if_::{if_indextoname, if_nametoindex};

fn main() {
    println!("index {:?}", if_indextoname(i32::MAX as u32));
    println!("name {:?}", if_nametoindex("no-such-if"));
}
RUST
said=$(cargo run --quiet --manifest-path "$work/Cargo.toml")
echo "$said"
[ "$said" = $'index Ok("")\nname Err(ENODEV)' ] || {
    echo "changed: nix 0.31.3 was seen to say: index Ok(\"\"), name Err(ENODEV)" >&2
    exit 1
}
