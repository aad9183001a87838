//! Drawing rows: a number for each row that depends on the seed and the row alone, and the rows with the
//! lowest numbers. So a sample needs no random state, and pieces of a file may be read in any size.

use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes well.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number evenly spread over all of `u64`, for a row of a seed.
pub fn number(seed: u64, row: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(row.wrapping_mul(GOLDEN)))
}

/// The same as a score for a weight above zero: the rows with the lowest scores are a weighted sample
/// without replacement. A-ES keeps the greatest `u^(1/w)`; `-ln(u)/w` is lowest for the same rows, and
/// positive floating point numbers are ordered like their bits.
pub fn weighted(number: u64, weight: f64) -> u64 {
    let u = ((number >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    (-libm::log(u) / weight).abs().to_bits()
}

/// A row that may end in the sample.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pick {
    /// Lower is drawn first; ties go to the earlier row.
    pub score: u64,
    /// Number of the row, from 1.
    pub row: u64,
    /// The key's values.
    pub key: Vec<Option<String>>,
    /// Values of the columns to include.
    pub include: Vec<Option<String>>,
    /// Label of the stratum.
    pub stratum: String,
    /// What a reader is told beside the strategy, such as the weight.
    pub note: String,
}

/// The rows with the lowest scores.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lowest {
    room: usize,
    picks: BinaryHeap<Pick>,
}

impl Lowest {
    /// Room for so many rows.
    pub fn new(room: usize) -> Self {
        Self { room, picks: BinaryHeap::new() }
    }

    /// Takes a row in, if its score is among the lowest; `make` is called only then.
    pub fn offer(&mut self, score: u64, row: u64, make: impl FnOnce() -> Pick) {
        if self.picks.len() == self.room {
            match self.picks.peek() {
                Some(worst) if (score, row) < (worst.score, worst.row) => drop(self.picks.pop()),
                _ => return,
            }
        }
        self.picks.push(make());
    }

    /// The rows, lowest score first.
    pub fn into_sorted(self) -> Vec<Pick> {
        self.picks.into_sorted_vec()
    }

    /// Rows taken in.
    pub fn count(&self) -> usize {
        self.picks.len()
    }
}
