//! Limits of queues: kept in every partition, because scripts see only their own.

use crate::{Error, NewJob, Store};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use waymark_job::flow::{self, Limits, Rate, WhenFull};

/// How long a process believes the limits that it read: a change reaches the scripts at once, the choice of lanes by
/// every host after so long.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Keys of a queue that are told at once.
const KEYS_MAX: usize = 1_000;

/// The limits of queues, by name.
pub type Known = Arc<HashMap<String, Limits>>;

/// How a queue stands against its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Weight of its running jobs that were claimed under a limit.
    pub running: u64,
    /// Its flow keys with jobs that wait or run: key, waiting jobs, running weight. At most 1,000, by name.
    pub keys: Vec<(String, u64, u64)>,
}

/// The rules as the scripts read them.
#[derive(Serialize)]
struct Rules<'a> {
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    rate: Option<RateRule>,
    #[serde(rename = "kc", skip_serializing_if = "Option::is_none")]
    key_concurrency: Option<u32>,
    #[serde(rename = "kr", skip_serializing_if = "Option::is_none")]
    key_rate: Option<RateRule>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    strategy: Option<&'static str>,
    /// The limits as they were given, JSON.
    all: &'a str,
}

#[derive(serde::Deserialize)]
struct Given {
    all: String,
}

#[derive(Serialize)]
struct RateRule {
    #[serde(rename = "n")]
    count: u32,
    #[serde(rename = "p")]
    per_ms: u64,
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

impl From<Rate> for RateRule {
    fn from(rate: Rate) -> Self {
        Self {
            count: rate.count.get(),
            per_ms: rate.per_ms.get(),
            burst: rate.burst.map(std::num::NonZero::get),
        }
    }
}

fn pack(limits: &Limits) -> Result<Vec<u8>, Error> {
    let corrupt = |error: &dyn std::fmt::Display| Error::corrupt("limits of a queue", error);
    let all = serde_json::to_string(limits).map_err(|error| corrupt(&error))?;
    let rules = Rules {
        concurrency: limits.concurrency.map(std::num::NonZero::get),
        rate: limits.rate.map(RateRule::from),
        key_concurrency: limits.per_key.concurrency.map(std::num::NonZero::get),
        key_rate: limits.per_key.rate.map(RateRule::from),
        strategy: match limits.when_full {
            WhenFull::Wait => None,
            WhenFull::Reject => Some("reject"),
            WhenFull::Replace => Some("replace"),
            WhenFull::CancelRunning => Some("cancel_running"),
        },
        all: &all,
    };
    rmp_serde::to_vec_named(&rules).map_err(|error| corrupt(&error))
}

fn unpack(queue: &str, packed: &[u8]) -> Result<Limits, Error> {
    let what = || format!("limits of queue {queue}");
    let given: Given = rmp_serde::from_slice(packed).map_err(|error| Error::corrupt(what(), error))?;
    serde_json::from_str(&given.all).map_err(|error| Error::corrupt(what(), error))
}

impl Store {
    /// Sets the limits of a queue, or takes them away. Jobs that run already count from their next claim on.
    ///
    /// # Errors
    /// The server does not answer; some partitions may have the new limits then.
    pub async fn set_limits(&self, queue: &str, limits: Option<&Limits>) -> Result<(), Error> {
        let packed = limits.map(pack).transpose()?.unwrap_or_default();
        for partition in 0..self.partitions() {
            self.queue_steps(partition, queue, "limits", &packed).await?;
        }
        *self.inner.limits.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// The limits of all queues that have any, by name.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn all_limits(&self) -> Result<BTreeMap<String, Limits>, Error> {
        let mut partition = self.answering(0);
        let stored: HashMap<String, Vec<u8>> = loop {
            let mut command = redis::cmd("HGETALL");
            command.arg(format!("{}limits", self.head(partition)));
            let error = match self.inner.link.any(&command).await {
                Ok(stored) => break stored,
                Err(error) => error,
            };
            // Every partition has all of them.
            let next = self.answering(partition);
            if next == partition {
                return Err(error.into());
            }
            partition = next;
        };
        stored.into_iter().map(|(queue, packed)| Ok((queue.clone(), unpack(&queue, &packed)?))).collect()
    }

    /// How a queue stands against its limits.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn flow(&self, queue: &str) -> Result<Flow, Error> {
        let mut flow = Flow::default();
        let mut keys: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let prefix = format!("{queue}/");
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut command = redis::cmd("HGET");
            command.arg(format!("{head}busy")).arg(queue);
            flow.running += self.inner.link.any::<Option<u64>>(&command).await?.unwrap_or(0);
            for (hash, running) in [("lanes", false), ("busy", true)] {
                let mut cursor = 0_u64;
                loop {
                    let mut command = redis::cmd("HSCAN");
                    command.arg(format!("{head}{hash}")).arg(cursor);
                    command.arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(500);
                    let (next, page): (u64, Vec<(String, u64)>) = self.inner.link.any(&command).await?;
                    for (lane, number) in page {
                        let Some(key) = lane.strip_prefix(&prefix) else { continue };
                        let known = keys.entry(flow::decode_key(key)).or_default();
                        *(if running { &mut known.1 } else { &mut known.0 }) += number;
                    }
                    if next == 0 || keys.len() >= KEYS_MAX {
                        break;
                    }
                    cursor = next;
                }
            }
        }
        flow.keys = keys.into_iter().take(KEYS_MAX).map(|(key, (waits, runs))| (key, waits, runs)).collect();
        Ok(flow)
    }

    /// The limits that lines of jobs wait behind now: a queue, or `queue/key` with an encoded key, and how many lines. Of each
    /// partition a thousand lines or so are looked at.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn blocked(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut scopes = BTreeMap::new();
        for partition in 0..self.partitions() {
            let blocked = format!("{}blocked", self.head(partition));
            let blocked: Vec<(String, String)> = self.inner.link.fields(&blocked, KEYS_MAX).await?;
            for (_, scope) in blocked {
                *scopes.entry(scope).or_default() += 1;
            }
        }
        Ok(scopes)
    }

    /// The limits of all queues, as this process read them within the last second.
    pub(crate) async fn known_limits(&self) -> Result<Known, Error> {
        let lock = || self.inner.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, known)) = &*lock()
            && at.elapsed() < AGE_MAX
        {
            return Ok(known.clone());
        }
        let known: Known = Arc::new(self.all_limits().await?.into_iter().collect());
        *lock() = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// Gives jobs that name none the flow key that their queue's limits point at.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn settle(&self, jobs: &mut [NewJob]) -> Result<Known, Error> {
        let known = self.known_limits().await?;
        if !known.is_empty() {
            for job in jobs {
                let spec = &mut job.spec;
                if spec.key.is_none()
                    && let Some(limits) = known.get(spec.queue())
                    && let Some(key) = limits.key_of(&spec.input, spec.metadata.as_deref())
                {
                    spec.key = Some(flow::encode_key(&key));
                }
            }
        }
        Ok(known)
    }
}
