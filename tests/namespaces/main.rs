//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod chaos;
mod completeness;
mod crashes;
mod dry_run;
mod existing;
mod explain;
mod fixture;
mod guard;
mod hooks;
mod innocence;
mod kernel_gue;
mod lifecycle;
mod mirrored;
mod outer;
mod rate;
mod support;
mod takeover;
mod tunnels;
mod watch;
mod whole;
