//! Copies the packets that match a filter, on one interface and in one direction, to a collector,
//! in a GUE tunnel.
//!
//! Data flows one way: `request::args` → `request` → `filter` and `model` → `command` → `instance` and
//! `maps` → `bpf`. docs/architecture.md says what each room is for.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]
#![warn(missing_docs)]

pub mod abi;
pub mod app;
pub mod attach;
pub mod bpf;
pub mod command;
pub mod daemon;
pub mod filter;
pub mod instance;
pub mod logging;
pub mod loop_guard;
pub mod maps;
pub mod model;
pub mod netlink;
pub mod packet;
pub mod request;
pub mod rules_file;
pub mod signals;
pub mod tunnel;
