#!/usr/bin/env bash
# libbpf-rs 0.27.2 with the libbpf that it brings (crates.io), Linux: a process that may not use bpf() is told that the
# kernel lacks what it has. `MapType::is_supported` is Ok(false) for plain arrays, not an error: libbpf tries to make such a
# map, and takes any refusal, EPERM too, for "no such kind of map". `ProgramType::is_supported` does the same.
#
# Seen: as root Ok(true), Ok(true); as another user, with kernel.unprivileged_bpf_disabled, Ok(false), Ok(false).
# So a probe that says no says nothing, until it is known that the same process may make some map.
#
# Needs cargo, crates.io, root, and what builds libbpf (gcc, make, pkg-config, autoconf, automake, autopoint, flex, bison,
# gawk). Exits 1 if any of that is otherwise.
set -euo pipefail

[ "$(id -u)" = 0 ] || {
    echo "root is missing: the two answers are those of root and of another user" >&2
    exit 2
}
[ "$(cat /proc/sys/kernel/unprivileged_bpf_disabled)" != 0 ] || {
    echo "here everybody may use bpf(): sysctl kernel.unprivileged_bpf_disabled is 0" >&2
    exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
libbpf-rs = { version = "=0.27.2", default-features = false, features = ["vendored"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use libbpf_rs::{MapType, ProgramType};

fn main() {
    println!("{:?} {:?}", MapType::Array.is_supported(), ProgramType::SchedCls.is_supported());
}
RUST
cargo build --quiet --manifest-path "$work/Cargo.toml"
install -m 755 "$work/target/debug/finding" "$work/finding"
chmod 755 "$work"
root=$("$work/finding")
other=$(setpriv --reuid 65534 --regid 65534 --clear-groups "$work/finding" 2>/dev/null)
echo "root: $root; another user: $other"
if [ "$root; $other" != "Ok(true) Ok(true); Ok(false) Ok(false)" ]; then
    echo "changed: Ok(true) Ok(true) and Ok(false) Ok(false) were seen" >&2
    exit 1
fi
