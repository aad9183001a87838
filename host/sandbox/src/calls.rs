//! Who is told of the calls that leave the sandbox: to other hosts, databases, language models, buckets.

use crate::state::State;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use waymark_job::Trace;

/// A call that is over.
#[derive(Debug)]
pub struct Call {
    /// The capability: `http`, `llm`, `sql` or `keyvalue`.
    pub capability: &'static str,
    /// What it went to, in the operator's words: a host, a connection, a bucket, nothing of the job's own.
    pub to: String,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// What kind of error it ended with.
    pub error: Option<&'static str>,
}

/// Is told of calls. Must not block.
pub trait Calls: Send + Sync {
    /// A call begins: its place in the trace, which others are told.
    fn begin(&self) -> Trace;
    /// The call with this place is over.
    fn end(&self, trace: Trace, call: Call);
}

/// A call that goes on. Dropped without an end, nobody hears of it.
pub(crate) struct Ongoing {
    told: Option<(Arc<dyn Calls>, Trace)>,
    began: Instant,
}

impl Ongoing {
    pub(crate) fn begin(calls: Option<&Arc<dyn Calls>>) -> Self {
        Self { told: calls.map(|calls| (calls.clone(), calls.begin())), began: Instant::now() }
    }

    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.told.as_ref().map(|(_, trace)| trace)
    }

    pub(crate) fn end(self, capability: &'static str, to: &str, error: Option<&'static str>) {
        let Some((calls, trace)) = self.told else { return };
        let (began, took) = (self.began, self.began.elapsed());
        calls.end(trace, Call { capability, to: to.to_owned(), began, took, error });
    }
}

impl State {
    /// A call of the running step begins.
    pub(crate) fn call(&self) -> Ongoing {
        Ongoing::begin(self.context.calls.as_ref())
    }
}
