//! `waymark plugin build`: one project to one `.wasm` file.

mod crates;
mod others;

use super::language::Language;
use crate::cli::{client::pretty, table::say};
use anyhow::{Context as _, ensure};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use waymark_sandbox as sandbox;

/// What to compile.
#[derive(Args, Debug)]
pub struct Build {
    /// Folder of the project.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// File to write [default: target/NAME.wasm of the project; NAME is the crate's name, or the folder's].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Virtual environment with the tool chain for Python or C [default: target/venv, made from requirements.txt].
    #[arg(long, value_name = "DIR", env = "WAYMARK_VENV")]
    venv: Option<PathBuf>,
}

/// A file that was built, and where it goes unless told otherwise.
struct Built {
    file: PathBuf,
    default: PathBuf,
}

/// Compiles the project and says where the file is.
///
/// # Errors
/// There is no project or no tool chain, it does not compile, or the file cannot be written.
pub(super) fn run(build: &Build, json: bool) -> anyhow::Result<()> {
    let path = build.path.display();
    let language = Language::of(&build.path).with_context(|| {
        format!(
            "{path} is no folder of a job type: it has no Cargo.toml (Rust), package.json (JavaScript), job.py \
             (Python) or job.c (C). Begin one with `waymark plugin new`"
        )
    })?;
    let folder = fs::canonicalize(&build.path)?;
    let built = match language {
        Language::Rust => crates::build(&folder)?,
        Language::Python => others::python(&folder, build.venv.as_deref())?,
        Language::Js => others::js(&folder)?,
        Language::C => others::c(&folder, build.venv.as_deref())?,
    };
    let out = match &build.out {
        Some(out) => out.clone(),
        None => {
            // As short as the user named the project.
            let out = built.default.strip_prefix(&folder).map(|below| build.path.join(below));
            let out = out.unwrap_or(built.default);
            out.strip_prefix(".").map(Path::to_owned).unwrap_or(out)
        }
    };
    let bytes = place(&built.file, &out).with_context(|| format!("{} cannot be written", out.display()))?;
    let wasm = fs::read(&out).with_context(|| format!("{} cannot be read", out.display()))?;
    let imports = sandbox::imports(&wasm).with_context(|| format!("{} is no component", out.display()))?;
    if json {
        say!("{}", pretty(&serde_json::json!({"file": out, "bytes": bytes, "imports": imports})));
    } else {
        say!("{}: {bytes} bytes, imports {}", out.display(), listed(&imports));
    }
    Ok(())
}

fn listed(imports: &[String]) -> String {
    if imports.is_empty() { "nothing".into() } else { imports.join(", ") }
}

/// Runs a tool, whose words go to standard error: standard output is for what was built.
fn tool(command: &mut Command, missing: &str) -> anyhow::Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    eprintln!("+ {}", words.join(" "));
    let name = words.first().cloned().unwrap_or_default();
    command.stdin(std::process::Stdio::null()).stdout(std::io::stderr());
    let status = command.status().with_context(|| format!("{name} cannot be started: {missing}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
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
