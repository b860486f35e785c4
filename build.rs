//! Compiles `bpf/*.bpf.c` into skeletons in `OUT_DIR`, and puts the objects beside the binary
//! (`target/<profile>/`), where packaging takes them from.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;

const OBJECTS: [&str; 3] = ["mirroring_ingress", "mirroring_egress", "gue_tunnel"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is target/<profile>/build/<package>/out
    let profile = out.ancestors().nth(3).context("OUT_DIR has no profile directory above it")?;

    for name in OBJECTS {
        let object = out.join(format!("{name}.bpf.o"));
        SkeletonBuilder::new()
            .source(format!("bpf/{name}.bpf.c"))
            .obj(&object)
            .clang_args(clang_args()?)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .with_context(|| format!("bpf/{name}.bpf.c does not build (is clang installed?)"))?;
        fs::copy(&object, profile.join(format!("{name}.bpf.o")))?;
    }
    println!("cargo::rerun-if-changed=bpf");
    link_unwinder_statically()
}

/// std asks for libgcc_s.so. With the same code from libgcc_eh.a in front of it, the linker leaves
/// the shared one out, and the binary needs nothing on its host but libc.
fn link_unwinder_statically() -> Result<()> {
    let path = Command::new("gcc").arg("-print-file-name=libgcc_eh.a").output();
    let path = path.context("gcc does not run (is it installed?)")?.stdout;
    let path = PathBuf::from(String::from_utf8(path)?.trim());
    let dir = path.parent().context("gcc has no libgcc_eh.a")?;

    println!("cargo::rustc-link-search=native={}", dir.display());
    println!("cargo::rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    Ok(())
}

fn clang_args() -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = ["-Ibpf", "-Wall", "-Wextra", "-Werror"].map(Into::into).into();
    // Debian and Ubuntu keep asm/types.h in a directory that clang -target bpf does not search
    let multiarch = format!("/usr/include/{}-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    if Path::new(&multiarch).exists() {
        args.push(format!("-I{multiarch}").into());
    }
    Ok(args)
}
