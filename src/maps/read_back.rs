//! Reading back the rules in force: to show them, and to keep them when the tunnel changes.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::layout::MASKS;
use super::{Generation, Maps, rules, tries};
use crate::abi::GENERATION_BITS;
use crate::bpf;
use crate::filter::CompiledRules;

impl Maps {
    /// The rules in force. Nobody else may change them meanwhile: hold the lock.
    pub fn rules_in_force(&self) -> Result<CompiledRules> {
        let generation = self.generation_in_force();
        let of = |word: &AtomicU64| generation.of(word.load(Ordering::Relaxed));
        let mut rules =
            CompiledRules { live: of(self.common.config.live()), ..CompiledRules::default() };
        for mask in &MASKS {
            *(mask.of_mut)(&mut rules) = of(self.common.config.word(mask.offset));
        }
        for (table, maps) in &self.tables {
            let masks = &mut rules.tables[*table];
            masks.any = of(self.common.config.word(maps.any));
            masks.values = segments(maps.values.words().iter().map(of));
            if let Some(trie) = &maps.prefixes {
                let all = tries::read(trie)?.into_iter();
                // also prefixes without rules: they are exceptions within a shorter prefix that covers them
                masks.prefixes = all.map(|(prefix, mask)| (prefix, generation.of(mask))).collect();
            }
        }
        let live = rules.live;
        let entries = generation.bits().zip(0..).filter(|(_, bit)| live >> bit & 1 == 1);
        rules.rules = entries.map(|(bit, _)| rules::parse(&self.rule.read(bit as usize))).collect();
        Ok(rules)
    }

    /// The counters of a rule in force, by its number from 0 on.
    pub fn outcomes_of(&self, rule: u32) -> Result<bpf::Outcomes> {
        self.counters.of_bit(self.generation_in_force().bits().start + rule)
    }

    /// The counters of all rules that are no longer in force, added up.
    pub fn outcomes_of_former_rules(&self) -> Result<bpf::Outcomes> {
        self.counters.of_all_but(self.common.config.live().load(Ordering::Acquire))
    }

    /// A number that no earlier rules had.
    pub fn installation(&self) -> u64 {
        self.rule.read(self.generation_in_force().bits().start as usize).installed
    }

    /// Puts all rules but one out of force.
    pub fn leave_only(&self, rule: u32) {
        let live = self.generation_in_force().mask(1 << rule);
        self.common.config.live().store(live, Ordering::Release);
    }

    fn generation_in_force(&self) -> Generation {
        Generation(usize::from(self.common.config.live().load(Ordering::Acquire) as u32 == 0))
    }
}

/// Compiled rules as they would be read back from maps: the rate of a sample is rounded there.
pub fn as_read_back(mut rules: CompiledRules) -> CompiledRules {
    for rule in &mut rules.rules {
        *rule = rules::parse(&rules::entry(rule, 0));
    }
    rules
}

impl Generation {
    /// The generation's half of a mask.
    fn of(self, mask: u64) -> u32 {
        (mask >> (GENERATION_BITS * self.0 as u32)) as u32
    }
}

/// From a mask for each value, starting with 0, to ranges of values that the same rules accept.
fn segments(masks: impl Iterator<Item = u32>) -> Vec<(RangeInclusive<u16>, u32)> {
    let mut segments: Vec<(RangeInclusive<u16>, u32)> = Vec::new();
    for (value, rules) in (0..=u16::MAX).zip(masks) {
        match segments.last_mut() {
            Some((range, same)) if *same == rules && range.end() + 1 == value => {
                *range = *range.start()..=value;
            }
            _ if rules != 0 => segments.push((value..=value, rules)),
            _ => {}
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    #[test]
    fn neighbours_that_the_same_rules_accept_are_one_segment() {
        let masks = [0, 5, 5, 1, 0, 0, 1, 1].into_iter().chain(repeat_n(0, 65_527)).chain([7]);
        let expected = vec![(1..=2, 5), (3..=3, 1), (6..=7, 1), (65_535..=65_535, 7)];
        assert_eq!(segments(masks), expected);
        assert_eq!(segments([].into_iter()), []);
    }
}
