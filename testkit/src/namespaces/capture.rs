//! Records the frames that pass an interface, as tcpdump does.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use super::receiver::Receiver;
use super::{Ns, socket};

/// Bytes of an Ethernet header and the longest IPv4 packet.
const LONGEST_FRAME: usize = 14 + 65_535;

/// EtherType of IPv4 in network byte order.
const IPV4: [u8; 2] = [0x08, 0x00];

/// A frame reaches the capture within this time after it was sent.
const QUIET: Duration = Duration::from_millis(100);

/// The direction of a frame, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Before the tc programs on ingress have seen the frame.
    Received,
    /// After the tc programs on egress have seen the frame.
    Sent,
}

#[derive(Clone, Debug)]
pub struct Frame {
    /// When the kernel captured it: time since the epoch.
    pub at: Duration,
    pub direction: Direction,
    /// The frame from its Ethernet header on, without a VLAN tag (the kernel removes it).
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The IPv4 packet in the frame, without padding; `None` if the frame has none.
    pub fn ipv4(&self) -> Option<&[u8]> {
        let (header, packet) = self.bytes.split_at_checked(14)?;
        if header[12..] != IPV4 {
            return None;
        }
        let length: [u8; 2] = packet.get(2..4)?.try_into().ok()?;
        packet.get(..usize::from(u16::from_be_bytes(length)))
    }
}

/// A capture in progress.
pub struct Capture {
    socket: Arc<OwnedFd>,
    receiver: Receiver<Frame>,
}

impl Capture {
    /// Starts to record both directions.
    pub fn start(ns: &Ns, ifname: &str) -> Capture {
        let socket = Arc::new(ns.run(|| socket::packet_socket(ifname, libc::ETH_P_ALL)));
        socket::prepare_to_receive(&socket);
        setsockopt(&socket, ReceiveTimestampns, &true).expect("timestamps");

        let receiving = socket.clone();
        let mut buffer = vec![0; LONGEST_FRAME];
        let receiver = Receiver::start(move || receive(&receiving, &mut buffer));
        Capture { socket, receiver }
    }

    /// Ends the capture at once, and returns the frames up to now.
    pub fn stop_now(self) -> Frames {
        Frames(self.receiver.stop_now())
    }

    /// Ends the capture once the link is quiet, and returns all frames.
    pub fn stop(self) -> Frames {
        let frames = self.receiver.stop_after_quiet(QUIET);
        assert_eq!(socket::drops(&self.socket), 0, "frames that the capture missed");
        Frames(frames)
    }
}

/// The frames of a capture, in order.
pub struct Frames(pub Vec<Frame>);

impl Frames {
    /// The IPv4 packets that went in one direction.
    pub fn ipv4(&self, direction: Direction) -> Vec<&[u8]> {
        let frames = self.0.iter().filter(|frame| frame.direction == direction);
        frames.filter_map(Frame::ipv4).collect()
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Frame> {
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let message = recvmsg::<LinkAddr>(fd, &mut parts, Some(&mut control), MsgFlags::empty())?;

    let length = message.bytes;
    assert!(!message.flags.contains(MsgFlags::MSG_TRUNC), "a frame longer than {LONGEST_FRAME}");
    let sent = message.address.expect("a link address").pkttype() == libc::PACKET_OUTGOING;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    Ok(Frame {
        at: at.expect("a timestamp"),
        direction: if sent { Direction::Sent } else { Direction::Received },
        bytes: buffer[..length].to_vec(),
    })
}
