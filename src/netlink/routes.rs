//! The route that the kernel would choose for a packet, and the routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, family, unless_refused};

/// The route that the kernel would choose for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The device that the packet leaves by. For an address of this host, that is `lo`.
    pub ifindex: u32,
    /// None where the destination itself is on that link, or where the gateway is of the other family.
    pub gateway: Option<IpAddr>,
    /// The source address that the kernel would give it.
    pub source: Option<IpAddr>,
    /// The MTU of the route, configured or learned. Without one, the MTU of the device counts.
    pub mtu: Option<u32>,
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network that the route leads to. That of a default route has length 0.
    pub destination: IpNetwork,
    /// The device of the route; none if it has several next hops.
    pub ifindex: Option<u32>,
    /// None where the destinations are on the link, where the gateway is of the other family, and on a route over
    /// several next hops.
    pub gateway: Option<IpAddr>,
    /// Who made the route (RTPROT_* in linux/rtnetlink.h).
    pub protocol: u8,
}

impl Netlink {
    /// The route that a packet to `destination` would take, of those by the device `through` if one is given. If no
    /// route leads through that device, the kernel assumes that an IPv4 destination is on-link there. Fails where
    /// there is no route.
    pub fn route_to(&mut self, destination: IpAddr, through: Option<u32>) -> Result<NextHop> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = IpNetwork::from(destination).prefix();
        message.attributes = vec![RouteAttribute::Destination(destination.into())];
        message.attributes.extend(through.map(RouteAttribute::Oif));
        let answer = self.get(RouteNetlinkMessage::GetRoute(message));
        let answer = answer.with_context(|| match through {
            None => format!("no route to \"{destination}\""),
            Some(ifindex) => {
                format!("no route to \"{destination}\" through {}", self.device(ifindex))
            }
        })?;
        let RouteNetlinkMessage::NewRoute(answer) = answer else {
            bail!("the kernel's answer is no route: {answer:?}");
        };
        NextHop::decode(&answer)
            .with_context(|| format!("the kernel's route to \"{destination}\" has no device"))
    }

    /// The unicast routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let routes = self.dump(RouteNetlinkMessage::GetRoute(main_table(family)));
            // a network namespace may have no main table before its first route
            let routes = unless_refused(routes, libc::ENOENT).context("cannot list the routes")?;
            all.extend(routes.unwrap_or_default().into_iter().filter_map(
                |message| match message {
                    // a kernel without IPv6 answers with the IPv4 routes
                    RouteNetlinkMessage::NewRoute(route)
                        if route.header.address_family == family =>
                    {
                        Route::decode(&route)
                    }
                    _ => None,
                },
            ));
        }
        Ok(all)
    }

    /// Adds a route. Fails where there is one already to the same destination with the same metric.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        let message = RouteNetlinkMessage::NewRoute(route.encode());
        self.execute(message, NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("cannot add the {}", self.describe(route)))
    }

    /// Deletes a route that [`Self::add_route`] made. Its device, gateway and protocol must be the same. If there is
    /// none, that is no error.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        // RTPROT_UNSPEC would match the routes of every protocol
        ensure!(route.protocol != 0, "cannot delete a route whose protocol is not given");
        let message = RouteNetlinkMessage::DelRoute(route.encode());
        unless_refused(self.execute(message, 0), libc::ESRCH)
            .map(drop)
            .with_context(|| format!("cannot delete the {}", self.describe(route)))
    }

    fn describe(&mut self, route: &Route) -> String {
        let mut text = format!("route to \"{}\"", route.destination);
        if let Some(gateway) = route.gateway {
            text += &format!(" by way of \"{gateway}\"");
        }
        if let Some(ifindex) = route.ifindex {
            text += &format!(" through {}", self.device(ifindex));
        }
        text
    }
}

impl NextHop {
    /// `None` where the message names no device.
    fn decode(message: &RouteMessage) -> Option<Self> {
        let mut mtu = None;
        for attribute in &message.attributes {
            if let RouteAttribute::Metrics(metrics) = attribute {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
        }
        Some(Self {
            ifindex: device(message)?,
            gateway: gateway(message),
            source: message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::PrefSource(address) => ip(address),
                _ => None,
            }),
            mtu,
        })
    }
}

impl Route {
    fn encode(&self) -> RouteMessage {
        let mut message = main_table(family(self.destination.ip()));
        message.header.destination_prefix_length = self.destination.prefix();
        message.header.protocol = self.protocol.into();
        // like iproute2: without a gateway, the destinations are on the link
        message.header.scope = match self.gateway {
            Some(_) => RouteScope::Universe,
            None => RouteScope::Link,
        };
        message.attributes = vec![RouteAttribute::Destination(self.destination.network().into())];
        message.attributes.extend(self.ifindex.map(RouteAttribute::Oif));
        message
            .attributes
            .extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message
    }

    pub(super) fn decode(message: &RouteMessage) -> Option<Self> {
        let destination = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
        // the default route has no destination attribute
        let destination = destination.or(match message.header.address_family {
            AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
            AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
            _ => None,
        })?;
        Some(Self {
            destination: IpNetwork::new(destination, message.header.destination_prefix_length)
                .ok()?,
            ifindex: device(message),
            gateway: gateway(message),
            protocol: message.header.protocol.into(),
        })
    }
}

/// A message that stands for the unicast routes of the main table.
fn main_table(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message
}

fn device(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })
}

fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
