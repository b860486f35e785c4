//! Observes both sides: the packets on the mirrored interface, and the copies that arrive.

use super::collector::Copies;
use super::{Capture, Collector, Frames, GUE_PORT, QUIET, Topology};

/// Runs `traffic`. Returns the copies that the collector received, and the frames that passed the host's `eth0`
/// meanwhile.
pub fn observe(net: &Topology, traffic: impl FnOnce()) -> (Copies, Frames) {
    let collector = Collector::listen(net.collector(), GUE_PORT);
    let capture = Capture::start(net.host(), "eth0");
    traffic();
    (collector.stop_after_quiet(QUIET), capture.stop())
}
