//! Copies the packets that match a filter, on one interface and in one direction, to a collector,
//! in a GUE tunnel.
//!
//! Data flows one way: `cli` → `config` → `filter` → `maps` → `chain` or `hook`. What is pure
//! (`cli`, `config`, `filter`, `packet`, `prefixes`, `rate`, `tunnel::outer`) never reaches into what
//! touches the kernel.

pub mod bpf;
pub mod chain;
pub mod cli;
pub mod config;
pub mod dry_run;
pub mod explain;
pub mod filter;
pub mod guard;
pub mod hook;
pub mod host;
pub mod instance;
pub mod logging;
pub mod mapped;
pub mod maps;
pub mod netlink;
pub mod packet;
pub mod pins;
pub mod prefixes;
pub mod process;
pub mod programs;
pub mod publisher;
pub mod rate;
pub mod rules_file;
pub mod run;
pub mod show;
pub mod start;
pub mod starting;
pub mod status;
pub mod stay;
pub mod stop;
pub mod tunnel;
pub mod undo;
pub mod update;
pub mod watch;
