//! `cargo xtask demo` shows Waymark at work, `cargo xtask test` proves that it works. Both set up what they need.

mod demo;
mod guests;
mod pipeline;
mod schemathesis;
mod setup;

use anyhow::Context as _;
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Instant,
};

const HELP: &str = "\
cargo xtask demo      build everything, run a real job, pause it, kill its host, resume it on a new one
cargo xtask demo --pipeline
                      build everything, run a whole test cycle: from a report's instructions to tested values
cargo xtask test      format, lints, guests, all tests
cargo xtask guests    build the plugins and test guests to target/guests/*.wasm

For nights, not for every change:
cargo xtask soak --minutes 30          random jobs, controls and faults; then no accepted job is lost or done twice
cargo xtask model --operations 100000  the scripts against a model in memory, with lost connections and clock jumps
cargo xtask cluster                    the functional tests on a Redis Cluster of three masters and three replicas
cargo xtask kills --times 20           every job type, its host killed so often; no question to a model is paid twice
cargo xtask mixed --minutes 60         a type moves between old workers of Celery and its plugin under load, both are killed
cargo xtask celery                     tasks a second through the Celery front, against a worker of Celery
cargo xtask schemathesis --minutes 10  requests made of the OpenAPI document: no answer may differ from it, or be a 5xx
cargo xtask scale                      1,000,000 queued jobs, 5,000 queues, 100,000 jobs due in the same second
WAYMARK_SEED in the environment repeats what a run of soak, model or mixed printed.";

/// Tests that run at once. Most wait for something much of their time, or for their turn to have the machine for themselves;
/// two cores are busy with three.
const THREADS: &str = "3";

fn main() -> ExitCode {
    let outcome = match env::args().nth(1).as_deref() {
        Some("demo") => match env::args().nth(2).as_deref() {
            None => demo::run(),
            Some("--pipeline") => pipeline::run(),
            Some(other) => Err(anyhow::anyhow!("demo {other}: there is --pipeline")),
        },
        Some("test") => test(),
        Some("guests") => guests::build().map(drop),
        Some("soak") => number("--minutes", 30).and_then(soak),
        Some("model") => number("--operations", 100_000).and_then(model),
        Some("cluster") => cluster(),
        Some("kills") => number("--times", 20).and_then(kills),
        Some("mixed") => number("--minutes", 60).and_then(mixed),
        Some("celery") => celery(),
        Some("schemathesis") => number("--minutes", 10).and_then(schemathesis::run_for),
        Some("scale") => scale(),
        _ => {
            println!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A command of cargo for the whole workspace, by the profile of demo and tests. Another selection of packages would have
/// Wasmtime compiled anew.
fn quick(verb: &str) -> Command {
    let mut command = cargo();
    command.args([verb, "--profile", "quick", "--workspace"]);
    command
}

/// The same, with the compiler that lints what it compiles, so that dependencies are not checked apart from being built. It
/// is what `cargo clippy` has cargo use, by an option instead of the environment, which would reach the builds of tests.
fn linted(verb: &str) -> Command {
    // Beside cargo; one that was called without rustup's is found by its name.
    let driver = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("clippy-driver"));
    let driver = driver.filter(|path| path.exists()).unwrap_or_else(|| "clippy-driver".into());
    let mut command = quick(verb);
    command.arg("--config").arg(format!("build.rustc-workspace-wrapper={:?}", driver.display().to_string()));
    command.env("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    command
}

/// Redis, the binaries and the guests. Answers the folder of the guests.
fn prepare() -> anyhow::Result<PathBuf> {
    setup::redis()?;
    with_guests(quick("build").arg("--bins"))
}

/// Builds the guests beside what runs them, of which long parts keep one processor busy and no more.
fn with_guests(host: &mut Command) -> anyhow::Result<PathBuf> {
    thread::scope(|scope| {
        let guests = scope.spawn(guests::build);
        let host = run(host);
        let guests = guests.join().map_err(|_| anyhow::anyhow!("the build of the guests broke off"))?;
        host.and(guests)
    })
}

/// The same command, for what no other process needs the processors for.
fn idle(command: &Command) -> Command {
    let mut idle = Command::new("nice");
    idle.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    idle.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        idle.current_dir(folder);
    }
    idle
}

/// Runs a command, shown before it runs and with its time after it, and fails as it fails.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let line = words.join(" ");
    println!("+ {line}");
    let began = Instant::now();
    let status = command.status().with_context(|| format!("{line}: cannot be started"))?;
    println!("+ took {:.0} s", began.elapsed().as_secs_f64());
    anyhow::ensure!(status.success(), "{line}: {status}");
    Ok(())
}

fn test() -> anyhow::Result<()> {
    setup::redis()?;
    setup::postgres()?;
    setup::prometheus()?;
    setup::browser()?;
    setup::registry()?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    // The system tests run the binary, which is built with this, so that they never wait for it.
    with_guests(linted("build").arg("--all-targets"))?;
    let not_run = target().join("not-run.txt");
    if not_run.exists() {
        std::fs::remove_file(&not_run)?;
    }
    run(linted("test").arg("--no-fail-fast").env("RUST_TEST_THREADS", THREADS))?;
    if let Ok(list) = std::fs::read_to_string(&not_run) {
        println!("not run:\n{list}");
    }
    Ok(())
}

/// The value of a flag, or its default.
fn number(flag: &str, default: u64) -> anyhow::Result<u64> {
    let mut words = env::args().skip(2);
    match (words.next(), words.next()) {
        (None, _) => Ok(default),
        (Some(name), Some(value)) if name == flag => {
            value.parse().with_context(|| format!("{flag} {value}: a whole number is expected"))
        }
        (Some(name), _) => anyhow::bail!("{name}: {flag} NUMBER is expected"),
    }
}

fn soak(minutes: u64) -> anyhow::Result<()> {
    prepare()?;
    let seconds = (minutes * 60).to_string();
    run(quick("test")
        .args(["--test", "system", "--", "--nocapture", "soak::"])
        .env("WAYMARK_SOAK_SECONDS", seconds))
}

fn model(operations: u64) -> anyhow::Result<()> {
    setup::redis()?;
    run(quick("test")
        .args(["--test", "model", "--", "--nocapture"])
        .env("WAYMARK_MODEL_OPERATIONS", operations.to_string()))
}

fn kills(times: u64) -> anyhow::Result<()> {
    prepare()?;
    run(quick("test")
        .args(["--test", "system", "--"])
        .args(["--nocapture", "job_types::every_type", "job_models::a_killed_host"])
        .env("WAYMARK_KILLS", times.to_string()))
}

fn cluster() -> anyhow::Result<()> {
    prepare()?;
    run(quick("test").args(["--test", "system", "--"]).args(["--ignored", "--nocapture", "cluster::"]))
}

fn mixed(minutes: u64) -> anyhow::Result<()> {
    prepare()?;
    run(quick("test")
        .args(["--test", "system", "--", "--nocapture", "celery::callers_notice_nothing"])
        .env("WAYMARK_MIXED_SECONDS", (minutes * 60).to_string()))
}

fn celery() -> anyhow::Result<()> {
    setup::redis()?;
    with_guests(cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    run(cargo().args(["test", "--release", "--workspace", "--test", "system", "--"]).args([
        "--ignored",
        "--nocapture",
        "celery::",
    ]))
}

fn scale() -> anyhow::Result<()> {
    setup::redis()?;
    run(quick("test").args(["--test", "scale", "--", "--nocapture"]).env("WAYMARK_SCALE", "100"))
}
