//! Job types in Rust: one crate, compiled with cargo.

use super::Built;
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use waymark_build::Toolchain;

/// A line of cargo's about something that was built.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    filenames: Vec<PathBuf>,
}

/// Compiles the crate in `folder`, an absolute path.
pub(super) fn build(folder: &Path) -> anyhow::Result<Built> {
    let file = compile(folder)?;
    let name = package(&folder.join("Cargo.toml"))?;
    // target/wasm32-unknown-unknown/guest/name.wasm
    let target = file.ancestors().nth(3).context("cargo has no target folder")?;
    let default = target.join(format!("{name}.wasm"));
    Ok(Built { file, default })
}

fn compile(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut command: Command = Toolchain::find(folder)?.cargo(folder);
    // Messages for people go to standard error; standard output names what was built.
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().context("cargo cannot be started: install Rust, https://rustup.rs")?;
    ensure!(output.status.success(), "cargo build failed: {}", output.status);
    let manifest = folder.join("Cargo.toml");
    let found = output
        .stdout
        .split(|byte| *byte == b'\n')
        // Lines about other things have other fields.
        .filter_map(|line| serde_json::from_slice::<Artifact>(line).ok())
        .filter(|artifact| artifact.manifest_path == manifest)
        .flat_map(|artifact| artifact.filenames)
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"));
    match found {
        Some(file) => Ok(file),
        None => bail!(
            "{} gives no .wasm file: a job type is a package with `crate-type = [\"cdylib\", \"rlib\"]` under `[lib]`",
            manifest.display()
        ),
    }
}

fn package(manifest: &Path) -> anyhow::Result<String> {
    let table: toml::Table = fs::read_to_string(manifest)?.parse()?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    Ok(name.context("the package has no name")?.to_owned())
}
