//! `waymark schedule`.

use super::{
    Client,
    client::{read, segment},
    job::{Flow, millis},
    table::{self, cell, say},
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List all schedules, the built-in ones included.
    List,
    /// Show a schedule, its next times, and what became of the last ones.
    Show {
        /// Its name.
        name: String,
    },
    /// Create or replace a schedule.
    Put(Box<Put>),
    /// Forget a schedule; jobs that it made stay.
    Delete {
        /// Its name.
        name: String,
    },
    /// Stop a schedule; what passes meanwhile is not missed.
    Pause {
        /// Its name.
        name: String,
    },
    /// Let a schedule fire again, from its next time on.
    Resume {
        /// Its name.
        name: String,
    },
    /// Run a schedule now, whether it is paused or not.
    Run {
        /// Its name.
        name: String,
    },
    /// Show the next times of a pattern, without keeping a schedule.
    Next {
        /// When.
        #[command(flatten)]
        timing: Timing,
        /// How many times.
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
}

/// When.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct Timing {
    /// Minute, hour, day of month, month, day of week; a sixth field in front is the second.
    #[arg(long, conflicts_with_all = ["every", "at"])]
    cron: Option<String>,
    /// Time between two runs, such as 90s or 6h.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "at")]
    every: Option<std::time::Duration>,
    /// A time that --every counts from (RFC 3339).
    #[arg(long, requires = "every")]
    anchor: Option<String>,
    /// Once, at this time (RFC 3339).
    #[arg(long)]
    at: Option<String>,
    /// IANA name of the zone that --cron is read in.
    #[arg(long)]
    timezone: Option<String>,
}

impl Timing {
    fn fields(&self) -> Map<String, Value> {
        let every_ms = self.every.map(millis);
        fields(&[
            ("cron", json!(self.cron)),
            ("every_ms", json!(every_ms)),
            ("anchor", json!(self.anchor)),
            ("at", json!(self.at)),
            ("timezone", json!(self.timezone)),
        ])
    }
}

/// What is given.
fn fields(all: &[(&str, Value)]) -> Map<String, Value> {
    let given = all.iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// A schedule to be kept.
#[derive(Args, Debug)]
pub struct Put {
    /// Its name.
    name: String,
    /// Job type.
    job_type: String,
    /// Input of the job: JSON.
    #[arg(default_value = "{}")]
    input: String,
    /// When.
    #[command(flatten)]
    timing: Timing,
    /// What if the job made last has not ended.
    #[arg(long, value_parser = ["skip", "queue_one", "allow", "cancel_running"])]
    overlap: Option<String>,
    /// What becomes of times that no host was there for.
    #[arg(long, value_parser = ["skip", "last", "all"])]
    catch_up: Option<String>,
    /// Most missed times that `all` fires.
    #[arg(long)]
    catch_up_max: Option<u32>,
    /// Each time is due up to so many milliseconds late.
    #[arg(long)]
    jitter_ms: Option<u64>,
    /// No time before this (RFC 3339).
    #[arg(long)]
    starts_at: Option<String>,
    /// No time after this (RFC 3339).
    #[arg(long)]
    ends_at: Option<String>,
    /// The schedule ends after it has fired so often.
    #[arg(long)]
    max_runs: Option<u64>,
    /// Keep it paused.
    #[arg(long)]
    paused: bool,
    /// Queue of the job.
    #[arg(long)]
    queue: Option<String>,
    /// Priority of the job, 0 to 9.
    #[arg(long)]
    priority: Option<u8>,
    /// Attempts of the job in all.
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Label of the job; may be given several times.
    #[arg(long = "tag")]
    tags: Vec<String>,
    #[command(flatten)]
    flow: Flow,
}

impl Put {
    fn body(&self) -> anyhow::Result<Value> {
        let input: Value = serde_json::from_str(&self.input).context("the input is not JSON")?;
        let mut job = fields(&[
            ("queue", json!(self.queue)),
            ("priority", json!(self.priority)),
            ("max_attempts", json!(self.max_attempts)),
        ]);
        job.extend(fields(&self.flow.fields()));
        job.insert("type".into(), json!(self.job_type));
        job.insert("input".into(), input);
        if !self.tags.is_empty() {
            job.insert("tags".into(), json!(self.tags));
        }
        let mut body = fields(&[
            ("overlap", json!(self.overlap)),
            ("catch_up", json!(self.catch_up)),
            ("catch_up_max", json!(self.catch_up_max)),
            ("jitter_ms", json!(self.jitter_ms)),
            ("starts_at", json!(self.starts_at)),
            ("ends_at", json!(self.ends_at)),
            ("max_runs", json!(self.max_runs)),
        ]);
        body.extend(self.timing.fields());
        body.insert("job".into(), job.into());
        if self.paused {
            body.insert("paused".into(), json!(true));
        }
        Ok(body.into())
    }
}

const BASE: &str = "/api/v1/schedules";

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, command: ScheduleCommand) -> anyhow::Result<()> {
    let path = |name: &str| format!("{BASE}/{}", segment(name));
    match command {
        ScheduleCommand::List => list(client).await,
        ScheduleCommand::Show { name } => show(client, &client.get(&path(&name), &[]).await?),
        ScheduleCommand::Put(put) => {
            let request = client.request(Method::PUT, &path(&put.name)).json(&put.body()?);
            show(client, &read(client.send(request).await?).await?)
        }
        ScheduleCommand::Delete { name } => {
            client.delete(&path(&name)).await?;
            if !client.json {
                say!("schedule {name} is gone");
            }
            Ok(())
        }
        ScheduleCommand::Pause { name } => {
            show(client, &client.post(&format!("{}/pause", path(&name)), &[]).await?)
        }
        ScheduleCommand::Resume { name } => {
            show(client, &client.post(&format!("{}/resume", path(&name)), &[]).await?)
        }
        ScheduleCommand::Run { name } => {
            let ran: Value = client.post(&format!("{}/run", path(&name)), &[]).await?;
            if !client.print(&ran) {
                match ran["job"].as_str() {
                    Some(job) => say!("job {job}"),
                    None if ran["waiting"] == true => say!("it runs when the job made last has ended"),
                    None => say!("it runs"),
                }
            }
            Ok(())
        }
        ScheduleCommand::Next { timing, limit } => {
            let mut query = vec![("limit", limit.to_string())];
            let fields = timing.fields();
            for (name, value) in &fields {
                query.push((name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
            }
            let answer: Value = client.get(&format!("{BASE}/preview"), &query).await?;
            if !client.print(&answer) {
                times(&answer);
            }
            Ok(())
        }
    }
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let mut all: Vec<Value> = Vec::new();
    let mut query = vec![("limit", "1000".to_owned())];
    loop {
        let mut page: Value = client.get(BASE, &query).await?;
        if let Value::Array(schedules) = page["schedules"].take() {
            all.extend(schedules);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => query = vec![("limit", "1000".to_owned()), ("cursor", cursor.to_owned())],
            None => break,
        }
    }
    if client.print(&json!({"schedules": all})) {
        return Ok(());
    }
    let row = |one: &Value| {
        let work = one["job"]["type"].as_str().or(one["action"].as_str()).unwrap_or("-").to_owned();
        let columns = ["next_at", "last_at", "fired", "missed"];
        let mut row = vec![cell(one, "name"), cell(one, "status"), when(one), work];
        row.extend(columns.map(|name| cell(one, name)));
        row
    };
    table::print(
        &["SCHEDULE", "STATUS", "WHEN", "DOES", "NEXT", "LAST", "FIRED", "MISSED"],
        &all.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}

fn when(schedule: &Value) -> String {
    if let Some(cron) = schedule["cron"].as_str() {
        return format!("{cron} ({})", cell(schedule, "timezone"));
    }
    match schedule["every_ms"].as_u64() {
        Some(every_ms) => {
            format!("every {}", humantime::format_duration(std::time::Duration::from_millis(every_ms)))
        }
        None => format!("at {}", cell(schedule, "at")),
    }
}

fn times(schedule: &Value) {
    for time in schedule["upcoming"].as_array().into_iter().flatten() {
        say!("{}", time.as_str().unwrap_or("-"));
    }
}

fn show(client: &Client, schedule: &Value) -> anyhow::Result<()> {
    if client.print(schedule) {
        return Ok(());
    }
    say!(
        "{}: {}, {}, {}",
        cell(schedule, "name"),
        cell(schedule, "source"),
        cell(schedule, "status"),
        when(schedule)
    );
    say!(
        "fired {}, missed {}, last {}",
        cell(schedule, "fired"),
        cell(schedule, "missed"),
        cell(schedule, "last_at")
    );
    if let Some(error) = schedule["error"].as_str() {
        say!("error: {error}");
    }
    say!("next:");
    times(schedule);
    let history = schedule["history"].as_array().cloned().unwrap_or_default();
    if history.is_empty() {
        return Ok(());
    }
    let row = |one: &Value| ["planned_at", "at", "job", "note"].map(|name| cell(one, name)).to_vec();
    table::print(&["PLANNED", "AT", "JOB", "NOTE"], &history.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
