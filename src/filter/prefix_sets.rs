//! Sets of prefixes in which the longest match holds the whole answer.

use std::iter::Peekable;
use std::slice;

use crate::filter::Prefix;

/// Prefixes, ascending (a prefix before those it covers), each with its mask.
pub type Prefixes = Vec<(Prefix, u64)>;

/// The prefixes of both sets, each with the masks that its longest matches have in the one and in the other.
pub fn union(one: &Prefixes, other: &Prefixes) -> Prefixes {
    let mut all: Vec<_> = one.iter().chain(other).map(|entry| entry.0).collect();
    // two ascending halves, which this sort merges
    all.sort();
    all.dedup();

    let (mut one, mut other) = (LongestMatch::new(one), LongestMatch::new(other));
    all.into_iter().map(|prefix| (prefix, one.mask(prefix) | other.mask(prefix))).collect()
}

/// Removes prefixes whose mask equals that of their longest covering prefix.
pub fn fewest(all: &Prefixes) -> Prefixes {
    let mut fewest = Prefixes::new();
    let mut covering = Covering::default();
    for &(prefix, mask) in all {
        if covering.mask(prefix) != mask {
            fewest.push((prefix, mask));
        }
        covering.0.push((prefix, mask));
    }
    fewest
}

/// What changes from one set to another: the prefixes that are removed, and those that are new or have another mask.
pub fn difference(from: &Prefixes, to: &Prefixes) -> (Vec<Prefix>, Prefixes) {
    let (mut gone, mut new) = (Vec::new(), Prefixes::new());
    let mut from = from.iter().peekable();
    for &(prefix, mask) in to {
        while let Some(entry) = from.next_if(|entry| entry.0 < prefix) {
            gone.push(entry.0);
        }
        if from.next_if(|entry| entry.0 == prefix) != Some(&(prefix, mask)) {
            new.push((prefix, mask));
        }
    }
    gone.extend(from.map(|entry| entry.0));
    (gone, new)
}

/// Finds longest matches in a sorted set, for prefixes in ascending order.
struct LongestMatch<'a> {
    ahead: Peekable<slice::Iter<'a, (Prefix, u64)>>,
    covering: Covering,
}

/// The prefixes that cover the current one, the longest last.
#[derive(Default)]
struct Covering(Prefixes);

impl<'a> LongestMatch<'a> {
    fn new(sorted: &'a Prefixes) -> Self {
        Self { ahead: sorted.iter().peekable(), covering: Covering::default() }
    }

    fn mask(&mut self, prefix: Prefix) -> u64 {
        while let Some(entry) = self.ahead.next_if(|entry| entry.0 <= prefix) {
            self.covering.leave_behind(entry.0);
            self.covering.0.push(*entry);
        }
        self.covering.mask(prefix)
    }
}

impl Covering {
    fn leave_behind(&mut self, prefix: Prefix) {
        while self.0.last().is_some_and(|entry| !entry.0.covers(prefix)) {
            self.0.pop();
        }
    }

    fn mask(&mut self, prefix: Prefix) -> u64 {
        self.leave_behind(prefix);
        self.0.last().map_or(0, |entry| entry.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::filter::Family;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn set(entries: &[(&str, u64)]) -> Prefixes {
        entries.iter().map(|(text, mask)| (prefix(text), *mask)).collect()
    }

    #[test]
    fn a_prefix_of_one_set_also_gets_the_other_sets_longest_match() {
        let one = set(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 3)]);
        let other = set(&[("10.1.2.0/24", 16), ("11.0.0.0/8", 32)]);
        let expected = set(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 3),
            ("10.1.2.0/24", 3 | 16),
            ("11.0.0.0/8", 32),
        ]);
        assert_eq!(union(&one, &other), expected);
        assert_eq!(union(&other, &one), expected);
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
        assert_eq!(joined[3], (prefix("10.0.2.0/24"), 1 | 4));
        assert_eq!(joined[4], (prefix("12.0.0.0/8"), 8));
    }

    #[test]
    fn what_a_covering_prefix_answers_for_is_left_out() {
        let all = set(&[
            ("9.0.0.0/8", 0),
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 1),
            ("10.1.2.0/24", 0),
            ("10.1.2.4/32", 0),
            ("10.1.3.0/24", 3),
            ("11.0.0.0/8", 1),
        ]);
        let few = [("10.0.0.0/8", 1), ("10.1.2.0/24", 0), ("10.1.3.0/24", 3), ("11.0.0.0/8", 1)];
        assert_eq!(fewest(&all), set(&few));
        assert_eq!(fewest(&set(&few)), set(&few));
    }

    #[test]
    fn a_difference_is_what_goes_and_what_is_other_than_before() {
        let from =
            set(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 3), ("12.0.0.0/8", 1), ("13.0.0.0/8", 1)]);
        let to = set(&[("9.0.0.0/8", 1), ("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("14.0.0.0/8", 0)]);
        let (gone, new) = difference(&from, &to);
        assert_eq!(gone, ["12.0.0.0/8", "13.0.0.0/8"].map(prefix));
        assert_eq!(new, set(&[("9.0.0.0/8", 1), ("10.1.0.0/16", 2), ("14.0.0.0/8", 0)]));
        assert_eq!(difference(&to, &to), (vec![], vec![]));
    }

    /// Numbers at random that are the same in every run (xorshift64, Marsaglia 2003).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 16) % end
        }

        /// Of addresses of 6 bits, each with some of two rules, whose bits begin at `shift`.
        fn set(&mut self, shift: u32) -> Prefixes {
            let mut set: Prefixes = (0..self.below(12))
                .map(|_| {
                    let len = self.below(7) as u8;
                    let bits = u128::from(self.below(1 << len)) << (127 - len) << 1;
                    (Prefix { family: Family::V4, bits, len }, self.below(4) << shift)
                })
                .collect();
            set.sort_unstable();
            set.dedup_by_key(|entry| entry.0);
            set
        }
    }

    /// What longest matches find for all addresses, of those bits of their masks.
    fn answers(set: &BTreeMap<Prefix, u64>, bits: u64) -> Vec<u64> {
        let address = |n: u8| Prefix { family: Family::V4, bits: u128::from(n) << 122, len: 128 };
        let longest = |n| {
            let covering = set.iter().filter(|(prefix, _)| prefix.covers(address(n)));
            covering.max_by_key(|(prefix, _)| prefix.len).map_or(0, |(_, mask)| mask & bits)
        };
        (0..64).map(longest).collect()
    }

    /// As an update changes a trie: from what is in force, and what one that was cut short left, to what
    /// is in force and what is new, to what is new alone. At each step, it may be the last.
    #[test]
    fn each_step_of_an_update_keeps_the_answers_of_rules_in_force() {
        const OLD: u64 = 0b11;
        const NEW: u64 = 0b11 << 32;
        let mut random = Random(0x6d69_7272_6f72);
        for _ in 0..2000 {
            let (in_force, left, new) = (random.set(0), random.set(32), random.set(32));
            let there = union(&in_force, &left);
            let old_half = there.iter().map(|entry| (entry.0, entry.1 & OLD)).collect();
            let both = union(&fewest(&old_half), &new);
            let expected = [(OLD, &in_force), (NEW, &new)].map(|(bits, set)| {
                let set = set.iter().copied().collect();
                (bits, answers(&set, bits))
            });
            let mut trie: BTreeMap<Prefix, u64> = there.iter().copied().collect();
            for (from, to, (bits, expected)) in
                [(&there, &both, &expected[0]), (&both, &new, &expected[1])]
            {
                let (gone, written) = difference(from, to);
                let gone = gone.into_iter().map(|prefix| (prefix, None));
                let written = written.into_iter().map(|(prefix, mask)| (prefix, Some(mask)));
                for (prefix, mask) in gone.chain(written) {
                    match mask {
                        Some(mask) => drop(trie.insert(prefix, mask)),
                        None => drop(trie.remove(&prefix).expect("a prefix to delete")),
                    }
                    assert_eq!(answers(&trie, *bits), *expected, "{in_force:?} {left:?} {new:?}");
                }
                assert!(trie.iter().eq(to.iter().map(|(prefix, mask)| (prefix, mask))));
            }
        }
    }
}
