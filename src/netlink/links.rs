//! Network devices and their addresses.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::offloads::turn_off_tx_checksum;
use super::{Netlink, TunnelRemote, family, unless_refused};

/// Flags of IPv6 addresses that no packet should be sent from. A tentative address is not among them: the kernel
/// checks for about a second whether another host has it, and copies can use it meanwhile, since nobody answers them.
const UNFIT: AddressFlags = AddressFlags::Dadfailed.union(AddressFlags::Deprecated);

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in the network namespace (`ip link` shows it in front of the name).
    pub index: u32,
    /// At most 15 bytes.
    pub name: String,
    /// Longest packet that it sends, in bytes from the IP header on.
    pub mtu: u32,
    /// Its packets begin with an Ethernet header. Those of `lo` do, too.
    pub ethernet: bool,
    /// Administratively up, with or without a carrier.
    pub up: bool,
    /// The other end of the cable, or of the pair, is there and up.
    pub carrier: bool,
    /// It is `lo`: what is sent there comes in on this host again (IFF_LOOPBACK).
    pub loopback: bool,
    /// The link-layer address, if it has 6 bytes.
    pub address: Option<[u8; 6]>,
    /// Free text that `ip link set … alias` sets. In one that is not UTF-8, each byte beyond ASCII reads as `?`.
    pub alias: Option<String>,
    /// The kind of a virtual device, as in `ip link add type …`. Most hardware has none.
    pub kind: Option<String>,
    /// The far end, if the device is a tunnel of a kind that we know and has a fixed one.
    pub remote: Option<TunnelRemote>,
}

/// A veth pair to create. What is sent into one end comes out of the other.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// At most 15 bytes, and no `%`.
    pub name: &'a str,
    /// Name of the other end, of the same form.
    pub peer: &'a str,
    /// Link-layer address of both ends. They have it from the moment when they exist.
    pub address: [u8; 6],
    /// ifalias of `name`, at most 255 bytes. It is set last, so a device that has it is complete.
    pub alias: &'a str,
    /// ifalias of `peer`, at most 255 bytes. It is set before that of `name`.
    pub peer_alias: &'a str,
    /// MTU of both ends, in bytes from the IP header on.
    pub mtu: u32,
}

impl Netlink {
    /// All devices of the network namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut all = LinkMessage::default();
        all.attributes = vec![without_statistics()];
        let links = self.dump(RouteNetlinkMessage::GetLink(all));
        let links = links.context("cannot list the network devices")?;
        Ok(links.into_iter().filter_map(new_link).map(|link| Link::decode(&link)).collect())
    }

    /// The device with that name or alternative name (`ip link property`). `None` where there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let link = self.get_link(by_name(name));
        let link = link.with_context(|| format!("cannot look for the device \"{name}\""))?;
        Ok(link.map(|link| Link::decode(&link)))
    }

    /// The addresses of a device from which packets to `far` can be sent, each with its network. They are of the
    /// family of `far` and in the kernel's order: the IPv4 addresses that the kernel prefers as source come first. On a
    /// point-to-point link the prefix is the peer's, so the address has the longest prefix instead.
    pub fn addresses(&mut self, ifindex: u32, far: IpAddr) -> Result<Vec<IpNetwork>> {
        let mut of_device = AddressMessage::default();
        of_device.header.family = family(far);
        of_device.header.index = ifindex;
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(of_device));
        let addresses = addresses
            .with_context(|| format!("cannot list the addresses of {}", self.device(ifindex)))?;
        Ok(addresses.into_iter().filter_map(address).collect())
    }

    /// Creates both ends and sets them up. IPv6 gives them no addresses, and so sends nothing of its own. What is sent
    /// into `name` comes out of `peer` as a wire would carry it: super-packets are segmented, and checksums are filled
    /// in. If a step fails, the pair is deleted again.
    pub fn create_veth(&mut self, pair: &VethPair) -> Result<()> {
        for name in [pair.name, pair.peer] {
            // the kernel would take the name for a pattern and choose one itself
            ensure!(!name.contains('%'), "cannot create the device \"{name}\": '%' in its name");
        }
        let VethPair { name, peer, mtu, address, .. } = *pair;
        let end = |name| {
            let mut end = by_name(name);
            end.attributes.push(LinkAttribute::Address(address.to_vec()));
            end.attributes.push(LinkAttribute::Mtu(mtu));
            end
        };
        let far = end(peer);
        let mut near = end(name);
        near.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        let create = RouteNetlinkMessage::NewLink(near);
        let created = self.execute(create, NLM_F_CREATE | NLM_F_EXCL);
        unless_refused(created, libc::EOPNOTSUPP)
            .and_then(|created| {
                created.context(
                    "the kernel has no veth devices (CONFIG_VETH, module veth); `modprobe veth` says \
                     why",
                )
            })
            .with_context(|| {
                format!("cannot create the device \"{name}\" with its peer \"{peer}\"")
            })?;
        self.configure_veth(pair).inspect_err(|_| {
            let delete = RouteNetlinkMessage::DelLink(by_name(name));
            if let Err(error) = self.execute(delete, 0) {
                log::warn!("cannot delete the incomplete device \"{name}\": {error:#}");
            }
        })
    }

    /// Settings that the kernel ignores in the request that creates a device.
    fn configure_veth(&mut self, pair: &VethPair) -> Result<()> {
        let mut link = by_name(pair.name);
        link.attributes.push(LinkAttribute::GsoMaxSegs(1));
        self.execute(RouteNetlinkMessage::SetLink(link), 0)
            .with_context(|| format!("cannot turn off super-packets on \"{}\"", pair.name))?;
        turn_off_tx_checksum(pair.name)?;

        for name in [pair.name, pair.peer] {
            let mut link = by_name(name);
            link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
                AfSpecInet6::AddrGenMode(In6AddrGenMode::None),
            ])]));
            // the host has no IPv6, or the MTU is too small for it
            unless_refused(self.execute(RouteNetlinkMessage::SetLink(link), 0), libc::EAFNOSUPPORT)
                .with_context(|| {
                    format!("cannot turn off IPv6 addresses on the device \"{name}\"")
                })?;
        }
        for name in [pair.peer, pair.name] {
            self.set_link_up(by_name(name))
                .with_context(|| format!("cannot set up the device \"{name}\""))?;
        }
        for (name, alias) in [(pair.peer, pair.peer_alias), (pair.name, pair.alias)] {
            let mut link = by_name(name);
            link.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
            self.execute(RouteNetlinkMessage::SetLink(link), 0)
                .with_context(|| format!("cannot set the alias of the device \"{name}\""))?;
        }
        Ok(())
    }

    /// Sets a device administratively up, if it is down.
    pub fn set_up(&mut self, ifindex: u32) -> Result<()> {
        self.set_link_up(by_index(ifindex))
            .with_context(|| format!("cannot set up {}", self.device(ifindex)))
    }

    fn set_link_up(&mut self, mut link: LinkMessage) -> Result<()> {
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.execute(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Deletes a device. With one end of a veth pair, the other goes as well. If there is none, that is no error.
    pub fn delete_link(&mut self, ifindex: u32) -> Result<()> {
        let message = RouteNetlinkMessage::DelLink(by_index(ifindex));
        unless_refused(self.execute(message, 0), libc::ENODEV)
            .map(drop)
            .with_context(|| format!("cannot delete {}", self.device(ifindex)))
    }

    /// The kernel's message about the device that `message` names by index or by name. `None` where there is none.
    pub(super) fn get_link(&mut self, mut message: LinkMessage) -> Result<Option<LinkMessage>> {
        message.attributes.push(without_statistics());
        match unless_refused(self.get(RouteNetlinkMessage::GetLink(message)), libc::ENODEV)? {
            None => Ok(None),
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
            Some(other) => bail!("the kernel's answer is no device: {other:?}"),
        }
    }

    /// The device in the words of error messages: by its name or, if that cannot be found out, by its index.
    pub(super) fn device(&mut self, ifindex: u32) -> String {
        match self.get_link(by_index(ifindex)) {
            Ok(Some(link)) => format!("the device \"{}\"", Link::decode(&link).name),
            _ => format!("the device with index {ifindex}"),
        }
    }
}

impl Link {
    fn decode(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mtu: 0,
            ethernet: matches!(
                message.header.link_layer_type,
                LinkLayerType::Ether | LinkLayerType::Loopback
            ),
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            address: None,
            alias: None,
            kind: None,
            remote: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(address) => link.address = address[..].try_into().ok(),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::LinkInfo(info) => link.decode_info(info),
                _ => {}
            }
        }
        link
    }

    fn decode_info(&mut self, info: &[LinkInfo]) {
        let kind = info.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        });
        self.kind = kind.map(ToString::to_string);
        self.remote = info.iter().find_map(|info| match info {
            LinkInfo::Data(data) => TunnelRemote::decode(kind?, data),
            _ => None,
        });
    }
}

pub(super) fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    message
}

/// Asks for a device without its statistics, which are most of the answer.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn new_link(message: RouteNetlinkMessage) -> Option<LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

/// The address in a message. IFA_LOCAL is the host's own address. IFA_ADDRESS is the same or, on a point-to-point link,
/// the peer's (linux/if_addr.h). An IPv6 address without a peer has no IFA_LOCAL. `None` for addresses that no packet
/// should be sent from: IPv6 addresses that are duplicate, deprecated or link-local.
fn address(message: RouteNetlinkMessage) -> Option<IpNetwork> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let (mut local, mut far, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => far = Some(*address),
            AddressAttribute::Flags(value) => flags = *value,
            _ => {}
        }
    }
    let local = local.or(far)?;
    match local {
        IpAddr::V6(local) if local.is_unicast_link_local() || flags.intersects(UNFIT) => {
            return None;
        }
        _ => {}
    }
    let alone = IpNetwork::from(local);
    let has_peer = far.is_some_and(|far| far != local);
    IpNetwork::new(local, if has_peer { alone.prefix() } else { message.header.prefix_len }).ok()
}
