//! The list of entries that a field of a rule consists of, and its text: a comma list in a flag, a list in a
//! file of rules.
//!
//! `not` in front of an entry makes it an exclusion. An entry that means "any" opens the field, less
//! the exclusions; the others must be well-formed all the same. Spaces around entries are ignored.
//! Errors name the entry; the caller names the flag, or the rule and the key.

use anyhow::{Result, bail, ensure};

/// What a rule accepts in one field: the values that an entry of `only` is or contains, or all where there are
/// none, except those that an entry of `not` is or contains. Entries may overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<T> {
    /// The entries that accept. None: all values are accepted, less those of `not`.
    pub only: Vec<T>,
    /// The exclusions. They win over `only`.
    pub not: Vec<T>,
}

// not derived: that would ask T for a default
impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { only: Vec::new(), not: Vec::new() }
    }
}

impl<T> Entries<T> {
    /// What at least one of the entries is or contains.
    pub fn only(entries: impl Into<Vec<T>>) -> Self {
        Self { only: entries.into(), not: Vec::new() }
    }

    /// Everything but what one of the entries is or contains.
    pub fn not(entries: impl Into<Vec<T>>) -> Self {
        Self { only: Vec::new(), not: entries.into() }
    }

    /// Whether the rule leaves the field open.
    pub fn is_any(&self) -> bool {
        self.only.is_empty() && self.not.is_empty()
    }

    /// From texts, one for each entry. `parse` gives `None` for an entry that means any.
    pub fn parse(texts: &[&str], parse: impl Fn(&str) -> Result<Option<T>>) -> Result<Self> {
        let mut entries = Self::default();
        let mut any = false;
        for text in texts.iter().map(|text| text.trim()) {
            ensure!(!text.is_empty(), "there is an empty entry");
            let excluded = excluded(text);
            let value = excluded.unwrap_or(text);
            let value = if value.eq_ignore_ascii_case("any") { None } else { parse(value)? };
            match (value, excluded) {
                (Some(value), None) => entries.only.push(value),
                (Some(value), Some(_)) => entries.not.push(value),
                (None, None) => any = true,
                (None, Some(excluded)) => {
                    bail!("{text:?} leaves nothing, because {excluded:?} means any")
                }
            }
        }
        if any {
            entries.only.clear();
        }
        Ok(entries)
    }

    /// As texts, one for each entry; none where the field is open.
    pub fn texts(&self, text: impl Fn(&T) -> String) -> Vec<String> {
        let mut texts: Vec<String> = self.only.iter().map(&text).collect();
        texts.extend(self.not.iter().map(|entry| format!("not {}", text(entry))));
        texts
    }
}

/// The texts of a comma list.
///
/// # Errors
/// One of them is empty.
pub fn comma_list(list: &str) -> Result<Vec<&str>> {
    let texts: Vec<&str> = list.split(',').collect();
    ensure!(
        texts.iter().all(|text| !text.trim().is_empty()),
        "there is an empty entry in {list:?}"
    );
    Ok(texts)
}

/// What stands behind `not`.
fn excluded(entry: &str) -> Option<&str> {
    let (word, rest) = entry.split_once(char::is_whitespace)?;
    word.eq_ignore_ascii_case("not").then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Field;
    use crate::filter::fields::{addresses, ports, protocol};
    use crate::filter::rule::Rule;

    fn comma<T>(text: &str, parse: impl Fn(&str) -> Result<Option<T>>) -> Result<Entries<T>> {
        Entries::parse(&comma_list(text)?, parse)
    }

    fn ports(text: &str) -> Result<Entries<std::ops::RangeInclusive<u16>>> {
        comma(text, ports::parse)
    }

    fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn spaces_around_entries_are_ignored() {
        assert_eq!(ports(" 80 ,\t90 ").unwrap(), Entries::only([80..=80, 90..=90]));
    }

    #[test]
    fn not_in_front_of_an_entry_excludes_it() {
        let expected = Entries { only: vec![1..=100], not: vec![22..=22, 80..=90] };
        assert_eq!(ports("not 22,1-100, NOT \t80-90").unwrap(), expected);
        assert_eq!(ports("not 22").unwrap(), Entries::not([22..=22]));
    }

    #[test]
    fn one_entry_that_means_any_opens_the_field() {
        for list in ["any", "ANY", "80,any", "Any,80"] {
            assert!(ports(list).unwrap().is_any(), "{list}");
        }
        assert_eq!(ports("80,any,not 22").unwrap(), Entries::not([22..=22]));
    }

    #[test]
    fn an_exclusion_of_everything_is_refused() {
        for entry in ["not any", "not 0", "NOT  Any"] {
            let error = error(ports(&format!("80,{entry}")));
            assert!(error.starts_with(&format!("{entry:?} leaves nothing")), "{error}");
        }
    }

    #[test]
    fn not_belongs_to_an_entry() {
        for entry in ["not", "not80", "not not 80", "80 not"] {
            let error = error(ports(entry));
            assert!(error.contains(" is not a port "), "{error}");
        }
    }

    #[test]
    fn empty_entries_are_refused() {
        assert_eq!(error(ports("80,,90")), r#"there is an empty entry in "80,,90""#);
        assert_eq!(
            error(comma("10.0.0.0/8,", addresses::parse)),
            r#"there is an empty entry in "10.0.0.0/8,""#
        );
        assert_eq!(error(comma(" ", protocol::parse)), r#"there is an empty entry in " ""#);
        assert_eq!(error(Entries::parse(&[" "], ports::parse)), "there is an empty entry");
    }

    /// Text that is canonical already, of each field.
    #[test]
    fn text_and_back_is_the_same() {
        for (field, text) in [
            (Field::Protocol, "tcp,icmp,icmpv6,gre,200,not sctp"),
            (Field::Src, "10.0.0.0/8,192.0.2.1,0.0.0.0/32,2001:db8::/32,::1,not 10.1.0.0/16"),
            (Field::Dst, "0.0.0.0,::"),
            (Field::SrcPort, "80,8000-8100,not 8080"),
            (Field::DstPort, "not 22"),
            (Field::TcpFlags, "syn,syn+ack,not rst"),
            (Field::Vlan, "none,0,100-200,not 150"),
            (Field::IcmpType, "echo-request,8,not redirect"),
            (Field::Dscp, "ef,cs0,af11,63,not cs7"),
            (Field::Length, "40,1000-65535"),
        ] {
            let mut rule = Rule::default();
            field.spec().parse(&mut rule, &comma_list(text).unwrap()).unwrap();
            assert_eq!(field.spec().texts(&rule).join(","), text, "{field:?}");
        }
    }
}
