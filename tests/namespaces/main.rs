//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod fixture;
mod lifecycle;
mod mirrored;
mod support;
mod tunnels;
mod whole;
