//! What must be on the machine: installed where that is possible without a question, named where it is not.

use crate::run;
use std::{path::Path, process::Command};

/// Is a program on the PATH?
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Installs Debian packages if this is Debian and we may.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let names = packages.join(" ");
    anyhow::ensure!(
        Path::new("/usr/bin/apt-get").exists() && rustix::process::geteuid().is_root(),
        "please install: {names} (Debian, Ubuntu: sudo apt install {names})"
    );
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
        command
    };
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "-y", "--no-install-recommends"]).args(packages))
}

/// The browser that looks at the dashboard in tests.
pub(crate) fn browser() -> anyhow::Result<()> {
    if has("chromium") { Ok(()) } else { install(&["chromium"]) }
}

/// The Redis server that hosts and tests start for themselves.
pub(crate) fn redis() -> anyhow::Result<()> {
    let missing: Vec<_> =
        ["redis-server", "redis-sentinel"].into_iter().filter(|program| !has(program)).collect();
    if missing.is_empty() { Ok(()) } else { install_quietly(&missing) }
}

/// The Prometheus server and its checker that tests run.
pub(crate) fn prometheus() -> anyhow::Result<()> {
    if has("prometheus") && has("promtool") { Ok(()) } else { install_quietly(&["prometheus"]) }
}

/// The registry of containers that tests start for themselves.
pub(crate) fn registry() -> anyhow::Result<()> {
    if has("docker-registry") { Ok(()) } else { install_quietly(&["docker-registry"]) }
}

/// The PostgreSQL server that tests start for themselves, and its client.
pub(crate) fn postgres() -> anyhow::Result<()> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let has_server =
        has("initdb") || versions.into_iter().any(|entry| entry.path().join("bin/initdb").is_file());
    if has_server && has("psql") { Ok(()) } else { install_quietly(&["postgresql"]) }
}

/// Installs packages whose servers must not be started by that.
fn install_quietly(packages: &[&str]) -> anyhow::Result<()> {
    let had_policy = Path::new("/usr/sbin/policy-rc.d").exists();
    if !had_policy && rustix::process::geteuid().is_root() {
        std::fs::write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")?;
        run(Command::new("chmod").args(["755", "/usr/sbin/policy-rc.d"]))?;
    }
    let installed = install(packages);
    if !had_policy && rustix::process::geteuid().is_root() {
        std::fs::remove_file("/usr/sbin/policy-rc.d")?;
    }
    installed
}
