//! Addresses, from the answers of longest matches.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::filter::rule::Field;

/// What one rule names and excludes of a family.
#[derive(Debug, Clone, Default)]
pub struct Named {
    only: Vec<IpNetwork>,
    not: Vec<IpNetwork>,
}

/// For each rule: where an answer has a rule that the one for what covers it has not, it was named;
/// where it has lost one, it was excluded.
pub fn named<N: Copy + Into<IpNetwork>>(prefixes: &[(N, u32)]) -> Vec<Named> {
    let mut rules = vec![Named::default(); u32::BITS as usize];
    // prefixes that cover the place we are at, the longest one last
    let mut covering: Vec<(IpNetwork, u32)> = Vec::new();
    for &(network, mask) in prefixes {
        let network = network.into();
        while covering.last().is_some_and(|(outer, _)| !covers(*outer, network)) {
            covering.pop();
        }
        let before = covering.last().map_or(0, |&(_, mask)| mask);
        covering.push((network, mask));
        for (index, rule) in rules.iter_mut().enumerate() {
            match (before >> index & 1, mask >> index & 1) {
                (0, 1) => rule.only.push(network),
                (1, 0) => rule.not.push(network),
                _ => {}
            }
        }
    }
    rules
}

fn covers(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
}

/// `is_any` and `named` are of IPv4, then of IPv6.
pub fn addresses(is_any: [bool; 2], named: [&Named; 2]) -> Field<IpNetwork> {
    let all: [IpNetwork; 2] = [
        Ipv4Network::new(0.into(), 0).expect("a length").into(),
        Ipv6Network::new(0.into(), 0).expect("a length").into(),
    ];
    let is_all = [0, 1].map(|family| is_any[family] || named[family].only.contains(&all[family]));
    let mut field = Field::default();
    // where nothing is named, both families are
    if is_all != [true, true] {
        for family in [0, 1] {
            match is_all[family] {
                true => field.only.push(all[family]),
                false => field.only.extend(&named[family].only),
            }
        }
        if field.only.is_empty() {
            return Field { only: vec![all[0]], not: vec![all[0]] };
        }
    }
    field.not.extend(named.iter().flat_map(|named| &named.not));
    field
}
