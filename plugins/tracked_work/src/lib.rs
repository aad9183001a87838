//! Shows the progress of work that is done outside: by a person, or by a program that is not moved over yet.

use std::collections::BTreeMap;

use waymark_sdk::{prelude::*, serde_json};

/// Signal that tells of progress.
pub const SIGNAL: &str = "progress";

/// What the work is about: any object.
pub type Input = BTreeMap<String, Value>;

/// What the signal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Units of work finished. One below an earlier one is taken for that one.
    pub current: u64,
    /// Units of work in all, where known.
    #[serde(default)]
    pub total: Option<u64>,
    /// One line for a person.
    #[serde(default)]
    pub message: Option<String>,
    /// The work is finished: the job ends.
    #[serde(default)]
    pub done: bool,
    /// The work failed of this: the job fails.
    #[serde(default)]
    pub error: Option<String>,
}

/// How far the work was in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Units of work finished.
    pub current: u64,
    /// Units of work in all, where known.
    pub total: Option<u64>,
    /// The last line for a person.
    pub message: Option<String>,
}

/// The job: what was told last.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tracked {
    about: Input,
    last: Output,
}

impl Job for Tracked {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "tracked_work";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str =
        "Shows the progress of work that is done outside, as its signal `progress` tells it.";

    fn start(about: Input, _: &mut Context) -> Result<Self, Failure> {
        Ok(Self { about, last: Output::default() })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        if let Some(payload) = context.signal::<Value>(SIGNAL)? {
            match serde_json::from_value::<Told>(payload) {
                Ok(told) => {
                    if let Some(error) = told.error {
                        return Err(Failure::permanent(error));
                    }
                    let current = told.current.max(self.last.current);
                    self.last = Output { current, total: told.total, message: told.message };
                    let Output { current, total, message } = self.last.clone();
                    context.report(Progress { current, total, message });
                    if told.done {
                        return Ok(Step::Done(self.last.clone()));
                    }
                }
                // Whoever works outside does not lose the job to one misspelt field.
                Err(error) => context.warn(format!("a progress that cannot be read: {error}")),
            }
        }
        Ok(Step::AwaitSignal { name: SIGNAL.into(), timeout: None })
    }
}

waymark_sdk::export!(Tracked);

#[cfg(test)]
mod tests {
    use super::*;
    use waymark_sdk::testing::Harness;

    #[test]
    fn what_is_told_is_shown_and_done_ends_the_job() {
        let told = json!({"current": 10, "total": 10, "message": "there", "done": true});
        let run = Harness::new().signal(SIGNAL, &told).run::<Tracked>(&json!({"what": "moving house"}));
        assert_eq!(run.result, Ok(json!({"current": 10, "total": 10, "message": "there"})));
        assert_eq!(run.progress.last().map(|progress| progress.current), Some(10));
    }

    #[test]
    fn an_error_fails_the_job() {
        let told = json!({"current": 1, "error": "the van broke down"});
        let run = Harness::new().signal(SIGNAL, &told).run::<Tracked>(&json!({}));
        assert_eq!(run.result, Err(Failure::permanent("the van broke down")));
    }
}
