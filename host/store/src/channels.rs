//! Channels that are listened to by a connection of its own, which comes back when it breaks.

use crate::Store;
use futures_util::StreamExt as _;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::time::{Duration, Instant};

/// Longest wait before a broken subscription is tried again.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a subscription to stand.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// After so long without a message the server is asked whether it is there: one that vanished says nothing either.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Longest wait for its answer.
const PONG_MAX: Duration = Duration::from_secs(1);

/// A subscription.
pub(crate) struct Channels {
    store: Store,
    names: Vec<String>,
    /// Glob-style, of the names of further channels.
    patterns: Vec<String>,
    live: Option<Live>,
    wait: Duration,
    /// The server was said to refuse it.
    refused: bool,
}

/// A connection that is subscribed.
struct Live {
    sink: redis::aio::PubSubSink,
    stream: redis::aio::PubSubStream,
    /// When the server said something last.
    heard: Instant,
}

impl Channels {
    pub(crate) fn new(store: &Store, names: Vec<String>, patterns: Vec<String>) -> Self {
        Self { store: store.clone(), names, patterns, live: None, wait: Duration::ZERO, refused: false }
    }

    /// The next message; `None`: the subscription stands, for the first time or again, and what was published before may
    /// have been missed. Waits for ever; cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<redis::Msg> {
        loop {
            if let Some(live) = &mut self.live {
                let quiet = QUIET_MAX.saturating_sub(live.heard.elapsed());
                match tokio::time::timeout(quiet, live.stream.next()).await {
                    Ok(Some(message)) => {
                        live.heard = Instant::now();
                        return Some(message);
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
                    self.refused = false;
                    return None;
                }
                Err(error) => {
                    self.wait = (self.wait * 2).clamp(Duration::from_millis(50), RETRY_MAX);
                    if is_refused(&error) && !self.refused {
                        self.refused = true;
                        let channels = [&self.names[..], &self.patterns[..]].concat().join(" ");
                        tracing::warn!(%error, channels, "the user of Redis may not listen to these channels: what they tell is seen late");
                    } else {
                        tracing::debug!(%error, "the subscription is tried again");
                    }
                }
            }
        }
    }

    async fn open(&self) -> Result<Live, RedisError> {
        let (mut sink, stream) = self.store.inner.link.pubsub().await?.split();
        for name in &self.names {
            sink.subscribe(name).await?;
        }
        for pattern in &self.patterns {
            sink.psubscribe(pattern).await?;
        }
        Ok(Live { sink, stream, heard: Instant::now() })
    }
}

/// Has the user of Redis no right to it?
fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}
