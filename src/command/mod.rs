//! The commands, a module for each, and what they share.

pub mod dry_run;
pub mod explain;
mod launcher;
pub mod pending_start;
pub mod rollback;
pub mod show;
pub mod start;
pub mod status;
pub mod stop;
pub mod update;
