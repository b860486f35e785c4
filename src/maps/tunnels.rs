//! The tunnel entry of a generation, as the programs read it, and its cap on the rate.

use std::mem::offset_of;

use crate::bpf::mmap_array::MmapArray;
use crate::bpf::{self, carries};
use crate::model::Rate;

/// Bursts per second: the burst size is the rate divided by this.
const BURSTS_A_SECOND: u64 = 100;
/// A burst has to hold the longest TCP super-packet, headers aside.
const LEAST_BURST: u64 = 64 << 10;
/// The bucket counts in 10^-9 bytes. Its level, and one refill, have to fit into 63 bits.
const GREATEST_BURST: u64 = 1 << 30;

/// Sets the cap of a tunnel.
pub fn set_cap(tunnel: &mut bpf::Tunnel, cap: Rate) {
    let bytes = cap.bytes();
    tunnel.rate = bytes;
    tunnel.burst = (bytes / BURSTS_A_SECOND).clamp(LEAST_BURST, GREATEST_BURST);
}

/// Sets the cap of a tunnel that is in force, while programs read it. At each moment, also if we are killed, the entry
/// holds a cap that works.
pub fn set_cap_in_force(tunnels: &MmapArray<bpf::Tunnel>, generation: usize, cap: Rate) {
    let mut tunnel = tunnels.read(generation);
    set_cap(&mut tunnel, cap);
    let tunnel = entry(tunnel);
    // the rate last: it is what puts the cap into force, on every packet and with this burst
    for field in [
        offset_of!(bpf::Tunnel, unasked_len),
        offset_of!(bpf::Tunnel, burst),
        offset_of!(bpf::Tunnel, rate),
    ] {
        tunnels.write_word(generation, field, &tunnel);
    }
}

/// The cap of a tunnel, in whole bytes.
pub fn cap(tunnel: &bpf::Tunnel) -> Option<Rate> {
    (tunnel.rate != 0).then(|| Rate::from_bytes(tunnel.rate))
}

/// The entry of a tunnel.
pub fn entry(tunnel: bpf::Tunnel) -> bpf::Tunnel {
    bpf::Tunnel { unasked_len: unasked_len(&tunnel), ..tunnel }
}

/// Longest packet that the tunnel is certain to take as it is, in bytes; 0 where that is not for its length
/// to say.
fn unasked_len(tunnel: &bpf::Tunnel) -> u32 {
    const WHATEVER: u8 = carries::IPV6 | carries::TAGS | carries::CUT;
    if tunnel.rate != 0 || tunnel.carries != WHATEVER {
        return 0;
    }
    // a limit of 0 is none
    let limits = [tunnel.max_len, tunnel.max_segment_len].into_iter().filter(|limit| *limit != 0);
    limits.min().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_within_every_limit_needs_no_further_checks() {
        let takes_all = bpf::Tunnel {
            carries: carries::IPV6 | carries::TAGS | carries::CUT,
            ..Default::default()
        };
        for (tunnel, len) in [
            (takes_all, u32::MAX),
            (bpf::Tunnel { max_len: 1468, ..takes_all }, 1468),
            (bpf::Tunnel { max_len: 1468, max_segment_len: 1400, ..takes_all }, 1400),
            (bpf::Tunnel { rate: 1, ..takes_all }, 0),
            (bpf::Tunnel { carries: carries::TAGS | carries::CUT, ..takes_all }, 0),
            (bpf::Tunnel { carries: takes_all.carries | carries::FRAMES, ..takes_all }, 0),
        ] {
            assert_eq!(entry(tunnel).unasked_len, len, "{tunnel:?}");
        }
    }

    #[test]
    fn a_tunnel_without_a_cap_has_none() {
        assert_eq!(cap(&bpf::Tunnel::default()), None);
    }

    #[test]
    fn a_burst_is_what_10_ms_let_through_within_bounds() {
        for (text, rate, burst) in [
            ("8bit", 1, 65_536),
            ("1mbit", 125_000, 65_536),
            ("1gbit", 125_000_000, 1_250_000),
            ("10gbit", 1_250_000_000, 12_500_000),
            ("1tbit", 125_000_000_000, 1 << 30),
        ] {
            let mut tunnel = bpf::Tunnel::default();
            let wanted: Rate = text.parse().unwrap();
            set_cap(&mut tunnel, wanted);
            assert_eq!((tunnel.rate, tunnel.burst), (rate, burst), "{text}");
            assert_eq!(cap(&tunnel).unwrap().bytes(), wanted.bytes());
        }
    }
}
