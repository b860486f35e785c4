//! Random rules and packets, the same in every run, from values that are few enough to meet.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnetwork::{IpNetwork, Ipv4Network};
use traffic_mirroring::filter::{Field, Rule};

use crate::packets::{ETH_HLEN, Packet};

/// Bytes of the longest header that a run insists on.
const IPV6_HLEN: usize = 40;

/// xorshift64 (Marsaglia 2003).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    fn protocol(&mut self) -> u8 {
        self.one_of(&[6, 17, 6, 17, 1, 132, 136, 33, 47, 50, 0, 255])
    }

    /// With neighbours, and also at the ends.
    fn port(&mut self) -> u16 {
        self.one_of(&[0, 1, 79, 80, 81, 7999, 8000, 8100, 8101, 65534, 65535])
    }

    fn address(&mut self) -> Ipv4Addr {
        let bytes = [0, 10, 127, 128, 255];
        Ipv4Addr::from([(); 4].map(|()| self.one_of(&bytes)))
    }

    fn network(&mut self) -> IpNetwork {
        let length = self.one_of(&[1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32]);
        let network = Ipv4Network::new(self.address(), length).unwrap().network();
        Ipv4Network::new(network, length).unwrap().into()
    }

    fn range(&mut self) -> RangeInclusive<u16> {
        let (a, b) = (self.port(), self.port());
        a.min(b)..=a.max(b)
    }

    /// Open, or a list of up to four.
    fn field<T>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> Field<T> {
        match self.below(7) {
            0..=2 => Field::default(),
            more => Field::only((2..more).map(|_| value(self)).collect::<Vec<_>>()),
        }
    }

    fn rule(&mut self) -> Rule {
        Rule {
            protocol: self.field(Self::protocol),
            src_address: self.field(Self::network),
            dst_address: self.field(Self::network),
            src_port: self.field(Self::range),
            dst_port: self.field(Self::range),
            ..Rule::default()
        }
    }

    /// One to four.
    pub fn rules(&mut self) -> Vec<Rule> {
        (0..=self.below(4)).map(|_| self.rule()).collect()
    }

    /// Now and then with options, as a fragment, padded, or with a total length that is wrong.
    pub fn frame(&mut self) -> Vec<u8> {
        let end = |random: &mut Self| format!("{}:{}", random.address(), random.port());
        let (src, dst) = (end(self), end(self));
        let mut packet = Packet::new(self.protocol(), &src, &dst);
        if self.one_in(4) {
            packet = packet.with_options(self.below(11));
        }
        if self.one_in(4) {
            packet = packet.fragment(self.one_of(&[0, 1, 185, 0x1fff]), self.one_in(2));
        }
        if self.one_in(8) {
            packet.payload.truncate(self.below(8));
        }
        match self.below(10) {
            0 => packet.padded_frame(),
            1 => packet.frame_saying(self.below(72) as u16),
            _ => packet.frame(),
        }
    }

    /// A frame of the above with some bytes changed, cut, or filled up.
    pub fn mutated_frame(&mut self) -> Vec<u8> {
        let mut frame = self.frame();
        for _ in 0..self.below(4) {
            let at = self.below(frame.len());
            frame[at] = self.byte();
        }
        // newer kernels refuse to run on less than the IP header that the frame announces
        if self.one_in(4) {
            let len = ETH_HLEN + IPV6_HLEN + self.below(60);
            frame.resize(len, self.byte());
        }
        frame
    }
}
