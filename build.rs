//! Compiles `bpf/*.bpf.c` into skeletons in `OUT_DIR`, and puts the objects beside the binary
//! (`target/<profile>/`), where packaging takes them from.
//!
//! `CLANG` names the compiler; the default is `clang`. Its warnings stop nobody, since a newer one may have more of
//! them: `make check` is what takes them for errors.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, anyhow, ensure};
use libbpf_cargo::SkeletonBuilder;

const OBJECTS: [&str; 4] =
    ["mirroring_ingress", "mirroring_egress", "gue_tunnel", "gue_tunnel_taps"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is target/<profile>/build/<package>/out
    let profile = out.ancestors().nth(3).context("OUT_DIR has no profile directory above it")?;

    let clang = clang()?;
    for name in OBJECTS {
        let object = out.join(format!("{name}.bpf.o"));
        SkeletonBuilder::new()
            .source(format!("bpf/{name}.bpf.c"))
            .obj(&object)
            .clang(&clang)
            .clang_args(clang_args()?)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|error| refusal(name, &clang, &error))?;
        check_byte_order(&object)?;
        fs::copy(&object, profile.join(format!("{name}.bpf.o")))?;
    }
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    Ok(())
}

/// The compiler, which runs.
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

/// What the compiler said.
fn refusal(name: &str, clang: &OsStr, error: &Error) -> Error {
    anyhow!("{} does not compile bpf/{name}.bpf.c:\n{error:#}", Path::new(clang).display())
}

fn clang_args() -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = ["-Ibpf", "-Wall", "-Wextra"].map(Into::into).into();
    // -target bpf is the byte order of the machine that compiles
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

/// Whether the kernel of the target will take the object.
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
