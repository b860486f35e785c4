//! Rules for people to read.

use super::compile::CompiledRules;
use super::copies;
use super::fields::Field;
use super::rule::{Action, Rule};
use super::tables::Table;

/// Entries of a list that are shown; of longer ones, the rest is counted.
const SHOWN: usize = 8;

/// Headings of the columns that [`row`] fills in, in their order.
pub const HEADINGS: [&str; 6] = ["#", "name", "action", "packets", "sample", "snaplen"];

/// The rules in their order, and what they are compiled to.
pub fn table(rules: &[Rule], set: &CompiledRules) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(rules.iter().enumerate().map(|(index, rule)| row(index + 1, rule)));
    aligned(&rows) + &sizes(rules, set)
}

/// Rows of cells in columns.
pub fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        let row = row.as_ref();
        widths.resize(row.len().max(widths.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What stands under [`HEADINGS`].
pub fn row(number: usize, rule: &Rule) -> [String; HEADINGS.len()] {
    let packets: Vec<String> = fields(rule)
        .into_iter()
        .map(|(key, entries)| format!("{key} {}", short(&entries)))
        .collect();
    let packets = if packets.is_empty() { "any".to_owned() } else { packets.join("; ") };
    let (action, sample, snaplen) = action(rule);
    [number.to_string(), rule.name.clone(), action.to_owned(), packets, sample, snaplen]
}

/// Action, sample and snaplen; empty for what there is not.
pub fn action(rule: &Rule) -> (&'static str, String, String) {
    match rule.action {
        Action::Exclude => ("exclude", String::new(), String::new()),
        Action::Mirror { sample, snaplen } => (
            "mirror",
            sample.map_or_else(String::new, |sample| {
                format!("1 in {} by {}", sample.one_in, copies::sample_by_text(sample.by))
            }),
            snaplen.map_or_else(String::new, copies::snaplen_text),
        ),
    }
}

/// The fields that a rule closes: key and entries.
pub fn fields(rule: &Rule) -> Vec<(&'static str, Vec<String>)> {
    let closed = Field::all().map(Field::spec).filter(|field| !field.is_any(rule));
    closed.map(|field| (field.key(), field.texts(rule))).collect()
}

/// The beginning of a list.
pub fn short(entries: &[String]) -> String {
    let shown = entries.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match entries.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn sizes(rules: &[Rule], set: &CompiledRules) -> String {
    let prefixes = |tables: [Table; 2]| -> usize {
        tables.iter().map(|table| set.tables[*table].prefixes.len()).sum()
    };
    let v4 = prefixes([Table::SrcV4, Table::DstV4]);
    let v6 = prefixes([Table::SrcV6, Table::DstV6]);
    let ports = [Table::SrcPort, Table::DstPort].map(|table| &set.tables[table].values);
    let ports: usize = ports.into_iter().flatten().map(|(range, _)| range.len()).sum();
    format!(
        "{}: {} of IPv4, {} of IPv6, {}\n",
        count(rules.len(), "rule", "rules"),
        count(v4, "prefix", "prefixes"),
        v6,
        count(ports, "port", "ports")
    )
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{compile, file};

    fn rules(text: &str) -> Vec<Rule> {
        file::rules(format!(r#"{{"rules": [{text}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn rules_stand_in_a_table() {
        let rules = rules(
            r#"{"name": "no-backup", "action": "exclude", "dst": ["10.9.3.4/16", "not 10.9.1.1"],
                "dst_port": [873, "8000-8100"]},
               {"name": "web", "protocol": ["TCP", 17], "dst": ["2001:DB8::/32"],
                "sample": {"one_in": 100, "by": "flow"}, "snaplen": 128},
               {"snaplen": "headers", "sample": {"one_in": 2}}"#,
        );
        let expected = "\
#  name       action   packets                                               sample            snaplen
1  no-backup  exclude  dst 10.9.0.0/16,not 10.9.1.1; dst_port 873,8000-8100
2  web        mirror   protocol tcp,udp; dst 2001:db8::/32                   1 in 100 by flow  128
3  rule 3     mirror   any                                                   1 in 2 by packet  headers
3 rules: 2 prefixes of IPv4, 1 of IPv6, 102 ports
";
        assert_eq!(table(&rules, &compile(&rules).unwrap()), expected);
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        let rules = rules(r#"{"dst_port": [1, 2, 3, 4, 5, 6, 7, 8, 9, "not 10"]}"#);
        let table = table(&rules, &compile(&rules).unwrap());
        assert!(table.contains("dst_port 1,2,3,4,5,6,7,8 and 2 more\n"), "{table}");
        assert!(table.ends_with("1 rule: 0 prefixes of IPv4, 0 of IPv6, 9 ports\n"), "{table}");
    }
}
