//! Buckets of values that expire, with a quota: what job types remember beyond their jobs.

use crate::{Error, Store};
use waymark_job::bucket::{Bucket, Keys};

/// Names in one script call.
const NAMES_MAX: usize = 100;

impl Store {
    fn kv(&self, verb: &str, bucket: &Bucket) -> crate::script::Call<'_> {
        let mut call = self.call_at(&self.inner.scripts.kv, self.global(""));
        call.arg(verb).arg(&bucket.name).arg(bucket.bytes_max).arg(bucket.ttl_ms);
        call
    }

    /// A value or nothing for each name.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn kv_get(&self, bucket: &Bucket, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(NAMES_MAX) {
            let mut call = self.kv("get", bucket);
            for name in names {
                call.arg(name);
            }
            found.extend(call.run::<Vec<Option<Vec<u8>>>>().await?);
        }
        Ok(found)
    }

    /// Writes values, 100 at a time; false where one of these would pass the quota: then none of its hundred is written.
    ///
    /// # Errors
    /// The server does not answer, or has no room.
    pub async fn kv_set(&self, bucket: &Bucket, values: &[(String, Vec<u8>)]) -> Result<bool, Error> {
        for values in values.chunks(NAMES_MAX) {
            let mut call = self.kv("set", bucket);
            for (name, value) in values {
                call.arg(name).arg(value.as_slice());
            }
            if call.run::<u64>().await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes values.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn kv_delete(&self, bucket: &Bucket, names: &[String]) -> Result<(), Error> {
        for names in names.chunks(NAMES_MAX) {
            let mut call = self.kv("delete", bucket);
            for name in names {
                call.arg(name);
            }
            let _: u64 = call.run().await?;
        }
        Ok(())
    }

    /// At most 100 names, from this index on, those that expire first first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn kv_keys(&self, bucket: &Bucket, from: u64) -> Result<Keys, Error> {
        let (names, next): (Vec<String>, String) = self.kv("keys", bucket).arg(from).run().await?;
        Ok((names, next.parse().ok()))
    }

    /// Adds to a number, which is 0 where there is none; nothing where that would pass the quota.
    ///
    /// # Errors
    /// The server does not answer, or the value is no number, or would be too large a one.
    pub async fn kv_increment(&self, bucket: &Bucket, name: &str, delta: u64) -> Result<Option<u64>, Error> {
        let answer: String = self.kv("increment", bucket).arg(name).arg(delta).run_once().await?;
        Ok(answer.parse().ok())
    }
}
