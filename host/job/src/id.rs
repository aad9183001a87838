//! Job identifiers: 26 characters of Crockford base 32, laid out like a ULID.
//!
//! | characters | bits | meaning |
//! | --- | --- | --- |
//! | 0–9 | 50 | creation time, milliseconds since the Unix epoch |
//! | 10–23 | 70 | random, or derived from the parent for a child job |
//! | 24–25 | 10 | partition, 0 to 1023 |
//!
//! Identifiers sort by creation time as text, and the partition follows from the identifier alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Number of characters of an identifier.
pub const LENGTH: usize = 26;
/// Largest number of partitions that an identifier can name.
pub const PARTITIONS_MAX: u16 = 1024;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Identifier of a job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JobId([u8; LENGTH]);

/// The text is not a job identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a job id: 26 characters of 0-9 and A-Z without I, L, O, U are expected")]
pub struct Invalid;

impl JobId {
    /// A new random identifier. `partition` is reduced modulo [`PARTITIONS_MAX`].
    ///
    /// # Errors
    /// The operating system's random generator failed.
    pub fn generate(now_ms: u64, partition: u16) -> Result<Self, getrandom::Error> {
        let mut random = [0; 9];
        getrandom::fill(&mut random)?;
        Ok(Self::assemble(now_ms, &random, partition))
    }

    /// The lowest identifier of all that are created at this time or later.
    #[must_use]
    pub fn first_at(at_ms: u64) -> Self {
        Self::assemble(at_ms, &[0; 9], 0)
    }

    /// The identifier of the `index`-th child spawned in step `step` of run `run`.
    ///
    /// Deterministic, so that a step which runs again after a crash names the same children.
    /// The child shares its parent's partition.
    #[must_use]
    pub fn child(parent: &Self, run: u32, step: u64, index: u32, at_ms: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(parent.0);
        hash.update(run.to_be_bytes());
        hash.update(step.to_be_bytes());
        hash.update(index.to_be_bytes());
        let digest = hash.finalize();
        let mut random = [0; 9];
        random.copy_from_slice(&digest[..9]);
        Self::assemble(at_ms, &random, parent.partition())
    }

    fn assemble(now_ms: u64, random: &[u8; 9], partition: u16) -> Self {
        let mut text = [b'0'; LENGTH];
        for (index, slot) in text[..10].iter_mut().enumerate() {
            *slot = digit(now_ms >> (45 - 5 * index));
        }
        let mut bits = random.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        for slot in &mut text[10..24] {
            *slot = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        let partition = u64::from(partition % PARTITIONS_MAX);
        text[24] = digit(partition >> 5);
        text[25] = digit(partition);
        Self(text)
    }

    /// Reads an identifier; lower case is accepted.
    ///
    /// # Errors
    /// [`Invalid`] if length or characters are wrong.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| Invalid)?;
        let upper = bytes.map(|byte| byte.to_ascii_uppercase());
        if upper.iter().all(|byte| value(*byte).is_some()) { Ok(Self(upper)) } else { Err(Invalid) }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only characters of ALPHABET ever enter.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The partition that holds all keys of this job, 0 to 1023.
    #[must_use]
    pub fn partition(&self) -> u16 {
        self.0[24..].iter().fold(0, |sum, byte| sum << 5 | u16::from(value(*byte).unwrap_or(0)))
    }

    /// Creation time, milliseconds since the Unix epoch.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        self.0[..10].iter().fold(0, |sum, byte| sum << 5 | u64::from(value(*byte).unwrap_or(0)))
    }
}

fn digit(bits: u64) -> u8 {
    ALPHABET[(bits & 31) as usize]
}

fn value(byte: u8) -> Option<u8> {
    ALPHABET.iter().position(|letter| *letter == byte).and_then(|index| u8::try_from(index).ok())
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.as_str().to_owned()
    }
}

impl TryFrom<String> for JobId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for JobId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_partition_survive_the_round_trip() {
        let id = JobId::generate(1_790_000_000_123, 777).unwrap();
        let read = JobId::parse(id.as_str()).unwrap();
        assert_eq!((read.created_ms(), read.partition(), read), (1_790_000_000_123, 777, id));
    }

    #[test]
    fn ids_sort_by_creation_time() {
        let early = JobId::generate(1_000, 9).unwrap();
        let late = JobId::generate(1_001, 0).unwrap();
        assert!(early.as_str() < late.as_str());
    }

    #[test]
    fn a_child_is_the_same_when_its_step_runs_again() {
        let parent = JobId::generate(5, 3).unwrap();
        let child = JobId::child(&parent, 1, 2, 0, 9);
        assert_eq!(child, JobId::child(&parent, 1, 2, 0, 9));
        assert_ne!(child, JobId::child(&parent, 1, 2, 1, 9));
        assert_eq!(child.partition(), 3);
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "short", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FAVX"] {
            assert_eq!(JobId::parse(text), Err(Invalid), "{text}");
        }
    }
}
