//! A second server for what queues do not need: long results and output records, and logs.
//!
//! It may be away without holding up a job: a long value stays on the first server then (`objects`), and log lines wait
//! with those who write them. What lies there cannot be read meanwhile, and whoever asks is told.

use crate::{Error, Store, field, link, link::Link};
use std::time::{Duration, Instant};

/// Longest wait for its answer: commits wait for it.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Where the second server is and what goes there.
#[derive(Clone, Debug)]
pub struct ResultsOptions {
    /// An address like that of the first; certificates and the first part of keys are the same.
    pub url: String,
    /// Results and output records of more bytes than this go there.
    pub above_bytes: usize,
}

/// The second server does not answer, or refuses.
pub(crate) fn away(error: redis::RedisError) -> Error {
    Error::Storage(format!("the Redis for results: {error}"))
}

/// Checks that the second server can be trusted with results, where it answers: a host must be able to start while it
/// is away.
pub(crate) async fn check(second: &Link) -> Result<(), Error> {
    let info = match second.info().await {
        Ok(info) => info,
        Err(error) if link::is_passing(&error) => {
            tracing::warn!(%error, "the Redis for results does not answer");
            return Ok(());
        }
        Err(error) => return Err(Error::Setup(format!("the Redis for results: {error}"))),
    };
    match field(&info, "maxmemory_policy") {
        Some(policy) if policy != "noeviction" => Err(Error::Setup(format!(
            "the Redis for results evicts keys when its memory is full (maxmemory-policy {policy}), which would lose \
             results: set maxmemory-policy noeviction"
        ))),
        _ => Ok(()),
    }
}

impl Store {
    /// Time of one round trip to the second server; `None` where there is none.
    ///
    /// # Errors
    /// It does not answer within 2 s.
    pub async fn ping_results(&self) -> Option<Result<Duration, Error>> {
        let second = self.inner.results.as_ref()?;
        let began = Instant::now();
        let answered =
            second.soon::<redis::Value>(&crate::question(self.global("partitions")), ANSWER_MAX).await;
        Some(answered.map(|_| began.elapsed()).map_err(away))
    }
}
