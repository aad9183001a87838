//! Requests to language models, as the limits and budgets of all hosts see them.

/// One request, before it is made. A limit of `None` is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// Name of the provider.
    pub provider: String,
    /// The job that asks.
    pub job_id: String,
    /// Its type.
    pub job_type: String,
    /// Tokens that it may use at most, estimated.
    pub tokens: u64,
    /// What these cost, in millionths.
    pub cost_micros: u64,
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens of the job.
    pub job_tokens: Option<u64>,
    /// Cost of the job, in millionths.
    pub job_cost_micros: Option<u64>,
    /// Tokens of the type in a day (UTC).
    pub day_tokens: Option<u64>,
    /// Cost of the type in a day, in millionths.
    pub day_cost_micros: Option<u64>,
}

/// Whether a request may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Now; the estimate is booked on this day, counted from the Unix epoch.
    Now(u64),
    /// Not before so many milliseconds; nothing was booked.
    Wait(u64),
    /// The job has used up what it may.
    JobBudget,
    /// The type has used up what it may on this day.
    DayBudget,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens used.
    pub tokens: u64,
    /// What they cost, in millionths.
    pub cost_micros: u64,
    /// The provider asked to be left alone for so long, milliseconds; 0: it did not.
    pub back_off_ms: u64,
}
