//! The schemas at the top of the source tree.

use std::fs;
use std::path::Path;

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

fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let schema = serde_json::from_str(&fs::read_to_string(path).expect(name)).expect(name);
    assert!(jsonschema::meta::is_valid(&schema), "{name}");
    schema
}
