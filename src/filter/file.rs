//! The text of a file of rules: JSON, as `rules.schema.json` describes it. It may come from a REST
//! interface, so errors name the rule and the key, and quote only the text that is wrong.

use anyhow::{Context, Result, bail, ensure};

use super::compile::MAX_RULES;
use super::copies;
use super::fields::Field;
use super::json::Json;
use super::rule::{Action, Rule, Sample, SampleBy};
use crate::abi;

/// The longest file, three times as long as one with 100,000 prefixes.
pub const MAX_BYTES: usize = 16 << 20;

const MAX_NAME: usize = abi::Size::MIRRORING_NAME.0 as usize;
/// Characters of a text that an error quotes.
const MAX_QUOTED: usize = 60;

/// The rules of a file, in its order. A rule without a name gets one from its number.
pub fn rules(text: &[u8]) -> Result<Vec<Rule>> {
    ensure!(
        text.len() <= MAX_BYTES,
        "there are {} bytes, and no more than {MAX_BYTES} are read",
        text.len()
    );
    // a mark of UTF-8 that some editors put in front
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let json = serde_json::from_slice(text).context("that is not JSON")?;
    let Json::Object(members) = json else {
        bail!(r#"there is {} where {{"rules": […]}} is expected"#, json.kind());
    };
    no_key_twice(&members)?;
    let mut list = None;
    for (key, value) in members {
        match (key.as_str(), value) {
            // editors find the schema by it
            ("$schema", Json::Text(_)) => {}
            ("rules", Json::List(rules)) => list = Some(rules),
            ("$schema", other) => bail!("\"$schema\" is {}, not text", other.kind()),
            ("rules", other) => bail!("\"rules\" is {}, not a list of rules", other.kind()),
            (key, _) => bail!("{} is not a key that there is; the one is \"rules\"", quoted(key)),
        }
    }
    let list = list.context(r#"the key "rules" is missing: {"rules": […]}"#)?;
    ensure!(!list.is_empty(), "there are no rules in \"rules\"; give one at least");
    ensure!(
        list.len() <= MAX_RULES,
        "there are {} rules, and room for {MAX_RULES}; merge some of them",
        list.len()
    );
    let mut rules = Vec::with_capacity(list.len());
    for (index, json) in list.into_iter().enumerate() {
        rules.push(rule(json, index + 1)?);
    }
    no_name_twice(&rules)?;
    Ok(rules)
}

/// # Errors
/// Two rules have the same name.
pub fn no_name_twice(rules: &[Rule]) -> Result<()> {
    for (index, rule) in rules.iter().enumerate() {
        if let Some(first) = rules[..index].iter().position(|first| first.name == rule.name) {
            bail!(
                "rules {} and {} are both named {:?}; rename one of them",
                first + 1,
                index + 1,
                rule.name
            );
        }
    }
    Ok(())
}

fn rule(json: Json, number: usize) -> Result<Rule> {
    let place = format!("rule {number}");
    let Json::Object(members) = json else {
        bail!("{place} is {}, not an object such as {{\"dst_port\": [\"443\"]}}", json.kind());
    };
    let name = members.iter().find(|(key, _)| key == "name").map(|(_, name)| name);
    let name = name.map(name_of).transpose().with_context(|| format!("{place}: name"))?;
    let shown = name.as_ref().map_or_else(|| place.clone(), |name| format!("{place} ({name:?})"));
    fill_in(members, name.unwrap_or(place)).context(shown)
}

fn name_of(json: &Json) -> Result<String> {
    let Json::Text(name) = json else { bail!("that is {}, not text", json.kind()) };
    let is_plain = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && name.trim() == name
        && !name.is_empty();
    ensure!(
        is_plain && name.len() <= MAX_NAME,
        "{} is not a name: 1 to {MAX_NAME} printable ASCII characters, no space first or last",
        quoted(name)
    );
    Ok(name.clone())
}

fn fill_in(members: Vec<(String, Json)>, name: String) -> Result<Rule> {
    no_key_twice(&members)?;
    let mut rule = Rule { name, ..Rule::default() };
    let mut excludes = false;
    let (mut sample, mut snaplen) = (None, None);
    for (key, value) in &members {
        let known = match key.as_str() {
            "name" => Ok(()),
            "action" => action(value).map(|action| excludes = action == Action::Exclude),
            "sample" => sample_of(value).map(|value| sample = Some(value)),
            "snaplen" => scalar(value).and_then(copies::snaplen).map(|value| snaplen = Some(value)),
            key => match Field::all().map(Field::spec).find(|field| field.key() == key) {
                Some(field) => texts(value).and_then(|texts| field.parse(&mut rule, &texts)),
                None => bail!("{} is not a key; the keys are {}", quoted(key), keys().join(", ")),
            },
        };
        known.with_context(|| key.clone())?;
    }
    rule.action = if excludes {
        for (key, given) in [("sample", sample.is_some()), ("snaplen", snaplen.is_some())] {
            ensure!(!given, "{key}: there are no copies of what a rule excludes; leave it out");
        }
        Action::Exclude
    } else {
        Action::Mirror { sample, snaplen }
    };
    Ok(rule)
}

fn no_key_twice(members: &[(String, Json)]) -> Result<()> {
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => bail!("the key {} is there twice; leave one of them out", quoted(pair[0])),
        None => Ok(()),
    }
}

fn action(value: &Json) -> Result<Action> {
    match value {
        Json::Text(text) if text == "mirror" => Ok(Action::default()),
        Json::Text(text) if text == "exclude" => Ok(Action::Exclude),
        Json::Text(text) => bail!("{} is neither mirror nor exclude", quoted(text)),
        other => bail!("that is {}, neither \"mirror\" nor \"exclude\"", other.kind()),
    }
}

/// All keys of a rule.
fn keys() -> Vec<&'static str> {
    let fields = Field::all().map(|field| field.spec().key());
    ["name", "action"].into_iter().chain(fields).chain(["sample", "snaplen"]).collect()
}

/// The entries of a field.
fn texts(value: &Json) -> Result<Vec<&str>> {
    let Json::List(list) = value else {
        bail!("that is {}, not a list such as [\"not …\", \"…\"]", value.kind());
    };
    ensure!(!list.is_empty(), "the list is empty; leave the key out to accept everything");
    list.iter().map(|entry| scalar(entry).context("an entry of the list")).collect()
}

/// The text of a text or a number. Long ones are refused here, since errors quote it.
fn scalar(value: &Json) -> Result<&str> {
    let (Json::Number(text) | Json::Text(text)) = value else {
        bail!("that is {}, neither text nor a number", value.kind());
    };
    ensure!(text.len() <= MAX_QUOTED, "{} is longer than anything valid", quoted(text));
    Ok(text)
}

fn sample_of(value: &Json) -> Result<Sample> {
    let Json::Object(members) = value else {
        bail!("that is {}, not an object such as {{\"one_in\": 100}}", value.kind());
    };
    no_key_twice(members)?;
    let (mut one_in, mut by) = (None, SampleBy::default());
    for (key, value) in members {
        match (key.as_str(), value) {
            ("one_in", Json::Number(number)) => {
                one_in = Some(copies::one_in(number).context("one_in")?);
            }
            ("by", by_text) => by = scalar(by_text).and_then(copies::sample_by).context("by")?,
            ("one_in", other) => bail!("one_in: that is {}, not a number", other.kind()),
            (key, _) => bail!("{} is not a key; the keys are one_in and by", quoted(key)),
        }
    }
    Ok(Sample { one_in: one_in.context("one_in is missing, e.g. {\"one_in\": 100}")?, by })
}

/// The beginning of a text, in quotes.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
