//! Files of rules: the parser and the schema are checked with the same examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use traffic_mirroring::filter::Field;
use traffic_mirroring::filter::file::{self, MAX_BYTES};

use testkit::schemas;

const TOP: &str = env!("CARGO_MANIFEST_DIR");
const RULES_MD: &str = include_str!("../../docs/rules.md");

/// Names and texts of the examples in a directory.
fn examples(folder: &str) -> Vec<(String, Vec<u8>)> {
    files(&format!("tests/filter/rules/{folder}"))
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(TOP).join(folder);
    let mut examples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    examples.sort();
    assert!(examples.len() > 5);
    examples
}

fn error(text: &[u8]) -> String {
    format!("{:#}", file::rules(text).unwrap_err())
}

/// Examples for tests, and examples for users to copy.
#[test]
fn parser_and_schema_take_the_valid_examples() {
    let schema = schemas::validator("rules.schema.json");
    for (name, text) in examples("valid").into_iter().chain(files("examples/rules")) {
        if let Err(error) = file::rules(&text) {
            panic!("{name}: {error:#}");
        }
        if let Err(error) = schema.validate(&serde_json::from_slice(&text).unwrap()) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn the_documentation_leads_to_every_example() {
    for (name, text) in files("examples/rules") {
        assert!(RULES_MD.contains(&format!("(../examples/rules/{name})")), "{name}");
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["$schema"], "../../rules.schema.json", "{name}");
        let rules = file::rules(&text).unwrap();
        assert!(
            rules.iter().all(|rule| !rule.name.starts_with("rule ")),
            "{name}: every rule of an example has a name"
        );
    }
}

#[test]
fn schema_and_documentation_know_every_field() {
    let schema: Value = serde_json::from_str(include_str!("../../rules.schema.json")).unwrap();
    let properties = schema["$defs"]["rule"]["properties"].as_object().unwrap();
    let mut keys: BTreeSet<&str> = Field::all().map(|field| field.spec().key()).collect();
    for field in Field::all().map(Field::spec) {
        for word in [field.key(), field.flag()] {
            assert!(RULES_MD.contains(&format!("`{word}`")), "docs/rules.md lacks {word}");
        }
    }
    keys.extend(["name", "action", "sample", "snaplen"]);
    assert_eq!(properties.keys().map(String::as_str).collect::<BTreeSet<_>>(), keys);
}

#[test]
fn parser_and_schema_refuse_the_invalid_examples() {
    let schema = schemas::validator("rules.schema.json");
    for (name, text) in examples("invalid") {
        assert!(file::rules(&text).is_err(), "{name}");
        assert!(!schema.is_valid(&serde_json::from_slice(&text).unwrap()), "{name}");
    }
}

/// What a schema cannot express, or only with unreadable patterns: duplicate names, duplicate keys,
/// numbers in text that are too high, names of protocols.
#[test]
fn the_parser_alone_refuses_what_is_beyond_the_schema() {
    let schema = schemas::validator("rules.schema.json");
    for (name, text) in examples("beyond-schema") {
        assert!(file::rules(&text).is_err(), "{name}");
        assert!(schema.is_valid(&serde_json::from_slice(&text).unwrap()), "{name}");
    }
}

#[test]
fn errors_name_the_rule_the_key_and_the_entry() {
    let cases = [
        ("beyond-schema/duplicate-names.json", r#"rules 1 and 3 are both named "web"; rename one"#),
        ("beyond-schema/name-of-an-unnamed-rule.json", r#"rules 1 and 2 are both named "rule 2""#),
        ("beyond-schema/key-twice.json", r#"rule 1: the key "dst_port" is there twice; leave one"#),
        ("beyond-schema/range-backwards.json", r#"rule 1: dst_port: "90-80" is a range whose end"#),
        ("beyond-schema/entry-too-long.json", "rule 1: dst_port: an entry of the list: \"0000"),
        ("invalid/no-rules.json", "there are no rules in \"rules\"; give one at least"),
        ("invalid/no-key.json", "the key \"rules\" is missing: "),
        ("invalid/a-list.json", "there is a list where {\"rules\": […]} is expected"),
        ("invalid/33-rules.json", "there are 33 rules, and room for 32; merge some of them"),
        (
            "invalid/unknown-key.json",
            "rule 1: \"dst_prot\" is not a key; the keys are name, action",
        ),
        ("invalid/unknown-key-at-the-top.json", "\"version\" is not a key that there is; the one"),
        ("invalid/empty-list.json", "rule 1: dst_port: the list is empty; leave the key out to"),
        ("invalid/entry-in-place-of-list.json", "rule 1: dst_port: that is text, not a list such"),
        (
            "invalid/null-entry.json",
            "rule 1: src: an entry of the list: that is null, neither text",
        ),
        (
            "invalid/port-too-high.json",
            "rule 1: dst_port: \"65536\" goes beyond the last port, 65535",
        ),
        (
            "invalid/not-any.json",
            "rule 1: src: \"not any\" leaves nothing, because \"any\" means any",
        ),
        (
            "invalid/name-with-control-character.json",
            "rule 1: name: \"a\\u{1b}[31mred\" is not a name",
        ),
        ("invalid/sample-of-excluded.json", "rule 1: sample: there are no copies of what a rule"),
        ("invalid/sample-empty.json", "rule 1: sample: one_in is missing, e.g. {\"one_in\": 100}"),
        (
            "invalid/sample-by-unknown.json",
            "rule 1: sample: by: \"byte\" is neither packet nor flow",
        ),
        (
            "invalid/snaplen-short.json",
            "rule 1: snaplen: \"63\" would not hold the headers; 64 bytes",
        ),
        ("invalid/action-unknown.json", "rule 1: action: \"drop\" is neither mirror nor exclude"),
    ];
    for (name, expected) in cases {
        let text = fs::read(Path::new(TOP).join("tests/filter/rules").join(name)).unwrap();
        let error = error(&text);
        assert!(error.starts_with(expected), "{name}: {error}");
    }
}

#[test]
fn a_rule_with_a_name_is_called_by_it() {
    let error = error(br#"{"rules": [{}, {"src": ["x"], "name": "web"}]}"#);
    assert!(error.starts_with("rule 2 (\"web\"): src: \"x\" is not an address "), "{error}");
}

#[test]
fn a_byte_order_mark_in_front_is_read_over() {
    let text = br#"{"rules": [{"protocol": ["udp"]}]}"#;
    let marked = [&b"\xef\xbb\xbf"[..], text].concat();
    assert_eq!(file::rules(&marked).unwrap(), file::rules(text).unwrap());
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    assert_eq!(
        error(b"{\"rules\": [\n  {\"src\": [\"10.0.0.1\"}\n]}"),
        "that is not JSON: expected `,` or `]` at line 2 column 22"
    );
    for text in [
        &b""[..],
        b"rules",
        b"\xff\xfe",
        b"{\"rules\": [{}]} {}",
        b"{\"rules\": [{\"name\": \"\xff\"}]}",
    ] {
        let error = error(text);
        assert!(
            error.starts_with("that is not JSON: ") && error.contains(" at line 1 "),
            "{error}"
        );
    }
}

#[test]
fn hostile_texts_end_in_short_errors() {
    let deep = "[".repeat(1 << 20);
    let long = format!(r#"{{"rules": [{{"{}": 1}}]}}"#, "x".repeat(1 << 20));
    let long_name = format!(r#"{{"rules": [{{"name": "{}"}}]}}"#, "ü".repeat(1 << 20));
    let long_entry = format!(r#"{{"rules": [{{"dscp": ["{}"]}}]}}"#, "x".repeat(1 << 20));
    let long_sample =
        format!(r#"{{"rules": [{{"sample": {{"by": "{}"}}}}]}}"#, "x".repeat(1 << 20));
    let large = " ".repeat(MAX_BYTES + 1);
    for text in [deep, long, long_name, long_entry, long_sample, large] {
        let error = error(text.as_bytes());
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn a_hundred_thousand_prefixes_fit_into_a_file() {
    let prefixes: Vec<String> = (0..100_000_u32)
        .map(|number| {
            format!(
                "      \"2001:0db8:{:04x}:{:04x}:ffff:ffff:ffff:ffff/128\"",
                number >> 16,
                number & 0xffff
            )
        })
        .collect();
    let text = format!("{{\"rules\": [{{\"src\": [\n{}\n]}}]}}", prefixes.join(",\n"));
    let rules = file::rules(text.as_bytes()).unwrap();
    assert_eq!(rules[0].src_address.only.len(), 100_000);
}
