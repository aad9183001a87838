//! `cargo xtask schemathesis`: requests made of the OpenAPI document, right ones and wrong ones, against a host with plugins, jobs,
//! schedules and routes.
//!
//! What is looked at, and what is left out, says `tests/schemathesis/schemathesis.toml`; what is there to be asked for, `hooks.py`
//! beside it.

use crate::{
    demo::{self, Host},
    prepare, root, run, target,
};
use anyhow::Context as _;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the host takes from the tests' caller, and its SHA-256.
const TOKEN: &str = "schemathesis";
const TOKEN_SHA256: &str = "ec66c0be6ebd917bd5221a965472ea65b2e9cf8def0c0d21a8988271e30848b4";
/// Job types that are there, and one that is uploaded and removed besides.
const PLUGINS: [&str; 3] = ["counter", "noop", SPARE];
const SPARE: &str = "wrong";

/// Runs it for about so long.
pub(crate) fn run_for(minutes: u64) -> anyhow::Result<()> {
    let built = prepare()?;
    let folder = target().join("schemathesis");
    let program = program(&folder)?;
    let world = folder.join("host");
    demo::make(&world, &built, &PLUGINS)?;
    // Jobs of made-up inputs may be endless; they do not take the processors from the requests.
    let config = format!(
        "[worker]\nslots = 4\n\n[defaults]\nhard_limit_ms = 2000\nstep_limit_ms = 1000\n\n\
         [[api.tokens]]\nname = \"caller\"\nsha256 = \"{TOKEN_SHA256}\"\nscopes = [\"admin\"]\n"
    );
    fs::write(world.join("waymark.toml"), config)?;
    let host = Host::start(&world)?;
    let ours = root().join("tests/schemathesis");
    let outcome = run(Command::new(program)
        .arg("--config-file")
        .arg(ours.join("schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", host.url))
        .args(["--max-time", &(minutes * 60).to_string(), "--no-color", "--report", "junit", "--report-dir"])
        .arg(folder.join("report"))
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", ours)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WAYMARK_URL", &host.url)
        .env("WAYMARK_TOKEN", TOKEN)
        .env("WAYMARK_SPARE_PLUGIN", built.join(format!("{SPARE}.wasm")))
        .current_dir(&folder));
    let alive = host.get("/readyz");
    host.stop()?;
    outcome.context("see what it printed, and host/host.log in target/schemathesis")?;
    alive.map(drop).context("the host is not ready any more")
}

/// Schemathesis, installed where it is not yet.
fn program(folder: &Path) -> anyhow::Result<PathBuf> {
    let requirements = root().join("tests/schemathesis/requirements.txt");
    let (venv, ready) = (folder.join("venv"), folder.join("venv/ready"));
    if fs::read(&ready).ok() != Some(fs::read(&requirements)?) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let mut install = Command::new(venv.join("bin/python"));
        run(install.args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))?;
        fs::copy(&requirements, &ready)?;
    }
    Ok(venv.join("bin/schemathesis"))
}
