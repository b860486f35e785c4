//! The package as l3afd sees it: the manifest against the binary and the objects that it names, the
//! archive, the repository, the payload; and `make help`. Runs on what `cargo test` has built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libbpf_rs::{MapType, ObjectBuilder, OpenObject};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const TOP: &str = env!("CARGO_MANIFEST_DIR");
const BINARY: &str = env!("CARGO_BIN_EXE_mirroring");
const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

/// The names that existing payloads use. They never change.
const PACKAGE: &str = "traffic-mirroring";
const ARTIFACT: &str = "l3af_traffic_mirroring.tar.gz";
const FOLDER: &str = "l3af_traffic_mirroring/";

/// The folder of the binary and the objects.
fn built() -> &'static Path {
    Path::new(BINARY).parent().expect("the binary lies in a folder")
}

fn manifest() -> Value {
    let text = fs::read_to_string(Path::new(TOP).join("l3af-manifest.json")).unwrap();
    serde_json::from_str(&text).expect("l3af-manifest.json is JSON")
}

/// Under which the manifest has payloads: as users have them already, and as we recommend them.
const STYLES: [&str; 2] = ["programs", "recommended"];

/// The manifest's one program of a style for a direction, a payload entry in l3afd's keys.
fn program(style: &str, direction: &str) -> Value {
    let programs = manifest()[style][format!("tc_{direction}")].take();
    let [program] = programs.as_array().unwrap().as_slice() else {
        panic!("not one program: {programs}");
    };
    program.clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text under \"{key}\" in {value}"))
}

/// The manifest's programs of both styles for both directions.
fn programs() -> impl Iterator<Item = (&'static str, Value)> {
    let of_style = |style| DIRECTIONS.map(|direction| (direction, program(style, direction)));
    STYLES.into_iter().flat_map(of_style)
}

/// Opens, without loading, the object that the manifest names; needs no privileges.
fn object(direction: &str) -> OpenObject {
    let path = built().join(text(&program("programs", direction), "object_file"));
    ObjectBuilder::default().open_file(path).unwrap()
}

fn map_names(object: &OpenObject) -> BTreeSet<String> {
    object.maps().map(|map| map.name().to_str().unwrap().to_owned()).collect()
}

/// A command at the top of the source tree, with none of the variables by which a `make` that
/// runs this test, or whoever called it, would change what the command does.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(TOP);
    for variable in [
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "TARGET",
        "V",
        "REPO",
        "PLATFORM",
        "VERSION",
        "IFACE",
        "COLLECTOR",
        "REDIRECT_TO",
        "DIRECTION",
        "HOST_NAME",
        "HOST_ADDRESS",
        "STYLE",
        "SOURCE_DATE_EPOCH",
    ] {
        command.env_remove(variable);
    }
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a command that succeeds prints.
fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails prints on stderr.
fn stderr_of_failure(command: &mut Command) -> String {
    let output = output(command);
    assert!(!output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Packs the built files into a folder.
fn pack(folder: &Path) -> PathBuf {
    let package = folder.join(ARTIFACT);
    stdout(command("scripts/package").arg(built()).arg(&package));
    package
}

/// A folder with a package in it, unpacked, and the folder of that.
fn unpacked() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let package = pack(folder.path());
    stdout(command("tar").arg("--extract").arg("--file").arg(package).arg("-C").arg(folder.path()));
    let unpacked = folder.path().join(FOLDER);
    (folder, unpacked)
}

#[test]
fn the_manifest_describes_this_crate() {
    let manifest = manifest();
    assert_eq!(text(&manifest, "name"), PACKAGE);
    assert_eq!(text(&manifest, "artifact"), ARTIFACT);
    assert_eq!(text(&manifest, "version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&manifest, "description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(text(&manifest, "license"), env!("CARGO_PKG_LICENSE"));
}

#[test]
fn the_manifest_keeps_the_names_that_existing_payloads_use() {
    for (direction, program) in programs() {
        assert_eq!(text(&program, "name"), PACKAGE);
        assert_eq!(text(&program, "artifact"), ARTIFACT);
        assert_eq!(text(&program, "cmd_start"), "mirroring");
        assert_eq!(text(&program, "prog_type"), "tc");
        assert_eq!(text(&program, "object_file"), format!("mirroring_{direction}.bpf.o"));
        assert_eq!(text(&program, "entry_function_name"), format!("_{direction}_redirect"));
        assert_eq!(text(&program, "map_name"), format!("mirroring_{direction}_jmp_table"));
    }
}

#[test]
fn the_binary_knows_every_flag_that_l3afd_will_give_it() {
    let help = stdout(command(BINARY).arg("--help"));
    let flags: BTreeSet<&str> = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter_map(|word| word.strip_prefix("--"))
        .collect();

    // l3afd's own: to every start, to a start without an object file, to an update
    let own = ["iface", "direction", "version", "log-dir", "rules-file", "map-name", "cmd"];
    for flag in own {
        assert!(flags.contains(flag), "--{flag} is not in:\n{help}");
    }
    for (_, program) in programs() {
        let args = ["start_args", "stop_args", "status_args", "update_args"];
        for (flag, value) in args.iter().filter_map(|args| program[args].as_object()).flatten() {
            assert!(flags.contains(flag.as_str()), "--{flag} is not in:\n{help}");
            assert!(value.is_string(), "l3afd takes nothing but text: {flag}: {value}");
        }
    }
}

#[test]
fn the_objects_have_what_the_manifest_names() {
    for (direction, program) in programs() {
        let object = object(direction);

        let entries: Vec<_> = object.progs().map(|entry| entry.name().to_owned()).collect();
        assert_eq!(entries, [text(&program, "entry_function_name")]);

        let jmp_table = object
            .maps()
            .find(|map| map.name() == text(&program, "map_name"))
            .expect("the object has the jump table");
        assert_eq!(jmp_table.map_type(), MapType::ProgArray);
        assert_eq!(jmp_table.max_entries(), 1);

        for monitored in program["monitor_maps"].as_array().unwrap() {
            let map = object.maps().find(|map| map.name() == text(monitored, "name"));
            let map = map.unwrap_or_else(|| panic!("the object has no map for {monitored}"));
            // what l3afd can read
            assert_eq!((map.map_type(), map.key_size(), map.value_size()), (MapType::Array, 4, 8));
            assert!(monitored["key"].as_u64().unwrap() < map.max_entries().into(), "{monitored}");
        }
    }
}

#[test]
fn l3afd_can_pin_the_maps_of_both_objects_in_one_folder() {
    let [ingress, egress] = DIRECTIONS.map(|direction| map_names(&object(direction)));
    // it skips a name that is there already
    assert!(ingress.is_disjoint(&egress), "{ingress:?} {egress:?}");
}

#[test]
fn the_same_files_are_packed_into_the_same_bytes() {
    let (one, other) = (tempdir().unwrap(), tempdir().unwrap());
    let (one, other) = (fs::read(pack(one.path())).unwrap(), fs::read(pack(other.path())).unwrap());
    assert!(one == other, "two packages differ");
}

#[test]
fn the_package_is_one_folder_with_exactly_what_it_promises() {
    let folder = tempdir().unwrap();
    let package = pack(folder.path());

    let members = stdout(command("tar").arg("--list").arg("--file").arg(&package));
    let members: BTreeSet<String> = members.lines().map(str::to_owned).collect();
    let mut expected: BTreeSet<String> = [
        "",
        "LICENSE.BSD-2-Clause",
        "LICENSE.GPL-2.0",
        "README.md",
        "docs/",
        // where l3afd writes the rules of a payload
        "egress/",
        "examples/",
        "examples/logrotate",
        "examples/rules/",
        "grafana-dashboard.json",
        "ingress/",
        "l3af-manifest.json",
        "manual/",
        "mirroring",
        "mirroring_egress.bpf.o",
        "mirroring_egress_kern.o",
        "mirroring_ingress.bpf.o",
        "mirroring_ingress_kern.o",
        "rules.schema.json",
        "show.schema.json",
    ]
    .map(|name| format!("{FOLDER}{name}"))
    .into();
    for folder in ["docs", "examples/rules", "manual"] {
        let files = fs::read_dir(Path::new(TOP).join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        expected.extend(names.map(|name| format!("{FOLDER}{folder}/{name}")));
    }
    let page = format!("{FOLDER}manual/mirroring.8");
    assert!(expected.contains(&page), "{expected:?}");
    assert_eq!(members, expected);

    let (_folder, unpacked) = unpacked();
    stdout(command(unpacked.join("mirroring").to_str().unwrap()).arg("--help"));
}

#[test]
fn payloads_for_l3afd_2_0_0_name_the_same_objects() {
    let (_folder, unpacked) = unpacked();
    for direction in DIRECTIONS {
        let read = |suffix| fs::read(unpacked.join(format!("mirroring_{direction}{suffix}")));
        assert!(read(".bpf.o").unwrap() == read("_kern.o").unwrap(), "{direction}: two objects");
    }
}

#[test]
fn every_link_in_the_packages_documents_leads_to_its_files() {
    let (_folder, unpacked) = unpacked();
    let mut links = 0;
    for place in [unpacked.join("docs"), unpacked] {
        for document in fs::read_dir(&place).unwrap().map(|file| file.unwrap().path()) {
            if document.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = fs::read_to_string(&document).unwrap();
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|it| !it.contains("://") && !it.starts_with('#')) {
                let file = target.split('#').next().unwrap();
                assert!(place.join(file).is_file(), "{}: {target}", document.display());
                links += 1;
            }
        }
    }
    assert!(links > 0, "no links were found");
}

#[test]
fn the_package_is_published_where_l3afd_looks_for_it() {
    let folder = tempdir().unwrap();
    let package = pack(folder.path());
    let repo = folder.path().join("repo");
    let publish = || {
        let mut publish = command("scripts/publish");
        publish.arg(&package).env("REPO", &repo).env("PLATFORM", "jammy");
        publish
    };

    for version in ["latest", "1.2.3", "latest"] {
        stdout(publish().env("VERSION", version));
        let there = repo.join(PACKAGE).join(version).join("jammy");
        let names: Vec<_> = fs::read_dir(&there).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, [ARTIFACT]);
        assert!(fs::read(there.join(ARTIFACT)).unwrap() == fs::read(&package).unwrap());
    }

    let error = stderr_of_failure(publish().env("VERSION", "../up"));
    assert!(error.contains("\"../up\" cannot be the name of a folder"), "{error}");
}

#[test]
fn publishing_nowhere_is_refused_before_anything_is_built() {
    let error = stderr_of_failure(command("make").arg("publish"));
    assert!(error.contains("REPO is not given"), "{error}");
}

#[test]
fn the_recommended_style_adds_a_process_that_stays() {
    for direction in DIRECTIONS {
        let mut recommended = program("recommended", direction);
        let status = json!({"cmd": "status", "iface": "eth0", "direction": direction});
        assert_eq!(recommended["status_args"], status);
        assert_eq!(recommended["stop_args"], json!({"cmd": "stop"}));
        // changed here alone, a filter changes at one instant
        let filter = recommended["update_args"].as_object().unwrap().clone();
        for (flag, value) in filter {
            assert_eq!(recommended["start_args"][&flag], value, "{flag}");
        }
        assert_eq!(recommended["start_args"]["resident"], "true");
        let monitored = recommended["monitor_maps"].as_array().unwrap();
        let metrics = format!("{direction}_metrics");
        let expected = |key| json!({"name": metrics, "key": key, "aggregator": "scalar"});
        assert_eq!(*monitored, (0..9).map(expected).collect::<Vec<_>>());

        let classic = program("programs", direction);
        let keys = recommended.as_object_mut().unwrap();
        for added in ["cmd_update", "stop_args", "status_args", "update_args"] {
            keys.remove(added).unwrap();
        }
        for other in ["user_program_daemon", "cmd_stop", "cmd_status", "monitor_maps"] {
            recommended[other] = classic[other].clone();
        }
        recommended["start_args"].as_object_mut().unwrap().remove("resident");
        assert_eq!(recommended, classic);
    }
}

#[test]
fn a_payload_has_given_values_and_else_the_manifests() {
    for (style, programs) in [("classic", "programs"), ("recommended", "recommended")] {
        let payload = stdout(command("make").arg("payload").args([
            "IFACE=eth7",
            "COLLECTOR=198.51.100.9",
            "REDIRECT_TO=eth8",
            "VERSION=1.2.3",
            "HOST_NAME=a host with \"quotes\"",
            "HOST_ADDRESS=198.51.100.1",
            &format!("STYLE={style}"),
        ]));
        let payload: Value = serde_json::from_str(&payload).unwrap();

        let mut programs = manifest()[programs].take();
        for direction in DIRECTIONS {
            let program = &mut programs[format!("tc_{direction}")][0];
            program["version"] = "1.2.3".into();
            program["start_args"]["tunnel-remote-address"] = "198.51.100.9".into();
            program["start_args"]["redirect-to"] = "eth8".into();
            if style == "recommended" {
                program["status_args"]["iface"] = "eth7".into();
            }
        }
        let expected = json!([{
            "host_name": "a host with \"quotes\"",
            "iface": "eth7",
            "ipv4_address": "198.51.100.1",
            "bpf_programs": programs,
        }]);
        assert_eq!(payload, expected);
    }
}

#[test]
fn a_payload_can_be_for_one_direction() {
    let payload = stdout(command("make").args(["payload", "IFACE=lo", "DIRECTION=egress"]));
    let payload: Value = serde_json::from_str(&payload).unwrap();
    let programs = payload[0]["bpf_programs"].as_object().unwrap();
    assert_eq!(programs.keys().collect::<Vec<_>>(), ["tc_egress"]);
    assert_eq!(programs["tc_egress"][0]["start_args"]["redirect-to"], "lo");
    assert_eq!(programs["tc_egress"][0]["user_program_daemon"], true, "the recommended style");

    let error = stderr_of_failure(command("make").args(["payload", "IFACE=lo", "DIRECTION=up"]));
    assert!(error.contains("\"up\" is none of ingress, egress and both"), "{error}");
    let error = stderr_of_failure(command("make").arg("payload"));
    assert!(error.contains("IFACE is not given"), "{error}");
    let error = stderr_of_failure(command("make").args(["payload", "IFACE=lo", "STYLE=new"]));
    assert!(error.contains("\"new\" is neither recommended nor classic"), "{error}");
}

#[test]
fn make_help_lists_every_target() {
    let makefile = fs::read_to_string(Path::new(TOP).join("Makefile")).unwrap();
    let phony = makefile.lines().filter_map(|line| line.strip_prefix(".PHONY: "));
    let phony: BTreeSet<&str> = phony.flat_map(str::split_whitespace).collect();

    let help = stdout(command("make").arg("help"));
    let listed: BTreeSet<&str> = help.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(listed, phony);
}
