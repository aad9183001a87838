//! Limits of a queue: how many of its jobs run at once, how many start in a time, and how its flow keys share it.
//!
//! A *flow key* is a value of the job, such as its tenant: the caller names it, or the queue's [`Limits::key`] points
//! at it. Jobs of one key stand in a lane of their own; lanes of a queue are served by turns, so that the many jobs of
//! one key do not hold up the one of another.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::num::{NonZeroU32, NonZeroU64};

/// Longest lane name of a key, characters; a longer key stands there by its digest.
const KEY_MAX: usize = 128;
/// Largest number in a limit: the scripts count it exactly, and a window keeps an entry for each claim call.
const COUNT_MAX: u32 = 1_000_000;
/// Longest time of a rate: a day, milliseconds.
const PER_MS_MAX: u64 = 86_400_000;
/// Largest weight of a job.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// What stands for itself in a lane's name.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');

/// What holds for a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most jobs of the queue that run at once, 1 to 1,000,000; a job counts by its weight. Default: no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Most jobs of the queue that start in a time. Default: no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the flow key of a job is found that names none: a JSON Pointer (RFC 6901) into
    /// `{"input": …, "metadata": …}`, such as `/input/tenant`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What holds for each flow key by itself.
    #[serde(skip_serializing_if = "KeyLimits::is_empty")]
    pub per_key: KeyLimits,
    /// What becomes of a new job when the concurrency limit of its key, or else of the queue, is reached by jobs that
    /// run and wait. Default: it waits.
    pub when_full: WhenFull,
}

/// What holds for each flow key of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Most jobs of one key that run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroU32>,
    /// Most jobs of one key that start in a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl KeyLimits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// So many jobs in a time. A job counts by its weight when it is claimed, and again for each further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many, 1 to 1,000,000.
    pub count: NonZeroU32,
    /// In so many milliseconds, up to a day.
    pub per_ms: NonZeroU64,
    /// Given: a token bucket of this size that `count` tokens fall into every `per_ms`, evenly. Left away: a sliding
    /// window, no span of `per_ms` has more than `count` starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
}

/// What becomes of a new job when a concurrency limit is reached. Jobs with a delay, and children, always wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits for its turn.
    #[default]
    Wait,
    /// It is not made, and the caller is told.
    Reject,
    /// It takes the place of the newest job that waits, which is cancelled.
    Replace,
    /// The oldest job that runs is cancelled for it, or the newest that waits where none runs.
    CancelRunning,
}

impl Limits {
    /// Checks the bounds.
    ///
    /// # Errors
    /// Field, as a JSON Pointer, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let fields = [
            ("/concurrency", self.concurrency, "/rate", self.rate),
            ("/per_key/concurrency", self.per_key.concurrency, "/per_key/rate", self.per_key.rate),
        ];
        for (at, concurrency, rate_at, rate) in fields {
            if concurrency.is_some_and(|most| most.get() > COUNT_MAX) {
                return Err((at, format!("must be 1 to {COUNT_MAX}")));
            }
            let Some(rate) = rate else { continue };
            let most = rate.count.max(rate.burst.unwrap_or(rate.count)).get();
            if most > COUNT_MAX || rate.per_ms.get() > PER_MS_MAX {
                return Err((
                    rate_at,
                    format!("count and burst must be 1 to {COUNT_MAX}, per_ms 1 to {PER_MS_MAX}"),
                ));
            }
        }
        if let Some(key) = &self.key
            && !["/input", "/metadata"].iter().any(|root| {
                key.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        {
            return Err(("/key", "must be a JSON Pointer that begins with /input or /metadata".to_owned()));
        }
        let limits_concurrency = self.concurrency.is_some() || self.per_key.concurrency.is_some();
        if self.when_full != WhenFull::Wait && !limits_concurrency {
            return Err(("/when_full", "needs a concurrency limit, of the queue or per key".to_owned()));
        }
        Ok(())
    }

    /// The flow key of a job with this input and metadata, JSON texts: a string, number or boolean that [`Limits::key`]
    /// points at.
    #[must_use]
    pub fn key_of(&self, input: &str, metadata: Option<&str>) -> Option<String> {
        let pointer = self.key.as_deref()?;
        let (text, rest) = match pointer.strip_prefix("/input") {
            Some(rest) => (input, rest),
            None => (metadata?, pointer.strip_prefix("/metadata")?),
        };
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        match value.pointer(rest)? {
            serde_json::Value::String(text) if !text.is_empty() => Some(text.clone()),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }
}

/// A flow key as lanes are named by it: letters, digits and `_-.~` stand for themselves, other bytes as `%XX`; a key
/// whose name would be longer than 128 characters stands there by its digest.
#[must_use]
pub fn encode_key(key: &str) -> String {
    let name = utf8_percent_encode(key, PLAIN).to_string();
    if name.len() <= KEY_MAX { name } else { format!("~{}", hex::encode(Sha256::digest(key))) }
}

/// The flow key of a lane's name; a digest stays one.
#[must_use]
pub fn decode_key(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_what_the_pointer_points_at() {
        let of_input = limits(r#"{"key":"/input/who/tenant"}"#);
        assert_eq!(of_input.key_of(r#"{"who":{"tenant":"a b"}}"#, None).as_deref(), Some("a b"));
        assert_eq!(of_input.key_of(r#"{"who":{"tenant":17}}"#, None).as_deref(), Some("17"));
        for input in [r#"{"who":{}}"#, r#"{"who":{"tenant":null}}"#, r#"{"who":{"tenant":""}}"#, "3"] {
            assert_eq!(of_input.key_of(input, None), None, "{input}");
        }
        let of_metadata = limits(r#"{"key":"/metadata/tenant"}"#);
        assert_eq!(of_metadata.key_of("{}", Some(r#"{"tenant":true}"#)).as_deref(), Some("true"));
        assert_eq!(of_metadata.key_of("{}", None), None);
        assert_eq!(limits(r#"{"key":"/input"}"#).key_of("\"x\"", None).as_deref(), Some("x"));
    }

    #[test]
    fn a_key_survives_its_lane() {
        for key in ["plain", "with space/and|bars", "ü%20", ""] {
            let name = encode_key(key);
            assert!(!name.contains(['|', '/', '@', ' ']), "{name}");
            assert_eq!(decode_key(&name), key);
        }
        let long = "x".repeat(500);
        assert_eq!(encode_key(&long).len(), 65);
        assert_ne!(encode_key(&long), encode_key(&"y".repeat(500)));
    }

    #[test]
    fn limits_out_of_bounds_are_refused_by_field() {
        for (text, field) in [
            (r#"{"concurrency":1000001}"#, "/concurrency"),
            (r#"{"rate":{"count":1,"per_ms":86400001}}"#, "/rate"),
            (r#"{"per_key":{"rate":{"count":1,"per_ms":1,"burst":1000001}}}"#, "/per_key/rate"),
            (r#"{"key":"tenant"}"#, "/key"),
            (r#"{"key":"/inputs"}"#, "/key"),
            (r#"{"when_full":"reject"}"#, "/when_full"),
        ] {
            assert_eq!(limits(text).check().unwrap_err().0, field, "{text}");
        }
        assert!(serde_json::from_str::<Limits>(r#"{"concurrency":0}"#).is_err());
        assert!(limits(r#"{"concurrency":3,"when_full":"cancel_running"}"#).check().is_ok());
    }
}
