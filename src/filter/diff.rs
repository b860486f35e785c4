//! What differs between two lists of rules.

use super::fields::Field;
use super::render;
use super::rule::Rule;

/// What differs between a rule and the rule of the same name in another list. Numbers count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new list has a rule of this name.
    Added {
        /// The name, by which rules of the two lists are compared.
        name: String,
        /// Its number in the new list.
        number: usize,
    },
    /// Only the old list has a rule of this name.
    Removed {
        /// The name, which no rule of the new list has.
        name: String,
        /// Its number in the old list.
        number: usize,
    },
    /// It says something else than before, or has another place among the others.
    Changed {
        /// The name, which is the same in both lists.
        name: String,
        /// Its number in the new list.
        number: usize,
        /// Its number before, if it has another place among the others.
        moved_from: Option<usize>,
        /// Key, before, after; empty text for what there is not.
        what: Vec<(&'static str, String, String)>,
    },
}

/// What changes from one list of rules to another, both with unique names: first what is removed, then the others in
/// the order of the new list.
pub fn between(before: &[Rule], after: &[Rule]) -> Vec<Change> {
    let find = |list: &[Rule], name: &str| list.iter().position(|rule| rule.name == name);
    let removed = before
        .iter()
        .enumerate()
        .filter(|(_, rule)| find(after, &rule.name).is_none())
        .map(|(at, rule)| Change::Removed { name: rule.name.clone(), number: at + 1 });

    let kept: Vec<usize> = after.iter().filter_map(|rule| find(before, &rule.name)).collect();
    let in_order = longest_ascending(&kept);
    let others = after.iter().enumerate().filter_map(|(at, rule)| {
        let (name, number) = (rule.name.clone(), at + 1);
        let Some(old) = find(before, &rule.name) else {
            return Some(Change::Added { name, number });
        };
        let moved_from = (!in_order.contains(&old)).then_some(old + 1);
        let what = differences(&before[old], rule);
        let is_same = moved_from.is_none() && what.is_empty();
        (!is_same).then_some(Change::Changed { name, number, moved_from, what })
    });
    removed.chain(others).collect()
}

/// One line for each change; nothing where there are none.
pub fn text(changes: &[Change]) -> String {
    let or_none = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
    changes.iter().fold(String::new(), |text, change| {
        let line = match change {
            Change::Added { name, number } => format!("+ {number} {name}"),
            Change::Removed { name, number } => format!("- {number} {name}"),
            Change::Changed { name, number, moved_from, what } => {
                let moved = moved_from.map(|from| format!("was number {from}"));
                let what = what
                    .iter()
                    .map(|(key, old, new)| format!("{key} {} -> {}", or_none(old), or_none(new)));
                let parts = moved.into_iter().chain(what).collect::<Vec<_>>().join("; ");
                format!("~ {number} {name}: {parts}")
            }
        };
        text + &line + "\n"
    })
}

fn differences(before: &Rule, after: &Rule) -> Vec<(&'static str, String, String)> {
    let (action, sample, snaplen) = render::action(before);
    let (new_action, new_sample, new_snaplen) = render::action(after);
    // whole lists are compared, their beginnings shown
    let fields = Field::all().map(Field::spec).filter_map(|field| {
        let (old, new) = (field.texts(before), field.texts(after));
        (old != new).then(|| (field.key(), render::short(&old), render::short(&new)))
    });
    let others = [
        ("action", action.to_owned(), new_action.to_owned()),
        ("sample", sample, new_sample),
        ("snaplen", snaplen, new_snaplen),
    ];
    fields.chain(others.into_iter().filter(|(_, old, new)| old != new)).collect()
}

/// The longest ascending subsequence.
fn longest_ascending(numbers: &[usize]) -> Vec<usize> {
    let mut best: Vec<Vec<usize>> = Vec::new();
    for &number in numbers {
        let before = best.iter().filter(|run| run.last().is_none_or(|last| *last < number));
        let mut run = before.max_by_key(|run| run.len()).cloned().unwrap_or_default();
        run.push(number);
        best.push(run);
    }
    best.into_iter().max_by_key(Vec::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::file;

    fn rules(text: &str) -> Vec<Rule> {
        file::rules(format!(r#"{{"rules": [{text}]}}"#).as_bytes()).unwrap()
    }

    fn changed(before: &str, after: &str) -> String {
        text(&between(&rules(before), &rules(after)))
    }

    #[test]
    fn the_same_rules_are_no_change() {
        let list = r#"{"name": "a", "dst_port": [80]}, {"name": "b"}"#;
        assert_eq!(changed(list, list), "");
    }

    #[test]
    fn changes_go_by_name() {
        assert_eq!(
            changed(
                r#"{"name": "a", "dst_port": [80]}, {"name": "b"}, {"name": "c", "snaplen": 64}"#,
                r#"{"name": "new"}, {"name": "a", "dst_port": [80, 81], "dscp": ["ef"]},
                   {"name": "c", "action": "exclude"}"#
            ),
            "- 2 b\n\
             + 1 new\n\
             ~ 2 a: dst_port 80 -> 80,81; dscp (none) -> ef\n\
             ~ 3 c: action mirror -> exclude; snaplen 64 -> (none)\n"
        );
    }

    #[test]
    fn what_moves_is_what_changes_its_place_among_the_others() {
        let [a, b, c] = ["a", "b", "c"].map(|name| format!(r#"{{"name": "{name}"}}"#));
        let list = |rules: &[&String]| {
            rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(",")
        };
        assert_eq!(changed(&list(&[&a, &b, &c]), &list(&[&c, &a, &b])), "~ 1 c: was number 3\n");
        // numbers that shift are no move
        assert_eq!(changed(&list(&[&a, &b, &c]), &list(&[&b, &c])), "- 1 a\n");
    }

    #[test]
    fn a_change_beyond_what_is_shown_is_a_change() {
        let list = |last: u16| format!(r#"{{"dst_port": [1, 2, 3, 4, 5, 6, 7, 8, {last}]}}"#);
        let text = changed(&list(9), &list(10));
        assert_eq!(
            text,
            "~ 1 rule 1: dst_port 1,2,3,4,5,6,7,8 and 1 more -> 1,2,3,4,5,6,7,8 and 1 more\n"
        );
    }
}
