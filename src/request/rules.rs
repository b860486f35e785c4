//! The rules that the command line gives: those of the file, then the one of the flags.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};

use super::args::Cli;
use super::flags::{given, value};
use crate::filter::{Action, Field, MAX_RULES, Rule, Sample, comma_list, copies, file};

/// The name of the rule that the flags describe.
const FLAGS: &str = "flags";

/// The rule of a start without any: mirrors all packets.
pub fn default() -> Rule {
    Rule { name: FLAGS.to_owned(), ..Rule::default() }
}

/// At least one rule; `None` if neither a file nor a flag about a rule is given. Beside a file, the flags describe a
/// rule only if one of them is a filter flag.
pub fn from_cli(cli: &Cli, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<Option<Vec<Rule>>> {
    let flags = rule(cli)?;
    let in_file = value("--rules-file", &cli.rules_file, |text| {
        file::rules(&read(Path::new(text))?).with_context(|| format!("{text:?}"))
    })?;
    let (has_filter, copies) = (has_filter_flag(cli), copies_flag(cli));
    let Some(mut rules) = in_file else {
        return Ok((has_filter || copies.is_some()).then(|| vec![flags]));
    };
    if has_filter {
        ensure!(
            rules.len() < MAX_RULES,
            "--rules-file: with that of the flags there are {} rules, and room for {MAX_RULES}; \
             merge some of them",
            rules.len() + 1
        );
        ensure!(
            rules.iter().all(|rule| rule.name != FLAGS),
            "--rules-file: a rule there is named {FLAGS:?}, as that of the flags is; rename it"
        );
        rules.push(flags);
    } else if let Some(flag) = copies {
        return Err(anyhow!(
            "{flag}: it is for the rule of the filter flags, and beside --rules-file there is none; \
             say it in the file, of the rules that it is for"
        ));
    }
    Ok(Some(rules))
}

fn rule(cli: &Cli) -> Result<Rule> {
    let one_in = value("--sample-one-in", &cli.sample_one_in, copies::one_in)?;
    let by = value("--sample-by", &cli.sample_by, copies::sample_by)?;
    ensure!(
        one_in.is_some() || by.is_none(),
        "--sample-by: there is no --sample-one-in; give it, too, e.g. --sample-one-in=100"
    );
    let action = Action::Mirror {
        sample: one_in.map(|one_in| Sample { one_in, by: by.unwrap_or_default() }),
        snaplen: value("--snaplen", &cli.snaplen, copies::snaplen)?,
    };
    let mut rule = Rule { name: FLAGS.to_owned(), action, ..Rule::default() };
    for field in Field::all() {
        let spec = field.spec();
        value(spec.flag(), text(cli, field), |list| spec.parse(&mut rule, &comma_list(list)?))?;
    }
    Ok(rule)
}

/// The text of a field's flag.
fn text(cli: &Cli, field: Field) -> &Option<String> {
    match field {
        Field::Protocol => &cli.protocol,
        Field::Src => &cli.src_address,
        Field::Dst => &cli.dst_address,
        Field::SrcPort => &cli.src_port,
        Field::DstPort => &cli.dst_port,
        Field::TcpFlags => &cli.tcp_flags,
        Field::Vlan => &cli.vlan,
        Field::IcmpType => &cli.icmp_type,
        Field::Dscp => &cli.dscp,
        Field::Length => &cli.length,
    }
}

/// Whether the flag of any field is given.
fn has_filter_flag(cli: &Cli) -> bool {
    Field::all().any(|field| given(text(cli, field)).is_some())
}

/// The name of a flag about the copies that is given.
fn copies_flag(cli: &Cli) -> Option<&'static str> {
    [("--sample-one-in", &cli.sample_one_in), ("--snaplen", &cli.snaplen)]
        .into_iter()
        .find_map(|(flag, text)| given(text).map(|_| flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Entries, SampleBy, Snaplen, TcpFlags};
    use clap::Parser;

    /// With a file of this text; where there is none, it must not be read.
    fn rules(args: &str, text: Option<&str>) -> Result<Vec<Rule>> {
        let words = std::iter::once("mirroring").chain(args.split(' ').filter(|w| !w.is_empty()));
        let rules = from_cli(&Cli::try_parse_from(words).expect(args), |path| {
            assert_eq!(path, Path::new("/run/rules"));
            Ok(text.expect("a text").into())
        });
        rules.map(|rules| rules.expect(args))
    }

    fn names(args: &str, text: &str) -> Vec<String> {
        let rules = rules(&format!("--rules-file=/run/rules {args}"), Some(text)).unwrap();
        rules.into_iter().map(|rule| rule.name).collect()
    }

    fn error(args: &str, text: Option<&str>) -> String {
        format!("{:#}", rules(args, text).unwrap_err())
    }

    #[test]
    fn each_filter_flag_fills_its_own_field() {
        let rules = rules(
            "--src-address=10.0.0.1 --dst-address=10.0.0.2 --src-port=1 --dst-port=2 --protocol=3 \
             --tcp-flags=fin --vlan=4 --icmp-type=packet-too-big --dscp=5 --length=6 \
             --sample-one-in=7 --sample-by=flow --snaplen=headers",
            None,
        )
        .unwrap();
        let [rule] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!(
            *rule,
            Rule {
                name: "flags".to_owned(),
                action: Action::Mirror {
                    sample: Some(Sample { one_in: 7.try_into().unwrap(), by: SampleBy::Flow }),
                    snaplen: Some(Snaplen::Headers),
                },
                protocol: Entries::only([3]),
                src_address: Entries::only(["10.0.0.1".parse().unwrap()]),
                dst_address: Entries::only(["10.0.0.2".parse().unwrap()]),
                src_port: Entries::only([1..=1]),
                dst_port: Entries::only([2..=2]),
                tcp_flags: Entries::only([TcpFlags(1)]),
                vlan: Entries::only([4..=4]),
                icmp_type: Entries::only([crate::filter::IcmpType { v4: None, v6: Some(2) }]),
                dscp: Entries::only([5]),
                length: Entries::only([6..=6]),
            }
        );
    }

    #[test]
    fn without_a_word_about_packets_there_are_no_rules() {
        for args in ["", "--protocol= --snaplen= --rules-file=", "--max-rate=1mbit"] {
            let words = std::iter::once("mirroring").chain(args.split_whitespace());
            let rules = from_cli(&Cli::try_parse_from(words).unwrap(), |_| panic!("reads"));
            assert_eq!(rules.unwrap(), None, "{args}");
        }
        for args in ["--protocol=any", "--src-address=any", "--dst-port=0"] {
            assert_eq!(rules(args, None).unwrap(), [default()], "{args}");
        }
    }

    #[test]
    fn samples_are_of_packets_unless_said_otherwise() {
        let rules = rules("--sample-one-in=7", None).unwrap();
        let sample = Sample { one_in: 7.try_into().unwrap(), by: SampleBy::Packet };
        assert_eq!(rules[0].action, Action::Mirror { sample: Some(sample), snaplen: None });
    }

    #[test]
    fn the_flags_come_behind_the_file_if_they_filter() {
        let file = r#"{"rules": [{"name": "a"}, {}]}"#;
        assert_eq!(names("", file), ["a", "rule 2"]);
        assert_eq!(names("--src-address=0.0.0.0", file), ["a", "rule 2", "flags"]);
        assert_eq!(names("--length=40 --snaplen=64", file), ["a", "rule 2", "flags"]);
        assert_eq!(names("--dscp= --snaplen=", file), ["a", "rule 2"]);
    }

    #[test]
    fn flags_for_copies_need_a_rule_that_they_are_for() {
        for flag in ["--snaplen=64", "--sample-one-in=2"] {
            let error =
                error(&format!("--rules-file=/run/rules {flag}"), Some(r#"{"rules": [{}]}"#));
            let (name, _) = flag.split_once('=').unwrap();
            assert!(error.starts_with(&format!("{name}: it is for the rule of the ")), "{error}");
        }
    }

    #[test]
    fn the_name_of_the_flags_rule_is_theirs() {
        let file = r#"{"rules": [{"name": "flags"}]}"#;
        assert_eq!(names("", file), ["flags"]);
        let error = error("--rules-file=/run/rules --dscp=1", Some(file));
        assert!(error.contains(r#"named "flags", as that of the flags is"#), "{error}");
    }

    #[test]
    fn all_rules_together_are_32_at_most() {
        let file = format!(r#"{{"rules": [{}]}}"#, ["{}"; 32].join(","));
        assert_eq!(names("", &file).len(), 32);
        let error = error("--rules-file=/run/rules --dscp=1", Some(&file));
        assert!(error.starts_with("--rules-file: with that of the flags there are 33 rules"));
    }

    #[test]
    fn errors_in_the_file_name_flag_file_rule_and_key() {
        assert_eq!(
            error(
                "--rules-file=/run/rules",
                Some(r#"{"rules": [{}, {"dst_port": ["80-x"], "name": "web"}]}"#)
            ),
            "--rules-file: \"/run/rules\": rule 2 (\"web\"): dst_port: \"80-x\" is not a port or a \
             range of ports such as 8000-8100"
        );
    }
}
