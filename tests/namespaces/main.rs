//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod crashes;
mod fixture;
mod guard;
mod hooks;
mod lifecycle;
mod mirrored;
mod rate;
mod support;
mod tunnels;
mod whole;
