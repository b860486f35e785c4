//! What is mirrored, and what arrives of it.

use super::collector::Copies;
use super::{Capture, Collector, Frames, GUE_PORT, QUIET, Topology};

/// Runs traffic. Returns what the collector got, and the frames that passed the host's `eth0` meanwhile.
pub fn observe(net: &Topology, traffic: impl FnOnce()) -> (Copies, Frames) {
    let collector = Collector::listen(net.collector(), GUE_PORT);
    let capture = Capture::start(net.host(), "eth0");
    traffic();
    (collector.stop_after_quiet(QUIET), capture.stop())
}
