//! From a failure to the least that still fails.

use traffic_mirroring::filter::{Field, Rule};

/// The shortest frame that every kernel takes for a test run, whatever it announces.
const LEAST: usize = 14 + 40;

/// Rules and frames, one after the other, that the oracle and a program disagree on.
#[derive(Clone, Debug)]
pub struct Case {
    pub rules: Vec<Rule>,
    pub frames: Vec<Vec<u8>>,
}

impl Case {
    /// Leaves out of it what it fails without.
    pub fn shrink(mut self, fails: impl Fn(&Case) -> bool) -> Self {
        // a whole half first, and then less and less
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

    /// Keeps a change, if it is one, that leaves the failure as it was.
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

    /// Takes one entry out of a rule, if it fails without.
    fn shrink_rule(&mut self, fails: &impl Fn(&Case) -> bool, index: usize) -> bool {
        let removals: [fn(&mut Rule) -> bool; 21] = [
            |rule| std::mem::take(&mut rule.action) != rule.action,
            |rule| pop_only(&mut rule.protocol),
            |rule| pop_not(&mut rule.protocol),
            |rule| pop_only(&mut rule.src_address),
            |rule| pop_not(&mut rule.src_address),
            |rule| pop_only(&mut rule.dst_address),
            |rule| pop_not(&mut rule.dst_address),
            |rule| pop_only(&mut rule.src_port),
            |rule| pop_not(&mut rule.src_port),
            |rule| pop_only(&mut rule.dst_port),
            |rule| pop_not(&mut rule.dst_port),
            |rule| pop_only(&mut rule.tcp_flags),
            |rule| pop_not(&mut rule.tcp_flags),
            |rule| pop_only(&mut rule.vlan),
            |rule| pop_not(&mut rule.vlan),
            |rule| pop_only(&mut rule.icmp_type),
            |rule| pop_not(&mut rule.icmp_type),
            |rule| pop_only(&mut rule.dscp),
            |rule| pop_not(&mut rule.dscp),
            |rule| pop_only(&mut rule.length),
            |rule| pop_not(&mut rule.length),
        ];
        removals
            .into_iter()
            .any(|remove| self.attempt(fails, |case| remove(&mut case.rules[index])))
    }
}

/// The first of the entries: of several, the others follow.
fn pop_only<T>(field: &mut Field<T>) -> bool {
    !field.only.is_empty() && {
        field.only.rotate_left(1);
        field.only.pop().is_some()
    }
}

fn pop_not<T>(field: &mut Field<T>) -> bool {
    !field.not.is_empty() && {
        field.not.rotate_left(1);
        field.not.pop().is_some()
    }
}
