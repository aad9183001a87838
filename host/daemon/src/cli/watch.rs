//! Following a job: server-sent events, a progress bar, and patience with hosts that go away.

use super::{
    Client,
    client::Refusal,
    table::{cell, say},
};
use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

/// How long a host may be away before the watch is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries to reach a host.
const RETRY: Duration = Duration::from_millis(500);
/// A stream that is silent for longer is broken: the host sends a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its kind.
    pub name: String,
    /// The reader's position after it.
    pub id: String,
    /// JSON.
    pub data: String,
}

/// Cuts a stream of bytes into events.
#[derive(Default)]
pub struct Parser {
    rest: Vec<u8>,
    event: Event,
    /// The last id that was told, maybe without an event.
    id: String,
}

impl Parser {
    /// Takes the next bytes; answers the events that are complete with them.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[begin..begin + length]);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    events.push(Event { id: self.id.clone(), ..event });
                }
            } else {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "event" => value.clone_into(&mut self.event.name),
                    "id" => value.clone_into(&mut self.id),
                    "data" => {
                        if !self.event.data.is_empty() {
                            self.event.data.push('\n');
                        }
                        self.event.data.push_str(value);
                    }
                    _ => {}
                }
            }
            begin += length + 1;
        }
        self.rest.drain(..begin);
        events
    }
}

/// Calls `told` with every event of all jobs that a filter takes, for ever.
///
/// # Errors
/// The host refused, or was away for longer than a minute.
pub async fn all(
    client: &Client,
    query: &[(&str, String)],
    mut told: impl FnMut(&Event),
) -> anyhow::Result<()> {
    let mut position = String::new();
    let mut heard = Instant::now();
    loop {
        let mut request = client.request(Method::GET, "/api/v1/events").query(query);
        if !position.is_empty() {
            request = request.header("last-event-id", &position);
        }
        match client.send(request).await {
            Ok(response) => {
                let mut parser = Parser { id: position.clone(), ..Parser::default() };
                let mut stream = response.bytes_stream();
                while let Ok(Some(Ok(bytes))) = tokio::time::timeout(SILENCE, stream.next()).await {
                    heard = Instant::now();
                    parser.feed(&bytes).iter().for_each(&mut told);
                    position.clone_from(&parser.id);
                }
            }
            Err(error) if is_refusal(&error) || heard.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        if heard.elapsed() > PATIENCE {
            bail!("the host was away for longer than {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Calls `told` with every event of a job until the job has ended; answers the job then.
///
/// # Errors
/// The host refused, or was away for longer than a minute.
pub async fn follow(
    client: &Client,
    id: &str,
    only: &str,
    mut told: impl FnMut(&Event),
) -> anyhow::Result<Value> {
    let path = format!("/api/v1/jobs/{}/events", super::client::segment(id));
    let mut position = String::new();
    let mut heard = Instant::now();
    loop {
        let mut request = client.request(Method::GET, &path).query(&[("only", only)]);
        if !position.is_empty() {
            request = request.header("last-event-id", &position);
        }
        match client.send(request).await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                return client.get(&format!("/api/v1/jobs/{}", super::client::segment(id)), &[]).await;
            }
            Ok(response) => {
                let mut parser = Parser::default();
                let mut stream = response.bytes_stream();
                while let Ok(Some(Ok(bytes))) = tokio::time::timeout(SILENCE, stream.next()).await {
                    heard = Instant::now();
                    for event in parser.feed(&bytes) {
                        position.clone_from(&event.id);
                        told(&event);
                    }
                }
            }
            Err(error) if is_refusal(&error) || heard.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        if heard.elapsed() > PATIENCE {
            bail!("the host was away for longer than {} s", PATIENCE.as_secs());
        }
        // Either the job has ended, which the next answer says at once, or the host went away.
        tokio::time::sleep(if position.is_empty() { RETRY } else { RETRY / 5 }).await;
    }
}

/// Did the host refuse for a reason that does not pass?
fn is_refusal(error: &anyhow::Error) -> bool {
    let passing = ["store-unavailable", "timeout", "not-ready", "too-many-connections", "too-many-readers"];
    error.downcast_ref::<Refusal>().is_some_and(|refusal| !passing.contains(&refusal.code.as_str()))
}

/// What a person sees while waiting.
pub struct Display {
    bar: ProgressBar,
    terminal: bool,
    status: String,
}

impl Display {
    /// A bar on a terminal; elsewhere a line per state.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            None,
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        bar.set_style(spinner());
        bar.set_prefix(id.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, terminal, status: String::new() }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return };
        match event.name.as_str() {
            "state" => {
                let status = cell(&data, "status");
                if status != self.status && !self.terminal {
                    eprintln!("{} is {status}", cell(&data, "id"));
                }
                self.status = status;
                self.progress(&data["progress"]);
            }
            "progress" => self.progress(&data),
            "log" => self.line(&format!(
                "{} {} {}",
                cell(&data, "at"),
                cell(&data, "level"),
                cell(&data, "message")
            )),
            "reset" => self.line("the job begins a new run"),
            _ => {}
        }
        let message = self.bar.message();
        let note = message.split_once(": ").map_or("", |(_, note)| note).to_owned();
        self.note(&note);
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    fn progress(&mut self, progress: &Value) {
        let Some(current) = progress["current"].as_u64() else { return };
        if let Some(total) = progress["total"].as_u64() {
            if self.bar.length() != Some(total) {
                self.bar.set_style(bar());
                self.bar.set_length(total);
            }
            self.bar.set_position(current.min(total));
        }
        self.note(progress["message"].as_str().unwrap_or(""));
    }

    fn note(&self, note: &str) {
        self.bar.set_message(if note.is_empty() {
            self.status.clone()
        } else {
            format!("{}: {note}", self.status)
        });
    }

    /// Leaves the bar as it is.
    pub fn end(self) {
        self.bar.abandon();
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {spinner} {msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar() -> ProgressStyle {
    let template = "{prefix} [{bar:30}] {human_pos}/{human_len} {percent}% {msg} {elapsed}";
    ProgressStyle::with_template(template)
        .map(|style| style.progress_chars("=> "))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Prints a line for every job that changes, until the program is ended.
///
/// # Errors
/// The host refused, or was away for too long.
pub async fn show_all(client: &Client, query: &[(&str, String)]) -> anyhow::Result<()> {
    all(client, query, |event| {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { return };
        if event.name == "gap" {
            let (after, until) = (cell(&data, "after"), cell(&data, "until"));
            eprintln!("what happened between {after} and {until} is not known any more");
        } else if client.json {
            say!("{}", event.data);
        } else if event.name == "job" {
            let [at, id, status, job_type, queue] =
                ["at", "id", "status", "type", "queue"].map(|name| cell(&data, name));
            say!("{at}  {id}  {status:<9}  {job_type}  {queue}");
        }
    })
    .await
}

/// Follows a job to its end with a progress bar, and shows its result.
///
/// # Errors
/// The host was away for too long, or the job did not succeed.
pub async fn to_end(client: &Client, id: &str, logs: bool, output: bool) -> anyhow::Result<()> {
    let mut only = vec!["state", "progress"];
    if logs {
        only.push("log");
    }
    if output {
        only.push("output");
    }
    let mut display = Display::new(id);
    let outcome = follow(client, id, &only.join(","), |event| {
        if event.name == "output" {
            display.bar.suspend(|| say!("{}", event.data));
        } else {
            display.show(event);
        }
    })
    .await;
    display.end();
    let job = outcome?;
    let status = cell(&job, "status");
    if !client.print(&job) && status == "succeeded" {
        say!("{}", super::client::pretty(&job["result"]));
    }
    if status == "succeeded" {
        return Ok(());
    }
    let error = &job["error"];
    if error.is_null() {
        bail!("job {id} is {status}");
    }
    let trace = error["trace"].as_str().map(|trace| format!("\n{trace}")).unwrap_or_default();
    Err(anyhow::anyhow!("{} ({}){trace}", cell(error, "message"), cell(error, "kind")))
        .with_context(|| format!("job {id} {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_the_bytes_arrive() {
        let text = b"retry: 1000\n\nevent: state\nid: 1.0\ndata: {\"a\":1}\n\n: comment\n\nevent: log\nid: 1.1\ndata: 2\n\n";
        let mut whole = Parser::default();
        let all = whole.feed(text);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].name.as_str(), all[1].id.as_str()), ("state", "1.1"));
        let mut piecewise = Parser::default();
        let events: Vec<_> = text.iter().flat_map(|byte| piecewise.feed(&[*byte])).collect();
        assert_eq!(events, all);
    }
}
