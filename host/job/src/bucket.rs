//! Buckets of values that a job type remembers beyond its jobs.

/// A bucket, and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name, with that of the job type before it.
    pub name: String,
    /// Bytes of all values and their names.
    pub bytes_max: u64,
    /// Time until a value expires, milliseconds, at least 1.
    pub ttl_ms: u64,
}

/// Names of values, and the index of the next where there are more.
pub type Keys = (Vec<String>, Option<u64>);
