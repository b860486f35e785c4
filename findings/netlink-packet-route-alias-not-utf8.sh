#!/usr/bin/env bash
# netlink-packet-route 0.34.0 with netlink-packet-core 0.9.0 (crates.io): one device whose alias is not UTF-8 makes the
# decoder refuse all that the kernel says of the device, its index and name, too. To the kernel an alias is up to 255
# bytes of anybody's; network automation writes Latin-1 there. A program that asks for such a device gets an error, and
# one that lists devices does not see it, though neither has a use for the alias.
#
# Seen: the alias "B\xc3\xbcro" (UTF-8) -> the message is decoded; "B\xfcro" (Latin-1) -> an error, nothing is decoded.
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
netlink-packet-core = "=0.9.0"
netlink-packet-route = "=0.34.0"
TOML
cat >"$work/src/main.rs" <<'RUST'
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;

/// RTM_NEWLINK of a device with index 7 and this IFLA_IFALIAS.
fn message(alias: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4] = 7;
    let value = [alias, &[0]].concat();
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(20_u16.to_ne_bytes());
    body.extend(&value);
    body.resize(body.len().next_multiple_of(4), 0);
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(16_u16.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message
}

fn main() {
    for alias in [&b"B\xc3\xbcro"[..], b"B\xfcro"] {
        let decoded = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&message(alias));
        println!("{}", if decoded.is_ok() { "decoded" } else { "error" });
    }
}
RUST
said=$(cargo run --quiet --manifest-path "$work/Cargo.toml")
echo "$said"
[ "$said" = $'decoded\nerror' ] || {
    echo "changed: decoded and error were seen" >&2
    exit 1
}
