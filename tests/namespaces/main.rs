//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod chaos;
mod collector_ipv6;
mod completeness;
mod crashes;
mod existing;
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
