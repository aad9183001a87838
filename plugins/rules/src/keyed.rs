//! Checks that need all rows together, in bounded memory: uniqueness, duplicates, references, and the number
//! of different values of a large column.
//!
//! All keys lie on a line by their hash. Each check looks at a window of that line in each pass over the
//! table. While memory is short, the fullest window is halved and what falls out of it is forgotten; the
//! next pass begins where the window ended. So a table of any size is counted exactly, in as many passes as
//! it needs, and the number of keys held at any time is at most [`KEYS_MAX`].

use serde::{Deserialize, Serialize};
use waymark_table::Row;

use crate::keys::{Hash, Keys};
use crate::tally::{Evidence, Tally};

/// Keys held at a time over all checks: 4 MiB in a checkpoint (a third more as base64), at most 12 MiB in
/// memory.
pub const KEYS_MAX: usize = 1 << 18;

/// Keys that a window should hold at its end when it is set anew, in parts of what is allowed.
const FILL: f64 = 0.85;

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Rule of this index: rows with a key that stands more than once fail.
    Uniqueness(usize),
    /// Rule of this index: rows that repeat an earlier one fail.
    Duplicates(usize),
    /// Rule of this index: rows whose key the references do not hold fail.
    Referential(usize),
    /// Different values of the column of this index.
    Distinct(usize),
}

/// One check.
#[derive(Debug, Serialize, Deserialize)]
pub struct Keyed {
    /// What it is for.
    pub purpose: Purpose,
    /// Columns that make the key.
    pub columns: Vec<usize>,
    low: u64,
    high: u64,
    keys: Keys,
    first_pass: bool,
    /// True when the whole line has been seen.
    pub done: bool,
    /// What the rule has counted.
    pub tally: Tally,
    /// Places of the rows in `tally.evidence`, in the same order.
    evidence_places: Vec<u64>,
    /// Different keys.
    pub distinct: u64,
    /// Keys that stand more than once.
    pub repeated: u64,
}

impl Keyed {
    /// Nothing seen yet.
    pub fn new(purpose: Purpose, columns: Vec<usize>) -> Self {
        Self {
            purpose,
            columns,
            low: 0,
            high: u64::MAX,
            keys: Keys::default(),
            first_pass: true,
            done: false,
            tally: Tally::default(),
            evidence_places: Vec::new(),
            distinct: 0,
            repeated: 0,
        }
    }

    /// The rule that waits for this check.
    pub fn rule(&self) -> Option<usize> {
        match self.purpose {
            Purpose::Uniqueness(rule) | Purpose::Duplicates(rule) | Purpose::Referential(rule) => Some(rule),
            Purpose::Distinct(_) => None,
        }
    }

    /// True when other rows must be read before the table's own.
    pub fn is_referential(&self) -> bool {
        matches!(self.purpose, Purpose::Referential(_))
    }

    /// Keys held now.
    pub fn held(&self) -> usize {
        self.keys.count()
    }

    /// Keys seen in all windows so far, the present one included, and the part of the line they lie on: a
    /// guess at how much of the work is done, 0 to 1.
    pub fn share_done(&self) -> f64 {
        if self.done { 1.0 } else { self.low as f64 / u64::MAX as f64 }
    }

    fn within(&self, hash: Hash) -> bool {
        self.low <= hash.place() && hash.place() <= self.high
    }

    /// Takes in a row of the table.
    pub fn look(
        &mut self,
        row: &Row<'_>,
        in_scope: bool,
        room: usize,
        buffer: &mut Vec<u8>,
        show: impl FnOnce(&[usize]) -> Evidence,
    ) {
        let nulls = matches!(self.purpose, Purpose::Duplicates(_));
        let hash = if in_scope { Hash::of(row, &self.columns, nulls, buffer) } else { None };
        let Some(hash) = hash else {
            self.tally.skipped += u64::from(self.first_pass);
            return;
        };
        if !self.within(hash) {
            return;
        }
        let fails = match self.purpose {
            Purpose::Referential(_) => {
                let found = self.keys.has(hash);
                if found {
                    self.tally.passed += 1;
                } else {
                    self.tally.failed += 1;
                }
                !found
            }
            _ => self.keys.see(hash) > 1,
        };
        if fails && self.tally.evidence.len() < room {
            self.tally.evidence.push(show(&self.columns));
            self.evidence_places.push(hash.place());
        }
    }

    /// Takes in a row of the references.
    pub fn refer(&mut self, row: &Row<'_>, columns: &[usize], buffer: &mut Vec<u8>) {
        if let Some(hash) = Hash::of(row, columns, false, buffer)
            && self.within(hash)
        {
            self.keys.see(hash);
        }
    }

    /// Halves the window and forgets what falls out of it.
    fn shrink(&mut self) {
        self.high = self.low + (self.high - self.low) / 2;
        self.keys.keep_up_to(self.high);
        let Self { evidence_places, tally, high, .. } = self;
        let mut places = evidence_places.iter();
        tally.evidence.retain(|_| places.next().is_some_and(|place| place <= high));
        evidence_places.retain(|place| place <= high);
    }

    /// Closes the window at the end of a pass and opens the next one, for about `keys_max` keys.
    pub fn end_pass(&mut self, keys_max: usize) {
        let held = self.keys.count();
        match self.purpose {
            Purpose::Referential(_) => {}
            Purpose::Uniqueness(_) => {
                for count in self.keys.counts() {
                    if count > 1 {
                        self.tally.failed += count;
                    } else {
                        self.tally.passed += 1;
                    }
                }
            }
            Purpose::Duplicates(_) | Purpose::Distinct(_) => {
                self.tally.passed += held as u64;
                self.tally.failed += self.keys.counts().map(|count| count - 1).sum::<u64>();
            }
        }
        self.distinct += held as u64;
        self.repeated += self.keys.counts().filter(|count| *count > 1).count() as u64;
        self.keys.clear();
        self.first_pass = false;
        if self.high == u64::MAX {
            self.done = true;
            self.keys = Keys::default();
            self.tally.evidence.sort_by_key(|evidence| evidence.row);
            return;
        }
        let width = (self.high - self.low) as f64 * FILL * keys_max as f64 / held.max(1) as f64;
        self.low = self.high + 1;
        self.high = self.low.saturating_add(width as u64);
    }
}

/// Brings the keys held below the limit again, by halving the fullest window among those that may be.
pub fn make_room(checks: &mut [Keyed], keys_max: usize, may_shrink: impl Fn(&Keyed) -> bool) {
    while checks.iter().filter(|check| may_shrink(check)).map(Keyed::held).sum::<usize>() > keys_max {
        let fullest = checks.iter_mut().filter(|check| may_shrink(check)).max_by_key(|check| check.held());
        match fullest {
            Some(fullest) if fullest.low < fullest.high => fullest.shrink(),
            _ => return,
        }
    }
}
