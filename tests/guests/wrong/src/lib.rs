//! Adds up 1 to 6, one number a step, and makes the mistake that its input asks for.

use waymark_sdk::prelude::*;

const STEPS: u64 = 6;

/// What to do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mistake {
    /// Nothing.
    None,
    /// The sum is not in the checkpoint.
    Forgets,
    /// The sum is in the checkpoint, and not read back.
    Ignores,
    /// Progress counts down in the end.
    GoesBack,
    /// An output record has the time of day.
    ReadsClock,
}

/// What to do wrong.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The mistake.
    pub mistake: Mistake,
}

/// The same sum in three places, kept well, not at all, and half.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wrong {
    mistake: Mistake,
    step: u64,
    sum: u64,
    #[serde(skip)]
    forgotten: u64,
    /// Written as 0 where the mistake is another one, so that it does not show.
    #[serde(skip_deserializing)]
    ignored: u64,
}

impl Job for Wrong {
    type Input = Input;
    type Output = u64;
    const NAME: &str = "wrong";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Makes a mistake; for tests.";

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        Ok(Self { mistake: input.mistake, step: 0, sum: 0, forgotten: 0, ignored: 0 })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<u64>, Failure> {
        self.step += 1;
        self.sum += self.step;
        self.forgotten += self.step;
        if self.mistake == Mistake::Ignores {
            self.ignored += self.step;
        }
        if self.mistake == Mistake::ReadsClock {
            context.emit(&json!({"at": now()}))?;
        }
        if self.step < STEPS {
            let back = self.mistake == Mistake::GoesBack && self.step == STEPS - 1;
            return Ok(Step::progress(if back { 1 } else { self.step }, STEPS));
        }
        Ok(Step::Done(match self.mistake {
            Mistake::Forgets => self.forgotten,
            Mistake::Ignores => self.ignored,
            _ => self.sum,
        }))
    }
}

#[cfg(target_arch = "wasm32")]
fn now() -> u64 {
    wasip2::clocks::wall_clock::now().seconds
}

#[cfg(not(target_arch = "wasm32"))]
fn now() -> u64 {
    0
}

waymark_sdk::export!(Wrong);
