//! Packets a second, from two samples of the counters (pure).

use std::time::Duration;

use super::report::{Entry, Instance, Outcomes};

/// Computes the rates of `after` for programs and rules that are also in `before`.
pub fn fill_in(before: &[Entry], after: &mut [Entry]) {
    for entry in after {
        let Ok(now) = &mut entry.found else { continue };
        let earlier = before.iter().find(|earlier| earlier.id == entry.id);
        if let Some(earlier) = earlier.and_then(|earlier| earlier.found.as_ref().ok()) {
            of_instance(earlier, now);
        }
    }
}

fn of_instance(before: &Instance, after: &mut Instance) {
    let time = after.read_at.saturating_duration_since(before.read_at);
    // another program has maps of its own, whose counters began at 0
    if before.program != after.program || time.is_zero() {
        return;
    }
    after.rates = Some(a_second(before.total(), after.total(), time));
    // the counters of other rules began at 0
    if before.installation == after.installation {
        for (now, before) in after.rules.iter_mut().zip(&before.rules) {
            now.rates = Some(a_second(before.outcomes, now.outcomes, time));
        }
    }
}

fn a_second(before: Outcomes<u64>, after: Outcomes<u64>, time: Duration) -> Outcomes<f64> {
    // counters are read one by one, while packets pass
    before.zip(after, |before, after| after.saturating_sub(before) as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{entry, instance, outcomes};
    use super::*;

    /// Two samples, two seconds apart, of one rule.
    fn samples() -> [Instance; 2] {
        let before = instance();
        let mut after = before.clone();
        after.read_at += Duration::from_secs(2);
        after.rules[0].outcomes = before.rules[0].outcomes.zip(outcomes(8, 5, 3), |a, b| a + b);
        [before, after]
    }

    fn filled([before, after]: [Instance; 2]) -> Instance {
        let mut after = [entry(after)];
        fill_in(&[entry(before)], &mut after);
        let [after] = after;
        after.found.unwrap()
    }

    #[test]
    fn a_rate_is_what_was_counted_between_the_samples_a_second() {
        let after = filled(samples());
        let expected = outcomes(4.0, 2.5, 1.5);
        assert_eq!(after.rules[0].rates, Some(expected));
        assert_eq!(after.rates, Some(expected));
    }

    #[test]
    fn what_moves_to_the_retired_is_no_traffic() {
        let [before, mut after] = samples();
        after.installation += 1;
        after.retired = before.total();
        after.rules[0].outcomes = outcomes(8, 5, 3);
        let after = filled([before, after]);
        assert_eq!(after.rules[0].rates, None, "these are other rules");
        assert_eq!(after.rates, Some(outcomes(4.0, 2.5, 1.5)));
    }

    #[test]
    fn another_program_has_no_rates_yet() {
        let [before, mut after] = samples();
        after.program.as_mut().unwrap().id += 1;
        let after = filled([before, after]);
        assert_eq!((after.rates, after.rules[0].rates), (None, None));
    }

    #[test]
    fn counters_that_were_read_too_early_are_no_negative_rate() {
        let [mut before, after] = samples();
        before.rules[0].outcomes.sent += 1000;
        assert_eq!(filled([before, after]).rules[0].rates.unwrap().sent, 0.0);
    }

    #[test]
    fn an_instance_that_was_not_there_has_no_rates() {
        let mut after = [entry(instance())];
        fill_in(&[], &mut after);
        assert_eq!(after[0].found.as_ref().unwrap().rates, None);
    }
}
