//! IP addresses in the form that the BPF programs use.

use std::net::{IpAddr, Ipv6Addr};

/// The four 32-bit words of an address in network byte order. An IPv4 address becomes ::ffff:a.b.c.d.
pub fn words_of(address: IpAddr) -> [u32; 4] {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("chunks_exact gives 4 bytes"));
    }
    words
}

/// The inverse of [`words_of`].
pub fn address_of(words: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (place, word) in octets.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["192.0.2.50", "2001:db8::50", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(words_of(address)), address);
        }
    }
}
