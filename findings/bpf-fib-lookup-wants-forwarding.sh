#!/usr/bin/env bash
# Linux 6.18, bpf_fib_lookup in a tc program (libbpf-sys 1.7.0, crates.io, loads it): on a host that does not forward it
# says BPF_FIB_LKUP_RET_FWD_DISABLED (5), with BPF_FIB_LOOKUP_OUTPUT, too, which asks for what the host itself sends. What
# counts is one setting, net.ipv4.conf.DEVICE.forwarding of the device whose index is asked with: it may be a device that
# no packet ever comes in by, and the route may leave by another one, whose forwarding is off.
#
# Seen, asking for 192.0.2.2, which is on the link of "out":
#   flags 0, BPF_FIB_LOOKUP_OUTPUT with "out"          5 5  (nobody forwards)
#   flags 0 with "idle", whose forwarding is 1         7    (BPF_FIB_LKUP_RET_NO_NEIGH: not resolved yet)
#   the same with a permanent neighbour                0
#   the same when that neighbour is INCOMPLETE         7
#
# Needs cargo, crates.io, root, ip(8), and what builds libbpf (gcc, make, pkg-config, autoconf, automake, autopoint, flex,
# bison, gawk). Exits 1 if any of that is otherwise.
set -euo pipefail

[ "$(id -u)" = 0 ] || {
    echo "root is missing, for a network namespace and a tc program" >&2
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
libbpf-sys = { version = "=1.7.0", default-features = false, features = ["vendored"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use std::{env, mem, ptr};

/// One instruction: opcode, destination and source registers, offset, immediate (linux/bpf.h).
fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> libbpf_sys::bpf_insn {
    let bytes = [code, src << 4 | dst, off.to_ne_bytes()[0], off.to_ne_bytes()[1]];
    let both = [&bytes[..], &imm.to_ne_bytes()].concat();
    unsafe { ptr::read_unaligned(both.as_ptr().cast()) }
}

/// arguments: ifindex flags
fn main() {
    let numbers: Vec<i32> = env::args().skip(1).map(|it| it.parse().unwrap()).collect();
    let address = i32::from_ne_bytes([192, 0, 2, 2]);
    const LOOKUP: i16 = -64; // struct bpf_fib_lookup, on the stack
    let mut program: Vec<_> = (0..8).map(|word| insn(0x7a, 10, 0, LOOKUP + 8 * word, 0)).collect();
    program.extend([
        insn(0x72, 10, 0, LOOKUP, 2),               // family = AF_INET
        insn(0x62, 10, 0, LOOKUP + 8, numbers[0]),  // ifindex
        insn(0x62, 10, 0, LOOKUP + 32, address),    // ipv4_dst
        insn(0xbf, 2, 10, 0, 0),                    // r2 = r10
        insn(0x07, 2, 0, 0, LOOKUP.into()),         // r2 += LOOKUP
        insn(0xb7, 3, 0, 0, 64),                    // r3 = its size
        insn(0xb7, 4, 0, 0, numbers[1]),            // r4 = flags
        insn(0x85, 0, 0, 0, 69),                    // call bpf_fib_lookup
        insn(0x95, 0, 0, 0, 0),                     // exit
    ]);
    let frame = [0_u8; 64];
    unsafe {
        let fd = libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"finding".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as _,
            ptr::null_mut(),
        );
        assert!(fd >= 0, "the program is refused: {fd}");
        let mut run: libbpf_sys::bpf_test_run_opts = mem::zeroed();
        run.sz = mem::size_of_val(&run) as _;
        run.data_in = frame.as_ptr().cast();
        run.data_size_in = frame.len() as _;
        run.repeat = 1;
        let error = libbpf_sys::bpf_prog_test_run_opts(fd, &mut run);
        assert_eq!(error, 0, "the run is refused");
        println!("{}", run.retval);
    }
}
RUST
cargo build --quiet --manifest-path "$work/Cargo.toml"
# shellcheck disable=SC2016 # the inner shell expands them
said=$(unshare --net --mount bash -euo pipefail -c '
    ask() { "$1/target/debug/finding" "$(cat "/sys/class/net/$2/ifindex")" "$3"; }
    mount -t sysfs sysfs /sys
    for name in out idle; do
        ip link add "$name" type veth peer name "$name-p"
        ip link set "$name" up
        ip link set "$name-p" up
    done
    ip address add 192.0.2.1/24 dev out
    ask "$1" out 0
    ask "$1" out 2
    echo 1 >/proc/sys/net/ipv4/conf/idle/forwarding
    ask "$1" idle 0
    ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev out nud permanent
    ask "$1" idle 0
    ip neigh del 192.0.2.2 dev out
    # a packet makes the kernel ask for the neighbour, which nobody is
    (echo x >/dev/udp/192.0.2.2/9) 2>/dev/null
    ip neigh show dev out | grep -q INCOMPLETE
    ask "$1" idle 0
' bash "$work" | xargs)
echo "$said"
[ "$said" = "5 5 7 0 7" ] || {
    echo "changed: 5 5 7 0 7 was seen" >&2
    exit 1
}
