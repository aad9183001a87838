//! Builds every guest of the workspace to WebAssembly, in one build with one shared target directory.
//!
//! How a guest is compiled, [`waymark_build`] knows; here missing packages are installed.

use crate::{idle, root, run, setup, target};
use anyhow::Context as _;
use std::path::PathBuf;
use waymark_build::{Error, PROFILE, TARGET, Toolchain};

/// Builds all guests and copies them to `target/guests/NAME.wasm`. Returns that folder.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let names = names()?;
    anyhow::ensure!(!names.is_empty(), "there is no guest in plugins/ or tests/guests/");
    let directory = target().join("guests");
    std::fs::create_dir_all(&directory)?;
    let toolchain = match Toolchain::find(&root()) {
        Err(Error::Packages(packages)) => {
            setup::install(packages)?;
            Toolchain::find(&root())?
        }
        found => found?,
    };
    let mut command = toolchain.cargo(&root());
    command.arg("--target-dir").arg(&directory);
    for name in &names {
        command.args(["-p", name]);
    }
    run(&mut idle(&command))?;
    for name in &names {
        let file = format!("{}.wasm", name.replace('-', "_"));
        let built = directory.join(TARGET).join(PROFILE).join(&file);
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
