//! Keeps only those attributes of a device that this program reads, and removes the others before the message is
//! decoded. Otherwise an attribute that nobody needs, in a form that the decoder does not know, would hide the device.

use std::borrow::Cow;
use std::iter;

use netlink_packet_core::NLMSG_ALIGNTO;

/// Lengths of struct nlmsghdr and struct ifinfomsg (netlink(7), rtnetlink(7)).
const HEADER_LEN: usize = 16;
const LINK_HEADER_LEN: usize = 16;
/// Length of struct nlattr.
const ATTRIBUTE_HEADER_LEN: usize = 4;
const ALIGNED_TO: usize = NLMSG_ALIGNTO as usize;
/// The bits of an attribute's type without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER (linux/netlink.h).
const TYPE_MASK: u16 = 0x3fff;

/// The attributes of a device that this program reads.
const READ: [u16; 5] = [
    libc::IFLA_ADDRESS,
    libc::IFLA_IFNAME,
    libc::IFLA_MTU,
    libc::IFLA_LINKINFO,
    libc::IFLA_IFALIAS,
];
/// The same within IFLA_LINKINFO. What a bridge or a bond says about its port is not among them.
const INFO_READ: [u16; 2] = [libc::IFLA_INFO_KIND, libc::IFLA_INFO_DATA];

/// The message, if it is RTM_NEWLINK, with only the attributes above. Any other message as it is.
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

/// The attributes whose types are in `read`, with their types as the kernel wrote them. The list ends before an
/// attribute that is cut short.
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

/// An alias can be any bytes. The decoder accepts only UTF-8, so each byte beyond ASCII of any other alias becomes `?`.
fn text(alias: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(alias) {
        Ok(_) => alias.into(),
        Err(_) => alias.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect(),
    }
}
