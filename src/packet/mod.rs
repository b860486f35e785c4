//! From a packet as people write it down (tcpdump's output, hex, or a few words) to the bytes of a frame; and a
//! frame in words.

use anyhow::Result;

mod build;
mod describe;
mod hex;
mod text;

pub use text::{is_later_fragment, text};

/// The frame of a packet, from its Ethernet header on.
///
/// # Errors
/// Say what cannot be understood, and in which forms a packet can be given.
pub fn frame(text: &str) -> Result<Vec<u8>> {
    if hex::is_dump(text) || !text.contains('>') {
        hex::frame(text)
    } else {
        build::frame(&describe::packet(text)?)
    }
}

#[cfg(test)]
mod tests;
