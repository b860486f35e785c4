//! A VXLAN device, as an operator would make it as the tunnel.

use super::{Ns, Topology};

/// Makes the VXLAN device `vx0` on the host and at the collector. Its headers take 50 bytes.
pub fn vxlan(net: &Topology) {
    vxlan_to(net.host(), "10.2.0.2");
    vxlan_to(net.collector(), "10.2.0.1");
}

/// Makes one end: the device `vx0` in this namespace, with the other end at `remote`.
pub fn vxlan_to(ns: &Ns, remote: &str) {
    ns.sh(&format!(
        "ip link add vx0 type vxlan id 7 remote {remote} dstport 4789; ip link set vx0 up"
    ));
}
