//! What the tests of the plugins share: where tables are, an independent computation, and the real sandbox.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use waymark_sdk::Job;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Crash, Harness, Run};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where tests may leave things.
pub(crate) fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let target = target.join("independent");
    std::fs::create_dir_all(&target).unwrap();
    target
}

/// Says that something was not run, which CI does not accept.
fn not_run(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "not run: {what}");
    // `cargo xtask test` names it at its end.
    let path = target().parent().unwrap().join("not-run.txt");
    let mut list = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    std::io::Write::write_all(&mut list, format!("{what}\n").as_bytes()).unwrap();
}

static SETTING_UP: Mutex<()> = Mutex::new(());

/// A Python with pandas, set up below `target/` where it is not yet.
pub(crate) fn python() -> Option<PathBuf> {
    let _alone = SETTING_UP.lock().unwrap();
    let venv = target().join("venv");
    let python = venv.join("bin/python");
    let ready = venv.join("ready");
    let requirements = root().join("tests/independent/requirements.txt");
    if std::fs::read(&ready).ok() != std::fs::read(&requirements).ok() {
        let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let set_up = done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            && done(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&requirements))
            && std::fs::copy(&requirements, &ready).is_ok();
        if !set_up {
            not_run("the independent computation: it needs python3 with venv, and pandas from PyPI");
            return None;
        }
    }
    Some(python)
}

/// A folder with the flights, the mortgages and a difficult table.
pub(crate) fn tables(python: &Path) -> PathBuf {
    let _alone = SETTING_UP.lock().unwrap();
    let folder = target().join("data");
    let flights = root().join("tests/independent/flights.py");
    assert!(Command::new(python).arg(flights).arg(&folder).status().unwrap().success());
    let mortgages = root().join("plugins/data/hmda_boston_1990.csv");
    std::fs::copy(mortgages, folder.join("hmda_boston_1990.csv")).unwrap();
    std::fs::write(folder.join("difficult.csv"), difficult(60_000)).unwrap();
    folder
}

/// A table with line breaks within quotes, doubled quotes, blanks, letters beyond ASCII, missing values,
/// columns of very many different numbers, and some repeated keys. The same text on every call.
pub(crate) fn difficult(rows: u64) -> String {
    let mut text = String::from("\u{feff}id,amount,note,\"group, or none\",day\r\n");
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for row in 0..rows {
        let id = if row % 5_000 == 4_999 { row - 7 } else { row };
        let amount = (next() as f64 - 1e9) * 1.25e-3;
        let note = match next() % 5 {
            0 => String::new(),
            1 => format!("\"two\r\nlines, {}\"", next() % 90_000),
            2 => format!("\"a \"\"quoted\"\" word {}\"", next() % 70_000),
            3 => format!(" größer als {} ", next() % 50_000),
            _ => "NA".to_owned(),
        };
        let group = ["north", "south", "", "\"\"", "NULL"][(next() % 5) as usize];
        let (month, day) = (next() % 13, next() % 31 + 1);
        let _ = write!(text, "{id},{amount},{note},{group},2024-{month:02}-{day:02}\r\n");
    }
    text
}

/// Runs a job restored after every step, and compares what it says with what pandas says.
pub(crate) fn compare<J: Job>(inputs: &str) {
    let Some(python) = python() else { return };
    let folder = tables(&python);
    waymark_sdk::files::root_for_this_thread(&folder);
    let mut compared = 0;
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(inputs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for input in files {
        let text = std::fs::read_to_string(&input).unwrap();
        let parsed: Value = text.parse().unwrap();
        let run = Harness::new().crash(Crash::BetweenSteps).run::<J>(&parsed);
        let result = run.result.unwrap_or_else(|failure| panic!("{}: {failure}", input.display()));
        let name = format!("{}-{}", J::NAME, input.file_name().unwrap().to_string_lossy());
        let ran = target().join(name);
        std::fs::write(&ran, json!({"result": result, "outputs": run.outputs}).to_string()).unwrap();
        let check = root().join("tests/independent/check.py");
        let output = Command::new(&python).arg(check).arg(&folder).arg(&input).arg(&ran).output().unwrap();
        let says = String::from_utf8_lossy(&output.stdout);
        println!("{}: {says}", input.display());
        assert!(
            output.status.success(),
            "{}: {says}{}",
            input.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        compared += 1;
    }
    assert!(compared > 0, "no input in {inputs}");
}

/// The plugin as it is shipped, built by `cargo xtask guests`.
pub(crate) fn wasm(name: &str) -> Option<PathBuf> {
    let guests = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let file = guests.join("guests").join(format!("{name}.wasm"));
    if file.is_file() {
        return Some(file);
    }
    not_run(&format!("{name} in the sandbox: `cargo xtask guests` has not built it"));
    None
}

/// The same input natively and undisturbed.
pub(crate) fn natively<J: Job>(folder: &Path, input: &Value) -> Run {
    waymark_sdk::files::root_for_this_thread(folder);
    waymark_sdk::testing::run::<J>(input)
}
