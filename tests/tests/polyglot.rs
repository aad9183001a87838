//! Job types in Python and JavaScript, built with their own tool chains against `wit/`, are job types like others.

use crate::support::{self, done, not_run, scratch};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use waymark_tests::{World, guest, host::Host, root};

/// Compiling 18 MiB of WebAssembly takes 13 s of processor time, and the compiler stands back for others.
const LOADED_WITHIN: Duration = Duration::from_secs(200);
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// Fowler-Noll-Vo over the bytes, so many times.
fn fnv1a(state: u64, bytes: &[u8], rounds: u64) -> u64 {
    let step = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    (0..rounds).fold(state, |state, _| bytes.iter().fold(state, step))
}

/// A component that is built where it is not yet, named by everything that it is made of. `set_up` makes the tool
/// chain of a work folder ready; `build` names the command that writes the component.
///
/// # Errors
/// The tool chain cannot be had. That the component cannot be built with it is a failure of the test.
fn built(
    name: &str,
    sources: &Path,
    set_up: impl FnOnce(&Path) -> Result<(), String>,
    build: impl FnOnce(&Path, &Path) -> Command,
) -> Result<PathBuf, String> {
    let mut files = Vec::new();
    for folder in [sources, &root().join("wit")] {
        let entries = fs::read_dir(folder).expect("the folder is read");
        files.extend(entries.map(|entry| entry.expect("a file").path()).filter(|path| path.is_file()));
    }
    files.sort();
    let made_of =
        files.iter().fold(FNV_OFFSET, |state, file| fnv1a(state, &fs::read(file).expect("a file"), 1));
    let folder = scratch("polyglot");
    let component = folder.join(format!("{name}-{made_of:016x}.wasm"));
    if !component.is_file() {
        let work = folder.join(name);
        fs::create_dir_all(&work).expect("a folder");
        for file in files.iter().filter(|file| file.starts_with(sources)) {
            fs::copy(file, work.join(file.file_name().expect("a name"))).expect("a copy");
        }
        let part = folder.join(format!("{name}.part"));
        set_up(&work)?;
        let said = done(&mut build(&work, &part));
        assert!(said.is_ok(), "{name} cannot be built: {said:?}");
        fs::rename(&part, &component).expect("the component is put in place");
    }
    Ok(component)
}

fn python_component() -> Result<PathBuf, String> {
    built(
        "word_count_python",
        &root().join("tests/polyglot/python"),
        |work| support::python(work, &work.join("requirements.txt")).map(drop),
        |work, component| {
            let mut command = Command::new(work.join("venv/bin/componentize-py"));
            command.arg("-d").arg(root().join("wit")).args(["-w", "task", "componentize", "-p"]).arg(work);
            command.args(["word_count", "-o"]).arg(component);
            command
        },
    )
}

fn javascript_component() -> Result<PathBuf, String> {
    built(
        "word_count_javascript",
        &root().join("tests/polyglot/javascript"),
        support::node_packages,
        |work, component| {
            let mut command = Command::new("node");
            command.arg("build.js").arg(root().join("wit")).arg(component).current_dir(work);
            command
        },
    )
}

/// A text of so many lines, with letters beyond ASCII.
fn text(lines: usize) -> Vec<String> {
    let words = ["The", "quick", "brown", "fox,", "größer", "als", "der", "Hund;", "l'été", "ends—", "here."];
    let word = |index: usize| words[index * index % words.len()];
    (0..lines).map(|line| (0..8).map(|at| word(line * 5 + at * 3)).collect::<Vec<_>>().join(" ")).collect()
}

/// Result and output records that a word count must have.
fn expected(lines: &[String], rounds: u64) -> (BTreeMap<String, u64>, String, Vec<Value>) {
    let (mut counts, mut checksum, mut records) = (BTreeMap::new(), FNV_OFFSET, Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let lower = line.to_lowercase();
        let words: Vec<_> = lower
            .split(|letter: char| !letter.is_ascii_lowercase())
            .filter(|word| !word.is_empty())
            .collect();
        words.iter().for_each(|word| *counts.entry((*word).to_owned()).or_default() += 1);
        checksum = fnv1a(checksum, line.as_bytes(), rounds);
        records
            .push(json!({"line": index + 1, "words": words.len(), "checksum": format!("{checksum:016x}")}));
    }
    (counts, format!("{checksum:016x}"), records)
}

/// A host with this component as its only plugin.
fn host(world: &World, name: &str, component: &Path) -> Host {
    let mut host = world.empty_host();
    host.start();
    guest::put(&host.plugins, &format!("{name}.wasm"), &fs::read(component).expect("the component is read"));
    let plugin = host.plugin(name, "loaded or refused", LOADED_WITHIN, |plugin| plugin["state"].is_string());
    assert_eq!(plugin["state"], "loaded", "{}", plugin["error"]);
    host
}

/// Answers the result of an undisturbed run; `None` where the component cannot be built.
fn runs_pauses_resumes_and_fails_like_any_job_type(
    name: &str,
    component: Result<PathBuf, String>,
) -> Option<Value> {
    const LINES: usize = 80;
    const ROUNDS: u64 = 300;
    let component = match component {
        Ok(component) => component,
        Err(error) => {
            not_run(&format!("{name}, whose tool chain cannot be had: {error}"));
            return None;
        }
    };
    let world = World::new(&format!(
        "[worker]\nlease_ms = 2000\n[plugins.{name}]\ncheckpoint = {{ every_ms = 50 }}\n"
    ));
    let mut host = host(&world, name, &component);
    let lines = text(LINES);
    let (words, checksum, records) = expected(&lines, ROUNDS);
    let job = json!({"type": name, "input": {"lines": lines, "rounds": ROUNDS}, "max_attempts": 1});

    let undisturbed = host.submit(&job);
    let result = host.result(&undisturbed);
    assert_eq!((&result["lines"], &result["checksum"]), (&json!(LINES), &json!(checksum)), "{result}");
    assert_eq!(result["words"], json!(words));
    assert_eq!(result["job_id"], json!(undisturbed), "the contract's functions answer");
    assert_eq!(host.outputs(&undisturbed), records);

    let paused = host.submit(&job);
    let _ = host.until(&paused, "begun", |job| job["progress"]["current"].as_u64() > Some(5));
    assert_eq!(host.control(&paused, "pause").status, 202);
    let parked = host.reaches(&paused, "paused");
    let current = parked["progress"]["current"].as_u64().and_then(|current| usize::try_from(current).ok());
    let current = current.expect("progress");
    println!("{name}: paused after {current} of {LINES} lines");
    assert!(current < LINES, "the pause came too late");
    assert_eq!(
        host.outputs(&paused),
        records[..current],
        "what is committed is there while the job is paused"
    );
    // All that is left of the job is its checkpoint: the instance goes with its host.
    host.kill();
    host.start();
    host.wait_for_plugins(&[name]);
    assert_eq!(host.job(&paused)["status"], "paused");
    assert_eq!(host.control(&paused, "resume").status, 202);
    let mut resumed = host.result(&paused);
    resumed["job_id"] = json!(undisturbed);
    assert_eq!(resumed, result, "the same result as undisturbed");
    assert_eq!(host.outputs(&paused), records);

    let fails = |lines: Value| {
        let id = host.submit(&json!({"type": name, "input": {"lines": lines}, "max_attempts": 1}));
        let job = host.ended(&id);
        assert_eq!(job["status"], "failed", "{job}");
        (id, job["error"].clone())
    };
    let (_, error) = fails(json!([]));
    assert_eq!((&error["kind"], &error["message"]), (&json!("invalid-input"), &json!("there are no lines")));
    let (_, error) = fails(json!(["one", "FAIL"]));
    assert_eq!((&error["kind"], &error["message"]), (&json!("permanent"), &json!("line 2 asks to fail")));
    let (raised, error) = fails(json!(["RAISE"]));
    assert_eq!(error["kind"], "guest-trap", "{error}");
    let told =
        waymark_tests::eventually("the exception is in the job's log", waymark_tests::PATIENCE, || {
            let messages = host.log_messages(&raised);
            messages.iter().any(|message| message.contains("line 1 asks to raise")).then_some(messages)
        });
    assert!(
        told.iter().any(|message| message.contains("started")),
        "standard output is in the log: {told:?}"
    );
    Some(result)
}

#[test]
fn a_component_written_in_python_runs_pauses_resumes_and_fails_like_any_job_type() {
    let result = runs_pauses_resumes_and_fails_like_any_job_type("word_count_python", python_component());
    let Some(result) = result else { return };
    // It asks WASI for them, and sees nothing of the host.
    assert_eq!((&result["environment"], &result["files"]), (&json!({}), &json!([])));
}

#[test]
fn a_component_written_in_javascript_runs_pauses_resumes_and_fails_like_any_job_type() {
    let _ = runs_pauses_resumes_and_fails_like_any_job_type("word_count_javascript", javascript_component());
}
