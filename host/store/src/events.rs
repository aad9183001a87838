//! What other processes publish: new work, changed jobs, controls.

use crate::{Store, pack};
use futures_util::StreamExt as _;
use std::time::{Duration, Instant};
use waymark_job::{JobId, State};

/// Longest wait before a broken subscription is tried again.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Longest wait for a subscription to stand.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// After so long without a message the server is asked whether it is there: one that vanished says nothing either.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Longest wait for its answer.
const PONG_MAX: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// There may be something to claim.
    Wake {
        /// Where.
        partition: u16,
    },
    /// Jobs changed their state, their progress or their output.
    Event {
        /// Where.
        partition: u16,
        /// Which, and the state each is in now.
        items: Vec<(JobId, State)>,
    },
    /// A worker shall do something about a job.
    Control {
        /// The worker.
        worker: String,
        /// `pause`, `resume` or `drop`.
        verb: String,
        /// The job.
        id: JobId,
        /// The claim that is meant: by now the worker may hold the job under another.
        token: String,
    },
    /// A host shall drain.
    Drain {
        /// The host.
        host: String,
    },
    /// A schedule may be due sooner than was known.
    Schedules,
    /// A route was changed.
    Routes,
    /// A host shall claim nothing, or claim again.
    Pause {
        /// The host.
        host: String,
        /// It shall claim nothing.
        paused: bool,
    },
    /// The subscription stands, for the first time or again: what happened before it may have been missed.
    Reconnected,
}

/// A subscription with a connection of its own, which comes back when it breaks.
pub struct Subscription {
    store: Store,
    events: bool,
    wakes: bool,
    live: Option<Live>,
    wait: Duration,
}

/// A connection that is subscribed.
struct Live {
    sink: redis::aio::PubSubSink,
    stream: redis::aio::PubSubStream,
    /// When the server said something last.
    heard: Instant,
}

impl Store {
    /// Listens to events and controls.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { store: self.clone(), events: true, wakes: false, live: None, wait: Duration::ZERO }
    }

    /// Listens to new work and controls: what a worker needs.
    #[must_use]
    pub fn subscribe_work(&self) -> Subscription {
        Subscription { store: self.clone(), events: false, wakes: true, live: None, wait: Duration::ZERO }
    }
}

impl Subscription {
    /// The next message. Waits for ever; cancel-safe.
    pub async fn next(&mut self) -> Message {
        loop {
            if let Some(live) = &mut self.live {
                let quiet = QUIET_MAX.saturating_sub(live.heard.elapsed());
                match tokio::time::timeout(quiet, live.stream.next()).await {
                    Ok(Some(message)) => {
                        live.heard = Instant::now();
                        if let Some(message) = self.read(&message) {
                            return message;
                        }
                    }
                    Ok(None) => self.live = None,
                    Err(_) => match tokio::time::timeout(PONG_MAX, live.sink.ping::<redis::Value>()).await {
                        Ok(Ok(_)) => live.heard = Instant::now(),
                        _ => self.live = None,
                    },
                }
                continue;
            }
            tokio::time::sleep(self.wait).await;
            let opened = tokio::time::timeout(OPEN_MAX, self.open()).await;
            let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            match opened.unwrap_or_else(late) {
                Ok(live) => {
                    self.live = Some(live);
                    self.wait = Duration::ZERO;
                    return Message::Reconnected;
                }
                Err(error) => {
                    self.wait = (self.wait * 2).clamp(Duration::from_millis(50), RETRY_MAX);
                    tracing::debug!(%error, "the subscription is tried again");
                }
            }
        }
    }

    async fn open(&self) -> Result<Live, redis::RedisError> {
        let store = &self.store;
        let (mut sink, stream) = store.inner.link.pubsub().await?.split();
        sink.subscribe(store.control_channel()).await?;
        for partition in 0..store.partitions() {
            if self.wakes {
                sink.subscribe(format!("{}wake", store.head(partition))).await?;
            }
            if self.events {
                sink.subscribe(format!("{}ev", store.head(partition))).await?;
            }
        }
        Ok(Live { sink, stream, heard: Instant::now() })
    }

    fn read(&self, message: &redis::Msg) -> Option<Message> {
        let channel = message.get_channel_name();
        let payload = std::str::from_utf8(message.get_payload_bytes()).ok()?;
        if channel == self.store.control_channel() {
            let mut words = payload.split(' ');
            let (worker, verb, rest) = (words.next()?, words.next()?, words.next()?);
            let host = rest.to_owned();
            return match (worker, verb) {
                ("host", "drain") => Some(Message::Drain { host }),
                ("host", "schedules") => Some(Message::Schedules),
                ("host", "routes") => Some(Message::Routes),
                ("host", "pause" | "resume") => Some(Message::Pause { host, paused: verb == "pause" }),
                _ => {
                    let (id, token) = (JobId::parse(rest).ok()?, words.next()?.to_owned());
                    Some(Message::Control { worker: worker.to_owned(), verb: verb.to_owned(), id, token })
                }
            };
        }
        // "{<prefix><partition>}:<name>"
        let (tag, name) = channel.strip_prefix('{')?.split_once("}:")?;
        let partition = tag.strip_prefix(self.store.options().prefix.as_str())?.parse().ok()?;
        match name {
            "wake" => Some(Message::Wake { partition }),
            "ev" => {
                let items = payload.split(' ').filter_map(pack::change).collect();
                Some(Message::Event { partition, items })
            }
            _ => None,
        }
    }
}
