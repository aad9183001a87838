//! `GET /jobs/{id}/events`: what happens to a job, as server-sent events.
//!
//! | event | data |
//! | --- | --- |
//! | `state` | the job without its input; after the last one the stream ends |
//! | `progress` | `{current, total, message, percent}` |
//! | `log` | one log line |
//! | `output` | one committed output record |
//! | `reset` | `{run}`: a new run began; output and log positions count from its start again |
//!
//! The id of every event is the whole position of its reader: run, outputs, logs, and digests of the last state and
//! progress that were told. Any host can go on from it, because nothing about a reader is kept anywhere.

use super::{
    Service,
    answer::{Include, Job, LogLine, Progress, one_line, text},
    error::Problem,
    feed::LOOK_AGAIN,
    output::mask_lines,
    request::{Id, Params, invalid_query, last_event_id, shorten},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use utoipa::IntoParams;
use waymark_job::{JobId, Record, redact::Mask};
use waymark_store::View;

/// Shortest time between two looks at the job. Bounds what one reader costs the store.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// A comment is sent after so long without an event, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most records read from the store at once, and how many are at first. Their number follows their length, so that a slow
/// reader of long records holds no more memory than one of short ones.
const AT_ONCE_MAX: u64 = 200;
const AT_ONCE_FIRST: u64 = 10;
/// Bytes that are sent together, about; one more record may go beyond.
const SENT_BYTES: usize = 64 << 10;
/// Portions of events that a slow reader may leave unread.
const BACKLOG: usize = 2;

/// Parameters of `GET /jobs/{id}/events`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Kinds of events, with commas between them. Default: `state,progress,log,output`.
    only: Option<String>,
    /// Like the header `Last-Event-ID`, for clients that cannot set it.
    last_event_id: Option<String>,
}

#[derive(Clone, Copy)]
struct Kinds {
    state: bool,
    progress: bool,
    log: bool,
    output: bool,
}

impl Kinds {
    fn read(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text else {
            return Ok(Self { state: true, progress: true, log: true, output: true });
        };
        let mut kinds = Self { state: false, progress: false, log: false, output: false };
        for name in text.split(',') {
            match name {
                "state" => kinds.state = true,
                "progress" => kinds.progress = true,
                "log" => kinds.log = true,
                "output" => kinds.output = true,
                _ => {
                    let all = "state, progress, log, output";
                    return Err(invalid_query(format!(
                        "only: there is no {:?}; there are {all}",
                        shorten(name)
                    )));
                }
            }
        }
        Ok(kinds)
    }
}

/// All that was told to a reader so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    run: u32,
    outputs: u64,
    logs: u64,
    /// Digest of the last state told; 0 is none.
    state: u32,
    /// Digest of the last progress told; 0 is none.
    progress: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, outputs, logs, state, progress } = self;
        write!(formatter, "{run}.{outputs}.{logs}.{state:08x}.{progress:08x}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<_> = text.split('.').collect();
        let [run, outputs, logs, state, progress] = parts[..] else { return Err(()) };
        Ok(Self {
            run: run.parse().map_err(drop)?,
            outputs: outputs.parse().map_err(drop)?,
            logs: logs.parse().map_err(drop)?,
            state: u32::from_str_radix(state, 16).map_err(drop)?,
            progress: u32::from_str_radix(progress, 16).map_err(drop)?,
        })
    }
}

/// The id of an event after which a reader has seen the job as `view` shows it, and so many log lines and outputs.
pub(crate) fn position(view: &View, logs: u64, outputs: u64) -> String {
    let progress =
        view.record.progress.as_ref().map_or(0, |progress| digest(&text(&Progress::new(progress))));
    Position { run: view.record.run, outputs, logs, state: state_digest(view), progress }.to_string()
}

/// Four bytes are enough to tell one value from the next; never 0.
fn digest(text: &str) -> u32 {
    let hash = Sha256::digest(text);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).max(1)
}

/// What makes a state another state: not progress, which has events of its own.
fn state_digest(view: &View) -> u32 {
    let Record { run, attempt, crashes, started_ms, ended_ms, not_before_ms, error, signal, .. } =
        &view.record;
    let error = error.as_ref().map(|error| (&error.kind, &error.message));
    let host = view.record.host.as_ref();
    let state = (view.state.letter(), view.pause_pending, run, attempt, crashes);
    digest(&format!("{state:?} {started_ms:?} {ended_ms:?} {not_before_ms:?} {error:?} {signal:?} {host:?}"))
}

/// Follows a job. The stream ends with the event of an ended state; a reader that comes back with that event's id is
/// answered with 204, which tells it to stay away.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", tag = "jobs", operation_id = "job_events",
    params(
        ("id" = String, Path, description = "The job's id."),
        Which,
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that was seen: the stream goes on after it."),
    ),
    responses(
        (status = 200, description = "Server-sent events: state, progress, log, output, reset.", content_type = "text/event-stream", body = String),
        (status = 204, description = "The job has ended and everything was told."),
        (status = 404, description = "unknown-job"),
    ),
)]
pub(super) async fn follow(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(which): Params<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kinds = Kinds::read(which.only.as_deref())?;
    let last = last_event_id(&headers, which.last_event_id.as_deref());
    // An id that is not ours, as after an upgrade, means from the beginning.
    let position: Position = last.and_then(|text| text.parse().ok()).unwrap_or_default();
    let view = service.view(&id).await?;
    if view.state.is_ended() && position.state == state_digest(&view) && position.run == view.record.run {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (events, stream) = mpsc::channel(BACKLOG);
    let reader = Reader {
        service,
        id,
        kinds,
        position,
        events,
        text: String::new(),
        mask: Mask::default(),
        at_once: AT_ONCE_FIRST,
    };
    crate::task::spawn(reader.run());
    let stream = ReceiverStream::new(stream).map(Ok::<_, Infallible>);
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Why a stream ends.
enum End {
    /// The reader went away.
    Left,
    /// The job was deleted.
    Deleted,
    /// Everything is told.
    Done,
}

struct Reader {
    service: Arc<Service>,
    id: JobId,
    kinds: Kinds,
    position: Position,
    events: mpsc::Sender<Bytes>,
    /// Events not sent yet.
    text: String,
    /// Hides what people are not shown.
    mask: Mask,
    /// Records to read at once.
    at_once: u64,
}

impl Reader {
    async fn run(mut self) {
        let mut watcher = self.service.feed.watch(self.id);
        let mut told_at = Instant::now();
        // The head of the answer goes out at once, even if nothing is to be told yet.
        self.text.push_str("retry: 1000\n\n");
        loop {
            let looked_at = Instant::now();
            let looked = self.look().await;
            if !self.text.is_empty() {
                told_at = Instant::now();
            }
            if self.send().await.is_err() {
                return;
            }
            match looked {
                Ok(None) => {}
                Ok(Some(End::Done | End::Left | End::Deleted)) => return,
                Err(problem) => {
                    tracing::debug!(job_id = %self.id, ?problem, "a job could not be followed for a moment");
                }
            }
            tokio::select! {
                _ = watcher.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.events.closed() => return,
                () = self.service.stopping.cancelled() => return,
            }
            if told_at.elapsed() >= KEEP_ALIVE {
                self.text.push_str(": still here\n\n");
            }
            tokio::time::sleep_until(looked_at + LOOK_MIN).await;
        }
    }

    /// Writes down all that is new.
    async fn look(&mut self) -> Result<Option<End>, Problem> {
        let Some(mut view) = self.service.store.get(&self.id).await? else { return Ok(Some(End::Deleted)) };
        self.mask = self.service.hide(&mut view);
        if self.position.run != view.record.run || self.position.outputs > view.record.outputs {
            let first = self.position.run == 0;
            self.position = Position { run: view.record.run, ..Position::default() };
            if !first {
                self.event("reset", &format!("{{\"run\":{}}}", view.record.run));
            }
        }
        let ended = view.state.is_ended();
        if !ended {
            self.state(&view);
        }
        // What lies in a storage that is away is told when it is back; the end waits for it.
        let mut behind = None;
        if self.kinds.output {
            match self.outputs(view.record.outputs).await {
                Ok(None) => {}
                Ok(end) => return Ok(end),
                Err(problem) => behind = Some(problem),
            }
        }
        if self.kinds.log {
            match self.logs(view.spec.correlation_id.as_deref()).await {
                Ok(None) => {}
                Ok(end) => return Ok(end),
                Err(problem) => behind = Some(problem),
            }
        }
        if self.kinds.progress
            && let Some(progress) = &view.record.progress
        {
            let data = text(&Progress::new(progress));
            let digest = digest(&data);
            if digest != self.position.progress {
                self.position.progress = digest;
                self.event("progress", &data);
            }
        }
        match behind {
            Some(problem) => Err(problem),
            None if ended => {
                self.state(&view);
                Ok(Some(End::Done))
            }
            None => Ok(None),
        }
    }

    fn state(&mut self, view: &View) {
        let digest = state_digest(view);
        if digest != self.position.state && (self.kinds.state || view.state.is_ended()) {
            self.position.state = digest;
            self.event("state", &text(&Job::new(view, Include { input: false, result: true })));
        }
    }

    async fn outputs(&mut self, committed: u64) -> Result<Option<End>, Problem> {
        while self.position.outputs < committed {
            let most = self.at_once.min(committed - self.position.outputs);
            let records = self.service.store.outputs(&self.id, self.position.outputs, most).await?;
            if records.is_empty() {
                break;
            }
            self.measure(&records);
            for record in records {
                self.position.outputs += 1;
                let record = self.mask.json(&record).into_owned();
                self.event("output", &one_line(record));
                if self.text.len() > SENT_BYTES && self.send().await.is_err() {
                    return Ok(Some(End::Left));
                }
            }
            if self.send().await.is_err() {
                return Ok(Some(End::Left));
            }
        }
        Ok(None)
    }

    async fn logs(&mut self, correlation_id: Option<&str>) -> Result<Option<End>, Problem> {
        loop {
            let mut page = self.service.store.logs(&self.id, self.position.logs, self.at_once).await?;
            mask_lines(&self.mask, &mut page.lines);
            let more = page.lines.len() as u64 == self.at_once;
            self.measure(&page.lines);
            // Lines that are no longer kept are passed over.
            self.position.logs = page.first;
            for line in page.lines {
                self.position.logs += 1;
                if let Some(line) = LogLine::read(&line, correlation_id) {
                    self.event("log", &one_line(text(&line)));
                }
                if self.text.len() > SENT_BYTES && self.send().await.is_err() {
                    return Ok(Some(End::Left));
                }
            }
            if !more {
                return Ok(None);
            }
            if self.send().await.is_err() {
                return Ok(Some(End::Left));
            }
        }
    }

    /// So many records are read next, going by the length of these.
    fn measure(&mut self, records: &[String]) {
        let bytes: usize = records.iter().map(String::len).sum();
        let each = (bytes / records.len().max(1)).max(1);
        self.at_once = (SENT_BYTES as u64 / each as u64).clamp(1, AT_ONCE_MAX);
    }

    fn event(&mut self, name: &str, data: &str) {
        use fmt::Write as _;
        let position = self.position;
        // Writing to a string does not fail.
        let _ = write!(self.text, "event: {name}\nid: {position}\ndata: {data}\n\n");
    }

    /// Sends what is written down; an error means that the reader went away.
    async fn send(&mut self) -> Result<(), ()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = Bytes::from(std::mem::take(&mut self.text));
        self.events.send(text).await.map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_as_an_event_id() {
        let position = Position { run: 2, outputs: 30, logs: 4, state: 0xdead_beef, progress: 7 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for wrong in ["", "1", "1.2.3.4", "a.2.3.4.5", "1.2.3.4.5.6", "1.-2.3.4.5"] {
            assert_eq!(wrong.parse::<Position>(), Err(()), "{wrong}");
        }
    }
}
