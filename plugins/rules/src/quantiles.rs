//! Exact quantiles of more numbers than fit into memory.
//!
//! Floating point numbers are put in the order of their bits, and the interval that holds a wanted rank is
//! divided into [`BINS`] parts in each pass until its numbers can be collected: two passes for a million
//! ordinary numbers, never more than seven.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The quantiles that are told.
pub const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Parts that an interval is divided into.
const BINS: u64 = 1024;

/// Numbers that are collected at most in one interval.
const COLLECTED_MAX: u64 = 1024;

/// Where the quantiles of `count` numbers lie: a rank from 0, and the part of the way to the next one.
pub fn positions(count: u64) -> impl Iterator<Item = (u64, f64)> {
    QUANTILES.into_iter().map(move |q| {
        let position = q * count.saturating_sub(1) as f64;
        (position.floor() as u64, position.fract())
    })
}

/// Linear between two numbers.
pub fn interpolate(low: f64, high: f64, part: f64) -> f64 {
    if part == 0.0 { low } else { low + (high - low) * part }
}

/// The search for the quantiles of one column.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Quantiles {
    count: u64,
    found: BTreeMap<u64, f64>,
    intervals: Vec<Interval>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Interval {
    /// First and last number, as ordered bits.
    low: u64,
    high: u64,
    /// Numbers below `low`.
    below: u64,
    /// Numbers in each part; empty while the numbers themselves are collected.
    bins: Vec<u64>,
    collected: Vec<f64>,
}

/// Bits in the order of the numbers.
fn ordered(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

fn number(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

impl Interval {
    fn new(low: u64, high: u64, below: u64, holds: u64) -> Self {
        let bins = if holds <= COLLECTED_MAX { Vec::new() } else { vec![0; BINS as usize] };
        Self { low, high, below, bins, collected: Vec::new() }
    }

    fn width(&self) -> u64 {
        (self.high - self.low) / BINS + 1
    }

    fn look(&mut self, ordered: u64, value: f64) {
        if ordered < self.low || ordered > self.high {
            return;
        }
        if self.bins.is_empty() {
            self.collected.push(value);
            return;
        }
        let bin = (ordered - self.low) / self.width();
        if let Some(bin) = self.bins.get_mut(bin as usize) {
            *bin += 1;
        }
    }
}

impl Quantiles {
    /// Begins with all `count` numbers between two.
    pub fn new(least: f64, greatest: f64, count: u64) -> Self {
        let intervals = vec![Interval::new(ordered(least), ordered(greatest), 0, count)];
        Self { count, found: BTreeMap::new(), intervals }
    }

    /// Takes in a number.
    pub fn look(&mut self, value: f64) {
        let ordered = ordered(value);
        for interval in &mut self.intervals {
            interval.look(ordered, value);
        }
    }

    /// True when nothing more must be read.
    pub fn done(&self) -> bool {
        self.intervals.is_empty()
    }

    fn ranks(&self) -> BTreeSet<u64> {
        let last = self.count.saturating_sub(1);
        positions(self.count).flat_map(|(rank, _)| [rank, (rank + 1).min(last)]).collect()
    }

    /// Narrows the intervals at the end of a pass.
    pub fn end_pass(&mut self) {
        let ranks = self.ranks();
        let mut next: BTreeMap<u64, Interval> = BTreeMap::new();
        for mut interval in std::mem::take(&mut self.intervals) {
            interval.collected.sort_by(f64::total_cmp);
            for (at, value) in interval.collected.iter().enumerate() {
                let rank = interval.below + at as u64;
                if ranks.contains(&rank) {
                    self.found.insert(rank, *value);
                }
            }
            let width = interval.width();
            let mut below = interval.below;
            for (bin, holds) in interval.bins.iter().enumerate() {
                if ranks.range(below..below + holds).next().is_some() {
                    let low = interval.low + bin as u64 * width;
                    let high = low.saturating_add(width - 1).min(interval.high);
                    if low == high {
                        let found = ranks.range(below..below + holds).map(|rank| (*rank, number(low)));
                        self.found.extend(found);
                    } else {
                        next.insert(low, Interval::new(low, high, below, *holds));
                    }
                }
                below += holds;
            }
        }
        self.intervals = next.into_values().collect();
    }

    /// The quantiles, once done.
    pub fn values(&self) -> Vec<f64> {
        let last = self.count.saturating_sub(1);
        positions(self.count)
            .filter_map(|(rank, part)| {
                let (low, high) = (self.found.get(&rank)?, self.found.get(&(rank + 1).min(last))?);
                Some(interpolate(*low, *high, part))
            })
            .collect()
    }
}
