//! What all hosts share about calls to language models. The sandbox knows no store: whoever runs it brings this.

use waymark_job::llm::{Spent, Take, Taken};

/// Cache, limits and budgets that hosts share. Every error is one sentence, and means that the call may succeed later.
#[async_trait::async_trait]
pub trait Ledger: Send + Sync {
    /// The answer kept for a request.
    async fn cached(&self, key: &str) -> Result<Option<Vec<u8>>, String>;
    /// Keeps an answer for so many milliseconds.
    async fn keep(&self, key: &str, answer: &[u8], ttl_ms: u64) -> Result<(), String>;
    /// Whether `asker`, a unique word, is the one of all hosts that asks for this answer now; for so many milliseconds, unless
    /// it asks again here.
    async fn take_off(&self, key: &str, asker: &str, ttl_ms: u64) -> Result<bool, String>;
    /// Others may ask for this answer.
    async fn land(&self, key: &str, asker: &str) -> Result<(), String>;
    /// Books the estimate of a request, if there is room for it.
    async fn take(&self, take: &Take) -> Result<Taken, String>;
    /// Corrects what was booked on that day.
    async fn settle(&self, take: &Take, day: u64, spent: Spent) -> Result<(), String>;
}
