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
use waymark_tests::{
    World, binary,
    endpoint::{Endpoint, Reply},
    guest, root,
};

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

/// A secret that only the host knows.
const TOKEN: &str = "t0p-s3cret";

/// Answers questions as a language model, in capitals, and other requests with what was sent.
fn endpoint() -> Endpoint {
    Endpoint::start(|asked| {
        if !asked.line.contains("/chat/completions") {
            let kind = vec![("x-kind", "echo".to_owned())];
            return Reply { status: 200, headers: kind, body: asked.body.clone() };
        }
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let messages = body["messages"].as_array().expect("messages");
        let question = messages.last().and_then(|last| last["content"].as_str()).expect("a question");
        let content = match question {
            "a section" => json!({"risky": true, "reason": "new"}).to_string(),
            other => other.to_uppercase(),
        };
        let answer = json!({
            "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        });
        Reply::new(200, answer.to_string())
    })
}

/// A job type that uses every capability, from its sources in `tests/capabilities` to a real host with real endpoints.
/// Answers its result.
fn uses_every_capability(name: &str, language: &str, source: &str, environment: &[(&str, &Path)]) -> Value {
    let folder = TempDir::new().expect("a folder");
    let made = plugin(folder.path(), &["new", name, "--lang", language], environment);
    assert!(made.contains("waymark plugin build"), "{made}");
    // The tool chain stays for the next time.
    let work = scratch("sdk/capabilities").join(name);
    copy(&folder.path().join(name), &work);
    let sources = root().join("tests/capabilities").join(source);
    fs::copy(&sources, work.join(sources.file_name().expect("a name"))).expect("the source is copied");
    let built: Value = serde_json::from_str(&plugin(&work, &["build", "--json"], environment)).expect("JSON");
    let imports = built["imports"].to_string();
    for capability in ["wasi:config/", "wasi:http/", "wasi:keyvalue/", "waymark:llm/", "waymark:sql/"] {
        assert!(imports.contains(capability), "{capability}: {imports}");
    }

    let (endpoint, elsewhere) = (endpoint(), endpoint());
    let (secret, database) = (folder.path().join("token"), folder.path().join("notes.db"));
    fs::write(&secret, TOKEN).expect("the secret");
    let table = "import sqlite3, sys; notes = sqlite3.connect(sys.argv[1]); \
                 notes.execute('CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)'); \
                 notes.execute(\"INSERT INTO notes VALUES (1, 'one'), (2, 'two'), (3, 'three')\"); notes.commit()";
    passes(Command::new("python3").args(["-c", table]).arg(&database));
    let port = endpoint.address.port();
    let target = format!("host = \"127.0.0.1\", schemes = [\"http\"], ports = [{port}], private = true");
    let world = World::new(&format!(
        "[secrets]\ntoken = {{ file = {secret:?} }}\n\
         [llm.main]\nurl = \"http://{}/v1\"\nmodels.small = {{}}\n\
         [sql.notes]\nurl = \"sqlite:{}\"\n\
         [plugins.{name}]\nretry = {{ max_attempts = 1 }}\n\
         [plugins.{name}.grants]\nconfig = {{ threshold = \"0.5\" }}\nkeyvalue = {{}}\nllm = {{ provider = \"main\" }}\n\
         sql.notes = {{ write = true }}\nscratch = {{ bytes_max = 131072 }}\n\
         http = {{ allow = [{{ {target}, secrets = [\"token\"] }}] }}\n",
        endpoint.address,
        database.display(),
    ));
    let mut host = world.empty_host();
    host.start();
    let component = fs::read(work.join(format!("target/{name}.wasm"))).expect("the component");
    guest::put(&host.plugins, &format!("{name}.wasm"), &component);
    let loaded = host.plugin(name, "loaded or refused", LOADED_WITHIN, |plugin| plugin["state"].is_string());
    assert_eq!(loaded["state"], "loaded", "{}", loaded["error"]);
    let url = format!("http://{}", endpoint.address);
    let denied = format!("http://{}/", elsewhere.address);
    let id = host.submit(&json!({"type": name, "input": {"url": url, "denied": denied}}));
    let result = host.result(&id);

    assert_eq!(result["ask_the_web"], json!([200, "echo", 10_000, "denied"]));
    assert_eq!(result["ask_a_model"], json!([true, "new", ["ONE", "TWO"], "bad-request"]));
    let pages = json!([[[1, "one"], [2, "two"]], [[3, "three"]]]);
    // SQLite has no truth values.
    assert_eq!(result["read_rows"], json!([["notes"], pages, [null, 1, 7, 0.5, "text"], true]));
    assert_eq!(result["write_rows"], json!([2, "bad-statement"]));
    let names = ["jobs", "rate"];
    let kept = json!([true, null, true, names, 2, false, "0.5", "default", {"threshold": "0.5"}]);
    assert_eq!(result["keep"], kept);
    let asked = endpoint.asked();
    let sent = asked.iter().find(|asked| asked.line == "POST /echo?a=b").expect("the request");
    assert_eq!(sent.header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(sent.header("content-type"), "application/json");
    assert!(sent.header("idempotency-key").starts_with(&id), "{sent:?}");
    assert!(elsewhere.asked().is_empty(), "nothing is sent to where it is not allowed");

    // Not caught, an error of a capability is for the host what it should make of it.
    let id = host.submit(&json!({"type": name, "input": {"url": url, "denied": denied, "fail": true}}));
    let error = host.ended(&id)["error"].clone();
    assert_eq!(error["kind"], "permanent", "{error}");
    assert!(error["message"].to_string().contains("language model: "), "{error}");
    result
}

#[test]
fn a_job_type_in_python_uses_every_capability_on_a_host() {
    if let Err(error) = tools() {
        return not_run(&format!("capabilities in Python: {error}"));
    }
    let venv = scratch("sdk/python/venv");
    let name = "capabilities-python";
    let result = uses_every_capability(name, "python", "python/job.py", &[("WAYMARK_VENV", &venv)]);
    // The C library below Python does not ask why a write failed.
    let full = json!(["one\ntwo\n", ["large", "rows.txt"], "I/O error"]);
    assert_eq!(result["scribble"], full);
}

#[test]
fn a_job_type_in_javascript_uses_every_capability_on_a_host() {
    if let Err(error) = done(Command::new("npm").args(["view", "esbuild@0.25.12", "version"])) {
        return not_run(&format!("capabilities in JavaScript: {error}"));
    }
    uses_every_capability("capabilities-javascript", "js", "javascript/job.js", &[]);
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
