//! Why a packet meets the rule that it meets: as text, and which rules to try on the packet to find out.

use super::entries::Entries;
use super::fields::Field;
use super::render;
use super::rule::{Action, Rule, Sample, SampleBy, Snaplen};

const HEADINGS: [&str; 4] = ["#", "name", "action", "the packet"];

/// A packet among rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// False for what is not an IP packet or is malformed: no rule can match it.
    pub is_looked_at: bool,
    /// Number of the first rule that matches, from 0 on, and what becomes of the packet by it.
    pub met: Option<(usize, Verdict)>,
    /// Of each rule in front of that one, the keys of the fields that refuse the packet.
    pub refused: Vec<Vec<&'static str>>,
}

/// What becomes of a packet that meets a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule makes a copy of it.
    Mirrored,
    /// The rule's action is to exclude it: there is no copy.
    Excluded,
    /// It is a tunnel's own.
    LoopGuard,
    /// The rule's sampling leaves it out.
    NotSampled,
    /// The tunnel device carries no IPv6, or no VLAN tags.
    Unsupported,
    /// It is longer than the tunnel device carries.
    Oversize,
}

/// For each field that a rule closes, its key, and the rule with that field closed and all others open. That one
/// matches what the field accepts.
pub fn by_field(rule: &Rule) -> Vec<(&'static str, Rule)> {
    let closed = Field::all().filter(|field| !field.spec().is_any(rule));
    closed.map(|field| (field.spec().key(), alone(field, rule))).collect()
}

fn alone(field: Field, rule: &Rule) -> Rule {
    let mut alone = Rule::default();
    if matches!(field, Field::SrcPort | Field::DstPort) && !rule.protocol.only.is_empty() {
        // closed ports let a packet without any through where protocols are named: name all of them
        alone.protocol = Entries::only((0..=u8::MAX).collect::<Vec<_>>());
    }
    field.spec().copy(rule, &mut alone);
    alone
}

impl Explanation {
    /// A table of the rules, and the result in a sentence.
    pub fn text(&self, rules: &[Rule]) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(rules.iter().enumerate().map(|(index, rule)| {
            let (action, ..) = render::action(rule);
            let number = (index + 1).to_string();
            [number, rule.name.clone(), action.to_owned(), self.standing(index, rule)]
        }));
        format!("{}\n{}\n", render::aligned(&rows), self.result(rules))
    }

    fn standing(&self, index: usize, rule: &Rule) -> String {
        match self.met {
            _ if !self.is_looked_at => "not looked at".to_owned(),
            Some((met, _)) if met == index => "met".to_owned(),
            Some((met, _)) if met < index => "not reached".to_owned(),
            _ => {
                let fields = render::fields(rule).into_iter();
                let refusing = fields.filter(|(key, _)| self.refused[index].contains(key));
                let refusing =
                    refusing.map(|(key, list)| format!("{key} {}", render::short(&list)));
                format!("refused by {}", refusing.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn result(&self, rules: &[Rule]) -> String {
        let Some((met, verdict)) = self.met else {
            return if self.is_looked_at {
                "No rule matches: the packet is not mirrored.".to_owned()
            } else {
                "No rule can match: that is no packet of IPv4 or IPv6, or it is malformed, cut short, \
                 or behind more than two VLAN tags."
                    .to_owned()
            };
        };
        let rule = &rules[met];
        let (sample, snaplen) = match rule.action {
            Action::Mirror { sample, snaplen } => (sample, snaplen),
            Action::Exclude => (None, None),
        };
        let name = format!("Rule {} ({})", met + 1, rule.name);
        let not =
            |reason: &str| format!("{name} matches, but the packet is not mirrored: {reason}.");
        match verdict {
            Verdict::Excluded => {
                format!("{name} is the first that matches: the packet is excluded.")
            }
            Verdict::LoopGuard => not("it is a tunnel's, or an ICMP error about one's"),
            Verdict::Unsupported => not("the tunnel device carries no IPv6, or no VLAN tags"),
            Verdict::Oversize => not("it is longer than the tunnel device carries"),
            Verdict::NotSampled => {
                let of = sample.map_or_else(String::new, |it| format!(", 1 in {}", it.one_in));
                not(&format!("its flow is not in the sample{of}"))
            }
            Verdict::Mirrored => {
                let sampled = match sample {
                    None => String::new(),
                    Some(Sample { one_in, by: SampleBy::Packet }) => {
                        format!(", or rather 1 in {one_in} such packets")
                    }
                    Some(Sample { one_in, by: SampleBy::Flow }) => {
                        format!(", since its flow is in the sample, 1 in {one_in}")
                    }
                };
                let cut = match snaplen {
                    None => String::new(),
                    Some(Snaplen::Bytes(bytes)) => {
                        format!("; its copy keeps {bytes} bytes at most")
                    }
                    Some(Snaplen::Headers) => "; its copy keeps the headers".to_owned(),
                };
                format!("{name} is the first that matches: the packet is mirrored{sampled}{cut}.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::file;

    fn rules() -> Vec<Rule> {
        let text = br#"{"rules": [
            {"name": "no-backup", "action": "exclude", "dst": ["10.9.0.0/16"], "dst_port": [873]},
            {"name": "web", "protocol": ["tcp"], "dst_port": [443], "snaplen": 128,
             "sample": {"one_in": 100, "by": "flow"}},
            {"name": "dns", "dst_port": [53], "sample": {"one_in": 2}, "snaplen": "headers"},
            {"name": "rest"}]}"#;
        file::rules(text).unwrap()
    }

    fn met(rule: usize, verdict: Verdict) -> Explanation {
        let refused = [vec!["dst", "dst_port"], vec!["protocol"], vec!["dst_port"]];
        Explanation {
            is_looked_at: true,
            met: Some((rule, verdict)),
            refused: refused[..rule].to_vec(),
        }
    }

    #[test]
    fn rules_stand_in_a_table_above_the_result() {
        let expected = "\
#  name       action   the packet
1  no-backup  exclude  refused by dst 10.9.0.0/16; dst_port 873
2  web        mirror   refused by protocol tcp
3  dns        mirror   met
4  rest       mirror   not reached

Rule 3 (dns) is the first that matches: the packet is mirrored, or rather 1 in 2 such packets; \
its copy keeps the headers.
";
        assert_eq!(met(2, Verdict::Mirrored).text(&rules()), expected);
    }

    #[test]
    fn a_sentence_says_the_result() {
        let cases = [
            (
                met(3, Verdict::Mirrored),
                "Rule 4 (rest) is the first that matches: the packet is mirrored.",
            ),
            (
                met(1, Verdict::Mirrored),
                "Rule 2 (web) is the first that matches: the packet is mirrored, since its flow is in \
                 the sample, 1 in 100; its copy keeps 128 bytes at most.",
            ),
            (
                met(1, Verdict::NotSampled),
                "Rule 2 (web) matches, but the packet is not mirrored: its flow is not in the sample, \
                 1 in 100.",
            ),
            (
                met(0, Verdict::Excluded),
                "Rule 1 (no-backup) is the first that matches: the packet is excluded.",
            ),
            (
                met(3, Verdict::LoopGuard),
                "Rule 4 (rest) matches, but the packet is not mirrored: it is a tunnel's, or an ICMP \
                 error about one's.",
            ),
            (
                met(3, Verdict::Oversize),
                "Rule 4 (rest) matches, but the packet is not mirrored: it is longer than the tunnel \
                 device carries.",
            ),
            (
                met(3, Verdict::Unsupported),
                "Rule 4 (rest) matches, but the packet is not mirrored: the tunnel device carries no \
                 IPv6, or no VLAN tags.",
            ),
            (
                Explanation { is_looked_at: true, met: None, refused: vec![vec!["dst"]; 4] },
                "No rule matches: the packet is not mirrored.",
            ),
            (
                Explanation { is_looked_at: false, met: None, refused: vec![Vec::new(); 4] },
                "No rule can match: that is no packet of IPv4 or IPv6, or it is malformed, cut short, \
                 or behind more than two VLAN tags.",
            ),
        ];
        for (explanation, expected) in cases {
            assert_eq!(explanation.text(&rules()).lines().last(), Some(expected));
        }
    }

    #[test]
    fn questions_are_about_one_closed_field_each() {
        let port = Entries::only([443..=443]);
        let named =
            Rule { protocol: Entries::only([6]), dst_port: port.clone(), ..Rule::default() };
        let [(first, protocol), (second, ports)] = &by_field(&named)[..] else { panic!() };
        assert_eq!((*first, *second), ("protocol", "dst_port"));
        assert_eq!(*protocol, Rule { protocol: Entries::only([6]), ..Rule::default() });
        assert_eq!((ports.dst_port.clone(), ports.protocol.only.len()), (port.clone(), 256));
        let unnamed = Rule { dst_port: port, name: "a".to_owned(), ..Rule::default() };
        let alone = Rule { name: String::new(), ..unnamed.clone() };
        assert_eq!(by_field(&unnamed), [("dst_port", alone)]);
        assert_eq!(by_field(&Rule::default()), []);
    }
}
