//! Reference programs of a few instructions, so that no compiler is needed.

use std::os::fd::OwnedFd;

use testkit::namespaces::bpf_programs::{insn, load};

/// linux/pkt_cls.h
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

const EXIT: u64 = insn(0x95, 0, 0, 0, 0);

/// Does nothing.
pub fn empty() -> OwnedFd {
    load(c"bench", &[insn(0xb7, 0, 0, 0, TC_ACT_UNSPEC), EXIT])
}

/// Clones every packet to a device.
pub fn bare_clone(ifindex: u32) -> OwnedFd {
    load(
        c"bench",
        &[
            insn(0xb4, 2, 0, 0, ifindex as i32), // w2 = ifindex
            insn(0xb7, 3, 0, 0, 0),              // r3 = 0
            insn(0x85, 0, 0, 0, 13),             // bpf_clone_redirect(ctx, ifindex, 0)
            insn(0xb7, 0, 0, 0, TC_ACT_UNSPEC),
            EXIT,
        ],
    )
}

/// Drops UDP over IPv4. It looks only at the protocol in the tenth byte of the header.
pub fn drop_udp() -> OwnedFd {
    load(
        c"bench",
        &[
            insn(0xb7, 0, 0, 0, TC_ACT_UNSPEC),
            insn(0x61, 2, 1, 76, 0), // r2 = ctx->data
            insn(0x61, 3, 1, 80, 0), // r3 = ctx->data_end
            insn(0xbf, 4, 2, 0, 0),
            insn(0x07, 4, 0, 0, 34), // r4 = data + 34
            insn(0x2d, 4, 3, 3, 0),  // too short: exit
            insn(0x71, 5, 2, 23, 0), // r5 = protocol
            insn(0x55, 5, 0, 1, 17), // another protocol: exit
            insn(0xb7, 0, 0, 0, TC_ACT_SHOT),
            EXIT,
        ],
    )
}

/// Drops everything.
pub fn drop_all() -> OwnedFd {
    load(c"bench", &[insn(0xb7, 0, 0, 0, TC_ACT_SHOT), EXIT])
}
