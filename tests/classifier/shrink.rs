//! Shrinks a failing case to a small one that still fails.

use traffic_mirroring::filter::{Action, Entries, Rule};

/// The length of the shortest frame that every kernel takes in a test run, whatever the frame
/// announces.
const LEAST: usize = 14 + 40;

/// Rules and a sequence of frames on which the oracle and a program disagree.
#[derive(Clone, Debug)]
pub struct Case {
    pub rules: Vec<Rule>,
    pub frames: Vec<Vec<u8>>,
}

impl Case {
    /// Removes everything that the failure does not need.
    pub fn shrink(mut self, fails: impl Fn(&Case) -> bool) -> Self {
        // halves first, then smaller and smaller parts
        let mut chunk = self.frames.len().div_ceil(2);
        while chunk > 0 {
            let mut end = self.frames.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                self.attempt(&fails, |case| case.frames.drain(start..end).next().is_some());
                end = start;
            }
            chunk /= 2;
        }
        for index in (0..self.rules.len()).rev() {
            self.attempt(&fails, |case| {
                case.rules.remove(index);
                !case.rules.is_empty()
            });
        }
        for index in 0..self.rules.len() {
            while self.shrink_rule(&fails, index) {}
        }
        for index in 0..self.frames.len() {
            while self.frames[index].len() > LEAST
                && self.attempt(&fails, |case| case.frames[index].pop().is_some())
            {}
        }
        self
    }

    /// Keeps a real change only if the case still fails.
    fn attempt(
        &mut self,
        fails: &impl Fn(&Case) -> bool,
        change: impl FnOnce(&mut Case) -> bool,
    ) -> bool {
        let mut changed = self.clone();
        let still_fails = change(&mut changed) && fails(&changed);
        if still_fails {
            *self = changed;
        }
        still_fails
    }

    /// Opens a field of a rule, or removes one of its entries, if the case still fails.
    fn shrink_rule(&mut self, fails: &impl Fn(&Case) -> bool, index: usize) -> bool {
        // lists all fields by name, so that the compiler reports a new one that is missing below
        let Rule {
            name: _,
            action: _,
            protocol,
            src_address,
            dst_address,
            src_port,
            dst_port,
            tcp_flags,
            vlan,
            icmp_type,
            dscp,
            length,
        } = self.rules[index].clone();
        macro_rules! shrink {
            ($($field:ident),*) => {
                $(thinner(&$field).into_iter().any(|thinner| {
                    self.attempt(fails, |case| {
                        case.rules[index].$field = thinner;
                        true
                    })
                }))||*
            };
        }
        let is_plain = |case: &Case| case.rules[index].action == Action::default();
        (!is_plain(self)
            && self.attempt(fails, |case| {
                case.rules[index].action = Action::default();
                true
            }))
            || shrink!(
                protocol,
                src_address,
                dst_address,
                src_port,
                dst_port,
                tcp_flags,
                vlan,
                icmp_type,
                dscp,
                length
            )
    }
}

/// The field without all of its entries, and without each single one. Empty if the field is open.
fn thinner<T: Clone>(entries: &Entries<T>) -> Vec<Entries<T>> {
    if entries.is_any() {
        return Vec::new();
    }
    let without = |list: &[T], index: usize| [&list[..index], &list[index + 1..]].concat();
    let Entries { only, not } = entries;
    let only_without =
        (0..only.len()).map(|index| Entries { only: without(only, index), not: not.clone() });
    let not_without =
        (0..not.len()).map(|index| Entries { only: only.clone(), not: without(not, index) });
    [Entries::default()].into_iter().chain(only_without).chain(not_without).collect()
}
