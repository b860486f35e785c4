//! The kernel's answer to one request: splits datagrams into messages, and finds the end of the answer.

use std::error::Error;
use std::fmt;
use std::io;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
    NlasIterator, parse_string,
};
use netlink_packet_route::RouteNetlinkMessage;

use super::essentials;

/// Length of struct nlmsghdr (netlink(7)).
const HEADER_LEN: usize = 16;
/// The attribute of an error message that holds the reason in words (linux/netlink.h).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The answer to the request with the number `sequence`, as far as it has come in.
pub(super) struct Reply {
    sequence: u32,
    pub messages: Vec<RouteNetlinkMessage>,
    /// The listed objects changed meanwhile (NLM_F_DUMP_INTR), so `messages` may lack some or have some twice.
    pub interrupted: bool,
}

impl Reply {
    pub fn to(sequence: u32) -> Self {
        Self { sequence, messages: Vec::new(), interrupted: false }
    }

    /// Takes in a datagram, and returns whether the reply is complete now. Answers to earlier requests are skipped.
    pub fn take(&mut self, datagram: &[u8]) -> Result<bool> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let header = NetlinkBuffer::new_checked(rest).context("malformed netlink message")?;
            let length = header.length() as usize;
            let (flags, sequence) = (header.flags(), header.sequence_number());
            let message = &rest[..length];
            rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO as usize)..).unwrap_or_default();

            if sequence == self.sequence && self.take_message(message, flags)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_message(&mut self, message: &[u8], flags: u16) -> Result<bool> {
        self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        let payload = match NetlinkMessage::deserialize(&essentials::of(message)) {
            Ok(message) => message.payload,
            // one entry that cannot be decoded must not hide all others
            Err(error) if flags & NLM_F_MULTIPART != 0 => {
                log::debug!("ignoring a netlink message that cannot be decoded: {error}");
                return Ok(false);
            }
            Err(error) => return Err(error).context("netlink message that cannot be decoded"),
        };
        match payload {
            NetlinkPayload::InnerMessage(message) => self.messages.push(message),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => {
                let attributes = error.header.get(HEADER_LEN..).unwrap_or_default();
                bail!(Refusal::new(error.raw_code(), attributes));
            }
            NetlinkPayload::Done(done) if done.code < 0 => {
                bail!(Refusal::new(done.code, &done.extended_ack))
            }
            NetlinkPayload::Done(_) => return Ok(true),
            _ => {}
        }
        Ok(false)
    }
}

/// The kernel's refusal of a request: an errno and, in most cases, a reason in words.
#[derive(Debug)]
pub(super) struct Refusal {
    errno: i32,
    reason: Option<String>,
}

impl Refusal {
    /// `code` is the negative errno of the message, and `attributes` are the bytes behind it.
    fn new(code: i32, attributes: &[u8]) -> Self {
        let reason = NlasIterator::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
            .and_then(|attribute| parse_string(attribute.value()).ok());
        Self { errno: code.wrapping_neg(), reason }
    }

    /// Whether `error` is, or comes from, a refusal with `errno`.
    pub fn in_chain(error: &anyhow::Error, errno: i32) -> bool {
        error.downcast_ref::<Self>().is_some_and(|refusal| refusal.errno == errno)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.reason {
            write!(f, "{}: ", reason.trim_end_matches('.'))?;
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER_LEN + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(flags: u16, sequence: u32) -> Vec<u8> {
        let mut message =
            NetlinkMessage::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        message.header.flags = flags;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    /// An NLMSG_ERROR message with a header of a request and, if `reason` is not empty, the reason.
    fn error(sequence: u32, errno: i32, reason: &str) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend([0; HEADER_LEN]);
        if !reason.is_empty() {
            payload.extend((4 + reason.len() as u16 + 1).to_ne_bytes());
            payload.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
            payload.extend(reason.bytes().chain([0]));
        }
        message(NLMSG_ERROR, 0, sequence, &payload)
    }

    fn done(sequence: u32, code: i32) -> Vec<u8> {
        message(NLMSG_DONE, NLM_F_MULTIPART, sequence, &code.to_ne_bytes())
    }

    #[test]
    fn a_dump_goes_on_over_datagrams_until_done() {
        let mut reply = Reply::to(7);
        let entry = link(NLM_F_MULTIPART, 7);
        assert!(!reply.take(&[entry.clone(), entry.clone()].concat()).unwrap());
        assert!(!reply.take(&entry).unwrap());
        assert!(reply.take(&[entry, done(7, 0)].concat()).unwrap());
        assert_eq!(reply.messages.len(), 4);
        assert!(!reply.interrupted);
    }

    #[test]
    fn an_answer_to_one_question_ends_with_the_acknowledgement() {
        let mut reply = Reply::to(7);
        assert!(!reply.take(&link(0, 7)).unwrap());
        assert!(reply.take(&error(7, 0, "")).unwrap());
        assert_eq!(reply.messages.len(), 1);
    }

    #[test]
    fn answers_to_other_requests_are_passed_over() {
        let mut reply = Reply::to(7);
        assert!(!reply.take(&error(6, libc::EPERM, "")).unwrap());
        assert!(!reply.take(&[link(0, 6), done(6, 0)].concat()).unwrap());
        assert!(reply.take(&[link(0, 7), error(7, 0, "")].concat()).unwrap());
        assert_eq!(reply.messages.len(), 1);
    }

    #[test]
    fn a_refusal_has_the_reason_and_the_errno() {
        let refusal = Reply::to(7).take(&error(7, libc::EINVAL, "Bad prefix.")).unwrap_err();
        assert_eq!(refusal.to_string(), "Bad prefix: Invalid argument (os error 22)");
        let refusal = Reply::to(7).take(&error(7, libc::EEXIST, "")).unwrap_err();
        assert_eq!(refusal.to_string(), "File exists (os error 17)");
        assert!(Refusal::in_chain(&refusal.context("cannot"), libc::EEXIST));
    }

    #[test]
    fn a_dump_that_fails_half_way_is_a_refusal() {
        let refusal = Reply::to(7).take(&done(7, -libc::ENODEV)).unwrap_err();
        assert!(Refusal::in_chain(&refusal, libc::ENODEV));
    }

    #[test]
    fn a_change_during_a_dump_is_noticed() {
        let mut reply = Reply::to(7);
        reply.take(&link(NLM_F_MULTIPART | NLM_F_DUMP_INTR, 7)).unwrap();
        assert!(reply.take(&done(7, 0)).unwrap());
        assert!(reply.interrupted);
    }

    #[test]
    fn one_entry_that_cannot_be_decoded_does_not_hide_the_others() {
        const RTM_NEWLINK: u16 = 16;
        let short = |flags| message(RTM_NEWLINK, flags, 7, &[0; 4]);
        let mut reply = Reply::to(7);
        let entry = link(NLM_F_MULTIPART, 7);
        assert!(reply.take(&[short(NLM_F_MULTIPART), entry, done(7, 0)].concat()).unwrap());
        assert_eq!(reply.messages.len(), 1);
        assert!(Reply::to(7).take(&short(0)).is_err());
    }

    #[test]
    fn bytes_that_are_no_netlink_message_are_an_error() {
        assert!(Reply::to(7).take(&[1, 2, 3]).is_err());
        assert!(Reply::to(7).take(&[0; HEADER_LEN]).is_err());
        assert!(Reply::to(7).take(&link(0, 7)[..20]).is_err());
    }
}
