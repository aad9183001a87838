//! A real job on real data: started, paused, its host killed, resumed on a new host, finished; and the same job
//! once more undisturbed, to compare.

use crate::{prepare, root, target};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest wait for anything in the demo.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host in a process group of its own, so that it can be killed with its workers, as a lost machine would be.
pub(crate) struct Host {
    child: Child,
    pub(crate) url: String,
}

impl Host {
    /// Starts one with the configuration, plugins and data of a folder, and waits until it is ready.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("host.log"))?;
        let child = Command::new(target().join("quick/waymark"))
            .arg("host")
            .arg("--config")
            .arg(folder.join("waymark.toml"))
            .arg("--plugins")
            .arg(folder.join("plugins"))
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .current_dir(root())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let mut host = Self { child, url: format!("http://127.0.0.1:{port}") };
        let began = Instant::now();
        while host.get("/readyz").is_err() {
            if let Some(status) = host.child.try_wait()? {
                anyhow::bail!("the host ended ({status}): see {}", folder.join("host.log").display());
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "the host is not ready: see {}",
                folder.join("host.log").display()
            );
            sleep(Duration::from_millis(50));
        }
        Ok(host)
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(ureq::get(format!("{}{path}", self.url)).call()?.body_mut().read_json()?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = ureq::post(format!("{}{path}", self.url)).config().http_status_as_error(false).build();
        let mut answer = request.send_json(body)?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string()?;
        anyhow::ensure!(status.is_success(), "POST {path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    fn group(&self) -> anyhow::Result<rustix::process::Pid> {
        let pid = i32::try_from(self.child.id())?;
        rustix::process::Pid::from_raw(pid).context("the host has no process id")
    }

    fn kill(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process_group(self.group()?, rustix::process::Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(self.group()?, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Shows the job's progress until `until` holds for it.
    fn watch(&self, id: &str, until: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let began = Instant::now();
        loop {
            let job = self.get(&format!("/api/v1/jobs/{id}"))?;
            bar(&job);
            if until(&job) {
                println!();
                return Ok(job);
            }
            anyhow::ensure!(began.elapsed() < PATIENCE, "\nthe job does not get there: {job}");
            sleep(Duration::from_millis(40));
        }
    }
}

fn percent(job: &Value) -> f64 {
    job["progress"]["percent"].as_f64().unwrap_or(0.0)
}

fn bar(job: &Value) {
    let filled = (percent(job) / 2.5) as usize;
    let status = job["status"].as_str().unwrap_or("?");
    let message = job["progress"]["message"].as_str().unwrap_or("");
    print!("\r  [{:<40}] {:>5.1} %  {status:<10} {message:<40.40}", "#".repeat(filled.min(40)), percent(job));
    // A terminal that is gone ends the demo soon enough.
    let _ = std::io::stdout().flush();
}

/// Makes the folder of a host anew, with these of the guests in `built`.
pub(crate) fn make(folder: &Path, built: &Path, names: &[&str]) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins)?;
    for name in names {
        let file = format!("{name}.wasm");
        fs::copy(built.join(&file), plugins.join(&file))?;
    }
    Ok(())
}

/// Runs the demo.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = target().join("demo");
    make(&folder, &prepare()?, &["intelligent_sampling"])?;
    let data = root().join("plugins/data");
    // A checkpoint every 100 ms instead of every second: the demo's job is a short one.
    let config = format!(
        "[worker]\nlease_ms = 2000\n\n[plugins.intelligent_sampling]\ncheckpoint = {{ every_ms = 100 }}\n\
         grants.files = [{{ host = {data:?} }}]\n"
    );
    fs::write(folder.join("waymark.toml"), config)?;
    let mut input: Value =
        serde_json::from_str(&fs::read_to_string(root().join("plugins/intelligent_sampling/input.json"))?)?;
    // Gently: 2,380 rows would be read before anybody could look.
    input["pace"] = json!({"rows_per_step": 1});

    println!("\n1. A host starts. The job type is a file in a folder: {}", folder.join("plugins").display());
    let host = Host::start(&folder)?;
    println!("   {}  (API and its description at /api/v1/openapi.json)", host.url);
    println!("\n2. A job draws a stratified sample from 2,380 mortgage applications (Boston, 1990).");
    let job = host.post("/api/v1/jobs", &json!({"type": "intelligent_sampling", "input": input}))?;
    let id = job["id"].as_str().context("the job has no id")?.to_owned();
    host.watch(&id, |job| percent(job) >= 30.0)?;
    println!("\n3. Pause: it stops at the end of its step and keeps its place.");
    let asked = Instant::now();
    host.post(&format!("/api/v1/jobs/{id}/pause"), &json!({}))?;
    let paused = host.watch(&id, |job| job["status"] == "paused")?;
    println!("   paused after {} ms", asked.elapsed().as_millis());
    host.post(&format!("/api/v1/jobs/{id}/resume"), &json!({}))?;
    println!("\n4. Resumed. Then its host and all its workers are killed with SIGKILL.");
    host.watch(&id, |job| percent(job) >= percent(&paused) + 20.0)?;
    host.kill()?;
    println!("   killed");
    println!("\n5. A new host starts, finds the job, and goes on from its last checkpoint.");
    let host = Host::start(&folder)?;
    let done = host.watch(&id, |job| job["ended_at"].is_string())?;
    anyhow::ensure!(done["status"] == "succeeded", "the job did not succeed: {done}");
    println!("\n6. The same job once more, undisturbed.");
    let again = host.post("/api/v1/jobs", &json!({"type": "intelligent_sampling", "input": input}))?;
    let again = again["id"].as_str().context("the job has no id")?.to_owned();
    let undisturbed = host.watch(&again, |job| job["ended_at"].is_string())?;
    anyhow::ensure!(done["result"] == undisturbed["result"], "the results differ");
    let first =
        ureq::get(format!("{}/api/v1/jobs/{id}/output", host.url)).call()?.body_mut().read_to_string()?;
    let second =
        ureq::get(format!("{}/api/v1/jobs/{again}/output", host.url)).call()?.body_mut().read_to_string()?;
    anyhow::ensure!(first == second, "the output records differ");
    println!("   Both results are the same, and so are all {} output records.", first.lines().count());
    let mut result = done["result"].clone();
    if let Some(sample) = result.get_mut("sample").and_then(Value::as_array_mut) {
        sample.truncate(3);
    }
    println!("\nResult (its first rows):\n{}", serde_json::to_string_pretty(&result)?);
    host.stop()?;
    println!("\nTo try it yourself:");
    println!(
        "  target/quick/waymark host --config target/demo/waymark.toml --plugins target/demo/plugins --data target/demo/data"
    );
    Ok(())
}
