//! What happened to all jobs of late: one stream per partition, which the scripts write where they publish the same.
//!
//! A reader's place is the entry that it saw last, in each partition. A stream keeps its newest entries only; whoever
//! comes back to a place that is no longer kept is told that something is missing.

use crate::{Error, Store, pack};
use serde::Deserialize;
use std::{fmt, str::FromStr};
use waymark_job::{JobId, State};

/// Entries that each stream keeps at least (`include.lua`): a stream that holds fewer never lost one.
pub const CHANGES_KEPT: u64 = 4_000;
/// Labels read in one script call.
const LABELS_MAX: usize = 64;

/// A place in the stream of one partition; the default is its beginning. Written as two hexadecimal numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it was written, Unix milliseconds.
    pub ms: u64,
    /// Number within that millisecond.
    pub number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}-{:x}", self.ms, self.number)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, number) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self { ms: u64::from_str_radix(ms, 16)?, number: u64::from_str_radix(number, 16)? })
    }
}

impl Place {
    /// As the server writes it.
    fn read(id: &str) -> Result<Self, Error> {
        let numbers =
            id.split_once('-').and_then(|(ms, number)| Some((ms.parse().ok()?, number.parse().ok()?)));
        let (ms, number) = numbers.ok_or_else(|| Error::corrupt("a change", id))?;
        Ok(Self { ms, number })
    }
}

/// Jobs that changed at once: their state, their progress, their output or their log.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it stands.
    pub place: Place,
    /// The jobs, each with the state it was in then.
    pub jobs: Vec<(JobId, State)>,
}

/// A part of a stream.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Something between the place asked for and what follows is not kept.
    pub gap: bool,
    /// What follows, oldest first.
    pub list: Vec<Change>,
    /// Where to go on.
    pub next: Place,
}

/// What jobs are filtered by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Labels {
    /// Job type.
    #[serde(rename = "t")]
    pub job_type: String,
    #[serde(rename = "q", default)]
    queue: String,
    /// 0 to 9, 9 first.
    #[serde(rename = "p", default)]
    pub priority: u8,
    /// As given.
    #[serde(rename = "g", default)]
    pub tags: Vec<String>,
    /// The caller's id for the larger whole.
    #[serde(rename = "c", default)]
    pub correlation_id: Option<String>,
}

impl Labels {
    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        if self.queue.is_empty() { &self.job_type } else { &self.queue }
    }
}

impl Store {
    /// The place of the newest change of a partition.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn newest_change(&self, partition: u16) -> Result<Place, Error> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(format!("{}changes", self.head(partition))).arg("+").arg("-").arg("COUNT").arg(1);
        let found: Vec<(String, Vec<String>)> = self.inner.link.any(&command).await?;
        found.first().map_or(Ok(Place::default()), |(id, _)| Place::read(id))
    }

    /// At most `most` changes of a partition that follow a place.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn changes(&self, partition: u16, after: Place, most: usize) -> Result<Changes, Error> {
        let key = format!("{}changes", self.head(partition));
        let mut pipeline = redis::pipe();
        // With the entry at the place itself: where it is there, nothing behind it is missing.
        pipeline.cmd("XRANGE").arg(&key).arg(format!("{}-{}", after.ms, after.number)).arg("+");
        pipeline.arg("COUNT").arg(most + 1).cmd("XLEN").arg(&key);
        let (found, length): (Vec<(String, Vec<String>)>, u64) = self.inner.link.pipeline(&pipeline).await?;
        let mut list = Vec::with_capacity(found.len());
        for (id, fields) in found {
            let jobs = fields.get(1).map_or("", String::as_str).split(' ');
            list.push(Change { place: Place::read(&id)?, jobs: jobs.filter_map(pack::change).collect() });
        }
        let stands = list.first().is_some_and(|first| first.place == after);
        let gap = if after == Place::default() { length >= CHANGES_KEPT } else { !stands };
        if stands {
            list.remove(0);
        }
        list.truncate(most);
        // Where nothing is left, as after a server that lost its data, the stream begins anew.
        let nothing = if gap { Place::default() } else { after };
        let next = list.last().map_or(nothing, |last| last.place);
        Ok(Changes { gap, list, next })
    }

    /// What jobs of one partition are filtered by; `None` for those that are not there.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn labels(&self, partition: u16, ids: &[JobId]) -> Result<Vec<Option<Labels>>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        for piece in ids.chunks(LABELS_MAX) {
            let mut call = self.call(&self.inner.scripts.read_labels, partition);
            for id in piece {
                call.arg(id.as_str());
            }
            let found: Vec<Vec<u8>> = call.run().await?;
            for packed in found {
                let read = || rmp_serde::from_slice(&packed).map_err(|error| Error::corrupt("a job", error));
                all.push((!packed.is_empty()).then(read).transpose()?);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_as_text() {
        let place = Place { ms: 1_790_000_000_123, number: 17 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "1", "-", "1-", "x-1", "1-1-1", "-1-1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
