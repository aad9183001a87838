//! The packages for Python and JavaScript, and projects in every language from `plugin new` to a host.

use crate::support::{self, done, not_run, python, scratch};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use waymark_tests::{World, binary, guest, root};

/// Compiling 18 MiB of WebAssembly takes 13 s of processor time, and the compiler stands back for others.
const LOADED_WITHIN: Duration = Duration::from_secs(200);

/// A Python that has what the package's tests and job types are made with.
fn tools() -> Result<PathBuf, String> {
    python(&scratch("sdk/python"), &root().join("sdk/python/requirements-test.txt"))
}

/// Runs a command that must succeed.
#[track_caller]
fn passes(command: &mut Command) -> String {
    done(command).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_clients_models_are_those_of_the_api() {
    passes(Command::new("python3").arg(root().join("sdk/generate.py")).arg("--check"));
}

#[test]
fn the_python_package_passes_its_tests_against_a_host() {
    let python = match tools() {
        Ok(python) => python,
        Err(error) => return not_run(&format!("the Python package's tests: {error}")),
    };
    let package = root().join("sdk/python");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command
            .args(["-B", "-m"])
            .args(arguments)
            .current_dir(&package)
            .env("PYTHONPATH", package.join("src"));
        command
    };
    let cache = scratch("sdk/python/mypy");
    passes(command(&["mypy", "--cache-dir"]).arg(cache));
    let world = World::new("");
    let host = world.host(&["counter", "tracked_work"]);
    let said = passes(command(&["pytest", "-q", "-p", "no:cacheprovider"]).env("WAYMARK_URL", &host.url));
    assert!(said.contains(" passed") && !said.contains("skipped"), "{said}");
}

#[test]
fn the_javascript_package_passes_its_tests_against_a_host() {
    let work = scratch("sdk/javascript");
    copy(&root().join("sdk/js"), &work);
    if let Err(error) = support::node_packages(&work) {
        return not_run(&format!("the JavaScript package's tests: {error}"));
    }
    let world = World::new("");
    let host = world.host(&["counter"]);
    let said = passes(Command::new("npm").arg("test").current_dir(&work).env("WAYMARK_URL", &host.url));
    assert!(said.contains("# fail 0") && said.contains("# skipped 0"), "{said}");
}

/// Copies a folder of sources over another.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if ["node_modules", "dist"].map(OsStr::new).contains(&name.as_os_str()) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

/// Runs `waymark plugin …` in a folder; it must succeed. Answers its standard output.
#[track_caller]
fn plugin(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> String {
    let mut command = Command::new(binary());
    command.arg("plugin").args(arguments).current_dir(folder).env("WAYMARK_URL", "http://127.0.0.1:1");
    command.envs(environment.iter().copied());
    passes(&mut command)
}

/// From `new` over one edited line to a job's result on a host. Answers what `build` said.
fn goes_from_new_to_a_host(
    language: &str,
    source: &str,
    environment: &[(&str, &Path)],
    tests: impl Fn(&Path),
) -> Value {
    let folder = TempDir::new().expect("a folder");
    let name = format!("{language}-sum");
    let next = plugin(folder.path(), &["new", &name, "--lang", language], environment);
    assert!(next.contains("waymark plugin build"), "{next}");
    let work = folder.path().join(&name);
    let text = fs::read_to_string(work.join(source)).expect("the source");
    let edited = text.replacen("Adds up numbers.", "Adds numbers up.", 2);
    assert_ne!(edited, text);
    fs::write(work.join(source), edited).expect("the source is written");

    let built: Value = serde_json::from_str(&plugin(&work, &["build", "--json"], environment)).expect("JSON");
    assert_eq!(built["file"], format!("target/{name}.wasm"));
    tests(&work);
    let file = work.join(format!("target/{name}.wasm"));
    assert_eq!(built["bytes"], fs::metadata(&file).expect("the file").len());

    let world = World::new("");
    let mut host = world.empty_host();
    host.start();
    guest::put(&host.plugins, &format!("{name}.wasm"), &fs::read(&file).expect("the file"));
    // The conformance run and the host compile it at the same time.
    let path = file.to_str().expect("UTF-8");
    let checked = plugin(&work, &["check", path, "--input", "@input.json", "--json"], environment);
    let checked: Value = serde_json::from_str(&checked).expect("JSON");
    assert_eq!((&checked["name"], &checked["description"]), (&json!(name), &json!("Adds numbers up.")));
    assert_eq!(checked["conformance"]["findings"], json!([]), "{checked}");
    assert!(checked["conformance"]["checkpoints"].as_u64() > Some(0), "{checked}");
    assert_eq!(checked["input_schema"]["required"], json!(["numbers"]));

    let loaded = host.plugin(&name, "loaded or refused", LOADED_WITHIN, |plugin| plugin["state"].is_string());
    assert_eq!(loaded["state"], "loaded", "{}", loaded["error"]);
    assert_eq!(loaded["imports"], built["imports"]);
    let id = host.submit(&json!({"type": name, "input": {"numbers": [1, 2, 6]}}));
    assert_eq!(host.result(&id)["sum"].as_f64(), Some(9.0));
    let sums: Vec<_> = host.outputs(&id).iter().map(|record| record["sum"].as_f64()).collect();
    assert_eq!(sums, [Some(1.0), Some(3.0), Some(9.0)]);
    let refused = host.post("/api/v1/jobs", &json!({"type": name, "input": {"numbers": ["1"]}}));
    assert_eq!(refused.status, 422, "the schema came along");
    built
}

#[test]
fn a_project_in_python_goes_from_new_to_a_host() {
    let python = match tools() {
        Ok(python) => python,
        Err(error) => return not_run(&format!("a project in Python: {error}")),
    };
    let venv = scratch("sdk/python/venv");
    let tests = |work: &Path| {
        let said = passes(Command::new(&python).args(["-m", "pytest", "-q"]).current_dir(work));
        assert!(said.contains("1 passed"), "{said}");
    };
    goes_from_new_to_a_host("python", "job.py", &[("WAYMARK_VENV", &venv)], tests);
}

#[test]
fn a_project_in_javascript_goes_from_new_to_a_host() {
    if let Err(error) = done(Command::new("npm").args(["view", "esbuild@0.25.12", "version"])) {
        return not_run(&format!("a project in JavaScript: {error}"));
    }
    let tests = |work: &Path| {
        let said = passes(Command::new("npm").arg("test").current_dir(work));
        assert!(said.contains("# pass 1"), "{said}");
    };
    goes_from_new_to_a_host("js", "job.js", &[], tests);
}

#[test]
fn a_project_in_c_goes_from_new_to_a_host() {
    let requirements = root().join("host/daemon/src/cli/plugin/template/c/requirements.txt");
    if let Err(error) = python(&scratch("sdk/c"), &requirements) {
        return not_run(&format!("a project in C: {error}"));
    }
    let venv = scratch("sdk/c/venv");
    let built = goes_from_new_to_a_host("c", "job.c", &[("WAYMARK_VENV", &venv)], |_| {});
    assert!(built["bytes"].as_u64() < Some(100_000), "{built}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = TempDir::new().expect("a folder");
    let refused = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        let output =
            command.arg("plugin").args(arguments).current_dir(folder.path()).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(refused(&["build"]).contains("waymark plugin new"));
    assert!(refused(&["new", "x", "--lang", "c", "--sdk", "."]).contains("--sdk is for Rust"));
    fs::write(folder.path().join("job.py"), "").expect("a file");
    assert!(refused(&["build"]).contains("requirements.txt cannot be read"));
    assert!(refused(&["build", "--venv", "absent"]).contains("absent is no folder"));
    assert!(refused(&["build", "--venv", "."]).contains("no virtual environment"));
}
