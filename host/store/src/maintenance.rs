//! What is mended and forgotten from time to time, a portion per call, so that nobody waits for it.

use crate::{Error, Store};
use std::collections::HashSet;
use std::time::Duration;

/// Names forgotten in one call.
const FORGET_MAX: usize = 200;
/// Pause between two calls, so that jobs go first.
const PAUSE: Duration = Duration::from_millis(1);

impl Store {
    /// Forgets queues and job types that hold nothing, and held nothing when this was last called with the same `idle`.
    /// Answers how many.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn expire_keys(&self, idle: &mut HashSet<(u16, String)>) -> Result<u64, Error> {
        let (mut forgotten, mut seen) = (0, HashSet::new());
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut names = Vec::new();
            for (name, depth) in self.numbers(&format!("{head}depth")).await? {
                if depth == 0 {
                    names.push(format!("q{name}"));
                }
            }
            let mut used = HashSet::new();
            for (field, jobs) in self.numbers(&format!("{head}counts")).await? {
                if jobs != 0 {
                    used.extend(field.rsplit_once('|').map(|(name, _)| name.to_owned()));
                }
            }
            let types = self.types_of(partition, None).await?;
            names.extend(types.iter().filter(|name| !used.contains(*name)).map(|name| format!("t{name}")));
            let names: HashSet<_> = names.into_iter().map(|name| (partition, name)).collect();
            let gone: Vec<_> = names.intersection(idle).map(|(_, name)| name.clone()).collect();
            for piece in gone.chunks(FORGET_MAX) {
                let mut call = self.call(&self.inner.scripts.expire_keys, partition);
                forgotten += call.arg(piece).run::<u64>().await?;
            }
            seen.extend(names);
        }
        *idle = seen;
        Ok(forgotten)
    }

    /// Compares all indexes and counts with the jobs. Answers how much was mended.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn reconcile(&self) -> Result<u64, Error> {
        let mut mended = 0;
        for partition in 0..self.partitions() {
            mended += self.reconcile_all(partition, "jobs", "").await?;
            for name in self.types_of(partition, None).await? {
                for class in ['o', 's', 'w', 'p', 'S', 'F', 'C'] {
                    mended += self.reconcile_all(partition, "index", &format!("x:{class}:{name}")).await?;
                }
                mended += self.reconcile_all(partition, "counts", &name).await?;
            }
            for (queue, _) in self.numbers(&format!("{}depth", self.head(partition))).await? {
                mended += self.reconcile_all(partition, "depth", &queue).await?;
            }
            mended += self.reconcile_all(partition, "busy", "").await?;
        }
        Ok(mended)
    }

    async fn reconcile_all(&self, partition: u16, verb: &str, name: &str) -> Result<u64, Error> {
        let (mut mended, mut cursor) = (0, "0".to_owned());
        loop {
            let mut call = self.call(&self.inner.scripts.reconcile, partition);
            let (next, more): (String, u64) = call.arg(verb).arg(name).arg(&cursor).run().await?;
            mended += more;
            if next == "0" {
                return Ok(mended);
            }
            cursor = next;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// All fields of a hash of numbers.
    async fn numbers(&self, key: &str) -> Result<Vec<(String, i64)>, Error> {
        Ok(self.inner.link.fields(key, usize::MAX).await?)
    }
}
