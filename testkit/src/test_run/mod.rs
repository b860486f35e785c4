//! Runs the tc programs with the kernel's `BPF_PROG_TEST_RUN`, and makes packets for them.

pub mod harness;
pub mod packets;
pub mod packets_ipv6;
