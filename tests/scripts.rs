//! The scripts that build and test: what a newcomer meets. Copies of them run among programs that stand for
//! what they call.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

const TOP: &str = env!("CARGO_MANIFEST_DIR");
const NOBODY: u32 = 65534;

/// A checkout with the given files of this one, and a folder of programs, `bin`.
struct Checkout(TempDir);

impl Checkout {
    fn with(files: &[&str]) -> Self {
        let checkout = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::create_dir(checkout.path("bin")).expect("a folder");
        let _no_fork = one_at_a_time();
        for file in files {
            let to = checkout.path(file);
            fs::create_dir_all(to.parent().expect("its folder")).expect("a folder");
            fs::copy(Path::new(TOP).join(file), to).expect(file);
        }
        checkout
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A program that is this shell script.
    fn program(&self, file: &str, script: &str) {
        let _no_fork = one_at_a_time();
        fs::write(self.path(file), format!("#!/bin/sh\n{script}\n")).expect("a program");
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    /// What the command says with nothing but `path` as PATH behind `bin`.
    fn run(&self, path: &str, command: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut command_line = Command::new(self.path(command[0]));
        command_line
            .args(&command[1..])
            .current_dir(&self.0)
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env_remove("SUDO_UID")
            // what `make test KERNELS=` leaves to its commands
            .env_remove("KERNELS")
            .env_remove("MAKEFLAGS")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let no_write = one_at_a_time();
        let child = command_line.spawn().expect("it runs");
        drop(no_write);
        child.wait_with_output().expect("its output")
    }
}

/// While a program is written, no other thread may fork: its child would hold the file open for writing, and so keep
/// everybody from running it (ETXTBSY), until it runs something else itself.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn setup_check_names_all_that_is_missing() {
    let checkout = Checkout::with(&["scripts/setup", "scripts/as-user", "Cargo.toml"]);
    // little else than what the script itself is made of
    for tool in ["bash", "cut", "dirname", "env", "id", "sed", "sort"] {
        let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
        let found = found.iter().find(|path| path.exists()).expect(tool);
        symlink(found, checkout.path(&format!("bin/{tool}"))).expect("a link");
    }
    checkout.program("bin/cargo", "echo cargo 1.999.0");
    checkout.program("bin/apt-get", "echo installed >installed");

    let output = checkout.run("", &["scripts/setup", "--check", "build"], &[]);
    let said = text(&output.stdout);
    assert!(!output.status.success(), "{said}");
    for missing in ["clang is missing; package clang", "autopoint is missing", "gawk is missing"] {
        assert!(said.contains(missing), "{said}");
    }
    for not_for_the_build in ["shellcheck", "tcpdump", "golang-go", "qemu"] {
        assert!(!said.contains(not_for_the_build), "{said}");
    }
    assert!(text(&output.stderr).contains("scripts/setup build"), "{}", text(&output.stderr));
    assert!(!checkout.path("installed").exists());

    checkout.program("bin/cargo", "echo cargo 1.2.3");
    let output = checkout.run("", &["scripts/setup", "--check", "build"], &[]);
    assert!(text(&output.stderr).contains("Rust 1.2.3 is too old"), "{}", text(&output.stderr));
}

/// What runs as if by root, with programs for all that `scripts/test` calls; `end` is how each of them ends.
fn test_script_where_all_end(end: u8) -> Output {
    let checkout = Checkout::with(&["scripts/test"]);
    checkout.program("bin/id", "echo 0");
    checkout.program("bin/make", &format!("exit {end}"));
    checkout.program("scripts/as-user", r#"[ "$1" != --still-root ] || shift; exec "$@""#);
    checkout.program("scripts/setup", "");
    checkout.program("scripts/captures", "exit 77");
    checkout.program("scripts/check-msrv", "exit 0");
    checkout.program(
        "bin/cargo",
        &format!(
            "case $* in *--no-run) exit 0;; esac
            cat <<'EOF'
test good::one ... ok
test bad::one ... FAILED

failures:

---- bad::one stdout ----
    misleading

failures:
    bad::one
    bad::two

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out
EOF
            exit {end}"
        ),
    );
    checkout.program(
        "scripts/test-l3afd",
        &format!("echo '    --- FAIL: TestChain/late (0.10s)'; echo '--- PASS: TestOther (1s)'; exit {end}"),
    );
    checkout.program(
        "scripts/test-kernels",
        &format!(
            "cat <<'EOF'
failures:
    gue::odd

test result: FAILED. 3 passed; 1 failed; 0 ignored
5.10 (5.10.223-1): 3 passed, 1 failed, 0 ignored, 9 s
6.1 (6.1.99-1): 2 passed, 0 failed, 0 ignored, 9 s, the guest did not finish (status 124), see x/*.log
EOF
            exit {end}"
        ),
    );
    checkout.run("/usr/bin:/bin", &["scripts/test"], &[])
}

#[test]
fn the_last_lines_name_failures_and_what_was_left_out() {
    let output = test_script_where_all_end(1);
    assert!(!output.status.success());
    let said = text(&output.stdout);
    let end = "
test: left out:
    captures of other networks, for the reason above
test: failed:
    make check: exit code 1; see above
    cargo test: bad::one
    cargo test: bad::two
    the package as l3afd launches it: TestChain/late
    guests with other kernels: Linux 5.10: gue::odd
    guests with other kernels: Linux 6.1: the guest did not finish
";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn the_last_line_of_the_tests_says_that_nothing_failed() {
    let output = test_script_where_all_end(0);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("test: nothing failed\n"), "{said}");
    assert!(said.contains("captures of other networks, for the reason above"), "{said}");
}

#[test]
fn needs_root_under_sudo_what_is_built_belongs_to_the_user() {
    let checkout = Checkout::with(&["scripts/as-user"]);
    fs::set_permissions(checkout.0.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    let nobody = NOBODY.to_string();
    let sudo = [("SUDO_UID", nobody.as_str())];
    let as_user = |arguments: &[&str], settings: &[(&str, &str)]| {
        let command: Vec<_> = ["scripts/as-user"].iter().chain(arguments).copied().collect();
        let output = checkout.run("/usr/sbin:/usr/bin:/bin", &command, settings);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };

    // not theirs: root builds, with their Rust
    assert_eq!(as_user(&["id", "-u"], &sudo), "0");
    let path = as_user(&["sh", "-c", "echo $PATH"], &sudo);
    assert!(path.split(':').next().expect("a folder").ends_with("/.cargo/bin"), "{path}");

    chown(checkout.0.path(), Some(NOBODY), Some(NOBODY)).expect("the folder's owner");
    assert_eq!(as_user(&["id", "-u"], &sudo), nobody);
    assert_eq!(as_user(&["--still-root", "id", "-u"], &sudo), "0");
    let said = as_user(
        &["sh", "-c", "getent passwd $(id -u) | cut -d: -f6; echo $HOME; echo $PATH"],
        &sudo,
    );
    let [home, its_home, path] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!(home, its_home);
    assert!(path.starts_with(&format!("{home}/.cargo/bin:")), "{path}");

    // root, and not by sudo
    assert_eq!(as_user(&["id", "-u"], &[]), "0");
}

#[test]
fn a_go_too_old_is_replaced_or_an_error() {
    let checkout = Checkout::with(&["scripts/go-toolchain", "tests/l3afd/go.mod"]);
    let cache = checkout.path("cache");
    let script = format!(
        r#"toolchain={cache}/golang.org/toolchain@${{4#*@}}
        case $* in
        "env GOVERSION") echo go1.19.8;;
        "env GOHOSTOS") echo linux;;
        "env GOHOSTARCH") echo riscv64;;
        "env GOMODCACHE") echo {cache};;
        "mod download -json golang.org/toolchain@"*)
            [ -z "$REFUSED" ] || {{ echo '"Error": "no such module"'; exit 1; }}
            mkdir -p "$toolchain"/bin "$toolchain"/pkg/tool
            touch "$toolchain"/bin/go;;
        *) exit 9;;
        esac"#,
        cache = cache.display()
    );
    checkout.program("bin/go", &script);

    let output = checkout.run("/usr/bin:/bin", &["scripts/go-toolchain"], &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let go = Path::new(text(&output.stdout).trim()).join("go");
    assert!(go.starts_with(&cache), "{go:?}");
    let mode = fs::metadata(&go).expect("the go that was got").permissions().mode();
    assert_eq!(mode & 0o111, 0o111);

    let output = checkout.run("/usr/bin:/bin", &["scripts/go-toolchain"], &[("REFUSED", "yes")]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("no such module"), "{}", text(&output.stderr));
}

#[test]
fn in_a_path_with_a_space_what_is_built_goes_to_one_without() {
    let make = |folder: &str, home: &str| {
        let checkout = Checkout::with(&["Makefile", "scripts/as-user"]);
        let folder = checkout.path(folder);
        fs::create_dir(&folder).expect("a folder");
        for part in ["Makefile", "scripts"] {
            fs::rename(checkout.path(part), folder.join(part)).expect("a part of the checkout");
        }
        Command::new("make")
            .args(["--no-print-directory", "--dry-run", "package"])
            .current_dir(&folder)
            .env("HOME", home)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("MAKEFLAGS")
            .env_remove("SUDO_UID")
            // what `make test KERNELS=` leaves to its commands
            .env_remove("KERNELS")
            .env_remove("MAKEFLAGS")
            .env_remove("XDG_CACHE_HOME")
            .output()
            .expect("make")
    };
    let built_in = |folder: &str| {
        let output = make(folder, "/home/somebody");
        assert!(output.status.success(), "{}", text(&output.stderr));
        // what make prints may be a payload
        assert!(!text(&output.stdout).contains("has a space"), "{}", text(&output.stdout));
        let said = text(&output.stdout);
        let packs = said.lines().find(|line| line.contains("scripts/package ")).expect(said);
        let words: Vec<_> = packs.split(' ').collect();
        words[words.iter().position(|word| *word == "scripts/package").expect(packs) + 1].to_owned()
    };
    assert_eq!(built_in("one"), "target/release");
    assert!(built_in("one two").starts_with("/home/somebody/.cache/traffic-mirroring/"));
    assert_ne!(built_in("one two"), built_in("one three"));

    let refused = make("one two", "/home/some body");
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("\"/home/some body/.cache") && said.contains("give another"), "{said}");
}
