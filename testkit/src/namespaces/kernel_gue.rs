//! The kernel's own GUE: a device that adds the headers to packets, and removes them. It needs the modules fou and
//! ipip.

use std::net::Ipv4Addr;

use super::{Capture, Direction, GUE_PORT, Ns};

/// Makes the device `gue1`, as an operator makes it who uses the kernel's tunnel.
pub fn kernel_gue(ns: &Ns, local: Ipv4Addr, remote: Ipv4Addr) {
    ns.sh(&format!(
        "
        ip fou add port {GUE_PORT} gue
        ip link add gue1 type ipip remote {remote} local {local} ttl 225 \
            encap gue encap-sport {GUE_PORT} encap-dport {GUE_PORT}
        ip link set gue1 up"
    ));
}

/// The kernel as the collector: a capture of what comes out of its GUE device.
pub struct KernelCollector(Capture);

impl KernelCollector {
    /// Starts to listen. The device merges no packets into super-packets, so they come out as they went in.
    pub fn listen(ns: &Ns, local: Ipv4Addr, remote: Ipv4Addr) -> KernelCollector {
        kernel_gue(ns, local, remote);
        for ifname in ["eth0", "gue1"] {
            ns.without_offloads(ifname);
        }
        KernelCollector(Capture::start(ns, "gue1"))
    }

    /// The mirrored packets, in order.
    pub fn stop(self) -> Vec<Vec<u8>> {
        let frames = self.0.stop().0;
        let received = frames.into_iter().filter(|frame| frame.direction == Direction::Received);
        // the device has no link layer: a frame is a packet
        received.map(|frame| frame.bytes).collect()
    }
}
