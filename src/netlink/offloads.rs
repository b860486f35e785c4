//! Offloads: what a device leaves to the hardware (ethtool(8)).

use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use anyhow::{Context, Result, ensure};

/// ETHTOOL_STXCSUM (linux/ethtool.h).
const SET_TX_CHECKSUM: u32 = 0x17;

/// `struct ethtool_value` (linux/ethtool.h)
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Makes the kernel fill in the checksums of all that the device sends, like `ethtool -K <name> tx off`.
pub(super) fn turn_off_tx_checksum(name: &str) -> Result<()> {
    let mut value = EthtoolValue { command: SET_TX_CHECKSUM, data: 0 };
    // SAFETY: all zeroes is a valid ifreq
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    ensure!(name.len() < request.ifr_name.len(), "\"{name}\" is too long for a device's name");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();

    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
    // SAFETY: the request points to a command that the kernel knows, alive during the call
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &request) };
    if result != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot turn off checksum offload on \"{name}\""));
    }
    Ok(())
}
