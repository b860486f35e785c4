//! Compiles `bpf/*.bpf.c`, makes Rust of what C and Rust share, and puts the objects beside the binary
//! (`target/<profile>/`), where packaging takes them from.
//!
//! `CLANG` names the compiler; the default is `clang`. Its warnings do not fail the build, since a newer version may
//! have more of them: `make check` treats them as errors.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, anyhow, ensure};
use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::ObjectBuilder;

const OBJECTS: [&str; 4] =
    ["mirroring_ingress", "mirroring_egress", "gue_tunnel", "gue_tunnel_taps"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is target/<profile>/build/<package>/out
    let profile = out.ancestors().nth(3).context("OUT_DIR has no profile directory above it")?;

    let clang = clang()?;
    for name in OBJECTS {
        let object = compile(name, &clang, &out)?.0;
        fs::copy(&object, profile.join(format!("{name}.bpf.o")))?;
    }
    let (types, mut builder) = compile("shared_types", &clang, &out)?;
    builder.obj(&types).generate(out.join("shared_types.skel.rs"))?;
    fs::write(out.join("map_defs.rs"), map_defs(&out.join("mirroring_ingress.bpf.o"))?)?;
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    Ok(())
}

/// The compiler, after a check that it runs.
fn clang() -> Result<OsString> {
    let clang = env::var_os("CLANG").filter(|name| !name.is_empty());
    let clang = clang.unwrap_or_else(|| "clang".into());
    let version = Command::new(&clang).arg("--version").output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "{clang:?} does not run; `make setup` installs clang, 13 or later; CLANG can name another one"
    );
    Ok(clang)
}

fn compile(name: &str, clang: &OsStr, out: &Path) -> Result<(PathBuf, SkeletonBuilder)> {
    let object = out.join(format!("{name}.bpf.o"));
    let mut builder = SkeletonBuilder::new();
    builder.source(format!("bpf/{name}.bpf.c")).obj(&object).clang(clang).clang_args(clang_args()?);
    builder.build().map_err(|error| with_compiler_output(name, clang, &error))?;
    check_byte_order(&object)?;
    Ok((object, builder))
}

fn with_compiler_output(name: &str, clang: &OsStr, error: &Error) -> Error {
    anyhow!("{} does not compile bpf/{name}.bpf.c:\n{error:#}", Path::new(clang).display())
}

fn clang_args() -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = ["-Ibpf", "-Wall", "-Wextra"].map(Into::into).into();
    // -target bpf means the byte order of the machine that compiles
    args.push(format!("-m{}-endian", env::var("CARGO_CFG_TARGET_ENDIAN")?).into());
    // Debian and Ubuntu keep asm/types.h in directories that clang -target bpf does not search: by
    // architecture, and beside the cross compiler
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let directories =
        [format!("/usr/include/{arch}-linux-gnu"), format!("/usr/{arch}-linux-gnu/include")];
    if let Some(directory) = directories.iter().find(|directory| Path::new(directory).exists()) {
        args.push(format!("-I{directory}").into());
    }
    Ok(args)
}

/// The kernel of the target takes only objects of its own byte order.
fn check_byte_order(object: &Path) -> Result<()> {
    let target = env::var("CARGO_CFG_TARGET_ENDIAN")?;
    // e_ident[EI_DATA] of the ELF header
    let found = match fs::read(object)?.get(5) {
        Some(1) => "little",
        Some(2) => "big",
        _ => "no",
    };
    ensure!(found == target, "{} has {found} endian words, its target {target}", object.display());
    Ok(())
}

/// The source of a constant for each map of a mirroring object, and of `ALL` maps, for `src/bpf/map_defs.rs`.
fn map_defs(ingress_object: &Path) -> Result<String> {
    let object = ObjectBuilder::default().open_file(ingress_object)?;
    let (mut text, mut all) = (String::new(), Vec::new());
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        let (before, after) = name.split_once("ingress").context("a map without its direction")?;
        let constant = after.trim_start_matches('_').to_uppercase();
        let entries = map.max_entries();
        writeln!(
            text,
            "pub const {constant}: MapDef = MapDef {{ before: {before:?}, after: {after:?}, entries: {entries} }};"
        )?;
        all.push(constant);
    }
    // the order in which maps are pinned: every version has these two in these places (bpf/mirroring.h)
    all.sort_by_key(|constant| match constant.as_str() {
        "CONFIG" => 0,
        "JMP_TABLE" => 2,
        _ => 1,
    });
    writeln!(text, "pub const ALL: [MapDef; {}] = [{}];", all.len(), all.join(", "))?;
    Ok(text)
}
