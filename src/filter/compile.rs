//! From rules to masks. Rule i is bit i; each field gets a table from value to the rules that
//! accept it, so that the AND of five look-ups is the set of rules that a packet matches.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use ipnetwork::Ipv4Network;

use super::rule::{Field, Rule};

/// The rules that one generation of the tc programs' masks has bits for.
pub const MAX_RULES: usize = u32::BITS as usize;

/// The masks that `bpf/mirroring.bpf.h` classifies by. A rule that leaves a field open stands in
/// the field's `any_` mask and in none of its tables. Values that no rule names have no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The rules there are.
    pub live: u32,
    pub any_protocol: u32,
    pub any_src_port: u32,
    pub any_dst_port: u32,
    pub any_src_address: u32,
    pub any_dst_address: u32,
    /// The rules that accept packets of protocols without ports.
    pub portless: u32,
    /// Ascending.
    pub protocols: Vec<(u8, u32)>,
    /// Disjoint and ascending.
    pub src_ports: Vec<(RangeInclusive<u16>, u32)>,
    pub dst_ports: Vec<(RangeInclusive<u16>, u32)>,
    /// The upper 16 bits of addresses, to the rules that accept some address that begins so.
    /// Disjoint and ascending.
    pub src_nets: Vec<(RangeInclusive<u16>, u32)>,
    pub dst_nets: Vec<(RangeInclusive<u16>, u32)>,
    /// Every prefix once, ascending, to the rules that accept all of it. The longest prefix that
    /// covers an address has the whole answer, as a trie of longest matches needs it.
    pub src_prefixes: Vec<(Ipv4Network, u32)>,
    pub dst_prefixes: Vec<(Ipv4Network, u32)>,
}

/// Compiles up to [`MAX_RULES`] rules, in O(n log n) of the values that they name.
///
/// # Errors
/// There are more rules than bits.
pub fn compile(rules: &[Rule]) -> Result<RuleSet> {
    ensure!(
        rules.len() <= MAX_RULES,
        "there are {} rules, and room for {MAX_RULES}; merge some of them",
        rules.len()
    );
    Ok(RuleSet {
        live: mask_of(rules, |_| true),
        any_protocol: mask_of(rules, |rule| rule.protocol.is_any()),
        any_src_port: mask_of(rules, |rule| rule.src_port.is_any()),
        any_dst_port: mask_of(rules, |rule| rule.dst_port.is_any()),
        any_src_address: mask_of(rules, |rule| rule.src_address.is_any()),
        any_dst_address: mask_of(rules, |rule| rule.dst_address.is_any()),
        portless: mask_of(rules, Rule::accepts_portless),
        protocols: merged(named(rules, |rule| &rule.protocol)),
        src_ports: segments(named(rules, |rule| &rule.src_port)),
        dst_ports: segments(named(rules, |rule| &rule.dst_port)),
        src_nets: segments(nets(named(rules, |rule| &rule.src_address))),
        dst_nets: segments(nets(named(rules, |rule| &rule.dst_address))),
        src_prefixes: prefixes(named(rules, |rule| &rule.src_address)),
        dst_prefixes: prefixes(named(rules, |rule| &rule.dst_address)),
    })
}

/// The rules that `holds` is true of.
fn mask_of(rules: &[Rule], holds: impl Fn(&Rule) -> bool) -> u32 {
    rules.iter().enumerate().fold(0, |mask, (bit, rule)| mask | u32::from(holds(rule)) << bit)
}

/// Everything that rules name in a field, each with the number of its rule.
fn named<T: Clone + 'static>(
    rules: &[Rule],
    field: impl Fn(&Rule) -> &Field<T>,
) -> impl Iterator<Item = (T, usize)> {
    rules
        .iter()
        .enumerate()
        .flat_map(move |(bit, rule)| field(rule).named().iter().map(move |v| (v.clone(), bit)))
}

/// Every value once, ascending, with the rules that name it.
fn merged<T: Ord>(named: impl Iterator<Item = (T, usize)>) -> Vec<(T, u32)> {
    let mut values: Vec<(T, u32)> = named.map(|(value, bit)| (value, 1 << bit)).collect();
    values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    values.dedup_by(|(value, mask), (kept, kept_mask)| {
        let same = value == kept;
        if same {
            *kept_mask |= *mask;
        }
        same
    });
    values
}

/// Cuts ranges into disjoint segments, by a sweep over their ends.
fn segments(
    named: impl Iterator<Item = (RangeInclusive<u16>, usize)>,
) -> Vec<(RangeInclusive<u16>, u32)> {
    // (where, which rule, ranges of it that begin there less those that have ended)
    let mut edges: Vec<(u32, usize, i32)> = named
        .filter(|(range, _)| !range.is_empty())
        .flat_map(|(range, bit)| {
            [(u32::from(*range.start()), bit, 1), (u32::from(*range.end()) + 1, bit, -1)]
        })
        .collect();
    edges.sort_unstable_by_key(|&(at, ..)| at);

    let mut open = [0_i32; MAX_RULES];
    let mut mask = 0_u32;
    let mut start = 0_u32;
    let mut segments = Vec::new();
    for edges in edges.chunk_by(|a, b| a.0 == b.0) {
        let mut next_mask = mask;
        for &(_, bit, step) in edges {
            open[bit] += step;
            next_mask = next_mask & !(1 << bit) | u32::from(open[bit] > 0) << bit;
        }
        if next_mask != mask {
            let end = edges[0].0;
            if mask != 0 {
                // ends are at most 65536, and exclusive
                segments.push((start as u16..=(end - 1) as u16, mask));
            }
            (start, mask) = (end, next_mask);
        }
    }
    segments
}

/// The upper 16 bits that the addresses of a prefix have.
fn nets(
    named: impl Iterator<Item = (Ipv4Network, usize)>,
) -> impl Iterator<Item = (RangeInclusive<u16>, usize)> {
    let upper = |address: Ipv4Addr| (u32::from(address) >> 16) as u16;
    named.map(move |(net, bit)| (upper(net.network())..=upper(net.broadcast()), bit))
}

/// Every prefix once, with the rules that name it or a prefix that covers it.
fn prefixes(named: impl Iterator<Item = (Ipv4Network, usize)>) -> Vec<(Ipv4Network, u32)> {
    // sorted by address and then by length, a prefix comes after those that cover it
    let mut prefixes = merged(named);
    let mut covering: Vec<(Ipv4Network, u32)> = Vec::new();
    for (prefix, mask) in &mut prefixes {
        while covering.last().is_some_and(|(outer, _)| !outer.contains(prefix.network())) {
            covering.pop();
        }
        *mask |= covering.last().map_or(0, |(_, mask)| *mask);
        covering.push((*prefix, *mask));
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Ports {
        Known {
            src: u16,
            dst: u16,
        },
        /// The protocol has none.
        None,
        /// A later fragment of a protocol with ports.
        Unknown,
    }

    #[derive(Debug, Clone, Copy)]
    struct Packet {
        protocol: u8,
        src_address: Ipv4Addr,
        dst_address: Ipv4Addr,
        ports: Ports,
    }

    impl<T> Field<T> {
        fn accepts(&self, holds: impl FnMut(&T) -> bool) -> bool {
            self.is_any() || self.named().iter().any(holds)
        }
    }

    impl Rule {
        /// What the rule means, said as plainly as can be.
        fn matches(&self, packet: &Packet) -> bool {
            self.protocol.accepts(|&protocol| protocol == packet.protocol)
                && self.src_address.accepts(|net| net.contains(packet.src_address))
                && self.dst_address.accepts(|net| net.contains(packet.dst_address))
                && match packet.ports {
                    Ports::Known { src, dst } => {
                        self.src_port.accepts(|ports| ports.contains(&src))
                            && self.dst_port.accepts(|ports| ports.contains(&dst))
                    }
                    Ports::None if !self.protocol.is_any() => true,
                    Ports::None | Ports::Unknown => {
                        self.src_port.is_any() && self.dst_port.is_any()
                    }
                }
        }
    }

    /// classify() of `bpf/mirroring.bpf.h`.
    fn classify(set: &RuleSet, packet: &Packet) -> u32 {
        let protocol = set.protocols.iter().find(|(value, _)| *value == packet.protocol);
        let ports = match packet.ports {
            Ports::Known { src, dst } => {
                (set.any_dst_port | segment(&set.dst_ports, dst))
                    & (set.any_src_port | segment(&set.src_ports, src))
            }
            Ports::None => set.portless,
            Ports::Unknown => set.any_dst_port & set.any_src_port,
        };
        let address = |any, nets, prefixes, address| {
            (any | segment(nets, (u32::from(address) >> 16) as u16))
                & (any | longest_match(prefixes, address))
        };
        set.live
            & (set.any_protocol | protocol.map_or(0, |(_, mask)| *mask))
            & ports
            & address(set.any_dst_address, &set.dst_nets, &set.dst_prefixes, packet.dst_address)
            & address(set.any_src_address, &set.src_nets, &set.src_prefixes, packet.src_address)
    }

    fn segment(segments: &[(RangeInclusive<u16>, u32)], value: u16) -> u32 {
        segments.iter().find(|(range, _)| range.contains(&value)).map_or(0, |(_, mask)| *mask)
    }

    fn longest_match(prefixes: &[(Ipv4Network, u32)], address: Ipv4Addr) -> u32 {
        prefixes
            .iter()
            .filter(|(prefix, _)| prefix.contains(address))
            .max_by_key(|(prefix, _)| prefix.prefix())
            .map_or(0, |(_, mask)| *mask)
    }

    /// xorshift64 (Marsaglia 2003): every run sees the same rules and packets.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }

        fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
            values[self.below(values.len())]
        }

        fn field<T>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> Field<T> {
            match self.below(6) {
                0 | 1 => Field::Any,
                count => Field::OneOf((1..count).map(|_| value(self)).collect()),
            }
        }

        /// Few of them, with neighbours, so that rules and packets meet, and also at the ends.
        fn port(&mut self) -> u16 {
            self.one_of(&[0, 1, 2, 79, 80, 81, 8000, 8100, 65533, 65534, 65535])
        }

        fn address(&mut self) -> Ipv4Addr {
            let bytes = [0, 10, 127, 128, 255];
            Ipv4Addr::from([(); 4].map(|()| self.one_of(&bytes)))
        }

        fn network(&mut self) -> Ipv4Network {
            let prefix = self.one_of(&[0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32]);
            let network = Ipv4Network::new(self.address(), prefix).unwrap();
            Ipv4Network::new(network.network(), prefix).unwrap()
        }

        fn range(&mut self) -> RangeInclusive<u16> {
            let (a, b) = (self.port(), self.port());
            a.min(b)..=a.max(b)
        }

        fn protocol(&mut self) -> u8 {
            self.one_of(&[0, 1, 6, 17, 132, 255])
        }

        fn rule(&mut self) -> Rule {
            Rule {
                protocol: self.field(Self::protocol),
                src_address: self.field(Self::network),
                dst_address: self.field(Self::network),
                src_port: self.field(Self::range),
                dst_port: self.field(Self::range),
            }
        }

        fn packet(&mut self) -> Packet {
            let protocol = self.protocol();
            let ports = match protocol {
                6 | 17 | 132 if self.below(4) == 0 => Ports::Unknown,
                6 | 17 | 132 => Ports::Known { src: self.port(), dst: self.port() },
                _ => Ports::None,
            };
            Packet { protocol, src_address: self.address(), dst_address: self.address(), ports }
        }
    }

    fn nets(list: &[&str]) -> Field<Ipv4Network> {
        Field::OneOf(list.iter().map(|net| net.parse().unwrap()).collect())
    }

    #[test]
    fn masks_agree_with_what_the_rules_mean() {
        let mut random = Random(0x6d69_7272_6f72);
        let mut verdicts = [0_u32; 2];
        for _ in 0..400 {
            let rules: Vec<Rule> =
                (0..random.below(MAX_RULES + 1)).map(|_| random.rule()).collect();
            let set = compile(&rules).unwrap();
            for _ in 0..100 {
                let packet = random.packet();
                let masks = classify(&set, &packet);
                for (bit, rule) in rules.iter().enumerate() {
                    let matches = rule.matches(&packet);
                    assert_eq!(masks >> bit & 1 == 1, matches, "{rule:#?}\n{packet:#?}");
                    verdicts[usize::from(matches)] += 1;
                }
                assert_eq!(masks & !set.live, 0);
            }
        }
        assert!(verdicts.iter().all(|&count| count > 10_000), "lopsided: {verdicts:?}");
    }

    #[test]
    fn no_rules_are_no_masks() {
        assert_eq!(compile(&[]).unwrap(), RuleSet::default());
    }

    #[test]
    fn an_open_rule_writes_no_tables() {
        let set = compile(&[Rule::default()]).unwrap();
        assert_eq!(
            set,
            RuleSet {
                live: 1,
                any_protocol: 1,
                any_src_port: 1,
                any_dst_port: 1,
                any_src_address: 1,
                any_dst_address: 1,
                portless: 1,
                ..RuleSet::default()
            }
        );
    }

    #[test]
    fn a_generation_holds_32_rules_and_no_more() {
        assert_eq!(compile(&vec![Rule::default(); 32]).unwrap().live, u32::MAX);
        let error = compile(&vec![Rule::default(); 33]).unwrap_err().to_string();
        assert_eq!(error, "there are 33 rules, and room for 32; merge some of them");
    }

    #[test]
    fn ports_shut_out_portless_protocols_unless_they_are_named() {
        let port = Field::OneOf(vec![80..=80]);
        let rules = [
            Rule { dst_port: port.clone(), ..Rule::default() },
            Rule { src_port: port.clone(), ..Rule::default() },
            Rule { dst_port: port, protocol: Field::OneOf(vec![1, 6]), ..Rule::default() },
            Rule { protocol: Field::OneOf(vec![1]), ..Rule::default() },
            Rule::default(),
        ];
        assert_eq!(compile(&rules).unwrap().portless, 0b11100);
    }

    #[test]
    fn overlapping_ranges_become_disjoint_segments() {
        let rule = |ports: &[RangeInclusive<u16>]| Rule {
            dst_port: Field::OneOf(ports.to_vec()),
            ..Rule::default()
        };
        let rules =
            [rule(&[10..=20, 15..=30, 31..=40, 15..=18]), rule(&[0..=0, 20..=25, 65535..=65535])];
        assert_eq!(
            compile(&rules).unwrap().dst_ports,
            [(0..=0, 2), (10..=19, 1), (20..=25, 3), (26..=40, 1), (65535..=65535, 2)]
        );
        assert_eq!(compile(&[rule(&[0..=65535])]).unwrap().dst_ports, [(0..=65535, 1)]);
    }

    #[test]
    fn longer_prefixes_inherit_from_those_that_cover_them() {
        let rule = |list: &[&str]| Rule { src_address: nets(list), ..Rule::default() };
        let rules = [
            rule(&["10.0.0.0/8", "192.0.2.1/32"]),
            rule(&["10.1.0.0/16", "10.1.0.0/16", "192.0.2.0/24"]),
            rule(&["10.1.2.0/24", "10.0.0.0/8"]),
            rule(&["10.2.0.0/16"]),
        ];
        let expected = [
            ("10.0.0.0/8", 0b0101),
            ("10.1.0.0/16", 0b0111),
            ("10.1.2.0/24", 0b0111),
            ("10.2.0.0/16", 0b1101),
            ("192.0.2.0/24", 0b0010),
            ("192.0.2.1/32", 0b0011),
        ];
        let set = compile(&rules).unwrap();
        assert_eq!(set.src_prefixes, expected.map(|(net, mask)| (net.parse().unwrap(), mask)));
        assert!(set.dst_prefixes.is_empty());
    }

    #[test]
    fn nets_hold_the_rules_that_could_match_there() {
        let rules = [
            Rule { dst_address: nets(&["10.0.0.0/8", "10.1.2.3/32"]), ..Rule::default() },
            Rule { dst_address: nets(&["10.1.2.0/24", "0.0.0.0/32"]), ..Rule::default() },
            Rule::default(),
        ];
        let set = compile(&rules).unwrap();
        assert_eq!(
            set.dst_nets,
            [(0..=0, 2), (0x0a00..=0x0a00, 1), (0x0a01..=0x0a01, 3), (0x0a02..=0x0aff, 1)]
        );
        assert_eq!(set.any_dst_address, 0b100);
    }

    /// Would take minutes if any step compared every prefix with every other.
    #[test]
    fn a_hundred_thousand_prefixes_are_no_trouble() {
        let mut random = Random(1);
        let mut prefix = |_| {
            let address = Ipv4Addr::from(random.below(1 << 32) as u32);
            let network = Ipv4Network::new(address, 16 + random.below(17) as u8).unwrap();
            Ipv4Network::new(network.network(), network.prefix()).unwrap()
        };
        let list: Vec<Ipv4Network> = (0..100_000).map(&mut prefix).collect();
        let rule = Rule { src_address: Field::OneOf(list), ..Rule::default() };
        let set = compile(&[rule]).unwrap();
        assert!(set.src_prefixes.len() > 90_000);
        assert!(set.src_prefixes.is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
