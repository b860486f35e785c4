//! Random frames of both families, with tags, options, extension headers and fragments. Some are malformed.

use super::random::Random;

/// Shortest frame that every test run accepts: an Ethernet header and an IPv6 header.
const LEAST: usize = 14 + 40;

/// Shortest Ethernet frame, without its checksum (IEEE 802.3).
const ETH_MIN_LEN: usize = 60;

impl Random {
    pub fn frame(&mut self) -> Vec<u8> {
        let (ethertype, ip) =
            if self.one_in(2) { (0x0800_u16, self.ipv4()) } else { (0x86dd, self.ipv6()) };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for _ in 0..self.one_of(&[0, 0, 0, 0, 1, 1, 2, 2, 3]) {
            frame.extend(self.one_of(&[0x8100_u16, 0x8100, 0x88a8, 0x9100]).to_be_bytes());
            let priority = self.one_of(&[0_u16, 0, 0xe000, 0x1000]);
            frame.extend((priority | self.vlan()).to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(ip);
        if self.one_in(8) {
            frame.resize(frame.len().max(ETH_MIN_LEN), 0);
        }
        frame
    }

    /// Such a frame, in which some bytes may be changed, and which may be cut or lengthened.
    pub fn mutated_frame(&mut self) -> Vec<u8> {
        let mut frame = self.frame();
        for _ in 0..self.below(4) {
            let at = self.below(frame.len());
            frame[at] = self.byte();
        }
        // not shorter: newer kernels refuse a test run with a frame that lacks a part of its IP header
        if self.one_in(4) {
            let len = LEAST + self.below(60);
            frame.resize(len, self.byte());
        }
        frame
    }

    fn ipv4(&mut self) -> Vec<u8> {
        let protocol = self.protocol();
        let payload = self.upper(protocol);
        let options = if self.one_in(4) { self.below(11) } else { 0 };
        let mut length = (20 + 4 * options + payload.len()) as u16;
        if self.one_in(10) {
            length = self.below(100) as u16;
        }
        let fragment = if self.one_in(4) {
            self.one_of(&[0, 1, 185, 0x1fff]) | self.one_of(&[0, 0x2000])
        } else {
            self.one_of(&[0, 0x4000])
        };
        let mut ip = vec![0x45 + options as u8, self.dscp() << 2 | self.one_of(&[0, 3])];
        ip.extend(length.to_be_bytes());
        ip.extend([0x12, 0x34]);
        ip.extend(u16::to_be_bytes(fragment));
        ip.extend([64, protocol, 0, 0]);
        ip.extend(self.address_v4().octets());
        ip.extend(self.address_v4().octets());
        // "no operation" (RFC 791)
        ip.resize(ip.len() + 4 * options, 1);
        ip.extend(payload);
        ip
    }

    fn ipv6(&mut self) -> Vec<u8> {
        let protocol = self.protocol();
        // from the last header to the first
        let mut payload = self.upper(protocol);
        let mut next = protocol;
        for _ in 0..self.one_of(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 7, 8, 9]) {
            let (kind, header) = self.extension(next);
            payload.splice(0..0, header);
            next = kind;
        }
        let mut length = payload.len() as u16;
        if self.one_in(10) {
            length = self.below(100) as u16;
        }
        let class = self.dscp() << 2 | self.one_of(&[0, 3]);
        let mut ip = vec![0x60 | class >> 4, class << 4 | 5, 0xab, 0xcd];
        ip.extend(length.to_be_bytes());
        ip.extend([next, 64]);
        ip.extend(self.address_v6().octets());
        ip.extend(self.address_v6().octets());
        ip.extend(payload);
        ip
    }

    /// A random extension header in front of the header `next`: its protocol number and its bytes.
    fn extension(&mut self, next: u8) -> (u8, Vec<u8>) {
        let kind = self.one_of(&[0, 43, 60, 51, 44]);
        let mut header = vec![next];
        match kind {
            44 => {
                let offset = self.one_of(&[0_u16, 0, 0, 8, 1480, 0xfff8]);
                header.push(0);
                header.extend((offset | self.one_of(&[0, 1])).to_be_bytes());
                header.extend([1, 2, 3, 4]);
            }
            51 => {
                let words = self.below(5);
                header.push(words as u8);
                header.resize(8 + 4 * words, 0x50);
            }
            _ => {
                let words = self.below(3);
                header.push(words as u8);
                header.resize(8 + 8 * words, 0x50);
            }
        }
        (kind, header)
    }

    /// The bytes behind the IP headers, sometimes cut short.
    fn upper(&mut self, protocol: u8) -> Vec<u8> {
        let mut bytes = match protocol {
            1 | 58 => vec![self.icmp_type(), 0],
            _ => [self.port().to_be_bytes(), self.port().to_be_bytes()].concat(),
        };
        // none of the other bytes is one of the ports above
        bytes.resize(13, 0xa5);
        bytes.push(self.tcp_flags());
        bytes.resize(24, 0xa5);
        if self.one_in(8) {
            bytes.truncate(self.below(16));
        }
        bytes
    }
}
