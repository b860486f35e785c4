//! The names of tests: those that documents cite exist, as `file::test` for `tests/**/file.rs`, those that
//! scripts and documents filter by match a test, and none is too long to read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(TOP).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of this kind in a folder and in those below it.
fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a file").path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => files_below(&path, extension),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}

/// All tests in the sources below `dir`, as `file::test`.
fn tests_below(dir: &str) -> BTreeSet<String> {
    let files = files_below(&Path::new(TOP).join(dir), "rs").into_iter();
    let tests = files.flat_map(|path| {
        let file = path.file_stem().expect("a name").to_str().expect("a name in ASCII");
        let source = read(&path);
        // other attributes may stand between the two
        let functions = source.split("#[test]\n").skip(1);
        let functions = functions.filter_map(|rest| rest.split_once("fn "));
        let names = functions.filter_map(|(_, rest)| rest.split('(').next());
        names.map(|name| format!("{file}::{name}")).collect::<Vec<_>>()
    });
    tests.collect()
}

fn tests() -> BTreeSet<String> {
    let tests = tests_below("tests");
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

fn documents() -> Vec<PathBuf> {
    let mut documents = files_below(&Path::new(TOP).join("docs"), "md");
    let at_the_top = fs::read_dir(TOP).expect("a directory").map(|it| it.expect("a file").path());
    documents.extend(at_the_top.filter(|path| path.extension().is_some_and(|it| it == "md")));
    assert!(documents.len() >= 10, "{documents:?}");
    documents
}

/// The words that select tests by their names: behind `FILTER=`, `BASIC_TESTS :=` and `--ignored`.
fn filters(text: &str) -> Vec<&str> {
    let mut filters = vec![];
    for (line, begin) in text
        .lines()
        .flat_map(|line| ["FILTER=", "BASIC_TESTS := ", "--ignored "].map(|begin| (line, begin)))
    {
        for rest in line.split(begin).skip(1) {
            let list = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next(),
                None if begin == "FILTER=" => rest.split([' ', '`', ']']).next(),
                None => Some(rest),
            };
            // variables are in place of names
            let is_name = |word: &&str| {
                word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            };
            filters.extend(list.into_iter().flat_map(str::split_whitespace).filter(is_name));
        }
    }
    filters
}

#[test]
fn every_filter_matches_a_test() {
    let mut tests = tests();
    tests.extend(tests_below("src"));
    // those with l3afd are written in Go
    for path in files_below(&Path::new(TOP).join("tests/l3afd"), "go") {
        let source = read(&path);
        let names = source.split("\nfunc Test").skip(1).filter_map(|rest| rest.split('(').next());
        tests.extend(names.map(|name| format!("Test{name}")));
    }
    let scripts = fs::read_dir(Path::new(TOP).join("scripts")).expect("the scripts");
    let scripts = scripts.map(|entry| entry.expect("a script").path());
    let others = ["Makefile", ".ci/run"].map(|it| Path::new(TOP).join(it));
    let mut count = 0;
    for path in documents().into_iter().chain(scripts).chain(others) {
        let text = read(&path);
        for filter in filters(&text) {
            let matches = tests.iter().any(|test| test.contains(filter));
            assert!(
                matches,
                "no test has the name \"{filter}\" that {} filters by",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count} filters are found");
}

#[test]
fn no_name_of_a_test_is_longer_than_60_characters() {
    let tests = ["src", "tests", "demo", "benches", "testkit"].into_iter().flat_map(tests_below);
    let tests: Vec<_> = tests.collect();
    assert!(tests.len() > 500, "{} tests", tests.len());
    for test in tests {
        let (_, name) = test.rsplit_once("::").expect("a name");
        assert!(name.len() <= 60, "{} characters: {test}", name.len());
    }
}

#[test]
fn tests_that_the_documents_name_exist() {
    let tests = tests();
    let files: BTreeSet<_> = tests.iter().filter_map(|test| test.split("::").next()).collect();
    for document in documents() {
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
