//! The walls of the house (docs/architecture.md): a room imports only those below it, and a pure room nothing
//! that asks the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest. The first ones are pure.
const ROOMS: [&str; 19] = [
    "abi",
    "model",
    "filter",
    "packet",
    "request",
    "logging",
    "signals",
    "bpf",
    "netlink",
    "attach",
    "maps",
    "instance",
    "loop_guard",
    "tunnel",
    "daemon",
    "rules_file",
    "command",
    "app",
    "lib",
];
const PURE: &[&str] = &["abi", "model", "filter", "packet", "request"];

/// What asks the machine, or changes it.
const MACHINE: [&str; 12] = [
    "libbpf_rs",
    "libbpf_sys",
    "libc",
    "log",
    "netlink_sys",
    "nix",
    "rustix",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::time",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|it| it == "rs")).collect()
}

/// The room that a file is in, and its text without comments and what is only there for its tests.
fn rooms_and_texts() -> Vec<(String, PathBuf, String)> {
    let files = sources(Path::new("src")).into_iter().map(|path| {
        let place = path.strip_prefix("src").unwrap();
        let first = place.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        (room, path, code.collect::<Vec<_>>().join("\n"))
    });
    files.filter(|(room, path, _)| room != "main" && !path.ends_with("tests.rs")).collect()
}

/// The first names behind each `crate::`, also of those in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.chars().take_while(|it| it.is_ascii_alphanumeric() || *it == '_').collect()
    };
    let behind = text.split("crate::").skip(1);
    let names = behind.flat_map(|text| match text.strip_prefix('{') {
        Some(list) => {
            list.split('}').next().unwrap().split(',').map(|it| name(it.trim())).collect()
        }
        None => vec![name(text)],
    });
    names.collect()
}

fn height(room: &str) -> usize {
    let found = ROOMS.iter().position(|it| *it == room);
    found.unwrap_or_else(|| panic!("src/{room} is not among the rooms that this test knows"))
}

#[test]
fn a_room_imports_only_rooms_below_it() {
    let files = rooms_and_texts();
    assert!(files.len() > 80, "{}", files.len());
    for (room, path, text) in files {
        for import in imports(&text).iter().filter(|import| **import != room) {
            assert!(height(import) < height(&room), "{} imports {import}", path.display());
        }
    }
}

/// What two of them need stands in a room below.
#[test]
fn a_command_calls_no_other_command() {
    const COMMANDS: [&str; 7] = ["start", "update", "stop", "status", "dry_run", "show", "explain"];
    let files = rooms_and_texts().into_iter().filter(|(room, ..)| room == "command");
    for (_, path, text) in files {
        let own = path.components().nth(2).unwrap().as_os_str().to_str().unwrap();
        let own = own.strip_suffix(".rs").unwrap_or(own);
        for command in COMMANDS.into_iter().filter(|command| *command != own) {
            let is_used = text.contains(&format!("command::{command}"));
            assert!(!is_used, "{} uses command::{command}", path.display());
        }
    }
}

#[test]
fn a_pure_room_asks_nothing_of_the_machine() {
    for (_, path, text) in rooms_and_texts().iter().filter(|it| PURE.contains(&it.0.as_str())) {
        for it in MACHINE {
            let import = format!("{it}::");
            let is_used = text.match_indices(&import).any(|(at, _)| {
                !text[..at].ends_with(|before: char| {
                    before.is_alphanumeric() || before == '_' || before == ':'
                })
            });
            assert!(!is_used, "{} uses {it}", path.display());
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text =
        "use crate::bpf;\nuse crate::{maps, netlink::Link};\nlet it = crate::tunnel::sweep();";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["bpf", "maps", "netlink", "tunnel"]);
}
