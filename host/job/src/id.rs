//! Job identifiers: 26 characters of Crockford base 32, laid out like a ULID.
//!
//! | characters | bits | meaning |
//! | --- | --- | --- |
//! | 0–9 | 50 | creation time, milliseconds since the Unix epoch |
//! | 10–23 | 70 | random; derived from the parent for a child job; with node and item for a job of a workflow |
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
/// The bits of a node's and of an item's number in the identifier of a job of a workflow.
const PART_MASK: u32 = (1 << 14) - 1;

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

    /// The identifier of a job of a workflow: item `item` of node `node`, both below 16,384, as started in run `run`.
    ///
    /// Deterministic as [`JobId::child`], and [`JobId::part_of`] tells node and item. It has the creation time of its
    /// workflow. 42 bits of it are a hash of workflow and run.
    #[must_use]
    pub fn part(workflow: &Self, run: u32, node: u32, item: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(workflow.0);
        hash.update(run.to_be_bytes());
        let digest = hash.finalize();
        let bits = digest[..6].iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let bits = bits << 28 | u128::from(node & PART_MASK) << 14 | u128::from(item & PART_MASK);
        Self::assemble_bits(workflow.created_ms(), bits, workflow.partition())
    }

    /// Node and item of an identifier that [`JobId::part`] made.
    #[must_use]
    pub fn part_of(&self) -> (u32, u32) {
        let low = &self.0[10..16];
        let bits =
            low.iter().rev().fold(0_u32, |bits, byte| bits << 5 | u32::from(value(*byte).unwrap_or(0)));
        ((bits >> 14) & PART_MASK, bits & PART_MASK)
    }

    /// The identifier of the job that a schedule makes for a planned time, made at `at_ms`.
    #[must_use]
    pub fn fired(schedule: &str, planned_ms: u64, at_ms: u64, partition: u16) -> Self {
        let digest = Sha256::new_with_prefix(schedule).chain_update(planned_ms.to_be_bytes()).finalize();
        let mut random = [0; 9];
        random.copy_from_slice(&digest[..9]);
        Self::assemble(at_ms, &random, partition)
    }

    fn assemble(now_ms: u64, random: &[u8; 9], partition: u16) -> Self {
        let bits = random.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        Self::assemble_bits(now_ms, bits, partition)
    }

    fn assemble_bits(now_ms: u64, mut bits: u128, partition: u16) -> Self {
        let mut text = [b'0'; LENGTH];
        for (index, slot) in text[..10].iter_mut().enumerate() {
            *slot = digit(now_ms >> (45 - 5 * index));
        }
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
    fn the_job_of_a_node_names_its_node() {
        let workflow = JobId::generate(5, 3).unwrap();
        for (node, item) in [(0, 0), (9_999, 16_383), (16_383, 1), (77, 12_345)] {
            let id = JobId::part(&workflow, 2, node, item);
            assert_eq!(id.part_of(), (node, item));
            assert_eq!((id.partition(), id.created_ms(), id), (3, 5, JobId::parse(id.as_str()).unwrap()));
            assert_ne!(id, JobId::part(&workflow, 3, node, item));
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "short", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEKTSV4RRFFQ69G5FAVX"] {
            assert_eq!(JobId::parse(text), Err(Invalid), "{text}");
        }
    }
}
