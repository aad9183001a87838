//! What several test files share beyond the harness.

use serde_json::Value;
use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, id},
    time::{SystemTime, UNIX_EPOCH},
};
use waymark_tests::{World, guest, host::Host, root};

/// Numbers drawn from a seed. A test prints it, and draws the same again when `WAYMARK_SEED` names it.
pub(crate) struct Random(u64);

impl Random {
    /// A fresh seed, or the one that the environment names; printed.
    pub(crate) fn announced() -> Self {
        let fresh = || {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
            u64::from(time.subsec_nanos()) << 32 | u64::from(id())
        };
        let named = env::var("WAYMARK_SEED").ok();
        let seed = named.map_or_else(fresh, |text| text.parse().expect("WAYMARK_SEED is a number"));
        println!("WAYMARK_SEED={seed}");
        Self(seed)
    }

    /// Below `bound`, by SplitMix64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }
}

/// Changes the configuration of a host that does not run.
pub(crate) fn configure(host: &Host, change: impl FnOnce(String) -> String) {
    let file = host.plugins.with_file_name("waymark.toml");
    let text = fs::read_to_string(&file).expect("the configuration is read");
    fs::write(file, change(text)).expect("the configuration is written");
}

/// A host that serves the API and runs no jobs, so that there is somebody to ask while others die.
pub(crate) fn observer(world: &World, plugins: &[&str]) -> Host {
    let mut host = world.empty_host();
    configure(&host, |text| {
        let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("processes =")).collect();
        let text = kept.join("\n");
        assert!(text.contains("[worker]"), "the configuration has a table for workers");
        text.replace("[worker]", "[worker]\nprocesses = 0")
    });
    for name in plugins {
        guest::copy(name, &host.plugins);
        host.warm(name);
    }
    host.start();
    host.wait_for_plugins(plugins);
    host
}

/// Where tests may leave what takes long to make: below the folder that this crate is built into.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join(name);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Says that something was not run, which CI does not accept.
pub(crate) fn not_run(what: &str) {
    assert!(env::var_os("CI").is_none(), "not run: {what}");
    // `cargo xtask test` names it at its end.
    let path = waymark_tests::target().join("not-run.txt");
    let mut list = fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    list.write_all(format!("{what}\n").as_bytes()).expect("the file is written");
}

/// Runs a command that must succeed; otherwise says what it said.
///
/// # Errors
/// The program is missing or fails.
pub(crate) fn done(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    if output.status.success() {
        Ok(stdout.into_owned())
    } else {
        Err(format!("{command:?}: {stdout}{stderr}"))
    }
}

/// A Python with these packages, in `folder`, set up where it is not yet.
///
/// # Errors
/// There is no Python with `venv`, or the packages cannot be had.
pub(crate) fn python(folder: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let (venv, ready) = (folder.join("venv"), folder.join("venv/ready"));
    let python = venv.join("bin/python");
    if fs::read(&ready).ok() != fs::read(requirements).ok() {
        done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        done(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
        fs::copy(requirements, &ready).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

/// Sets up the Node packages that the lock file of `folder` names, where they are not yet.
///
/// # Errors
/// There is no Node, or the packages cannot be had.
pub(crate) fn node_packages(folder: &Path) -> Result<(), String> {
    let (lock, ready) = (folder.join("package-lock.json"), folder.join("node_modules/.ready"));
    if fs::read(&ready).ok() != fs::read(&lock).ok() {
        done(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))?;
        fs::copy(&lock, &ready).map_err(|error| error.to_string())?;
    }
    done(Command::new("node").arg("--version")).map(drop)
}

/// Milliseconds since midnight; the tests' times are close together.
pub(crate) fn at_ms(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().expect("a number");
    ((number(11, 13) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1000 + number(20, 23)
}

/// From one time to the next one, across midnight too.
pub(crate) fn between_ms(from: &Value, to: &Value) -> i64 {
    (at_ms(to) - at_ms(from)).rem_euclid(86_400_000)
}
