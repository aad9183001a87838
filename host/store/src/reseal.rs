//! What old keys sealed is sealed again by the active one, while hosts run.
//!
//! Jobs are looked at a portion per call, from where the call before stopped; nothing is kept about it, so that a pass can be
//! ended and begun at any time. A value is replaced in a script, and only if it still is what was read: no commit is undone. What
//! changed meanwhile, and what cannot be read now, is left and counted, for the next pass. Kept answers of language models are
//! not looked at: without their key they are asked for again.

use crate::{
    Error, Store, apart, jobs, objects, pack,
    seal::{Keyring, Kind},
};
use std::{
    collections::BTreeMap,
    ops::AddAssign,
    time::{Duration, Instant},
};
use waymark_job::{JobId, Spec};

/// Jobs read and looked at together.
const PAGE: u64 = 20;
/// Output records and log lines read at once.
const RECORDS_AT_ONCE: u64 = 100;
/// Bytes of values written in one call: a longer one would keep others waiting.
const BYTES_AT_ONCE: usize = 1 << 20;
/// After so long a call answers.
const STEP: Duration = Duration::from_secs(1);

/// What a portion of the jobs had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Jobs looked at.
    pub jobs: u64,
    /// Values by the id of the key that sealed them as they were found; a job's input with its metadata is one.
    pub found: BTreeMap<String, u64>,
    /// Values that are sealed by the active key now and were by another.
    pub resealed: u64,
    /// Values of other keys that stay as they are: it was a dry run, they changed meanwhile, their key is missing, or they
    /// lie in a storage that does not answer. Another pass finds them.
    pub left: u64,
    /// Where the next portion begins; `None` at the end.
    pub cursor: Option<String>,
}

impl AddAssign for Resealed {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        for (key, values) in other.found {
            *self.found.entry(key).or_default() += values;
        }
        self.resealed += other.resealed;
        self.left += other.left;
        self.cursor = other.cursor;
    }
}

/// A value in the place of another.
struct Change {
    /// `h` field of a hash, `l` element of a list, `s` a string.
    kind: &'static str,
    /// Name of the key within the partition.
    name: String,
    /// Field or index.
    place: String,
    before: Vec<u8>,
    after: Vec<u8>,
    /// Paths of the objects that they refer to, where they do.
    objects: Option<(String, String)>,
}

/// One job.
struct Pass<'a> {
    store: &'a Store,
    id: JobId,
    dry_run: bool,
    sum: Resealed,
    changes: Vec<Change>,
}

impl Store {
    /// Looks at a portion of all jobs, from `cursor` of the call before on, and seals by the active key what another one
    /// sealed; or only counts, in a dry run. Takes about a second.
    ///
    /// # Errors
    /// [`Error::BadCursor`], there is no active key, or the server does not answer; what was written until then stays.
    pub async fn reseal(&self, cursor: Option<&str>, dry_run: bool) -> Result<Resealed, Error> {
        if !dry_run && !self.keyring().seals() {
            return Err(Error::Setup("there is no active key: set active in [encryption]".to_owned()));
        }
        let (mut partition, mut at) = match cursor {
            None => (0, 0),
            Some(text) => read_cursor(text).ok_or(Error::BadCursor)?,
        };
        if partition >= self.partitions() {
            return Err(Error::BadCursor);
        }
        let began = Instant::now();
        let mut sum = Resealed::default();
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(format!("{}jobs", self.head(partition))).arg(at).arg("COUNT").arg(PAGE);
            type Page = Vec<(Vec<u8>, Vec<u8>)>;
            let (next, page): (u64, Page) = self.inner.link.any(&command).await?;
            let passes = page.into_iter().map(|(id, spec)| self.reseal_job(id, spec, dry_run));
            for one in futures_util::future::try_join_all(passes).await? {
                sum += one;
            }
            at = next;
            if at == 0 {
                partition += 1;
            }
            if partition == self.partitions() {
                return Ok(sum);
            }
            if began.elapsed() >= STEP {
                sum.cursor = Some(format!("{partition}-{at}"));
                return Ok(sum);
            }
        }
    }

    async fn reseal_job(&self, id: Vec<u8>, spec: Vec<u8>, dry_run: bool) -> Result<Resealed, Error> {
        let id = jobs::parse_id(&id)?;
        let sum = Resealed { jobs: 1, ..Resealed::default() };
        let mut pass = Pass { store: self, id, dry_run, sum, changes: Vec::new() };
        pass.spec(spec);
        pass.small().await?;
        pass.outputs().await?;
        pass.write(false).await?;
        pass.logs().await?;
        Ok(pass.sum)
    }
}

fn read_cursor(text: &str) -> Option<(u16, u64)> {
    let (partition, at) = text.split_once('-')?;
    Some((partition.parse().ok()?, at.parse().ok()?))
}

impl Pass<'_> {
    /// Counts a value; answers whether it is to be sealed again.
    fn counts(&mut self, key: Option<&str>) -> bool {
        let Some(key) = key else { return false };
        *self.sum.found.entry(key.to_owned()).or_default() += 1;
        if self.store.keyring().active() == Some(key) {
            return false;
        }
        if self.dry_run {
            self.sum.left += 1;
        }
        !self.dry_run
    }

    /// Takes what was made of a value, or counts it as left where nothing could be.
    fn put(
        &mut self,
        (kind, name, place): (&'static str, String, String),
        before: Vec<u8>,
        after: Result<Vec<u8>, Error>,
    ) {
        match after {
            Ok(after) => self.changes.push(Change { kind, name, place, before, after, objects: None }),
            Err(error) => self.leave(&error),
        }
    }

    fn leave(&mut self, error: &Error) {
        tracing::debug!(job_id = %self.id, %error, "a value is not sealed again");
        self.sum.left += 1;
    }

    /// Input and metadata are texts within one packed value, sealed together: they count as one.
    fn spec(&mut self, stored: Vec<u8>) {
        let Ok(spec) = pack::read_sealed_spec(&self.id, &stored) else { return };
        if self.counts(Keyring::key_of_text(&spec.input).as_deref()) {
            let after = self.spec_again(spec);
            self.put(("h", "jobs".to_owned(), self.id.to_string()), stored, after);
        }
    }

    fn spec_again(&self, mut spec: Spec) -> Result<Vec<u8>, Error> {
        let (keyring, owner) = (self.store.keyring(), pack::owner_of_input(&self.id, &spec));
        spec.input = keyring.reseal_text(&owner, Kind::Input, spec.input)?;
        if let Some(metadata) = spec.metadata.take() {
            spec.metadata = Some(keyring.reseal_text(&owner, Kind::Metadata, metadata)?);
        }
        pack::sealed_spec(&spec)
    }

    /// What a job has few of: its result, checkpoints, results of children, signals, the graph of a workflow.
    async fn small(&mut self) -> Result<(), Error> {
        let (store, id) = (self.store, self.id);
        let key = |name: &str| store.key(&id, name);
        let mut pipeline = redis::pipe();
        pipeline
            .hget(key("res"), id.as_str())
            .lrange(key(&format!("cp:{id}")), 0, -1)
            .hgetall(key(&format!("kids:{id}")))
            .hgetall(key(&format!("sig:{id}")))
            .get(key(&format!("graph:{id}")));
        type Fields = Vec<(String, Vec<u8>)>;
        type Answer = (Option<Vec<u8>>, Vec<Vec<u8>>, Fields, Fields, Option<Vec<u8>>);
        let (result, checkpoints, children, signals, graph): Answer =
            store.inner.link.pipeline(&pipeline).await?;
        let keyring = store.keyring();
        if let Some(stored) = result {
            self.value(("h", "res".to_owned(), id.to_string()), Kind::Result, stored).await;
        }
        for (at, stored) in checkpoints.into_iter().enumerate() {
            let Some(body) = pack::sealed_state(&stored) else { continue };
            if self.counts(Keyring::key_of(&stored[body..])) {
                let after = keyring
                    .reseal(id.as_str(), Kind::Checkpoint, &stored[body..])
                    .map(|state| [&stored[..body], state.as_slice()].concat());
                self.put(("l", format!("cp:{id}"), at.to_string()), stored, after);
            }
        }
        for (child, stored) in children {
            let Some((b'S', value)) = stored.split_first() else { continue };
            if self.counts(Keyring::key_of(value)) {
                let after = keyring.reseal(&child, Kind::Result, value);
                let after = after.map(|value| [b"S".as_slice(), value.as_slice()].concat());
                self.put(("h", format!("kids:{id}"), child), stored, after);
            }
        }
        for (name, stored) in signals {
            let text = String::from_utf8_lossy(&stored);
            let Some((arrived, payload)) = text.split_once(' ') else { continue };
            if self.counts(Keyring::key_of_text(payload).as_deref()) {
                let after = keyring.reseal_text(id.as_str(), Kind::Signal, payload.to_owned());
                let after = after.map(|payload| format!("{arrived} {payload}").into_bytes());
                self.put(("h", format!("sig:{id}"), name), stored, after);
            }
        }
        if let Some(stored) = graph
            && self.counts(Keyring::key_of(&stored))
        {
            let after = keyring.reseal(id.as_str(), Kind::Graph, &stored);
            self.put(("s", format!("graph:{id}"), String::new()), stored, after);
        }
        Ok(())
    }

    /// A result or an output record, wherever it lies.
    async fn value(&mut self, place: (&'static str, String, String), kind: Kind, stored: Vec<u8>) {
        let (store, id) = (self.store, self.id);
        if !objects::is_reference(&stored) {
            if self.counts(Keyring::key_of(&stored)) {
                let after = store.keyring().reseal(id.as_str(), kind, &stored);
                self.put(place, stored, after);
            }
            return;
        }
        let (path, content) = match store.content_of(&stored).await {
            Ok(found) => found,
            Err(error) => return self.leave(&error),
        };
        if !self.counts(Keyring::key_of(&content)) {
            return;
        }
        match store.put_again(&id, kind, &path, &content).await {
            Ok((reference, fresh)) => {
                let (kind, name, place) = place;
                let objects = Some((path, fresh));
                self.changes.push(Change { kind, name, place, before: stored, after: reference, objects });
            }
            Err(error) => self.leave(&error),
        }
    }

    async fn outputs(&mut self) -> Result<(), Error> {
        let name = format!("out:{}", self.id);
        let mut from = 0;
        loop {
            let records = self.store.slice(self.store.key(&self.id, &name), from, RECORDS_AT_ONCE).await?;
            let read = records.len() as u64;
            for (at, record) in (from..).zip(records) {
                self.value(("l", name.clone(), at.to_string()), Kind::Output, record).await;
            }
            self.write(false).await?;
            if read < RECORDS_AT_ONCE {
                return Ok(());
            }
            from += read;
        }
    }

    /// Log lines, on whichever server they are.
    async fn logs(&mut self) -> Result<(), Error> {
        let (store, id) = (self.store, self.id);
        let second = match &store.inner.results {
            Some(second) if store.are_logs_apart(&id).await? => Some(second),
            _ => None,
        };
        let name = format!("log:{id}");
        let mut from = 0;
        loop {
            let lines = match second {
                None => store.slice(store.key(&id, &name), from, RECORDS_AT_ONCE).await?,
                Some(second) => {
                    let mut command = redis::cmd("LRANGE");
                    command.arg(store.key(&id, &name)).arg(from).arg(from + RECORDS_AT_ONCE - 1);
                    match second.soon::<Vec<Vec<u8>>>(&command, apart::ANSWER_MAX).await {
                        Ok(lines) => lines,
                        Err(error) => {
                            self.leave(&apart::away(error));
                            return Ok(());
                        }
                    }
                }
            };
            let read = lines.len() as u64;
            for (at, line) in (from..).zip(lines) {
                let text = String::from_utf8_lossy(&line).into_owned();
                if self.counts(Keyring::key_of_text(&text).as_deref()) {
                    let after = store.keyring().reseal_text(id.as_str(), Kind::Log, text);
                    self.put(("l", name.clone(), at.to_string()), line, after.map(String::into_bytes));
                }
            }
            self.write(second.is_some()).await?;
            if read < RECORDS_AT_ONCE {
                return Ok(());
            }
            from += read;
        }
    }

    /// Writes what was gathered, to the second server where that is meant.
    async fn write(&mut self, second: bool) -> Result<(), Error> {
        let (store, partition) = (self.store, self.id.partition());
        let script = &store.inner.scripts.reseal;
        let mut changes = std::mem::take(&mut self.changes).into_iter().peekable();
        while changes.peek().is_some() {
            let mut call = match store.inner.results.as_ref().filter(|_| second) {
                Some(link) => store.call_on(link, script, partition),
                None => store.call(script, partition),
            };
            call.arg(self.id.as_str());
            let (mut asked, mut bytes) = (0, 0);
            while let Some(change) = changes.next_if(|_| bytes < BYTES_AT_ONCE) {
                let Change { kind, name, place, before, after, objects } = change;
                (asked, bytes) = (asked + 1, bytes + before.len() + after.len());
                let (old, new) = objects.unwrap_or_default();
                call.arg(kind).arg(name).arg(place).arg(before).arg(after).arg(old).arg(new);
            }
            let there: u64 = if second {
                match call.run_soon(apart::ANSWER_MAX).await {
                    Ok(there) => there,
                    Err(error) => {
                        tracing::debug!(job_id = %self.id, %error, "log lines are not sealed again");
                        0
                    }
                }
            } else {
                call.run().await?
            };
            self.sum.resealed += there;
            self.sum.left += asked - there;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_partition_and_a_place_in_it() {
        assert_eq!(read_cursor("3-17"), Some((3, 17)));
        for wrong in ["", "3", "3-", "-1", "a-1", "70000-1", "1-2-3"] {
            assert_eq!(read_cursor(wrong), None, "{wrong}");
        }
    }
}
