//! A small topology of network namespaces, traffic through it, and captures of both of its links.
//!
//! ```text
//!        client                     host                     collector
//!   ┌──────────────┐        ┌───────────────────┐        ┌──────────────┐
//!   │         eth0 ├────────┤ eth0         eth1 ├────────┤ eth0         │
//!   │     10.1.0.2 │        │ 10.1.0.1 10.2.0.1 │        │ 10.2.0.2     │
//!   └──────────────┘        └───────────────────┘        └──────────────┘
//!      production traffic: ping, tcp, udp, frames   copies: GUE, UDP port 6080
//! ```
//!
//! Both networks are /24. `mirroring` runs on the host. The client and the collector have a default route to it, but it
//! forwards nothing. IPv6 is off, so beside the test's traffic there is only ARP. Interfaces have their default
//! offloads, with which TCP sends super-packets. [`Ns::without_offloads`] turns them off.
//!
//! A test is the body of [`Topology::run`]. Every topology also has its own mounts (bpffs, `/run`, `/var/log`), so
//! topologies do not see each other. Only the test's thread and its children hold namespaces and mounts. All of it is
//! gone when they end, also after a panic or a SIGKILL.

mod another_version;
mod bpf_calls;
pub mod bpf_programs;
mod capture;
mod collector;
mod collector_ipv6;
mod counters;
mod cpus;
mod daemon;
pub mod foreign_programs;
mod instance;
mod ip;
mod ipv6;
mod kernel_gue;
mod kernel_log;
mod kernel_version;
mod l3afd;
mod launch_modes;
mod map_contents;
mod namespace;
mod observe;
mod packet;
mod random;
mod reassembly;
mod receiver;
mod repeat_if_packets_lost;
mod rules;
mod shown;
mod slow_machine;
mod snapshot;
mod socket;
mod stream;
pub mod tcx;
mod terminal;
mod topology;
mod traffic;
mod vxlan;

use std::thread;
use std::time::{Duration, Instant};

pub use another_version::{make_another_version, shorten_record};
pub use bpf_calls::BpfCalls;
pub use bpf_programs::{Counter, Root};
pub use capture::{Capture, Direction, Frame, Frames};
pub use collector::{Collector, Copies, GUE_PORT};
pub use collector_ipv6::{
    COLLECTOR6, FRAGMENT, IPV6_HLEN, NEAR_COLLECTOR6, TO_COLLECTOR6, UDP, with_ipv6_to_collector,
};
pub use counters::Counters;
pub use cpus::cpus;
pub use daemon::{Daemon, mirroring, wait_until_calm};
pub use instance::{
    QUIET, Release, Summary, TO_COLLECTOR, args, command, copies_of_three_pings, jmp_table,
    load_as, load_as_l3afd, run_as_l3afd, start, start_chained, status,
};
pub use ip::{assert_same, assert_sums6, source};
pub use ipv6::{
    CLIENT6, HOST6, add_ipv6, ping6, tcp_exchange6, udp_exchange6, udp_with_extensions, with_ipv6,
};
pub use kernel_gue::{KernelCollector, kernel_gue};
pub use kernel_log::KernelLog;
pub use kernel_version::{has_limited_maps, has_tcx};
pub use l3afd::by_l3afd;
pub use launch_modes::{Launcher, Mode, in_every_launch_mode, in_self_loaded_modes};
pub use map_contents::map_contents;
pub use namespace::Ns;
pub use observe::observe;
pub use packet::{Packet, assert_sums};
pub use random::Random;
pub use reassembly::{datagrams, stream};
pub use repeat_if_packets_lost::undisturbed;
pub use rules::{instance, outcomes, rules_file, to_be_mirrored};
pub use shown::{show, shown, shown_one};
pub use slow_machine::{LIMIT, patient};
pub use snapshot::Snapshot;
pub use stream::Stream;
pub use terminal::pty;
pub use topology::{
    CLIENT, CLIENT_MAC, COLLECTOR, HOST, HOST_MAC, ROUTER_MAC, SERVER_MAC, Topology,
    one_frame_per_packet,
};
pub use traffic::{
    bind, inject, inject_all, inject_in_pages, noise, ping, tcp_exchange, tcp_exchange_with,
    udp_blast, udp_exchange, udp_exchange_between, udp_segments, udp_with_options,
};
pub use vxlan::{vxlan, vxlan_to};

/// Waits until `condition` holds. Panics after [`LIMIT`], and names `what` it has waited for.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = patient(LIMIT);
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "no sign of {what} within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
