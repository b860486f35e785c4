//! Sets of prefixes in which the longest match holds the whole answer, and their union (pure).

use ipnetwork::IpNetwork;

/// Prefixes, ascending (a prefix before those it covers), each with its mask.
pub type Prefixes = Vec<(IpNetwork, u64)>;

/// The prefixes of both sets. Each answers as both sets together do: with the masks that a longest
/// match finds for it in one and in the other.
pub fn union(one: &[(IpNetwork, u64)], other: &[(IpNetwork, u64)]) -> Prefixes {
    let mut all: Vec<_> = one.iter().chain(other).map(|entry| entry.0).collect();
    all.sort_unstable_by_key(|prefix| (prefix.network(), prefix.prefix()));
    all.dedup();

    let (mut one, mut other) = (LongestMatch::new(one), LongestMatch::new(other));
    all.into_iter().map(|prefix| (prefix, one.mask(prefix) | other.mask(prefix))).collect()
}

/// Longest matches in a sorted set, for prefixes asked in ascending order.
struct LongestMatch<'a> {
    ahead: std::iter::Peekable<std::slice::Iter<'a, (IpNetwork, u64)>>,
    /// the prefixes that cover the place we are at, the longest one last
    covering: Vec<(IpNetwork, u64)>,
}

impl<'a> LongestMatch<'a> {
    fn new(sorted: &'a [(IpNetwork, u64)]) -> Self {
        Self { ahead: sorted.iter().peekable(), covering: Vec::new() }
    }

    fn mask(&mut self, prefix: IpNetwork) -> u64 {
        let place = |prefix: IpNetwork| (prefix.network(), prefix.prefix());
        while let Some(entry) = self.ahead.next_if(|entry| place(entry.0) <= place(prefix)) {
            self.leave_behind(entry.0);
            self.covering.push(*entry);
        }
        self.leave_behind(prefix);
        self.covering.last().map_or(0, |entry| entry.1)
    }

    fn leave_behind(&mut self, prefix: IpNetwork) {
        while self.covering.pop_if(|entry| !covers(entry.0, prefix)).is_some() {}
    }
}

fn covers(prefix: IpNetwork, other: IpNetwork) -> bool {
    prefix.prefix() <= other.prefix() && prefix.contains(other.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, u64)]) -> Prefixes {
        let parsed = entries.iter().map(|(text, mask)| (text.parse().unwrap(), *mask));
        parsed.collect()
    }

    #[test]
    fn a_prefix_in_one_set_answers_with_the_longest_match_of_the_other_too() {
        let one = set(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 3)]);
        let other = set(&[("10.1.2.0/24", 16), ("11.0.0.0/8", 32)]);
        let expected = set(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 3),
            ("10.1.2.0/24", 3 | 16),
            ("11.0.0.0/8", 32),
        ]);
        assert_eq!(union(&one, &other), expected);
    }

    #[test]
    fn equal_prefixes_become_one_with_both_masks() {
        let one = set(&[("1.2.3.4/32", 1)]);
        let other = set(&[("1.2.3.4/32", 256)]);
        assert_eq!(union(&one, &other), set(&[("1.2.3.4/32", 257)]));
    }

    #[test]
    fn a_prefix_that_ended_covers_nothing_behind_it() {
        let one = set(&[("10.0.0.0/8", 1), ("10.0.0.0/24", 1), ("10.0.1.0/24", 2)]);
        let other = set(&[("10.0.2.0/24", 4), ("12.0.0.0/8", 8)]);
        let joined = union(&one, &other);
        assert_eq!(joined[3], ("10.0.2.0/24".parse().unwrap(), 1 | 4));
        assert_eq!(joined[4], ("12.0.0.0/8".parse().unwrap(), 8));
    }
}
