//! The schemas at the top of the source tree.

use jsonschema::{Registry, Validator};
use serde_json::Value;

/// `show.schema.json` refers to its neighbour.
pub fn validator(name: &str) -> Validator {
    let rules = "rules.schema.json";
    let registry = Registry::new().add(uri(rules), schema(rules)).expect("a schema");
    let registry = registry.prepare().expect("schemas");
    jsonschema::draft202012::options()
        .with_base_uri(uri(name))
        .with_registry(&registry)
        .build(&schema(name))
        .expect(name)
}

fn uri(name: &str) -> String {
    format!("file:///{name}")
}

/// Compiled in: other kernels' guests have no source tree.
fn schema(name: &str) -> Value {
    let text = match name {
        "rules.schema.json" => include_str!("../../rules.schema.json"),
        "show.schema.json" => include_str!("../../show.schema.json"),
        _ => panic!("there is no {name}"),
    };
    let schema = serde_json::from_str(text).expect(name);
    assert!(jsonschema::meta::is_valid(&schema), "{name}");
    schema
}
