//! Builds every guest of the workspace to WebAssembly, in one build with one shared target directory.
//!
//! The normal way is the target that `rustup` installs. Where it is not to be had (offline, or a tool chain of a
//! distribution), the standard library is built from the source that Debian packages beside its compiler.

use crate::{cargo, root, run, setup, target};
use anyhow::Context as _;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's compiler that has the standard library's source in a package.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Builds all guests and copies them to `target/guests/NAME.wasm`. Returns that folder.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let names = names()?;
    anyhow::ensure!(!names.is_empty(), "there is no guest in plugins/ or tests/guests/");
    let directory = target().join("guests");
    std::fs::create_dir_all(&directory)?;
    let mut command = cargo();
    command.args(["build", "--profile", "guest", "--lib", "--target", TARGET]);
    command.arg("--target-dir").arg(&directory);
    for name in &names {
        command.args(["-p", name]);
    }
    if !has_target()? {
        from_source(&mut command)?;
    }
    run(&mut command)?;
    for name in &names {
        let file = format!("{}.wasm", name.replace('-', "_"));
        let built = directory.join(TARGET).join("guest").join(&file);
        std::fs::copy(&built, directory.join(format!("{name}.wasm")))
            .with_context(|| format!("{} was not built", built.display()))?;
    }
    Ok(directory)
}

fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in ["plugins", "tests/guests"] {
        let Ok(entries) = std::fs::read_dir(root().join(folder)) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.join("Cargo.toml").is_file() && path.join("src/lib.rs").is_file() {
                let manifest: toml::Table = std::fs::read_to_string(path.join("Cargo.toml"))?.parse()?;
                let library = manifest.get("lib").and_then(|library| library.get("crate-type"));
                if !library.is_some_and(|kinds| kinds.to_string().contains("cdylib")) {
                    continue;
                }
                let name = manifest.get("package").and_then(|package| package.get("name"));
                let name = name.and_then(toml::Value::as_str).context("a guest without a name")?;
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Has the ordinary tool chain the target, or can rustup give it?
fn has_target() -> anyhow::Result<bool> {
    let sysroot = sysroot()?;
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(true);
    }
    if setup::has("rustup") {
        println!("+ rustup target add {TARGET}");
        let added = Command::new("rustup").args(["target", "add", TARGET]).stderr(Stdio::null()).status()?;
        if added.success() && sysroot.join("lib/rustlib").join(TARGET).is_dir() {
            return Ok(true);
        }
    }
    println!("the target {TARGET} cannot be installed: building its standard library from source");
    Ok(false)
}

fn sysroot() -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()).output()?;
    anyhow::ensure!(output.status.success(), "rustc --print sysroot failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn from_source(command: &mut Command) -> anyhow::Result<()> {
    let source = |rustc: &str| -> Option<bool> {
        let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
        let sysroot = String::from_utf8(output.stdout).ok()?;
        Some(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file())
    };
    if source(DEBIAN_RUSTC) != Some(true) {
        setup::install(&["rustc-web", "rust-web-src"])?;
    }
    let linker = sysroot()?.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    command
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
        .args(["-Z", "build-std=std,panic_abort"]);
    Ok(())
}
