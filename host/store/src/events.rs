//! What other processes publish: new work, changed jobs, controls.

use crate::{Store, channels::Channels, pack};
use waymark_job::{JobId, State};

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
    channels: Channels,
}

impl Store {
    /// Listens to events and controls.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.subscription("ev")
    }

    /// Listens to new work and controls: what a worker needs.
    #[must_use]
    pub fn subscribe_work(&self) -> Subscription {
        self.subscription("wake")
    }

    /// Listens to controls, and to the channel of this name of each partition.
    fn subscription(&self, name: &str) -> Subscription {
        let mut names = vec![self.control_channel()];
        names.extend((0..self.partitions()).map(|partition| format!("{}{name}", self.head(partition))));
        Subscription { store: self.clone(), channels: Channels::new(self, names, Vec::new()) }
    }
}

impl Subscription {
    /// The next message. Waits for ever; cancel-safe.
    pub async fn next(&mut self) -> Message {
        loop {
            let Some(message) = self.channels.next().await else { return Message::Reconnected };
            if let Some(message) = self.read(&message) {
                return message;
            }
        }
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
