//! What really waits: queued jobs that a worker could claim now.

use crate::{Error, Store};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use waymark_job::{
    JobId,
    flow::{Limits, Rate},
};

/// Lines looked at per job type: so many of them are counted, however many there are.
const LINES_MAX: isize = 20_000;
/// Lines asked about in one call.
const LINES_AT_ONCE: usize = 500;
/// Entries of a sliding window that are looked at: one for each claim.
const WINDOW_MAX: isize = 200;

/// Jobs of one queue that could be claimed now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The queue.
    pub queue: String,
    /// How many: not those that are delayed, of a paused queue, or more than its limits would let run now.
    pub jobs: u64,
    /// When the oldest of those at the fronts of its lines was created, Unix milliseconds.
    pub oldest_ms: Option<u64>,
}

/// A line that may be served: its lane, its entries, and when the job at its front was created.
struct Line {
    lane: String,
    jobs: u64,
    oldest_ms: Option<u64>,
}

impl Line {
    fn queue(&self) -> &str {
        self.lane.split_once('/').map_or(self.lane.as_str(), |(queue, _)| queue)
    }
}

impl Store {
    /// The jobs that could be claimed now, by queue. `selectors`: versions that some host has, as `type@digest`;
    /// those of all types are looked at anyway. `wanted` chooses queues by name.
    ///
    /// Costs a few commands for each line that holds something and waits for no limit; a line is a queue's, or a
    /// flow key's.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn waiting(
        &self,
        selectors: &BTreeSet<String>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Waiting>, Error> {
        let limits = self.known_limits().await?;
        let mut all: BTreeMap<String, Waiting> = BTreeMap::new();
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut pipeline = redis::pipe();
            pipeline.hgetall(format!("{head}depth")).smembers(format!("{head}types"));
            let (mut depths, types): (HashMap<String, i64>, BTreeSet<String>) =
                self.inner.link.pipeline(&pipeline).await?;
            let lines = self.lines(&head, types.union(selectors), &wanted).await?;
            let mut rooms = self.rooms(&head, &lines, &limits).await?;
            for line in lines {
                // What left its line by a control may still be in it.
                let depth = depths.entry(line.queue().to_owned()).or_default();
                let mut jobs = line.jobs.min(u64::try_from(*depth).unwrap_or(0));
                let scopes = [line.queue(), line.lane.as_str()];
                let scopes = if line.lane == line.queue() { &scopes[..1] } else { &scopes[..] };
                for scope in scopes {
                    jobs = jobs.min(rooms.get(*scope).copied().unwrap_or(u64::MAX));
                }
                if jobs == 0 {
                    continue;
                }
                *depth -= i64::try_from(jobs).unwrap_or(i64::MAX);
                for scope in scopes {
                    if let Some(room) = rooms.get_mut(*scope) {
                        *room -= jobs;
                    }
                }
                let one = all.entry(line.queue().to_owned()).or_default();
                line.queue().clone_into(&mut one.queue);
                one.jobs += jobs;
                one.oldest_ms = [one.oldest_ms, line.oldest_ms].into_iter().flatten().min();
            }
        }
        Ok(all.into_values().collect())
    }

    /// The lines that may be served, those of chosen queues.
    async fn lines<'a>(
        &self,
        head: &str,
        selectors: impl Iterator<Item = &'a String>,
        wanted: &impl Fn(&str) -> bool,
    ) -> Result<Vec<Line>, Error> {
        let selectors: Vec<_> = selectors.collect();
        let mut found = Vec::new();
        for piece in selectors.chunks(LINES_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for selector in piece {
                pipeline.zrange(format!("{head}ready:{selector}"), 0, LINES_MAX - 1);
            }
            let answers: Vec<Vec<String>> = self.inner.link.pipeline(&pipeline).await?;
            for (selector, members) in piece.iter().zip(answers) {
                found.extend(members.iter().filter_map(|member| {
                    let (priority, lane) = member.split_once('|')?;
                    let line = Line { lane: lane.to_owned(), jobs: 0, oldest_ms: None };
                    wanted(line.queue()).then(|| (format!("{head}line:{lane}|{selector}|{priority}"), line))
                }));
            }
        }
        for piece in found.chunks_mut(LINES_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for (key, _) in &*piece {
                pipeline.llen(key);
            }
            for (key, _) in &*piece {
                pipeline.lindex(key, -1);
            }
            let answers: Vec<Option<String>> = self.inner.link.pipeline(&pipeline).await?;
            let (lengths, fronts) = answers.split_at(piece.len().min(answers.len()));
            for ((_, line), (length, front)) in piece.iter_mut().zip(lengths.iter().zip(fronts)) {
                line.jobs = length.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
                let front = front.as_deref().and_then(|id| JobId::parse(id).ok());
                line.oldest_ms = front.map(|id| id.created_ms());
            }
        }
        Ok(found.into_iter().map(|(_, line)| line).filter(|line| line.jobs > 0).collect())
    }

    /// What may still start now under the limits of these lines' queues and keys, by the name of the scope.
    async fn rooms(
        &self,
        head: &str,
        lines: &[Line],
        limits: &HashMap<String, Limits>,
    ) -> Result<HashMap<String, u64>, Error> {
        let mut scopes: BTreeMap<&str, (Option<u32>, Option<Rate>)> = BTreeMap::new();
        for line in lines {
            let Some(limits) = limits.get(line.queue()) else { continue };
            let own = (limits.concurrency.map(std::num::NonZero::get), limits.rate);
            scopes.insert(line.queue(), own);
            if line.lane != line.queue() {
                let key = &limits.per_key;
                scopes.insert(&line.lane, (key.concurrency.map(std::num::NonZero::get), key.rate));
            }
        }
        scopes.retain(|_, (concurrency, rate)| concurrency.is_some() || rate.is_some());
        let mut rooms = HashMap::with_capacity(scopes.len());
        let now_ms = if scopes.is_empty() { 0 } else { self.now_ms().await? };
        let scopes: Vec<_> = scopes.into_iter().collect();
        for piece in scopes.chunks(LINES_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for (scope, _) in piece {
                pipeline.hget(format!("{head}busy"), scope).get(format!("{head}rate:{scope}")).lrange(
                    format!("{head}window:{scope}"),
                    0,
                    WINDOW_MAX - 1,
                );
            }
            let answers: Vec<redis::Value> = self.inner.link.pipeline(&pipeline).await?;
            let mut answers = answers.into_iter();
            let mut next = || answers.next().unwrap_or(redis::Value::Nil);
            for (scope, (concurrency, rate)) in piece {
                let busy: Option<u64> = redis::from_redis_value(next()).map_err(redis::RedisError::from)?;
                let stored: Option<f64> = redis::from_redis_value(next()).map_err(redis::RedisError::from)?;
                let window: Vec<String> = redis::from_redis_value(next()).map_err(redis::RedisError::from)?;
                let busy = busy.unwrap_or(0);
                let free = concurrency.map(|most| u64::from(most).saturating_sub(busy));
                let starts = rate.map(|rate| starts(rate, stored.unwrap_or(0.0), &window, now_ms));
                let room = [free, starts].into_iter().flatten().min().unwrap_or(u64::MAX);
                rooms.insert((*scope).to_owned(), room);
            }
        }
        Ok(rooms)
    }
}

/// Jobs that may start now under a rate. Stored: when a token bucket will be full again (ms), or the weight of the
/// window's entries (`ms:weight` each, oldest first).
fn starts(rate: Rate, stored: f64, window: &[String], now_ms: u64) -> u64 {
    let (count, per_ms, now_ms) = (f64::from(rate.count.get()), rate.per_ms.get() as f64, now_ms as f64);
    let room = match rate.burst {
        Some(burst) => {
            let each = per_ms / count;
            (now_ms + f64::from(burst.get()) * each - stored.max(now_ms)) / each + 1e-6
        }
        None => {
            let entries = window.iter().filter_map(|entry| {
                let (at, weight) = entry.split_once(':')?;
                Some((at.parse::<f64>().ok()?, weight.parse::<f64>().ok()?))
            });
            let over: f64 =
                entries.take_while(|(at, _)| at + per_ms <= now_ms).map(|(_, weight)| weight).sum();
            count - (stored - over).max(0.0)
        }
    };
    room.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::{NonZeroU32, NonZeroU64};

    #[test]
    fn a_rate_lets_start_what_its_window_or_its_bucket_has_room_for() {
        let rate = |burst: Option<u32>| Rate {
            count: NonZeroU32::new(10).unwrap(),
            per_ms: NonZeroU64::new(1_000).unwrap(),
            burst: burst.and_then(NonZeroU32::new),
        };
        let window = ["4000:3", "4500:4"].map(str::to_owned);
        assert_eq!(starts(rate(None), 7.0, &window, 4_900), 3);
        assert_eq!(starts(rate(None), 7.0, &window, 5_000), 6);
        assert_eq!(starts(rate(None), 7.0, &window, 9_000), 10);
        // Ten a second: one token falls every 100 ms into a bucket of five.
        assert_eq!(starts(rate(Some(5)), 0.0, &[], 5_000), 5);
        assert_eq!(starts(rate(Some(5)), 5_500.0, &[], 5_000), 0);
        assert_eq!(starts(rate(Some(5)), 5_500.0, &[], 5_200), 2);
    }
}
