//! `waymark migrate celery`: what there is, written down as configuration that a host takes, and what does not map; and job
//! types that move from Celery's workers to their plugins, and back (`cutover`).
//!
//! The broker and the application are read by a small script under the application's own interpreter: only Celery
//! itself knows what an application means, and a configuration written in Python can be anything.

mod cutover;

use super::table::say;
use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

const SCRIPT: &str = include_str!("migrate/inspect.py");
/// Longest name of a job type.
const TYPE_BYTES_MAX: usize = 64;

/// From where.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// From Celery.
    #[command(subcommand)]
    Celery(CeleryCommand),
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum CeleryCommand {
    /// Look at a running broker, its workers and its schedule, and write what a host would be configured with, and a
    /// report. Changes nothing.
    Inspect(Inspect),
    /// Send the jobs of a type, which workers of Celery run, to its plugin: at once, or step by step.
    Cutover(cutover::Cutover),
    /// Send the jobs of a type to workers of Celery.
    Back(cutover::Back),
}

/// Where to look.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Address of the broker [default: that of --app].
    #[arg(long, value_name = "URL", required_unless_present = "app")]
    broker: Option<String>,
    /// The application: MODULE or MODULE:NAME, importable from here.
    #[arg(long, value_name = "MODULE:NAME")]
    app: Option<String>,
    /// The schedule of Beat: a Python file that sets `beat_schedule`, or a .json file [default: that of --app].
    #[arg(long, value_name = "FILE")]
    beat: Option<PathBuf>,
    /// Interpreter that has Celery, and can import the application.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// How long workers may take to answer, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    timeout: f64,
    /// Folder to write celery.toml, schedules.toml and report.md into; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "waymark-celery")]
    out: PathBuf,
}

/// What the script says.
#[derive(Debug, Deserialize)]
struct Found {
    /// Absent where the broker is no Redis.
    queues: Option<Vec<Queue>>,
    workers: Vec<Worker>,
    default_queue: String,
    timezone: String,
    schedules: Vec<Entry>,
    own_tasks: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    depth: u64,
    /// How many of the messages that were looked at name a task.
    tasks: BTreeMap<String, u64>,
    /// Messages that cannot be read: another protocol or serialiser.
    unread: u64,
}

#[derive(Debug, Deserialize)]
struct Worker {
    name: String,
    tasks: Vec<String>,
    queues: Vec<String>,
}

/// An entry of Beat.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    task: Option<String>,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
    options: Vec<String>,
    queue: Option<String>,
    when: Option<Map<String, Value>>,
    why: Option<String>,
}

/// Does it, and says what was done.
///
/// # Errors
/// The interpreter, the application or the broker is not to be had, or the folder holds such files already; a host cannot be
/// reached, or refused.
pub async fn run(command: MigrateCommand) -> anyhow::Result<()> {
    let MigrateCommand::Celery(command) = command;
    match command {
        CeleryCommand::Inspect(inspect) => look(&inspect),
        CeleryCommand::Cutover(arguments) => cutover::cutover(&arguments).await,
        CeleryCommand::Back(arguments) => cutover::back(&arguments).await,
    }
}

fn look(inspect: &Inspect) -> anyhow::Result<()> {
    let files =
        [inspect.out.join("celery.toml"), inspect.out.join("schedules.toml"), inspect.out.join("report.md")];
    if let Some(taken) = files.iter().find(|file| file.exists()) {
        bail!("{} exists: name another folder with --out, or remove it", taken.display());
    }
    let found = ask(inspect)?;
    let plan = Plan::of(&found);
    fs::create_dir_all(&inspect.out).with_context(|| format!("{} cannot be made", inspect.out.display()))?;
    for (file, text) in files.iter().zip([plan.celery()?, plan.schedules()?, plan.report()]) {
        fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let queues = found.queues.as_ref().map_or(0, Vec::len);
    let unmapped = plan.problems.len();
    say!(
        "{queues} queues, {} workers, {} tasks, {} schedules; {unmapped} things do not map. Read {} first.",
        found.workers.len(),
        plan.tasks.len(),
        found.schedules.len(),
        files[2].display()
    );
    Ok(())
}

fn ask(inspect: &Inspect) -> anyhow::Result<Found> {
    let program = inspect.python.display();
    if let Some(beat) = &inspect.beat {
        ensure!(beat.is_file(), "{} is not a file", beat.display());
    }
    let settings = json!({
        "broker": inspect.broker, "app": inspect.app, "beat": inspect.beat, "timeout": inspect.timeout,
    });
    let mut command = Command::new(&inspect.python);
    command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    if let Some(mut input) = child.stdin.take() {
        // A script that ended early says why itself.
        let _ = input.write_all(settings.to_string().as_bytes());
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the application was not read: {}", output.status);
    serde_json::from_slice(&output.stdout)
        .context("the script said something else: does the application print on import?")
}

/// What follows from what was found.
struct Plan<'a> {
    found: &'a Found,
    /// Job types of the tasks.
    tasks: BTreeMap<&'a str, String>,
    /// What does not map, and what to do about it.
    problems: Vec<String>,
}

impl<'a> Plan<'a> {
    fn of(found: &'a Found) -> Self {
        let mut names = BTreeSet::new();
        names.extend(found.own_tasks.iter().map(String::as_str));
        names.extend(found.workers.iter().flat_map(|worker| &worker.tasks).map(String::as_str));
        names.extend(found.queues.iter().flatten().flat_map(|queue| queue.tasks.keys()).map(String::as_str));
        names.extend(found.schedules.iter().filter_map(|entry| entry.task.as_deref()));
        names.retain(|name| !name.starts_with("celery."));
        let mut problems = Vec::new();
        let (mut tasks, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for name in names {
            let wanted = job_type(name);
            let mut chosen = wanted.clone();
            for number in 2.. {
                if taken.insert(chosen.clone()) {
                    break;
                }
                let end = format!("_{number}");
                chosen = format!("{}{end}", &wanted[..wanted.len().min(TYPE_BYTES_MAX - end.len())]);
            }
            if chosen != wanted {
                problems.push(format!(
                    "The task `{name}` would be called `{wanted}` like another one: it is `{chosen}` here."
                ));
            }
            tasks.insert(name, chosen);
        }
        if found.queues.is_none() {
            problems.push(
                "The broker is no Redis: its queues cannot be looked at, and a host cannot take messages from it.".into(),
            );
        }
        for queue in found.queues.iter().flatten().filter(|queue| queue.unread > 0) {
            problems.push(format!(
                "{} messages in the queue `{}` are not JSON of protocol 2 (pickle, or an old client): a host refuses such \
                 messages. Let the workers empty the queue, and switch the producers to `task_serializer = \"json\"`.",
                queue.unread, queue.name
            ));
        }
        if found.workers.is_empty() {
            problems.push(
                "No worker answered: tasks that are neither waiting nor scheduled nor in --app are not known.".into(),
            );
        }
        for entry in &found.schedules {
            if let Some(why) = &entry.why {
                problems.push(format!("The schedule `{}` is left out: {why}.", entry.name));
            } else if entry.task.is_none() {
                problems.push(format!("The schedule `{}` is left out: it names no task.", entry.name));
            }
            let unknown: Vec<_> = entry
                .options
                .iter()
                .filter(|option| option.as_str() != "queue")
                .map(String::as_str)
                .collect();
            if !unknown.is_empty() {
                problems.push(format!(
                    "The schedule `{}` sends with the options {}: they are not carried over.",
                    entry.name,
                    unknown.join(", ")
                ));
            }
        }
        Self { found, tasks, problems }
    }

    fn celery(&self) -> anyhow::Result<String> {
        let mut queues: Vec<_> =
            self.found.queues.iter().flatten().map(|queue| queue.name.as_str()).collect();
        // The first is the default of what follows a task.
        queues.sort_by_key(|name| *name != self.found.default_queue);
        let tasks: BTreeMap<_, _> =
            self.tasks.iter().map(|(task, job_type)| (*task, json!({"type": job_type}))).collect();
        let table =
            toml::to_string(&json!({"celery": {"enabled": false, "queues": queues, "tasks": tasks}}))?;
        Ok(format!(
            "# Written by `waymark migrate celery inspect`. Nothing is taken from Celery until `enabled` is true, and\n\
             # then every message of these queues is: leave out the queues and tasks that stay.\n\
             # Without `input` a job's input is {{\"args\": [...], \"kwargs\": {{...}}}}.\n\n{table}"
        ))
    }

    fn schedules(&self) -> anyhow::Result<String> {
        let mut schedules = BTreeMap::new();
        for entry in &self.found.schedules {
            let (Some(when), Some(task)) = (&entry.when, &entry.task) else { continue };
            let Some(job_type) = self.tasks.get(task.as_str()) else { continue };
            let mut job = json!({"type": job_type, "input": {"args": entry.args, "kwargs": entry.kwargs}});
            if let Some(queue) = &entry.queue {
                job["queue"] = json!(queue);
            }
            let mut schedule = when.clone();
            if schedule.contains_key("cron") {
                schedule.insert("timezone".into(), json!(self.found.timezone));
            }
            schedule.insert("paused".into(), json!(true));
            schedule.insert("job".into(), without_nulls(job));
            schedules.insert(schedule_name(&entry.name), schedule);
        }
        let table = toml::to_string(&json!({"schedules": schedules}))?;
        Ok(format!(
            "# Written by `waymark migrate celery inspect`. All are paused, so that nothing fires twice: resume one with\n\
             # `waymark schedule resume NAME` when Beat has forgotten it.\n\n{table}"
        ))
    }

    fn report(&self) -> String {
        let mut text = String::from("# What a Celery application would become\n\n## What does not map\n\n");
        if self.problems.is_empty() {
            text.push_str("Everything that was found has a counterpart.\n");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "- {problem}");
        }
        text.push_str("\n## Tasks\n\n| task | job type | waiting | workers |\n| --- | --- | --- | --- |\n");
        for (task, job_type) in &self.tasks {
            let queues = self.found.queues.iter().flatten();
            let waiting: u64 = queues.filter_map(|queue| queue.tasks.get(*task)).sum();
            let workers =
                self.found.workers.iter().filter(|worker| worker.tasks.iter().any(|own| own == task));
            let _ = writeln!(text, "| `{task}` | `{job_type}` | {waiting} | {} |", workers.count());
        }
        text.push_str("\nOf each queue and priority, the first 200 messages were looked at.\n");
        text.push_str("\n## Queues\n\n| queue | messages | workers |\n| --- | --- | --- |\n");
        for queue in self.found.queues.iter().flatten() {
            let workers = self.found.workers.iter().filter(|worker| worker.queues.contains(&queue.name));
            let names: Vec<_> = workers.map(|worker| worker.name.as_str()).collect();
            let _ = writeln!(text, "| `{}` | {} | {} |", queue.name, queue.depth, names.join(", "));
        }
        text.push_str("\n## Schedules\n\n| Beat | task | here |\n| --- | --- | --- |\n");
        for entry in &self.found.schedules {
            let here = match (&entry.when, &entry.task) {
                (Some(when), Some(_)) => {
                    format!("`{}`: {}", schedule_name(&entry.name), Value::Object(when.clone()))
                }
                _ => "left out".into(),
            };
            let task = entry.task.as_deref().unwrap_or("none");
            let _ = writeln!(text, "| `{}` | `{task}` | {here} |", entry.name);
        }
        text
    }
}

/// The name of a task as a job type.
fn job_type(task: &str) -> String {
    named(task, |letter| matches!(letter, 'a'..='z' | '0'..='9' | '_' | '-'))
}

/// The name of an entry of Beat as that of a schedule.
fn schedule_name(name: &str) -> String {
    let plain = named(name, |letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'));
    if plain.starts_with("waymark.") { format!("celery.{plain}") } else { plain }
}

fn named(text: &str, legal: impl Fn(char) -> bool) -> String {
    let lower = text.to_ascii_lowercase();
    let plain: String =
        lower.chars().map(|letter| if legal(letter) { letter } else { '_' }).take(TYPE_BYTES_MAX).collect();
    if plain.is_empty() { "_".into() } else { plain }
}

/// TOML has no null: members that are null are left out, as no argument at all.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_legal_and_stay_apart() {
        assert_eq!(job_type("app.tasks.Add"), "app_tasks_add");
        assert_eq!(job_type(""), "_");
        assert_eq!(schedule_name("every morning"), "every_morning");
        assert_eq!(schedule_name("waymark.x"), "celery.waymark.x");
        let found = Found {
            queues: Some(Vec::new()),
            workers: Vec::new(),
            default_queue: "celery".into(),
            timezone: "UTC".into(),
            schedules: Vec::new(),
            own_tasks: vec!["a.b".into(), "a_b".into(), "celery.backend_cleanup".into()],
        };
        let plan = Plan::of(&found);
        let types: Vec<_> = plan.tasks.values().map(String::as_str).collect();
        assert_eq!(types, ["a_b", "a_b_2"]);
        assert!(plan.problems.iter().any(|problem| problem.contains("like another one")));
    }
}
