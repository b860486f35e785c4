//! The documents against the tests that they name, as `file::test` for `tests/**/file.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TOP: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(TOP).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All tests in the sources below `dir`, as `file::test`.
fn tests_below(dir: &Path) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("a directory of tests") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            tests.extend(tests_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.file_stem().expect("a name").to_str().expect("a name in ASCII");
            let source = read(&path);
            // other attributes may stand between the two
            let functions = source.split("#[test]\n").skip(1);
            let functions = functions.filter_map(|rest| rest.split_once("fn "));
            let names = functions.filter_map(|(_, rest)| rest.split('(').next());
            tests.extend(names.map(|name| format!("{file}::{name}")));
        }
    }
    tests
}

fn tests() -> BTreeSet<String> {
    let tests = tests_below(&Path::new(TOP).join("tests"));
    let this = "docs::every_fault_of_the_replaced_tool_names_a_test";
    assert!(tests.contains(this), "this file's are not found: {tests:?}");
    tests
}

/// What `text` names as tests: `file::needs_root_…` and the like, in backticks.
fn named<'a>(text: &'a str, files: &BTreeSet<&str>) -> Vec<&'a str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| match name.split_once("::") {
        Some((file, test)) => files.contains(file) || test.starts_with("needs_root_"),
        None => false,
    };
    quoted.filter(is_test).collect()
}

#[test]
fn tests_that_the_documents_name_exist() {
    let tests = tests();
    let files: BTreeSet<_> = tests.iter().filter_map(|test| test.split("::").next()).collect();
    let docs = fs::read_dir(Path::new(TOP).join("docs")).expect("a directory of documents");
    let docs = docs.map(|entry| entry.expect("a document").path());
    let documents = docs.chain([Path::new(TOP).join("README.md")]);
    let documents: Vec<_> =
        documents.filter(|it| it.extension().is_some_and(|it| it == "md")).collect();
    assert!(documents.len() >= 10, "{documents:?}");
    for document in documents {
        for name in named(&read(&document), &files) {
            assert!(
                tests.contains(name),
                "{} names {name}, which does not exist",
                document.display()
            );
        }
    }
}

#[test]
fn every_fault_of_the_replaced_tool_names_a_test() {
    let tests = tests();
    let files: BTreeSet<_> = tests.iter().filter_map(|test| test.split("::").next()).collect();
    let guarantees = read("docs/guarantees.md");
    let (_, faults) =
        guarantees.split_once("\n## What the tool that this one replaces").expect("it");
    let rows: Vec<_> = faults.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() >= 12, "{} rows", rows.len());
    for row in rows {
        assert!(!named(row, &files).is_empty(), "no test in {row}");
    }
}
