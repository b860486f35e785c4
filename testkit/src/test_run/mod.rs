//! The tc programs in the kernel's `BPF_PROG_TEST_RUN`, and packets for them.

pub mod harness;
pub mod packets;
pub mod packets_ipv6;
