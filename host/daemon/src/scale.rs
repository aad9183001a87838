//! What really waits, and how many slots and hosts that needs: for autoscalers of hosts, and for a host's own slots.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use waymark_job::scale::Demand;
use waymark_store::{Error, Store};
use wildmatch::WildMatch;

/// How long a job may wait where nobody says otherwise, milliseconds.
pub const TARGET_MS: u64 = 10_000;
/// Slots of a host where none is there to be asked.
const HOST_SLOTS: u64 = 64;

/// What waits in one queue.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Waiting {
    /// Its name.
    pub name: String,
    /// Jobs that could be claimed now.
    pub waiting: u64,
    /// Age of the oldest of them, seconds.
    pub oldest_waiting_seconds: f64,
}

/// What waits, what runs, and what that needs.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Signal {
    /// Jobs that could be claimed now: not those that are delayed, of a paused queue, or held back by a limit.
    pub waiting: u64,
    /// Age of the oldest of them, seconds; 0 if none waits.
    pub oldest_waiting_seconds: f64,
    /// Slots in use on the hosts that serve these queues.
    pub running: u64,
    /// Slots that these hosts have now.
    pub slots: u64,
    /// Hosts that claim and serve at least one of these queues.
    pub hosts: u64,
    /// How long a job holds a slot at present, milliseconds; 0: not known.
    pub stay_ms: f64,
    /// Slots with which all that waits would begin in time.
    pub wanted_slots: u64,
    /// The same in hosts as large as those that are there, or of 64 slots if there are none.
    pub wanted_hosts: u64,
    /// Queues in which something waits, by name.
    pub queues: Vec<Waiting>,
}

/// What a host says of itself, as far as it matters here. One of another version may say less.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Host {
    paused: bool,
    draining: bool,
    queues: Vec<String>,
    slots: u64,
    slots_max: u64,
    used: u64,
    stay_us: u64,
    types: Vec<Type>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Type {
    name: String,
    digest: String,
}

/// A choice of queues: names, and patterns with `*`. Empty: all.
pub struct Chosen(Vec<WildMatch>);

impl Chosen {
    /// Reads names and patterns.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(WildMatch::new).collect())
    }

    /// Is the queue among them?
    #[must_use]
    pub fn has(&self, queue: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(queue))
    }
}

/// Reads the signal for some queues. A job shall wait `target_ms` at most.
///
/// # Errors
/// The store does not answer.
pub async fn read(store: &Store, chosen: &Chosen, target_ms: u64) -> Result<Signal, Error> {
    let known = store.hosts().await?;
    let hosts: Vec<Host> = known.iter().filter_map(|(_, record)| serde_json::from_str(record).ok()).collect();
    let pinned = hosts.iter().flat_map(|host| &host.types);
    let selectors: BTreeSet<_> = pinned.map(|one| format!("{}@{}", one.name, one.digest)).collect();
    let now_ms = store.now_ms().await?;
    let waiting = store.waiting(&selectors, |queue| chosen.has(queue)).await?;
    let seconds =
        |since_ms: Option<u64>| since_ms.map_or(0.0, |since_ms| now_ms.saturating_sub(since_ms) as f64 / 1e3);
    let serves = |host: &&Host| {
        let own = Chosen::new(host.queues.iter().map(String::as_str));
        let names = host.queues.iter().any(|name| chosen.has(name));
        !host.paused
            && !host.draining
            && host.slots > 0
            && (chosen.0.is_empty()
                || host.queues.is_empty()
                || names
                || waiting.iter().any(|one| own.has(&one.queue)))
    };
    let serving: Vec<_> = hosts.iter().filter(serves).collect();
    let sum = |of: fn(&Host) -> u64| serving.iter().map(|host| of(host)).sum::<u64>();
    let stays: Vec<_> = serving.iter().map(|host| host.stay_us).filter(|stay_us| *stay_us > 0).collect();
    let demand = Demand {
        waiting: waiting.iter().map(|one| one.jobs).sum(),
        // Short jobs are claimed ahead of their slots.
        running: sum(|host| host.used.min(host.slots)),
        stay_us: stays.iter().sum::<u64>() / (stays.len() as u64).max(1),
    };
    let wanted_slots = demand.slots(target_ms);
    let each = match serving.len() as u64 {
        0 => HOST_SLOTS,
        hosts => (sum(|host| host.slots_max.max(host.slots)) / hosts).max(1),
    };
    Ok(Signal {
        waiting: demand.waiting,
        oldest_waiting_seconds: seconds(waiting.iter().filter_map(|one| one.oldest_ms).min()),
        running: demand.running,
        slots: sum(|host| host.slots),
        hosts: serving.len() as u64,
        stay_ms: demand.stay_us as f64 / 1e3,
        wanted_slots,
        wanted_hosts: wanted_slots.div_ceil(each),
        queues: waiting
            .into_iter()
            .map(|one| Waiting {
                oldest_waiting_seconds: seconds(one.oldest_ms),
                waiting: one.jobs,
                name: one.queue,
            })
            .collect(),
    })
}
