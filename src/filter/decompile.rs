//! From masks back to rules: the rules in force are stored nowhere else.
//!
//! The rules have one form for all that accept the same values: of the entries that a field names and
//! those that it excludes, the shorter list; ranges joined. Prefixes are those of the longest matches,
//! as they were typed but for what had no effect.

use super::compile::CompiledRules;
use super::fields::{Field, protocol};
use super::rule::Rule;

/// Rules that compile to the same masks (but for the indices of addresses, which say no more than where
/// a trie is worth asking).
pub fn decompile(compiled: &CompiledRules) -> Vec<Rule> {
    let rule = |name: &String, action| Rule { name: name.clone(), action, ..Rule::default() };
    let mut rules: Vec<_> = compiled.rules.iter().map(|it| rule(&it.name, it.action)).collect();
    for field in Field::all() {
        field.spec().decompile(&compiled.tables, &mut rules);
    }
    for (index, rule) in rules.iter_mut().enumerate() {
        if rule.accepts_portless() != (compiled.portless >> index & 1 == 1) {
            rule.protocol = protocol::other_form(&rule.protocol);
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{compile, file};

    /// The fields of the only rule, as text, of what this text of a rule compiles to.
    fn canonical(rule: &str) -> String {
        let rules = file::rules(format!(r#"{{"rules": [{rule}]}}"#).as_bytes()).unwrap();
        let rules = decompile(&compile(&rules).unwrap());
        assert_eq!(rules.len(), 1);
        let fields = Field::all().map(Field::spec).filter(|field| !field.is_any(&rules[0]));
        let fields: Vec<_> = fields
            .map(|field| format!("{} {}", field.key(), field.texts(&rules[0]).join(",")))
            .collect();
        fields.join("; ")
    }

    fn check(cases: &[(&str, &str)]) {
        for (rule, expected) in cases {
            assert_eq!(canonical(&format!("{{{rule}}}")), *expected, "{rule}");
        }
    }

    #[test]
    fn an_open_rule_stays_open() {
        check(&[("", ""), (r#""src": ["any"], "dst_port": [0], "vlan": ["any"]"#, "")]);
    }

    #[test]
    fn the_shorter_list_is_the_form() {
        check(&[
            (r#""dst_port": [80, 443]"#, "dst_port 80,443"),
            (r#""dst_port": ["not 22"]"#, "dst_port not 22"),
            (r#""dst_port": ["10-20", "15-30", 31]"#, "dst_port 10-31"),
            (r#""dst_port": ["not 0-79"]"#, "dst_port 80-65535"),
            (r#""length": ["0-65535"]"#, "length 0-65535"),
            (r#""length": ["5", "not 5"]"#, "length not 0-65535"),
            (r#""dscp": ["ef", "not ef"]"#, "dscp cs0,not cs0"),
            (r#""dscp": ["not ef"]"#, "dscp not ef"),
        ]);
    }

    #[test]
    fn port_0_is_never_an_entry_of_its_own() {
        check(&[
            (r#""src_port": ["not 1-65535"]"#, "src_port not 1-65535"),
            (r#""src_port": ["1-65535"]"#, "src_port 1-65535"),
            (r#""src_port": ["0-9", "not 1-4"]"#, "src_port not 1-4,not 10-65535"),
            (r#""src_port": ["not 0-9", "not 20"]"#, "src_port 10-19,21-65535"),
            (r#""src_port": ["1-4", "10-65535"]"#, "src_port 1-4,10-65535"),
        ]);
    }

    #[test]
    fn named_protocols_stay_named_where_ports_are() {
        check(&[
            (r#""protocol": ["tcp"]"#, "protocol tcp"),
            (r#""protocol": ["not tcp"]"#, "protocol not tcp"),
            (r#""protocol": ["not tcp"], "dst_port": [80]"#, "protocol not tcp; dst_port 80"),
            (r#""protocol": ["tcp", "not tcp"]"#, "protocol hopopt,not hopopt"),
        ]);
        let most: Vec<_> = (1..=255).map(|number| number.to_string()).collect();
        let most = format!(r#""protocol": [{}]"#, most.join(","));
        check(&[(most.as_str(), "protocol not hopopt")]);
        let beside_ports = canonical(&format!(r#"{{{most}, "dst_port": [80]}}"#));
        assert!(beside_ports.starts_with("protocol icmp,igmp,"), "{beside_ports}");
    }

    #[test]
    fn no_tag_is_an_entry_of_its_own() {
        check(&[
            (r#""vlan": ["none"]"#, "vlan none"),
            (r#""vlan": ["not none"]"#, "vlan 0-4095"),
            (r#""vlan": ["100-4095", "none"]"#, "vlan not 0-99"),
            (r#""vlan": ["none", "7", "9"]"#, "vlan 7,9,none"),
        ]);
    }

    #[test]
    fn flags_are_the_least_sets() {
        check(&[
            (r#""tcp_flags": ["syn"]"#, "tcp_flags syn"),
            (r#""tcp_flags": ["syn", "syn+ack"]"#, "tcp_flags syn"),
            (r#""tcp_flags": ["syn", "not ack"]"#, "tcp_flags syn,not ack"),
            (r#""tcp_flags": ["not rst"]"#, "tcp_flags not rst"),
            (r#""tcp_flags": ["fin", "syn", "not fin+syn"]"#, "tcp_flags fin,syn,not fin+syn"),
            (r#""tcp_flags": ["syn+ack", "not ack"]"#, "tcp_flags fin,not fin"),
        ]);
    }

    #[test]
    fn types_of_icmp_have_names_where_both_families_do() {
        check(&[
            (r#""icmp_type": ["echo-request"]"#, "icmp_type echo-request"),
            (r#""icmp_type": [8]"#, "icmp_type 8"),
            (r#""icmp_type": [1, 2, 3]"#, "icmp_type 1,2,3"),
            (r#""icmp_type": ["echo-request", 8]"#, "icmp_type echo-request,8"),
            (
                r#""icmp_type": ["packet-too-big", "source-quench"]"#,
                "icmp_type packet-too-big,source-quench",
            ),
            (
                r#""icmp_type": ["time-exceeded", "destination-unreachable"]"#,
                "icmp_type destination-unreachable,time-exceeded",
            ),
            (r#""icmp_type": ["not redirect"]"#, "icmp_type not redirect"),
            (r#""icmp_type": ["echo-request", "not 128"]"#, "icmp_type 8 of icmp"),
            (r#""icmp_type": ["echo-request", "not 8"]"#, "icmp_type 128 of icmpv6"),
        ]);
    }

    #[test]
    fn families_of_addresses_are_told_apart() {
        check(&[
            (r#""src": ["0.0.0.0"]"#, "src 0.0.0.0"),
            (r#""src": ["::"]"#, "src ::"),
            (r#""src": ["0.0.0.0", "::"]"#, ""),
            (r#""src": ["not ::"]"#, "src 0.0.0.0"),
            (r#""src": ["not 10.0.0.0/8"]"#, "src not 10.0.0.0/8"),
            (r#""src": ["0.0.0.0", "not 10.0.0.0/8"]"#, "src 0.0.0.0,not 10.0.0.0/8"),
            (r#""src": ["::", "10.0.0.0/8"]"#, "src 10.0.0.0/8,::"),
            (r#""src": ["10.0.0.0/8", "not 10.0.0.0/8"]"#, "src 0.0.0.0,not 0.0.0.0"),
            (
                r#""dst": ["10.0.0.0/8", "10.2.0.0/16", "not 10.1.0.0/16", "not 11.0.0.1", "::1"]"#,
                "dst 10.0.0.0/8,::1,not 10.1.0.0/16",
            ),
        ]);
    }

    #[test]
    fn rules_keep_their_names_and_what_becomes_of_copies() {
        let text = br#"{"rules": [{"name": "a", "action": "exclude", "dst_port": [80]},
            {"sample": {"one_in": 7, "by": "flow"}, "snaplen": "headers", "dst_port": ["1-100"]}]}"#;
        let rules = file::rules(text).unwrap();
        assert_eq!(decompile(&compile(&rules).unwrap()), rules);
    }
}
