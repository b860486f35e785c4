//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod crashes;
mod existing;
mod fixture;
mod hooks;
mod lifecycle;
mod mirrored;
mod outer;
mod support;
mod tunnels;
mod whole;
