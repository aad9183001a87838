//! Counts to a number in steps of known length. What else a job can do is done on demand, so that the
//! system tests need one guest and not ten.

use std::hint::black_box;
use std::time::Duration;

use waymark_sdk::prelude::*;

/// What a test writes over in the file, to have another version: of 100 jobs so many fail, steps take so many times as
/// long, and the state has the shape of this number.
static VARIANT: &[u8; 16] = b"VARIANT:00:01:01";

/// A number of [`VARIANT`], which the compiler must not know.
fn variant(at: usize) -> u64 {
    let digits = &black_box(VARIANT)[at..at + 2];
    u64::from(digits[0] - b'0') * 10 + u64::from(digits[1] - b'0')
}

/// The shape of a state: one of another number is not read.
#[derive(Debug)]
struct Shape;

impl Serialize for Shape {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(variant(14))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = u64::deserialize(deserializer)?;
        if found == variant(14) {
            return Ok(Self);
        }
        Err(serde::de::Error::custom(format_args!("the state has shape {found}, not {}", variant(14))))
    }
}

/// What to do; everything but `steps` may be left out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Steps to the end. The result's `sum` is 1 + 2 + … + steps.
    pub steps: u64,
    /// Rough length of a step in microseconds: that many thousands of multiplications.
    #[serde(default)]
    pub work_us: u64,
    /// Emit one output record per step: `{"step", "sum"}`.
    #[serde(default)]
    pub emit: bool,
    /// Log one line per step.
    #[serde(default)]
    pub log: bool,
    /// Fail for good in the step of this number (from 1).
    #[serde(default)]
    pub fail_at: Option<u64>,
    /// Fail for now in the step of this number, on every attempt up to `transient_attempts`.
    #[serde(default)]
    pub transient_at: Option<u64>,
    /// See `transient_at`; 1 by default.
    #[serde(default = "one")]
    pub transient_attempts: u32,
    /// Panic in the step of this number.
    #[serde(default)]
    pub panic_at: Option<u64>,
    /// Sleep this long in the middle of the job.
    #[serde(default)]
    pub sleep_ms: Option<u64>,
    /// Wait for a signal of this name in the middle of the job; its payload is returned as `signal`. A signal is taken
    /// once, by the step after the wait: the counter keeps the payload in its state.
    #[serde(default)]
    pub await_signal: Option<String>,
    /// Go on without the signal after this time.
    #[serde(default)]
    pub signal_timeout_ms: Option<u64>,
    /// Start this many counters of one step each in the first step and wait for them.
    #[serde(default)]
    pub children: u32,
    /// Bytes of padding in each checkpoint.
    #[serde(default)]
    pub state_bytes: u32,
}

fn one() -> u32 {
    1
}

/// What a counter answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// 1 + 2 + … + steps.
    pub sum: u64,
    /// Steps done.
    pub steps: u64,
    /// Sum of the children's sums.
    pub children_sum: u64,
    /// Payload of the signal waited for; null without one.
    pub signal: Option<Value>,
}

/// The state of a counter: where it is, and what it was asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counter {
    #[serde(flatten)]
    cursor: Cursor,
    sum: u64,
    parked: bool,
    spawned: bool,
    #[serde(default)]
    signal: Option<Value>,
    input: Input,
    padding: String,
    shape: Shape,
}

impl Job for Counter {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "counter";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Counts in steps of known length; for tests.";

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        let padding = "x".repeat(input.state_bytes as usize);
        let cursor = Cursor::new(input.steps);
        Ok(Self { cursor, sum: 0, parked: false, spawned: false, signal: None, input, padding, shape: Shape })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        if self.input.children > 0 && !self.spawned {
            self.spawned = true;
            for _ in 0..self.input.children {
                context.spawn(Self::NAME, &json!({"steps": 1}))?;
            }
            return Ok(Step::AwaitChildren);
        }
        if self.cursor.index() >= self.input.steps / 2 && !self.parked {
            self.parked = true;
            if let Some(sleep_ms) = self.input.sleep_ms {
                return Ok(Step::Sleep(Duration::from_millis(sleep_ms)));
            }
            if let Some(name) = self.input.await_signal.clone() {
                let timeout = self.input.signal_timeout_ms.map(Duration::from_millis);
                return Ok(Step::AwaitSignal { name, timeout });
            }
        }
        if let Some(name) = self.input.await_signal.as_ref().filter(|_| self.parked && self.signal.is_none())
        {
            self.signal = context.signal(name)?;
        }
        if number_of(&context.job().job_id) % 100 < variant(8) {
            return Err(Failure::permanent("this version fails now and then"));
        }
        let number = self.cursor.index() + 1;
        if self.input.fail_at == Some(number) {
            return Err(Failure::permanent(format_args!("asked to fail at step {number}")));
        }
        if self.input.transient_at == Some(number) && context.job().attempt <= self.input.transient_attempts {
            return Err(Failure::transient(format_args!("asked to fail for now at step {number}")));
        }
        assert!(self.input.panic_at != Some(number), "asked to panic at step {number}");
        if number <= self.input.steps {
            work(self.input.work_us * variant(11));
            self.sum += number;
            if self.input.emit {
                context.emit(&json!({"step": number, "sum": self.sum}))?;
            }
            if self.input.log {
                context.log(Level::Info, "counted", &json!({"step": number}));
            }
            self.cursor.advance(1);
        }
        if !self.cursor.at_end() {
            return Ok(Step::Progress(self.cursor.progress()));
        }
        let mut children_sum = 0;
        for child in context.children::<Output>()? {
            children_sum += child.result.map_err(Failure::permanent)?.sum;
        }
        let (sum, steps, signal) = (self.sum, self.cursor.index(), self.signal.take());
        Ok(Step::Done(Output { sum, steps, children_sum, signal }))
    }
}

/// A number of a job, by which some fail.
fn number_of(id: &str) -> u64 {
    id.bytes().fold(7, |number, byte| number.wrapping_mul(31).wrapping_add(u64::from(byte)) % 1_000_003)
}

/// Keeps the processor busy; a clock would be an import.
fn work(work_us: u64) {
    let mut value = 1_u64;
    for _ in 0..work_us.saturating_mul(1000) {
        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(value);
}

waymark_sdk::export!(Counter);
