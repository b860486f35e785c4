//! Random rules and packets, the same in every run. They come from so few values that packets often match.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use traffic_mirroring::filter::{
    Action, Entries, IcmpType, Prefix, Rule, Sample, SampleBy, Snaplen, TcpFlags, UNTAGGED,
};

/// A generator of random numbers: xorshift64 (Marsaglia 2003). Its state must not be 0.
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

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    pub fn protocol(&mut self) -> u8 {
        self.one_of(&[6, 17, 6, 17, 1, 58, 132, 136, 33, 47, 50, 59, 60, 255])
    }

    /// One of a few ports: some next to each other, and the first and last ones.
    pub fn port(&mut self) -> u16 {
        self.one_of(&[0, 1, 79, 80, 81, 7999, 8000, 8100, 8101, 65534, 65535])
    }

    pub fn vlan(&mut self) -> u16 {
        self.one_of(&[0, 1, 99, 100, 101, 4094, 4095])
    }

    pub fn tcp_flags(&mut self) -> u8 {
        self.one_of(&[0, 1, 2, 4, 16, 17, 18, 20, 24, 0x42, 0x80, 0xff])
    }

    pub fn icmp_type(&mut self) -> u8 {
        self.one_of(&[0, 1, 3, 8, 11, 128, 129, 135, 255])
    }

    pub fn dscp(&mut self) -> u8 {
        self.one_of(&[0, 1, 8, 46, 62, 63])
    }

    pub fn address_v4(&mut self) -> Ipv4Addr {
        let bytes = [0, 10, 127, 128, 255];
        Ipv4Addr::from([(); 4].map(|()| self.one_of(&bytes)))
    }

    /// An address of a few words. Many of them have the same XOR of the first two words, which is an index in the maps.
    pub fn address_v6(&mut self) -> Ipv6Addr {
        let words = [0, 1, 0x2001, 0x0db8, 0x8000, 0xffff];
        let mut address = [(); 8].map(|()| self.one_of(&words));
        if self.one_in(2) {
            (address[0], address[1]) = (0x2001, 0x0db8);
        }
        Ipv6Addr::from(address)
    }

    fn prefix(&mut self) -> Prefix {
        let (address, len) = if self.one_in(2) {
            let len = self.one_of(&[0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32]);
            (IpAddr::V4(self.address_v4()), len)
        } else {
            let len = self.one_of(&[0, 1, 3, 15, 16, 17, 20, 31, 32, 33, 48, 64, 127, 128]);
            (IpAddr::V6(self.address_v6()), len)
        };
        IpNetwork::new(address, len).unwrap().into()
    }

    fn ports(&mut self) -> RangeInclusive<u16> {
        let (a, b) = (self.port(), self.port());
        a.min(b)..=a.max(b)
    }

    fn vlans(&mut self) -> RangeInclusive<u16> {
        if self.one_in(3) {
            return UNTAGGED..=UNTAGGED;
        }
        let (a, b) = (self.vlan(), self.vlan());
        a.min(b)..=a.max(b)
    }

    fn lengths(&mut self) -> RangeInclusive<u16> {
        let ends = [0, 28, 40, 44, 60, 80, 100, 1500, 65535];
        let (a, b) = (self.one_of(&ends), self.one_of(&ends));
        a.min(b)..=a.max(b)
    }

    fn icmp_types(&mut self) -> IcmpType {
        let maybe = |random: &mut Self| (!random.one_in(4)).then(|| random.icmp_type());
        IcmpType { v4: maybe(self), v6: maybe(self) }
    }

    /// A field that is left open in `open` of 8 cases. Otherwise it has up to three entries and up to two exclusions.
    fn field<T>(&mut self, open: usize, mut value: impl FnMut(&mut Self) -> T) -> Entries<T> {
        if self.below(8) < open {
            return Entries::default();
        }
        let only = (0..self.below(4)).map(|_| value(self)).collect();
        let not = (0..self.one_of(&[0, 0, 0, 1, 1, 2])).map(|_| value(self)).collect();
        Entries { only, not }
    }

    fn action(&mut self) -> Action {
        if self.one_in(3) {
            return Action::Exclude;
        }
        let one_in = NonZeroU32::new(1 + self.below(100) as u32).unwrap();
        let by = self.one_of(&[SampleBy::Packet, SampleBy::Flow]);
        let snaplen = self.one_of(&[None, Some(Snaplen::Headers), Some(Snaplen::Bytes(128))]);
        Action::Mirror { sample: self.one_in(2).then_some(Sample { one_in, by }), snaplen }
    }

    /// A rule that leaves most of the rarer fields open. Otherwise hardly any packet would match.
    pub fn rule(&mut self) -> Rule {
        Rule {
            name: String::new(),
            action: self.action(),
            protocol: self.field(4, Self::protocol),
            src_address: self.field(3, Self::prefix),
            dst_address: self.field(3, Self::prefix),
            src_port: self.field(4, Self::ports),
            dst_port: self.field(4, Self::ports),
            tcp_flags: self.field(7, |random| TcpFlags(random.tcp_flags().max(1))),
            vlan: self.field(6, Self::vlans),
            icmp_type: self.field(7, Self::icmp_types),
            dscp: self.field(6, Self::dscp),
            length: self.field(6, Self::lengths),
        }
    }

    /// From one to `most` rules, with names.
    pub fn rules(&mut self, most: usize) -> Vec<Rule> {
        (0..=self.below(most))
            .map(|index| Rule { name: format!("rule {}", index + 1), ..self.rule() })
            .collect()
    }
}
