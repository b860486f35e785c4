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

/// Of IPv6 addresses that are not to be sent from. One that the kernel has yet to find to be ours alone,
/// for a second or so after it was added, is good enough for copies, which nobody answers.
const UNFIT: AddressFlags = AddressFlags::Dadfailed.union(AddressFlags::Deprecated);

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Bytes, from the IP header on.
    pub mtu: u32,
    /// Its packets begin with an Ethernet header. `lo` frames them so too.
    pub ethernet: bool,
    /// Administratively up; there may be no carrier.
    pub up: bool,
    /// What it is plugged into is there, and up.
    pub carrier: bool,
    pub loopback: bool,
    /// Of Ethernet devices.
    pub address: Option<[u8; 6]>,
    pub alias: Option<String>,
    /// What made it, as in `ip link add type …`; none for most hardware.
    pub kind: Option<String>,
    pub remote: Option<TunnelRemote>,
}

/// A veth pair to create. What is sent into one end comes out of the other.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    pub name: &'a str,
    pub peer: &'a str,
    /// Of both ends, from the first moment on.
    pub address: [u8; 6],
    /// ifalias of `name`, at most 255 bytes. It is set last: a device that has it is complete.
    pub alias: &'a str,
    pub peer_alias: &'a str,
    /// Of both ends.
    pub mtu: u32,
}

impl Netlink {
    /// All devices of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut all = LinkMessage::default();
        all.attributes = vec![without_statistics()];
        let links = self.dump(RouteNetlinkMessage::GetLink(all));
        let links = links.context("cannot list the network devices")?;
        Ok(links.into_iter().filter_map(new_link).map(|link| Link::decode(&link)).collect())
    }

    /// The device of that name, or of that alternative name (`ip link property`).
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let link = self.get_link(by_name(name));
        let link = link.with_context(|| format!("cannot look for the device \"{name}\""))?;
        Ok(link.map(|link| Link::decode(&link)))
    }

    /// The addresses of a device that packets to `far` can be sent from, of its family, each with the
    /// network it is in, in the kernel's order: of IPv4, those that it takes as source address by
    /// itself come first. An address with a peer is in no network (its prefix is the peer's): it has
    /// the longest prefix.
    pub fn addresses(&mut self, ifindex: u32, far: IpAddr) -> Result<Vec<IpNetwork>> {
        let mut of_device = AddressMessage::default();
        of_device.header.family = family(far);
        of_device.header.index = ifindex;
        let addresses = self.dump(RouteNetlinkMessage::GetAddress(of_device));
        let addresses = addresses
            .with_context(|| format!("cannot list the addresses of {}", self.device(ifindex)))?;
        Ok(addresses.into_iter().filter_map(address).collect())
    }

    /// Creates both ends, up, and keeps IPv6 from giving them addresses and talking on them. What
    /// is sent into `name` comes out of `peer` as a wire would carry it: super-packets as segments,
    /// checksums filled in. If that fails half-way there is no pair.
    pub fn create_veth(&mut self, pair: &VethPair) -> Result<()> {
        for name in [pair.name, pair.peer] {
            // the kernel would take it for a pattern and choose a name of its own
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

    /// The kernel ignores these settings in the request that creates a device.
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
            // refused so where there is no IPv6 on the host, or none on so small an MTU
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

    /// Sets a device administratively up, if it isn't yet.
    pub fn set_up(&mut self, ifindex: u32) -> Result<()> {
        self.set_link_up(by_index(ifindex))
            .with_context(|| format!("cannot set up {}", self.device(ifindex)))
    }

    fn set_link_up(&mut self, mut link: LinkMessage) -> Result<()> {
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.execute(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Deletes a device, and with one end of a veth pair the other. It is fine if it is gone already.
    pub fn delete_link(&mut self, ifindex: u32) -> Result<()> {
        let message = RouteNetlinkMessage::DelLink(by_index(ifindex));
        unless_refused(self.execute(message, 0), libc::ENODEV)
            .map(drop)
            .with_context(|| format!("cannot delete {}", self.device(ifindex)))
    }

    /// The device that `message` names, by index or name, as the kernel describes it.
    pub(super) fn get_link(&mut self, mut message: LinkMessage) -> Result<Option<LinkMessage>> {
        message.attributes.push(without_statistics());
        match unless_refused(self.get(RouteNetlinkMessage::GetLink(message)), libc::ENODEV)? {
            None => Ok(None),
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
            Some(other) => bail!("the kernel's answer is no device: {other:?}"),
        }
    }

    /// A device as error messages call it: by its name if that can be found out.
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

/// They are most of what the kernel says of a device.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn new_link(message: RouteNetlinkMessage) -> Option<LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

/// IFA_LOCAL is our own address, IFA_ADDRESS the same or, on a point-to-point link, the peer's
/// (linux/if_addr.h); an IPv6 address without a peer has no IFA_LOCAL. None where it is not to be sent
/// from: an IPv6 one that is not ours alone, that is to go, or that is good for one link only.
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
