pub mod bpf;
pub mod cli;
pub mod config;
pub mod filter;
pub mod netlink;
