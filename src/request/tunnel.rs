//! The flags about the tunnel.

use anyhow::{Result, ensure};

use super::args::Cli;
use super::flags::value;
use super::values;
use crate::model::tunnel::port;
use crate::model::{LocalPort, Tunnel};

pub(super) const DEFAULT_TUNNEL: &str = "gue1";
/// The port that IANA has assigned to GUE.
pub(super) const DEFAULT_PORT: u16 = 6080;

impl Tunnel {
    pub(super) fn from_cli(cli: &Cli) -> Result<Self> {
        value("--tunnel-type", &cli.tunnel_type, |kind| {
            ensure!(
                kind == "gue",
                "{kind:?} is not a kind of tunnel that there is; the one is gue"
            );
            Ok(())
        })?;
        let name = value("--tunnel-interface-name", &cli.tunnel_interface_name, str::parse)?;
        let tunnel = Self {
            name: name.map_or_else(|| DEFAULT_TUNNEL.parse(), Ok)?,
            local_port: value("--tunnel-local-port", &cli.tunnel_local_port, str::parse)?
                .unwrap_or(LocalPort::Fixed(DEFAULT_PORT)),
            remote_port: value("--tunnel-remote-port", &cli.tunnel_remote_port, port)?
                .unwrap_or(DEFAULT_PORT),
            remote_address: value(
                "--tunnel-remote-address",
                &cli.tunnel_remote_address,
                values::collector,
            )?,
            redirect_to: value("--redirect-to", &cli.redirect_to, str::parse)?,
            gateway: value("--gtw-address", &cli.gtw_address, values::unicast)?,
            oversize: value("--oversize", &cli.oversize, str::parse)?.unwrap_or_default(),
            dscp: value("--tunnel-dscp", &cli.tunnel_dscp, values::dscp)?,
            ttl: value("--tunnel-ttl", &cli.tunnel_ttl, values::ttl)?,
        };
        ensure!(
            tunnel.redirect_to.as_ref() != Some(&tunnel.name),
            "--redirect-to: \"{}\" is the tunnel interface itself; give the one by which the copies \
             leave for the collector, e.g. --redirect-to=eth1",
            tunnel.name
        );
        if let (Some(collector), Some(gateway)) = (tunnel.remote_address, tunnel.gateway) {
            ensure!(
                collector.is_ipv4() == gateway.is_ipv4(),
                "--gtw-address: {gateway} and the collector {collector} are not of the same version \
                 of IP; give a next hop that is, or leave it out"
            );
        }
        Ok(tunnel)
    }
}
