//! The table of an instance's rules and their counters (pure).

use super::or_none;
use crate::command::show::report::{Instance, Outcomes};
use crate::filter::render;

/// Behind those that rules have anyway.
const HEADINGS: [&str; 5] = ["matched", "a second", "sent", "a second", "left out"];

/// The rows, with a heading, and with a sum if there is something to add up.
pub fn rows(instance: &Instance) -> Vec<Vec<String>> {
    let row = |rule: [String; render::HEADINGS.len()], counts: [String; HEADINGS.len()]| {
        rule.into_iter().chain(counts).collect::<Vec<_>>()
    };
    let counts = |outcomes: &Outcomes<u64>, rates: Option<Outcomes<f64>>| {
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), rate_text);
        [
            outcomes.matched.to_string(),
            rate(rates.map(|rates| rates.matched)),
            outcomes.sent.to_string(),
            rate(rates.map(|rates| rates.sent)),
            left_out(outcomes, rates),
        ]
    };
    let sum_of = |name: &str| ["", name, "", "", "", ""].map(str::to_owned);
    let headings = row(render::HEADINGS.map(str::to_owned), HEADINGS.map(str::to_owned));
    let mut rows = vec![headings];
    for (index, rule) in instance.rules.iter().enumerate() {
        rows.push(row(render::row(index + 1, &rule.rule), counts(&rule.outcomes, rule.rates)));
    }
    let has_former = instance.retired != Outcomes::default() && !instance.rules.is_empty();
    if has_former {
        rows.push(row(sum_of("(former rules)"), counts(&instance.retired, None)));
    }
    if has_former || instance.rules.len() != 1 {
        rows.push(row(sum_of("(all)"), counts(&instance.total(), instance.rates)));
    }
    align_right(&mut rows);
    without_empty_columns(rows)
}

/// Few rules have a sample or a snaplen.
fn without_empty_columns(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let has_cells: Vec<bool> = (0..rows[0].len())
        .map(|column| rows.iter().skip(1).any(|row| !row[column].is_empty()))
        .collect();
    for row in &mut rows {
        let mut has_cells = has_cells.iter();
        row.retain(|_| has_cells.next() == Some(&true));
    }
    rows
}

/// Numbers, so that they can be compared at a glance.
fn align_right(rows: &mut [Vec<String>]) {
    let first = render::HEADINGS.len();
    for column in first..first + HEADINGS.len() - 1 {
        let width = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        for row in rows.iter_mut() {
            row[column] = format!("{:>width$}", row[column]);
        }
    }
}

fn rate_text(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// The reasons that have counted packets.
fn left_out(outcomes: &Outcomes<u64>, rates: Option<Outcomes<f64>>) -> String {
    let rates = rates.map(|rates| rates.left_out());
    let reasons = outcomes.left_out().into_iter().enumerate().filter(|(_, (_, count))| *count > 0);
    or_none(reasons.map(|(index, (reason, count))| {
        let rate = rates.map(|rates| rates[index].1).filter(|rate| *rate > 0.0);
        let rate = rate.map_or_else(String::new, |it| format!(" ({} a second)", rate_text(it)));
        format!("{count} {reason}{rate}")
    }))
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use crate::command::show::sample::{entry, instance, outcomes, rules};

    #[test]
    fn several_rules_and_former_ones_have_a_sum() {
        let mut instance = instance();
        instance.rules = rules(r#"{"name": "a"}, {"name": "b"}"#);
        instance.retired = outcomes(5, 4, 1);
        let text = text(&[entry(instance)]);
        let table = "
  #  name            action  packets  matched  a second  sent  a second  left out
  1  a               mirror  any           10         -    10         -  none
  2  b               mirror  any           10         -    10         -  none
     (former rules)                         5         -     4         -  1 excluded
     (all)                                 25         -    24         -  1 excluded
";
        assert!(text.ends_with(table), "{text}");
    }
}
