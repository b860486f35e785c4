//! Of what the kernel says of a device, the attributes that somebody here reads. The others are left out before they
//! are decoded: what nobody needs, and may be of a form that the decoder does not know, hides no device.

use std::borrow::Cow;
use std::iter;

use netlink_packet_core::NLMSG_ALIGNTO;

/// Lengths of struct nlmsghdr and struct ifinfomsg (netlink(7), rtnetlink(7)).
const HEADER_LEN: usize = 16;
const LINK_HEADER_LEN: usize = 16;
/// Of struct nlattr.
const ATTRIBUTE_HEADER_LEN: usize = 4;
const ALIGNED_TO: usize = NLMSG_ALIGNTO as usize;
/// Of an attribute's type: NLA_F_NESTED and NLA_F_NET_BYTEORDER apart (linux/netlink.h).
const TYPE_MASK: u16 = 0x3fff;

const READ: [u16; 5] = [
    libc::IFLA_ADDRESS,
    libc::IFLA_IFNAME,
    libc::IFLA_MTU,
    libc::IFLA_LINKINFO,
    libc::IFLA_IFALIAS,
];
/// Within IFLA_LINKINFO; not those of a bridge's or a bond's port.
const INFO_READ: [u16; 2] = [libc::IFLA_INFO_KIND, libc::IFLA_INFO_DATA];

/// The message, if it is RTM_NEWLINK with no more than these attributes; any other as it is.
pub(super) fn of(message: &[u8]) -> Cow<'_, [u8]> {
    let kind = message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    let attributes = message.get(HEADER_LEN + LINK_HEADER_LEN..);
    let (Some(libc::RTM_NEWLINK), Some(attributes)) = (kind, attributes) else {
        return message.into();
    };
    let mut kept = message[..HEADER_LEN + LINK_HEADER_LEN].to_vec();
    for (kind, value) in those_of(attributes, &READ) {
        match kind & TYPE_MASK {
            libc::IFLA_IFALIAS => push(&mut kept, kind, &text(value)),
            libc::IFLA_LINKINFO => {
                let mut info = Vec::new();
                for (kind, value) in those_of(value, &INFO_READ) {
                    push(&mut info, kind, value);
                }
                push(&mut kept, kind, &info);
            }
            _ => push(&mut kept, kind, value),
        }
    }
    let len = kept.len() as u32;
    kept[..4].copy_from_slice(&len.to_ne_bytes());
    kept.into()
}

/// The attributes that are read, with their types as the kernel wrote them. One that is cut short ends them.
fn those_of<'a>(mut rest: &'a [u8], read: &[u16]) -> impl Iterator<Item = (u16, &'a [u8])> {
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 2).map(|word| u16::from_ne_bytes([word[0], word[1]]))
    };
    let all = iter::from_fn(move || {
        let len = word(rest, 0).map(usize::from).filter(|len| *len >= ATTRIBUTE_HEADER_LEN)?;
        let attribute = rest.get(..len)?;
        rest = rest.get(len.next_multiple_of(ALIGNED_TO)..).unwrap_or_default();
        Some((word(attribute, 2)?, &attribute[ATTRIBUTE_HEADER_LEN..]))
    });
    all.filter(|(kind, _)| read.contains(&(kind & TYPE_MASK)))
}

fn push(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = (ATTRIBUTE_HEADER_LEN + value.len()) as u16;
    to.extend(len.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(ALIGNED_TO), 0);
}

/// An alias is any bytes that somebody has given the device; the decoder takes UTF-8 alone.
fn text(alias: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(alias) {
        Ok(_) => alias.into(),
        Err(_) => alias.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect(),
    }
}
