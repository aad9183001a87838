//! Work on a list or a stream in batches: position and totals are kept for the author.
//!
//! Both types are meant to be fields of a job, with `#[serde(flatten)]`, so that a checkpoint shows
//! `current_index` and `total_items` at its top.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{Context, Failure, Progress, Step};

/// Items that a step of [`Items::each`] handles unless told otherwise.
pub const ITEMS_PER_STEP: u32 = 100;

/// A position in a stream of items whose number may not be known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    current_index: u64,
    total_items: Option<u64>,
}

impl Cursor {
    /// At the beginning of `total` items; `None` where the number is not known.
    pub fn new(total: impl Into<Option<u64>>) -> Self {
        Self { current_index: 0, total_items: total.into() }
    }

    /// Items behind the cursor; also the index of the next one.
    pub fn index(&self) -> u64 {
        self.current_index
    }

    /// Items in all, where known.
    pub fn total(&self) -> Option<u64> {
        self.total_items
    }

    /// Moves on by `items`.
    pub fn advance(&mut self, items: u64) {
        self.current_index = self.current_index.saturating_add(items);
    }

    /// Corrects the total, when it turns out that there is more or less to do.
    pub fn set_total(&mut self, total: impl Into<Option<u64>>) {
        self.total_items = total.into();
    }

    /// True when the total is known and reached.
    pub fn at_end(&self) -> bool {
        self.total_items.is_some_and(|total| self.current_index >= total)
    }

    /// The position as progress.
    pub fn progress(&self) -> Progress {
        Progress::new(self.current_index, self.total_items)
    }
}

/// A list of which each step handles some items. A checkpoint holds only those still to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Items<T> {
    #[serde(flatten)]
    cursor: Cursor,
    items_per_step: u32,
    items: VecDeque<T>,
}

impl<T> Items<T> {
    /// All `items`, [`ITEMS_PER_STEP`] in each step.
    pub fn new(items: impl IntoIterator<Item = T>) -> Self {
        let items: VecDeque<T> = items.into_iter().collect();
        Self { cursor: Cursor::new(items.len() as u64), items_per_step: ITEMS_PER_STEP, items }
    }

    /// At most `count` items in each step; 0 counts as 1. Choose it so that a step takes 10 to 500 ms.
    #[must_use]
    pub fn per_step(self, count: u32) -> Self {
        Self { items_per_step: count.max(1), ..self }
    }

    /// Index of the next item.
    pub fn index(&self) -> u64 {
        self.cursor.index()
    }

    /// Items in all.
    pub fn total(&self) -> u64 {
        self.cursor.total().unwrap_or_default()
    }

    /// Hands the next items to `work`, until a step's share is done or the host asks to yield (at least one
    /// is always done). `None` once all are done: time for the result.
    ///
    /// # Errors
    /// The first failure of `work`; the step is then run again as a whole, if at all.
    pub fn each<O>(
        &mut self,
        context: &mut Context,
        mut work: impl FnMut(T, &mut Context) -> Result<(), Failure>,
    ) -> Result<Option<Step<O>>, Failure> {
        for _ in 0..self.items_per_step {
            let Some(item) = self.items.pop_front() else { break };
            work(item, context)?;
            self.cursor.advance(1);
            if context.should_yield() {
                break;
            }
        }
        Ok((!self.items.is_empty()).then(|| Step::Progress(self.cursor.progress())))
    }
}
