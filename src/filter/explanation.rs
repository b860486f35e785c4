//! Why a packet meets the rule that it meets: for people to read, and which questions to ask for it.

use super::rule::{Action, Field, Rule, Sample, SampleBy, Snaplen};
use super::show;

const HEADINGS: [&str; 4] = ["#", "name", "action", "the packet"];

/// A packet among rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether rules are asked at all: not about what is no packet of IP, or malformed.
    pub is_looked_at: bool,
    /// Number of the first rule that matches, from 0 on, and what becomes of the packet by it.
    pub met: Option<(usize, Fate)>,
    /// Of each rule in front of that one, the keys of the fields that refuse the packet.
    pub refused: Vec<Vec<&'static str>>,
}

/// What becomes of a packet that meets a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Mirrored,
    Excluded,
    /// It is a tunnel's own.
    Guarded,
    NotSampled,
    /// The tunnel device carries no IPv6, or no VLAN tags.
    Unsupported,
    /// It is longer than the tunnel device carries.
    Oversize,
}

/// The rule with one field closed and all others open, by the key of that field, for each that it has
/// closed. It matches what each of these matches.
pub fn by_field(rule: &Rule) -> Vec<(&'static str, Rule)> {
    // what has no ports passes closed ports where protocols are named, be it all of them
    let all = || Field::only((0..=u8::MAX).collect::<Vec<_>>());
    let protocol = if rule.protocol.only.is_empty() { Field::default() } else { all() };
    let with_protocol = Rule { protocol, ..Rule::default() };
    let open = Rule::default();
    macro_rules! alone {
        ($($key:literal $field:ident in $rest:expr),* $(,)?) => {
            [$((
                $key,
                rule.$field.is_any(),
                Rule { $field: rule.$field.clone(), ..$rest.clone() },
            )),*]
        };
    }
    let fields = alone![
        "protocol" protocol in open,
        "src" src_address in open,
        "dst" dst_address in open,
        "src_port" src_port in with_protocol,
        "dst_port" dst_port in with_protocol,
        "tcp_flags" tcp_flags in open,
        "vlan" vlan in open,
        "icmp_type" icmp_type in open,
        "dscp" dscp in open,
        "length" length in open,
    ];
    let closed = fields.into_iter().filter(|(_, is_open, _)| !is_open);
    closed.map(|(key, _, rule)| (key, rule)).collect()
}

impl Explanation {
    /// A table of the rules, and the result in a sentence.
    pub fn text(&self, rules: &[Rule]) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(rules.iter().enumerate().map(|(index, rule)| {
            let (action, ..) = show::action(rule);
            let number = (index + 1).to_string();
            [number, rule.name.clone(), action.to_owned(), self.standing(index, rule)]
        }));
        format!("{}{}\n", show::aligned(&rows), self.result(rules))
    }

    fn standing(&self, index: usize, rule: &Rule) -> String {
        match self.met {
            _ if !self.is_looked_at => "not looked at".to_owned(),
            Some((met, _)) if met == index => "met".to_owned(),
            Some((met, _)) if met < index => "not reached".to_owned(),
            _ => {
                let fields = show::fields(rule).into_iter();
                let refusing = fields.filter(|(key, _)| self.refused[index].contains(key));
                let refusing = refusing.map(|(key, list)| format!("{key} {}", show::short(&list)));
                format!("refused by {}", refusing.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn result(&self, rules: &[Rule]) -> String {
        let Some((met, fate)) = self.met else {
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
        match fate {
            Fate::Excluded => format!("{name} is the first that matches: the packet is excluded."),
            Fate::Guarded => not("it is a tunnel's, or an ICMP error about one's"),
            Fate::Unsupported => not("the tunnel device carries no IPv6, or no VLAN tags"),
            Fate::Oversize => not("it is longer than the tunnel device carries"),
            Fate::NotSampled => {
                let of = sample.map_or_else(String::new, |it| format!(", 1 in {}", it.one_in));
                not(&format!("its flow is not in the sample{of}"))
            }
            Fate::Mirrored => {
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
