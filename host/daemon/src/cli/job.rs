//! `waymark job`.

use super::{
    Client,
    client::{pretty, read, segment},
    table::{self, cell, say},
    watch,
};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget};
use reqwest::Method;
use serde_json::{Map, Value, json, value::RawValue};
use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    time::Duration,
};

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Submit a job and print its id.
    Submit(Box<Submit>),
    /// List jobs, newest first.
    List(List),
    /// Show a job.
    Show {
        /// The job's id.
        id: String,
        /// Show what `[redaction]` hides; needs the scope `admin`.
        #[arg(long)]
        reveal: bool,
    },
    /// Follow a job to its end with a progress bar, then print its result; or follow all jobs.
    Watch(Watch),
    /// Stop jobs at the end of their step; they keep their place.
    Pause {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Let paused jobs go on from their last checkpoint; those that slept or waited do so again until it is time.
    Resume {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Run paused or ended jobs again.
    Restart {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Step of a kept checkpoint to go on from [default: from the beginning].
        #[arg(long, value_name = "STEP")]
        from: Option<u64>,
    },
    /// Let failed jobs go on from their last checkpoint.
    Retry {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Make a new job from one that ended, with changes.
    Replay(Replay),
    /// Move jobs that have not ended to another queue or priority.
    Move {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Queue to go to.
        #[arg(long, required_unless_present = "priority")]
        queue: Option<String>,
        /// 0 to 9; 9 is served first.
        #[arg(long)]
        priority: Option<u8>,
    },
    /// End jobs now.
    Cancel {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Cancel jobs if needed, and forget them with all they kept.
    Delete {
        /// Ids of jobs.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Do something with all jobs that a filter takes. Counts them first, and asks.
    Bulk(Bulk),
    /// Print a job's log lines.
    Logs {
        /// The job's id.
        id: String,
        /// Go on until the job has ended.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print a job's output records, one JSON text per line.
    Output {
        /// The job's id.
        id: String,
        /// Position of the first record, from 0.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most records [default: all].
        #[arg(long)]
        limit: Option<u64>,
        /// Go on until the job has ended.
        #[arg(long, short, conflicts_with_all = ["from", "limit"])]
        follow: bool,
    },
    /// List a job's checkpoints, or show one with its state.
    Checkpoints {
        /// The job's id.
        id: String,
        /// Show the checkpoint of this step.
        #[arg(long)]
        step: Option<u64>,
    },
    /// Send a signal to a job.
    Signal {
        /// The job's id.
        id: String,
        /// Name of the signal.
        name: String,
        /// Payload, JSON.
        #[arg(default_value = "null")]
        payload: String,
    },
}

/// A job to be submitted.
#[derive(Args, Debug)]
pub struct Submit {
    /// Job type.
    #[arg(value_name = "TYPE")]
    job_type: String,
    /// Input: JSON, @FILE, or - for standard input [default: {}].
    #[arg(value_name = "INPUT", conflicts_with = "input")]
    given: Option<String>,
    /// The same.
    #[arg(long, short, value_name = "INPUT")]
    input: Option<String>,
    /// Queue [default: the job type's own].
    #[arg(long)]
    queue: Option<String>,
    /// 0 to 9; 9 is served first.
    #[arg(long)]
    priority: Option<u8>,
    /// Start no sooner than so long from now, such as 90s or 2h.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "not_before")]
    delay: Option<Duration>,
    /// Start no sooner than this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Attempts in all.
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Running time after which the job is asked to finish.
    #[arg(long, value_parser = humantime::parse_duration)]
    soft_limit: Option<Duration>,
    /// Running time after which an attempt fails.
    #[arg(long, value_parser = humantime::parse_duration)]
    hard_limit: Option<Duration>,
    /// Metadata: a JSON object, or @FILE.
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A label; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Your id for the larger whole that the job belongs to.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    #[command(flatten)]
    flow: Flow,
    /// Address that is told of the job's end.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Ends that are told, with commas between them: succeeded, failed, cancelled [default: all].
    #[arg(long, value_name = "ENDS", value_delimiter = ',', requires = "webhook")]
    webhook_on: Vec<String>,
    /// Name of the host's endpoint whose secret signs.
    #[arg(long, value_name = "NAME", requires = "webhook")]
    webhook_secret: Option<String>,
    /// The same key within a day answers the same job.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for the end with a progress bar, then print the result.
    #[arg(long, short)]
    wait: bool,
}

/// Which jobs.
#[derive(Args, Debug)]
pub struct Filter {
    /// States, with commas between them.
    #[arg(long)]
    status: Option<String>,
    /// Job type.
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// Queue.
    #[arg(long)]
    queue: Option<String>,
    /// A label.
    #[arg(long)]
    tag: Option<String>,
    /// Your id for the larger whole.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Kind of the last failure, such as guest-trap.
    #[arg(long, value_name = "KIND")]
    error_kind: Option<String>,
    /// Accepted at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    created_since: Option<String>,
    /// Accepted before this time.
    #[arg(long, value_name = "TIME")]
    created_until: Option<String>,
    /// Ended at this time or later.
    #[arg(long, value_name = "TIME")]
    ended_since: Option<String>,
    /// Ended before this time.
    #[arg(long, value_name = "TIME")]
    ended_until: Option<String>,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        [
            ("status", &self.status),
            ("type", &self.job_type),
            ("queue", &self.queue),
            ("tag", &self.tag),
            ("correlation_id", &self.correlation_id),
            ("error_kind", &self.error_kind),
            ("created_since", &self.created_since),
            ("created_until", &self.created_until),
            ("ended_since", &self.ended_since),
            ("ended_until", &self.ended_until),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

/// Which jobs there may be beside a job, and what it shares with them.
#[derive(Args, Debug)]
pub(super) struct Flow {
    /// While a job with this key has not ended, another one is not made.
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// How long that key holds [default: ended].
    #[arg(long, value_parser = ["started", "ended"], requires = "unique_key")]
    unique_until: Option<String>,
    /// The unique key holds for so long instead, such as 10m, whatever becomes of the job.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "unique_key")]
    unique_for: Option<Duration>,
    /// A job with the same unique key that still waits gets this input.
    #[arg(long, requires = "unique_key")]
    replace_input: bool,
    /// Jobs of one flow key take turns with those of other keys and share the limits per key.
    #[arg(long, value_name = "KEY")]
    flow_key: Option<String>,
    /// What the job counts for in limits [default: 1].
    #[arg(long)]
    weight: Option<u32>,
}

impl Flow {
    /// As a submission has them; null where nothing is given.
    pub(super) fn fields(&self) -> [(&'static str, Value); 6] {
        [
            ("unique_key", json!(self.unique_key)),
            ("unique_until", json!(self.unique_until)),
            ("unique_for_ms", json!(self.unique_for.map(millis))),
            ("replace_input", json!(self.replace_input.then_some(true))),
            ("flow_key", json!(self.flow_key)),
            ("weight", json!(self.weight)),
        ]
    }
}

/// Which job to follow, or which jobs.
#[derive(Args, Debug)]
pub struct Watch {
    /// The job's id.
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// Show its log lines too.
    #[arg(long, conflicts_with = "all")]
    logs: bool,
    /// Print its output records too.
    #[arg(long, conflicts_with = "all")]
    output: bool,
    /// Print a line whenever any job changes, until interrupted.
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Of all: only changes to these states, with commas between them.
    #[arg(long, requires = "all")]
    status: Option<String>,
    /// Of all: only this job type.
    #[arg(long = "type", value_name = "TYPE", requires = "all")]
    job_type: Option<String>,
    /// Of all: only this queue.
    #[arg(long, requires = "all")]
    queue: Option<String>,
    /// Of all: only those with this label.
    #[arg(long, requires = "all")]
    tag: Option<String>,
    /// Of all: only those with your id for the larger whole.
    #[arg(long, value_name = "ID", requires = "all")]
    correlation_id: Option<String>,
}

/// What to do with many jobs.
#[derive(Args, Debug)]
pub struct Bulk {
    /// What to do with each.
    #[arg(value_parser = ["pause", "resume", "restart", "retry", "cancel", "delete", "move", "priority"])]
    action: String,
    #[command(flatten)]
    filter: Filter,
    /// Where move and priority go to: a queue, or 0 to 9.
    #[arg(long)]
    to: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Count only.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// A job to be made from one that ended. What is not given stays as it was.
#[derive(Args, Debug)]
pub struct Replay {
    /// The old job's id.
    id: String,
    /// Input: JSON, @FILE, or - for standard input.
    #[arg(long, short)]
    input: Option<String>,
    /// Change the input in $VISUAL or $EDITOR.
    #[arg(long, conflicts_with = "input")]
    edit: bool,
    /// Queue.
    #[arg(long)]
    queue: Option<String>,
    /// 0 to 9; 9 is served first.
    #[arg(long)]
    priority: Option<u8>,
    /// Attempts in all.
    #[arg(long)]
    max_attempts: Option<u32>,
}

/// Which jobs to list.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Most jobs, 1 to 1000.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Where the page begins: printed below the page before.
    #[arg(long)]
    cursor: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused, or the job that was waited for did not succeed.
pub async fn run(client: &Client, command: JobCommand) -> anyhow::Result<()> {
    match command {
        JobCommand::Submit(submit) => self::submit(client, *submit).await,
        JobCommand::List(list) => self::list(client, list).await,
        JobCommand::Show { id, reveal } => show(client, &id, reveal).await,
        JobCommand::Watch(watch) => self::watch(client, watch).await,
        JobCommand::Pause { ids } => control(client, &ids, "pause", None).await,
        JobCommand::Resume { ids } => control(client, &ids, "resume", None).await,
        JobCommand::Restart { ids, from } => control(client, &ids, "restart", from).await,
        JobCommand::Retry { ids } => control(client, &ids, "retry", None).await,
        JobCommand::Replay(replay) => self::replay(client, replay).await,
        JobCommand::Move { ids, queue, priority } => {
            let body = json!({"queue": queue, "priority": priority}).to_string();
            let body = &body;
            each(client, &ids, |id| async move {
                let request = client.request(Method::PATCH, &job_path(&id)).body(body.clone());
                let job: Value = read(client.send(request).await?).await?;
                let place = format!("queue {}, priority {}", cell(&job, "queue"), cell(&job, "priority"));
                Ok((job, format!("{id} is in {place}")))
            })
            .await
        }
        JobCommand::Cancel { ids } => control(client, &ids, "cancel", None).await,
        JobCommand::Delete { ids } => {
            each(client, &ids, |id| async move {
                client.delete(&job_path(&id)).await?;
                Ok((json!({"id": id, "deleted": true}), format!("{id} is deleted")))
            })
            .await
        }
        JobCommand::Bulk(bulk) => self::bulk(client, bulk).await,
        JobCommand::Logs { id, follow } => logs(client, &id, follow).await,
        JobCommand::Output { id, from, limit, follow } => output(client, &id, from, limit, follow).await,
        JobCommand::Checkpoints { id, step } => checkpoints(client, &id, step).await,
        JobCommand::Signal { id, name, payload } => {
            let path = format!("{}/signals/{}", job_path(&id), segment(&name));
            let request = client.request(Method::POST, &path).body(text_of(&payload)?);
            let answer: Value = read(client.send(request).await?).await?;
            if !client.print(&answer) {
                let what =
                    if answer["delivered"] == true { "delivered" } else { "kept until the job asks for it" };
                say!("signal {name} was {what}");
            }
            Ok(())
        }
    }
}

fn job_path(id: &str) -> String {
    format!("/api/v1/jobs/{}", segment(id))
}

/// The text itself, that of `@FILE`, or standard input for `-`.
pub(super) fn text_of(argument: &str) -> anyhow::Result<String> {
    match argument.strip_prefix('@') {
        _ if argument == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            Ok(text)
        }
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read")),
        None => Ok(argument.to_owned()),
    }
}

/// JSON text, kept as it is written.
fn raw(argument: &str, what: &str) -> anyhow::Result<Box<RawValue>> {
    let text = text_of(argument)?;
    serde_json::from_str(&text).with_context(|| format!("the {what} is not well-formed JSON"))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn submit(client: &Client, submit: Submit) -> anyhow::Result<()> {
    #[derive(serde::Serialize)]
    struct Body {
        input: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<Box<RawValue>>,
        #[serde(flatten)]
        rest: Map<String, Value>,
    }
    let mut rest = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            rest.insert(name.to_owned(), value);
        }
    };
    put("type", Some(submit.job_type.into()));
    put("queue", submit.queue.map(Value::from));
    put("priority", submit.priority.map(Value::from));
    put("delay_ms", submit.delay.map(millis).map(Value::from));
    put("not_before", submit.not_before.map(Value::from));
    put("max_attempts", submit.max_attempts.map(Value::from));
    put("soft_limit_ms", submit.soft_limit.map(millis).map(Value::from));
    put("hard_limit_ms", submit.hard_limit.map(millis).map(Value::from));
    put("tags", (!submit.tags.is_empty()).then(|| submit.tags.into()));
    put("correlation_id", submit.correlation_id.map(Value::from));
    for (name, value) in submit.flow.fields() {
        put(name, (!value.is_null()).then_some(value));
    }
    let webhook = submit.webhook.map(|url| {
        let mut webhook = json!({"url": url});
        if !submit.webhook_on.is_empty() {
            webhook["on"] = submit.webhook_on.into();
        }
        if let Some(name) = submit.webhook_secret {
            webhook["secret"] = name.into();
        }
        webhook
    });
    put("webhook", webhook);
    let metadata = submit.metadata.map(|argument| raw(&argument, "metadata")).transpose()?;
    let body = Body {
        input: raw(submit.given.as_ref().or(submit.input.as_ref()).map_or("{}", String::as_str), "input")?,
        metadata,
        rest,
    };
    let mut request = client
        .request(Method::POST, "/api/v1/jobs")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body)?);
    if let Some(key) = submit.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let job: Value = read(client.send(request).await?).await?;
    let id = cell(&job, "id");
    if submit.wait {
        return watch::to_end(client, &id, false, false).await;
    }
    if !client.print(&job) {
        say!("{id}");
    }
    Ok(())
}

/// What all steps of a bulk call did.
#[derive(Default)]
struct Sum {
    matched: u64,
    done: u64,
    refused: u64,
}

/// Goes through all steps of a bulk call.
async fn steps(
    client: &Client,
    bulk: &Bulk,
    dry_run: bool,
    mut told: impl FnMut(&Sum),
) -> anyhow::Result<Sum> {
    let mut query = bulk.filter.query();
    query.push(("dry_run", dry_run.to_string()));
    query.extend(bulk.to.clone().map(|to| ("to", to)));
    let path = format!("/api/v1/jobs/bulk/{}", bulk.action);
    let mut sum = Sum::default();
    let mut cursor: Option<String> = None;
    loop {
        let mut request = client.request(Method::POST, &path).query(&query);
        if let Some(cursor) = &cursor {
            request = request.query(&[("cursor", cursor)]);
        }
        let answer: Value = read(client.send(request).await?).await?;
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        sum.matched += number("matched");
        sum.done += number("done");
        sum.refused += number("refused");
        told(&sum);
        cursor = answer["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(sum);
        }
    }
}

async fn bulk(client: &Client, bulk: Bulk) -> anyhow::Result<()> {
    let counted = steps(client, &bulk, true, |_| ()).await?.matched;
    let what = format!("{}: {counted} jobs match", bulk.action);
    if bulk.dry_run || !bulk.yes && !confirm(&format!("{what}. Go on? [y/N] "))? {
        if !client.print(&json!({"matched": counted, "done": 0, "refused": 0, "dry_run": true})) {
            say!("{what}. Nothing was done; repeat with --yes");
        }
        return Ok(());
    }
    let bar = ProgressBar::with_draw_target(Some(counted), ProgressDrawTarget::stderr());
    let Sum { matched, done, refused } =
        steps(client, &bulk, false, |sum| bar.set_position(sum.matched)).await?;
    bar.finish_and_clear();
    if !client.print(&json!({"matched": matched, "done": done, "refused": refused, "dry_run": false})) {
        say!("{}: {done} of {matched} jobs; {refused} were in a state that it does not fit", bulk.action);
    }
    Ok(())
}

/// Asks the person at the terminal; nobody there means no.
fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("{question}");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn replay(client: &Client, replay: Replay) -> anyhow::Result<()> {
    let input = match &replay.input {
        Some(argument) => Some(raw(argument, "input")?),
        None if replay.edit => {
            let job: Value = client.get(&job_path(&replay.id), &[]).await?;
            Some(raw(&edited(&pretty(&job["input"]))?, "input")?)
        }
        None => None,
    };
    let mut body = Map::new();
    for (name, value) in [
        ("queue", replay.queue.map(Value::from)),
        ("priority", replay.priority.map(Value::from)),
        ("max_attempts", replay.max_attempts.map(Value::from)),
    ] {
        body.extend(value.map(|value| (name.to_owned(), value)));
    }
    let mut text = serde_json::to_string(&body)?;
    if let Some(input) = input {
        // The input is passed on as it was written.
        let comma = if body.is_empty() { "" } else { "," };
        text.insert_str(1, &format!("\"input\":{input}{comma}"));
    }
    let path = format!("{}/replay", job_path(&replay.id));
    let job: Value = read(client.send(client.request(Method::POST, &path).body(text)).await?).await?;
    if !client.print(&job) {
        say!("{}", cell(&job, "id"));
    }
    Ok(())
}

/// Lets a person change a text.
fn edited(text: &str) -> anyhow::Result<String> {
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR")).unwrap_or_else(|_| "vi".into());
    let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
    file.write_all(text.as_bytes())?;
    // The variable may hold arguments too.
    let mut words = editor.split_whitespace();
    let program = words.next().context("EDITOR is empty")?;
    let status = std::process::Command::new(program).args(words).arg(file.path()).status();
    let status = status.with_context(|| format!("{editor} cannot be started"))?;
    anyhow::ensure!(status.success(), "{editor}: {status}");
    Ok(std::fs::read_to_string(file.path())?)
}

async fn list(client: &Client, list: List) -> anyhow::Result<()> {
    let mut query = list.filter.query();
    query.push(("limit", list.limit.to_string()));
    query.extend(list.cursor.map(|cursor| ("cursor", cursor)));
    let answer: Value = client.get("/api/v1/jobs", &query).await?;
    if client.print(&answer) {
        return Ok(());
    }
    let jobs = answer["jobs"].as_array().cloned().unwrap_or_default();
    let row = |job: &Value| {
        vec![
            cell(job, "id"),
            cell(job, "type"),
            cell(job, "status"),
            progress(&job["progress"]),
            cell(job, "attempt"),
            cell(job, "created_at"),
            cell(job, "ended_at"),
        ]
    };
    table::print(
        &["ID", "TYPE", "STATUS", "PROGRESS", "ATTEMPT", "CREATED", "ENDED"],
        &jobs.iter().map(row).collect::<Vec<_>>(),
    );
    if let Some(cursor) = answer["next_cursor"].as_str() {
        eprintln!("more: --cursor {cursor}");
    }
    Ok(())
}

fn progress(progress: &Value) -> String {
    match (progress["current"].as_u64(), progress["total"].as_u64(), progress["percent"].as_f64()) {
        (Some(current), Some(total), Some(percent)) => format!("{current}/{total} {percent}%"),
        (Some(current), ..) => current.to_string(),
        _ => "-".into(),
    }
}

async fn show(client: &Client, id: &str, reveal: bool) -> anyhow::Result<()> {
    let query: &[_] = if reveal { &[("reveal", "true".to_owned())] } else { &[] };
    let job: Value = client.get(&job_path(id), query).await?;
    if client.print(&job) {
        return Ok(());
    }
    for name in [
        "id",
        "type",
        "queue",
        "status",
        "priority",
        "run",
        "attempt",
        "step",
        "outputs",
        "correlation_id",
        "replay_of",
        "host",
        "plugin_version",
        "created_at",
        "started_at",
        "ended_at",
        "not_before",
    ] {
        say!("{name:<16}{}", cell(&job, name));
    }
    say!("{:<16}{}", "progress", progress(&job["progress"]));
    if let Some(message) = job["progress"]["message"].as_str() {
        say!("{:<16}{message}", "");
    }
    if let Some(tags) = job["tags"].as_array().filter(|tags| !tags.is_empty()) {
        let tags: Vec<_> = tags.iter().filter_map(Value::as_str).collect();
        say!("{:<16}{}", "tags", tags.join(", "));
    }
    for name in ["metadata", "input", "result"] {
        say!("{name}\n{}", pretty(&job[name]));
    }
    if let Some(history) = job["history"].as_array() {
        say!("history");
        let columns = ["since", "at", "run", "what", "times", "by", "plugin_version"];
        let rows: Vec<_> = history.iter().map(|one| columns.map(|name| cell(one, name)).to_vec()).collect();
        table::print(&["SINCE", "AT", "RUN", "WHAT", "TIMES", "BY", "PLUGIN"], &rows);
    }
    if !job["error"].is_null() {
        say!("error\n{}: {}", cell(&job["error"], "kind"), cell(&job["error"], "message"));
        if let Some(trace) = job["error"]["trace"].as_str() {
            say!("{trace}");
        }
    }
    Ok(())
}

/// Asks for each id in turn, goes on after a refusal, and fails at the end if there was one.
async fn each<F>(client: &Client, ids: &[String], ask: impl Fn(String) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<(Value, String)>>,
{
    let mut refused = 0;
    for id in ids {
        match ask(id.clone()).await {
            Ok((document, sentence)) => {
                if !client.print(&document) {
                    say!("{sentence}");
                }
            }
            Err(error) if ids.len() == 1 => return Err(error),
            Err(error) => {
                refused += 1;
                eprintln!("{id}: {error:#}");
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {} were refused", ids.len());
    }
    Ok(())
}

async fn control(client: &Client, ids: &[String], verb: &str, from: Option<u64>) -> anyhow::Result<()> {
    let query: Vec<_> = from.map(|step| ("from", step.to_string())).into_iter().collect();
    let query = &query;
    each(client, ids, |id| async move {
        let job: Value = client.post(&format!("{}/{verb}", job_path(&id)), query).await?;
        let status = cell(&job, "status");
        let sentence = if job["pause_pending"] == true {
            format!("{id} is {status} and pauses at the end of its step")
        } else {
            format!("{id} is {status}")
        };
        Ok((job, sentence))
    })
    .await
}

fn log_line(line: &Value) -> String {
    let mut text = format!("{} {:<5} {}", cell(line, "at"), cell(line, "level"), cell(line, "message"));
    if let Some(fields) = line["fields"].as_object().filter(|fields| !fields.is_empty()) {
        text.push_str(&format!(" {}", Value::from(fields.clone())));
    }
    text
}

async fn watch(client: &Client, watch: Watch) -> anyhow::Result<()> {
    if let Some(id) = watch.id {
        return watch::to_end(client, &id, watch.logs, watch.output).await;
    }
    let query: Vec<_> = [
        ("status", watch.status),
        ("type", watch.job_type),
        ("queue", watch.queue),
        ("tag", watch.tag),
        ("correlation_id", watch.correlation_id),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    watch::show_all(client, &query).await
}

async fn logs(client: &Client, id: &str, follow: bool) -> anyhow::Result<()> {
    let print = |line: &Value| say!("{}", if client.json { line.to_string() } else { log_line(line) });
    if follow {
        let told = |event: &watch::Event| {
            if let (Ok(line), "log") = (serde_json::from_str(&event.data), event.name.as_str()) {
                print(&line);
            }
        };
        return watch::follow(client, id, "log", told).await.map(drop);
    }
    let mut from = 0;
    loop {
        let path = format!("{}/logs", job_path(id));
        let page: Value = client.get(&path, &[("from", from.to_string())]).await?;
        let lines = page["lines"].as_array().cloned().unwrap_or_default();
        lines.iter().for_each(print);
        from = page["next_from"].as_u64().unwrap_or(0);
        if lines.is_empty() {
            return Ok(());
        }
    }
}

async fn output(
    client: &Client,
    id: &str,
    from: u64,
    limit: Option<u64>,
    follow: bool,
) -> anyhow::Result<()> {
    if follow {
        let told = |event: &watch::Event| {
            if event.name == "output" {
                say!("{}", event.data);
            }
        };
        return watch::follow(client, id, "output", told).await.map(drop);
    }
    let mut query = vec![("from", from.to_string())];
    query.extend(limit.map(|limit| ("limit", limit.to_string())));
    let path = format!("{}/output", job_path(id));
    let mut response = client.send(client.request(Method::GET, &path).query(&query)).await?;
    let mut out = std::io::stdout().lock();
    while let Some(bytes) = response.chunk().await.context("the output broke off")? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

async fn checkpoints(client: &Client, id: &str, step: Option<u64>) -> anyhow::Result<()> {
    if let Some(step) = step {
        let path = format!("{}/checkpoint", job_path(id));
        let saved: Value = client.get(&path, &[("step", step.to_string())]).await?;
        say!("{}", pretty(&saved));
        return Ok(());
    }
    let answer: Value = client.get(&format!("{}/checkpoints", job_path(id)), &[]).await?;
    if client.print(&answer) {
        return Ok(());
    }
    let saved = answer["checkpoints"].as_array().cloned().unwrap_or_default();
    let row = |one: &Value| {
        let data = &one["checkpoint_data"];
        let place = format!("{}/{}", cell(data, "current_index"), cell(data, "total_items"));
        vec![
            cell(one, "run"),
            cell(one, "step"),
            place,
            cell(one, "bytes"),
            cell(one, "created_at"),
            cell(one, "expires_at"),
        ]
    };
    table::print(
        &["RUN", "STEP", "PLACE", "BYTES", "CREATED", "EXPIRES"],
        &saved.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        submit: Submit,
    }

    #[test]
    fn the_input_stands_behind_the_type_or_has_its_name_before_it() {
        let read = |words: &[&str]| {
            let line = Line::try_parse_from([&["submit", "mean"], words].concat());
            line.map(|line| line.submit.given.or(line.submit.input)).map_err(|error| error.kind())
        };
        let input = Some("[1]".to_owned());
        for words in [&["[1]"][..], &["--input", "[1]"], &["-i", "[1]"]] {
            assert_eq!(read(words), Ok(input.clone()));
        }
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["[1]", "-i", "[2]"]), Err(clap::error::ErrorKind::ArgumentConflict));
    }
}
