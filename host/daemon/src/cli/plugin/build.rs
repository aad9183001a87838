//! `waymark plugin build`: one crate to one `.wasm` file.

use crate::cli::{client::pretty, table::say};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use waymark_build::Toolchain;

/// What to compile.
#[derive(Args, Debug)]
pub struct Build {
    /// Folder of the crate.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// File to write [default: target/NAME.wasm of the crate].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A line of cargo's about something that was built.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    filenames: Vec<PathBuf>,
}

/// Compiles the crate and says where the file is.
///
/// # Errors
/// There is no crate or no tool chain, it does not compile, or the file cannot be written.
pub(super) fn run(build: &Build, json: bool) -> anyhow::Result<()> {
    let manifest = build.path.join("Cargo.toml");
    ensure!(manifest.is_file(), "{} is no folder of a crate: it has no Cargo.toml", build.path.display());
    let folder = fs::canonicalize(&build.path)?;
    let built = compile(&folder)?;
    let name = package(&folder.join("Cargo.toml"))?;
    let out = match &build.out {
        Some(out) => out.clone(),
        // target/wasm32-unknown-unknown/guest/name.wasm
        None => {
            let target = built.ancestors().nth(3).context("cargo has no target folder")?;
            // As short as the user named the crate.
            let target =
                target.strip_prefix(&folder).map_or(target.to_owned(), |below| build.path.join(below));
            let target = target.strip_prefix(".").map(Path::to_owned).unwrap_or(target);
            target.join(format!("{name}.wasm"))
        }
    };
    let bytes = place(&built, &out).with_context(|| format!("{} cannot be written", out.display()))?;
    if json {
        say!("{}", pretty(&serde_json::json!({"file": out, "bytes": bytes})));
    } else {
        say!("{}: {bytes} bytes", out.display());
    }
    Ok(())
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

/// Written beside and renamed: the place may be a plugin directory that a host watches.
fn place(built: &Path, out: &Path) -> std::io::Result<u64> {
    let mut draft = out.file_name().unwrap_or_default().to_owned();
    draft.push(".part");
    let draft = out.with_file_name(draft);
    let bytes = fs::copy(built, &draft)?;
    fs::rename(&draft, out)?;
    Ok(bytes)
}
