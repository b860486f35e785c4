//! The tunnel of each generation's rules, as the programs read it.

use crate::bpf::{self, carries};

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
    fn what_takes_every_packet_up_to_a_length_is_not_asked_about_those() {
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
}
