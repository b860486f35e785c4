//! The output of `--cmd=show`.

use serde_json::Value;

use super::{Snapshot, Topology, command};
use crate::schemas;

/// What `--cmd=show` prints on stdout, in the format of `args`. Checks that it writes nothing to stderr, and that it
/// changes nothing on the host.
pub fn show(net: &Topology, args: &[&str]) -> String {
    let before = Snapshot::of(net.host());
    let output = command(net.host(), &[&["--cmd=show"], args].concat());
    assert_eq!(Snapshot::of(net.host()).changes_since(&before), [""; 0]);
    assert_eq!(String::from_utf8(output.stderr).as_deref(), Ok(""));
    String::from_utf8(output.stdout).expect("text")
}

/// The list of instances in JSON. Checks that it follows the schema.
pub fn shown(net: &Topology, args: &[&str]) -> Vec<Value> {
    let text = show(net, &[&["--format=json"], args].concat());
    let list = serde_json::from_str(&text).expect("JSON");
    if let Err(error) = schemas::validator("show.schema.json").validate(&list) {
        panic!("{error} in {text}");
    }
    let Value::Array(list) = list else { panic!("no list: {list}") };
    list
}

/// The only instance in that list. Fails if there are none or more.
pub fn shown_one(net: &Topology) -> Value {
    let mut list = shown(net, &[]);
    assert_eq!(list.len(), 1, "{list:#?}");
    list.remove(0)
}
