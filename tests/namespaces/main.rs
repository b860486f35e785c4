//! Real traffic through real interfaces, in network namespaces that each test makes for itself.

mod bad_input;
mod chain;
mod chaos;
mod coexistence;
mod collector_ipv6;
mod completeness;
mod crashes;
#[path = "../oracle/datagrams.rs"]
mod datagrams;
mod dry_run;
mod existing;
mod explain;
mod fixture;
mod flips;
mod fragments;
#[path = "../oracle/frame.rs"]
mod frame;
mod guard;
mod hooks;
mod innocence;
mod ipv6;
mod kernel_gue;
mod l3afd_launches;
mod l3afd_releases;
mod l3afd_restarts;
mod lifecycle;
#[path = "../oracle/meaning.rs"]
mod meaning;
mod metrics;
mod mirrored;
mod outer;
mod rate;
mod rules;
#[path = "../oracle/schemas.rs"]
mod schemas;
mod show;
mod show_neighbours;
mod show_tunnel;
mod show_watch;
mod support;
mod takeover;
mod taps;
mod tunnels;
mod update;
mod upgrade;
mod vlan;
mod watch;
mod whole;
mod without_modules;
