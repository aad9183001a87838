//! Job types in Python, JavaScript and C: tool chains from PyPI and npm, set up in the project where they are missing.

use super::{
    super::language::{REQUIREMENTS, WIT},
    Built, tool,
};
use anyhow::{Context as _, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const NO_PYTHON: &str =
    "install Python 3.11 or newer with venv (Debian, Ubuntu: sudo apt install python3-venv)";
const NO_NODE: &str = "install Node.js 20 or newer, https://nodejs.org";
/// What a tool chain was set up from, kept inside it: written last, so that one that was interrupted is set up again.
const READY: &str = ".waymark-ready";
/// Room for deep calls; the linker's own default is 64 KiB.
const STACK_BYTES: &str = "-Wl,-z,stack-size=262144";

/// Where a project is built. `folder` is an absolute path.
struct Place {
    target: PathBuf,
    wit: PathBuf,
    file: PathBuf,
}

/// Makes the folder `target`, with the contract and the capabilities in it.
fn place(folder: &Path) -> anyhow::Result<Place> {
    let target = folder.join("target");
    let wit = target.join("wit");
    for (file, bytes) in WIT {
        let path = wit.join(file);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let file = target.join("job.part.wasm");
    Ok(Place { target, wit, file })
}

/// What was built is called like the project's folder.
fn built(folder: &Path, Place { target, file, .. }: Place) -> anyhow::Result<Built> {
    let name = folder.file_name().context("the project's folder has no name")?;
    Ok(Built { file, default: target.join(name).with_added_extension("wasm") })
}

/// `job.py` becomes a component. `venv` names a virtual environment that has the tool chain.
pub(super) fn python(folder: &Path, venv: Option<&Path>) -> anyhow::Result<Built> {
    let place = place(folder)?;
    let venv = environment(folder, venv)?;
    let mut command = if folder.join("waymark/build.py").is_file() {
        // It finds out which capabilities the component imports.
        let mut command = Command::new(venv.join("bin/python"));
        command.args(["-m", "waymark.build", "--wit"]).arg(&place.wit).arg("--out").arg(&place.file);
        command
    } else {
        // A project whose copy of the SDK has none.
        let mut command = Command::new(venv.join("bin/componentize-py"));
        command.arg("-d").arg(&place.wit);
        command.args(["-w", "task", "componentize", "-p", ".", "job", "-o"]).arg(&place.file);
        command
    };
    command.current_dir(folder);
    // What is installed beside componentize-py can be imported too.
    tool(command.env("VIRTUAL_ENV", &venv), "name componentize-py in requirements.txt")?;
    built(folder, place)
}

/// `job.js` or `job.ts` becomes a component.
pub(super) fn js(folder: &Path) -> anyhow::Result<Built> {
    let place = place(folder)?;
    packages(folder)?;
    let source = ["job.ts", "job.js"].into_iter().find(|file| folder.join(file).is_file());
    let source = source.context("there is no job.js or job.ts")?;
    let mut command = Command::new("node");
    command.current_dir(folder).args(["sdk/build.js", source]).arg(&place.wit).arg(&place.file);
    tool(&mut command, NO_NODE)?;
    built(folder, place)
}

/// All `*.c` become a core module that carries the contract's world. `venv` names a virtual environment that has
/// the tool chain.
pub(super) fn c(folder: &Path, venv: Option<&Path>) -> anyhow::Result<Built> {
    let place = place(folder)?;
    let venv = environment(folder, venv)?;
    let mut command = Command::new(venv.join("bin/python"));
    command.current_dir(folder).args([
        "-m",
        "ziglang",
        "cc",
        "-target",
        "wasm32-wasi",
        "-mexec-model=reactor",
    ]);
    command.args(["-Oz", "-Wall", "-Wextra", "-Wl,--strip-debug", STACK_BYTES, "-o"]).arg(&place.file);
    command.args(sources(folder)?).args(["sdk/task.c", "sdk/task_component_type.o"]);
    tool(&mut command, NO_PYTHON)?;
    built(folder, place)
}

/// All `*.c` of a project, in the order of their names.
fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|ending| ending == "c") {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// The virtual environment that is named, or the project's own, set up from its `requirements.txt` where it is not yet.
fn environment(folder: &Path, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        let venv = fs::canonicalize(named).with_context(|| format!("{} is no folder", named.display()))?;
        ensure!(
            venv.join("bin/python").exists(),
            "{} is no virtual environment: it has no bin/python",
            named.display()
        );
        return Ok(venv);
    }
    let (venv, requirements) = (folder.join("target/venv"), folder.join(REQUIREMENTS));
    let wanted = fs::read(&requirements).with_context(|| {
        format!(
            "{} cannot be read: it names the tool chain that the project is built with",
            requirements.display()
        )
    })?;
    if fs::read(venv.join(READY)).ok().as_ref() != Some(&wanted) {
        tool(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), NO_PYTHON)?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.current_dir(folder).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ]);
        tool(pip.arg(REQUIREMENTS), NO_PYTHON)?;
        fs::write(venv.join(READY), &wanted)?;
    }
    Ok(venv)
}

/// The packages that `package.json` names, installed where they are not yet.
fn packages(folder: &Path) -> anyhow::Result<()> {
    let wanted = fs::read(folder.join("package.json"))?;
    let ready = folder.join("node_modules").join(READY);
    if fs::read(&ready).ok().as_ref() != Some(&wanted) {
        // With a lock file, what it says.
        let install = if folder.join("package-lock.json").is_file() { "ci" } else { "install" };
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args([install, "--no-audit", "--no-fund"]);
        tool(&mut npm, NO_NODE)?;
        fs::write(&ready, &wanted)?;
    }
    Ok(())
}
