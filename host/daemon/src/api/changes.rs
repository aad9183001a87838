//! `GET /events`: what happens to all jobs, as server-sent events.
//!
//! | event | data |
//! | --- | --- |
//! | `job` | a job changed: `{id, status, type, queue, priority, tags, correlation_id, at}` |
//! | `gap` | `{partition, after, until}`: what happened between these times is not known any more |
//!
//! The id of an event is its reader's whole place: one of each partition, so that any host can go on from it. Jobs that
//! changed in one call of the store are told together, and the last of them has the id: whoever breaks off in between
//! hears those again.

use super::{
    Service,
    answer::{Status, Timestamp, text},
    error::{Code, Problem},
    feed::LOOK_AGAIN,
    filter::states,
    request::{Params, last_event_id},
    tail::{Entry, Live, Page, Told},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use utoipa::{IntoParams, ToSchema};
use waymark_job::{JobId, State};
use waymark_store::{Place, Store};

/// Readers at once. Each may hold a few hundred kilobytes that it has not read.
pub(super) const READERS_MAX: usize = 100;
/// A comment is sent after so long without an event, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is cut off; it may come back to where it was.
const SLOW_MAX: Duration = Duration::from_secs(30);
/// Pieces of events that a reader may leave unread.
const BACKLOG: usize = 4;
/// Longest of those, about, bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Longest wait for one partition.
const STORE_MAX: Duration = Duration::from_secs(2);
/// How long a partition that did not answer is left alone.
const AWAY: Duration = Duration::from_secs(5);

/// Parameters of `GET /events`. All that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// States that a job came to, with commas between them.
    status: Option<String>,
    /// Job type.
    #[serde(rename = "type")]
    job_type: Option<String>,
    /// Queue.
    queue: Option<String>,
    /// A label.
    tag: Option<String>,
    /// The caller's id for the larger whole.
    correlation_id: Option<String>,
    /// Like the header `Last-Event-ID`, for clients that cannot set it.
    last_event_id: Option<String>,
}

struct Filter {
    states: Vec<State>,
    job_type: Option<String>,
    queue: Option<String>,
    tag: Option<String>,
    correlation_id: Option<String>,
}

impl Filter {
    /// Of a job that was deleted only its state is known.
    fn takes(&self, told: &Told) -> bool {
        let labels = told.labels.as_ref();
        let has = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        (self.states.is_empty() || self.states.contains(&told.state))
            && has(&self.job_type, &|name| labels.is_some_and(|labels| labels.job_type == name))
            && has(&self.queue, &|name| labels.is_some_and(|labels| labels.queue() == name))
            && has(&self.tag, &|tag| {
                labels.is_some_and(|labels| labels.tags.iter().any(|known| known == tag))
            })
            && has(&self.correlation_id, &|id| {
                labels.is_some_and(|labels| labels.correlation_id.as_deref() == Some(id))
            })
    }
}

/// A job that changed. What it is filtered by is `null` where the job was deleted meanwhile.
#[derive(Serialize, ToSchema)]
pub(super) struct JobChange<'a> {
    #[schema(value_type = String)]
    id: JobId,
    /// The state that it was in then. The same as before: its progress, its output or its log grew.
    #[schema(value_type = Status)]
    status: &'static str,
    #[serde(rename = "type")]
    job_type: Option<&'a str>,
    queue: Option<&'a str>,
    /// 0 to 9, 9 first.
    priority: Option<u8>,
    tags: Option<&'a [String]>,
    correlation_id: Option<&'a str>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Something is missing.
#[derive(Serialize, ToSchema)]
pub(super) struct Gap {
    /// Where.
    partition: u16,
    /// What happened after this time; `null`: from the beginning on.
    #[schema(value_type = Option<String>, format = DateTime)]
    after: Option<Timestamp>,
    /// And before this; `null`: until now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// One place per partition; `None`: from when the partition answers.
fn read_places(text: &str, partitions: u16) -> Option<Vec<Option<Place>>> {
    let places: Vec<_> = text
        .split('.')
        .map(|place| match place {
            "" => Some(None),
            place => place.parse().ok().map(Some),
        })
        .collect::<Option<_>>()?;
    (places.len() == usize::from(partitions)).then_some(places)
}

fn write_places(places: &[Option<Place>]) -> String {
    let places: Vec<_> =
        places.iter().map(|place| place.map_or_else(String::new, |place| place.to_string())).collect();
    places.join(".")
}

/// Where every partition stands now.
async fn newest(store: &Store) -> Vec<Option<Place>> {
    let one = |partition| async move {
        let asked = tokio::time::timeout(STORE_MAX, store.newest_change(partition)).await;
        asked.ok().and_then(Result::ok)
    };
    join_all((0..store.partitions()).map(one)).await
}

/// Follows all jobs, or those that a filter takes, from now on or from the last event that was seen. Never ends by
/// itself; whoever reads too slowly is cut off, and may come back. Deleting jobs that have ended is not told.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "jobs", operation_id = "events",
    params(
        Which,
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that was seen: the stream goes on after it."),
    ),
    responses(
        (status = 200, description = "Server-sent events: `job` (JobChange), `gap` (Gap).", content_type = "text/event-stream", body = String),
        (status = 503, description = "too-many-readers"),
    ),
)]
pub(super) async fn follow(
    Shared(service): Shared<Arc<Service>>,
    Params(which): Params<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter {
        states: states(which.status.as_deref())?,
        job_type: which.job_type,
        queue: which.queue,
        tag: which.tag,
        correlation_id: which.correlation_id,
    };
    let Ok(seat) = service.readers.clone().try_acquire_owned() else {
        let detail = format!("This host has the {READERS_MAX} readers of all events that it allows.");
        return Err(Problem::new(Code::TooManyReaders, detail).retry_after(10));
    };
    let last = last_event_id(&headers, which.last_event_id.as_deref());
    let partitions = service.store.partitions();
    let live = service.tail.join();
    let places = match last.filter(|last| !last.is_empty()) {
        None => newest(&service.store).await,
        // An id that is not ours, as after an upgrade, is no place to go on from: all that is kept is told.
        Some(last) => read_places(last, partitions)
            .unwrap_or_else(|| vec![Some(Place::default()); usize::from(partitions)]),
    };
    let (events, stream) = mpsc::channel(BACKLOG);
    let away_until = vec![None; usize::from(partitions)];
    let reader =
        Reader { service, live, filter, places, away_until, events, text: String::new(), _seat: seat };
    crate::task::spawn(reader.run());
    let stream = ReceiverStream::new(stream).map(Ok::<_, Infallible>);
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(stream)).into_response())
}

struct Reader {
    service: Arc<Service>,
    live: Arc<Live>,
    filter: Filter,
    places: Vec<Option<Place>>,
    /// Of each partition: when it is asked again after it did not answer.
    away_until: Vec<Option<Instant>>,
    events: mpsc::Sender<Bytes>,
    /// Events not sent yet.
    text: String,
    _seat: OwnedSemaphorePermit,
}

/// The reader went away, or was too slow.
struct Left;

impl Reader {
    async fn run(mut self) {
        let mut news = self.live.news();
        let mut told_at = Instant::now();
        // The head of the answer goes out at once, and says where a reader stands that hears nothing.
        let _ = write!(self.text, "retry: 1000\nid: {}\n\n", write_places(&self.places));
        let mut told = write_places(&self.places);
        loop {
            news.mark_unchanged();
            let mut more = false;
            for partition in 0..self.service.store.partitions() {
                match self.look(partition).await {
                    Ok(full) => more |= full,
                    Err(Left) => return,
                }
            }
            if !self.text.is_empty() {
                told_at = Instant::now();
                told = write_places(&self.places);
            }
            if self.send().await.is_err() {
                return;
            }
            if more {
                continue;
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.events.closed() => return,
                () = self.service.stopping.cancelled() => return,
            }
            if told_at.elapsed() >= KEEP_ALIVE {
                self.text.push_str(": still here\n");
                // A reader whose filter took nothing need not go through the same again.
                let place = write_places(&self.places);
                if place != told {
                    let _ = writeln!(self.text, "id: {place}");
                }
                self.text.push('\n');
            }
        }
    }

    /// Writes down a part of what is new in a partition. Answers whether there may be more.
    async fn look(&mut self, partition: u16) -> Result<bool, Left> {
        let at = usize::from(partition);
        let place = self.places[at];
        let page = match (self.live.recent(partition, place), place) {
            (Some(page), _) => page,
            (None, Some(place)) if self.away_until[at].is_none_or(|until| until <= Instant::now()) => {
                match tokio::time::timeout(STORE_MAX, self.live.read(partition, place)).await {
                    Ok(Ok(page)) => page,
                    Ok(Err(_)) | Err(_) => {
                        self.away_until[at] = Some(Instant::now() + AWAY);
                        return Ok(false);
                    }
                }
            }
            _ => return Ok(false),
        };
        let Page { gap, entries, next } = page;
        if gap {
            let until = entries.first().map(|first| Timestamp(first.place.ms));
            let after = place.filter(|place| *place != Place::default()).map(|place| Timestamp(place.ms));
            self.gap(partition, after, until);
        }
        for entry in &entries {
            self.places[at] = Some(entry.place);
            self.entry(entry);
            if self.text.len() >= PIECE_BYTES {
                self.send().await?;
            }
        }
        self.places[at] = Some(next);
        Ok(!entries.is_empty())
    }

    fn gap(&mut self, partition: u16, after: Option<Timestamp>, until: Option<Timestamp>) {
        let _ = write!(self.text, "event: gap\ndata: {}\n\n", text(&Gap { partition, after, until }));
    }

    /// The last event of an entry has the id.
    fn entry(&mut self, entry: &Entry) {
        let mut jobs = entry.jobs.iter().filter(|told| self.filter.takes(told)).peekable();
        while let Some(told) = jobs.next() {
            let labels = told.labels.as_deref();
            let change = JobChange {
                id: told.id,
                status: told.state.name(),
                job_type: labels.map(|labels| labels.job_type.as_str()),
                queue: labels.map(|labels| labels.queue()),
                priority: labels.map(|labels| labels.priority),
                tags: labels.map(|labels| labels.tags.as_slice()),
                correlation_id: labels.and_then(|labels| labels.correlation_id.as_deref()),
                at: Timestamp(entry.place.ms),
            };
            self.text.push_str("event: job\n");
            if jobs.peek().is_none() {
                let _ = writeln!(self.text, "id: {}", write_places(&self.places));
            }
            // Writing to a string does not fail.
            let _ = write!(self.text, "data: {}\n\n", text(&change));
        }
    }

    /// Sends what is written down.
    async fn send(&mut self) -> Result<(), Left> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = Bytes::from(std::mem::take(&mut self.text));
        self.events.send_timeout(text, SLOW_MAX).await.map_err(|_| Left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_as_an_event_id() {
        let places = vec![Some(Place { ms: 9, number: 1 }), None, Some(Place::default())];
        assert_eq!(write_places(&places), "9-1..0-0");
        assert_eq!(read_places("9-1..0-0", 3), Some(places));
        for wrong in ["9-1", "9-1..0-0.", "x..", "9-1.9.9-1", "1.0.0.00000000.00000000"] {
            assert_eq!(read_places(wrong, 3), None, "{wrong}");
        }
    }
}
