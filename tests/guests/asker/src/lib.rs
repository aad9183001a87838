//! A guest for the system tests: asks a language model, in batches, and emits what came of each question.

#![expect(missing_docs, reason = "a test guest; its fields are described where they are read")]

use waymark_sdk::llm::{self, Request};
use waymark_sdk::prelude::*;

#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    questions: Vec<String>,
    /// Questions in one step, asked at once.
    #[serde(default = "one")]
    batch: usize,
    /// JSON Schema of the answers.
    schema: Option<Value>,
    model: Option<String>,
    max_tokens: Option<u32>,
    /// End with the first error instead of emitting it.
    #[serde(default)]
    fail: bool,
}

fn one() -> usize {
    1
}

#[derive(Serialize, JsonSchema)]
pub struct Output {
    answered: u64,
}

#[derive(Deserialize, Serialize)]
pub struct Asker {
    input: Input,
    asked: usize,
    answered: u64,
}

impl Job for Asker {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "asker";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Asks a language model, in batches.";

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        Ok(Self { input, asked: 0, answered: 0 })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let Input { questions, batch, schema, model, max_tokens, fail } = &self.input;
        let next: Vec<_> = questions.iter().skip(self.asked).take(*batch).collect();
        if next.is_empty() {
            return Ok(Step::Done(Output { answered: self.answered }));
        }
        let request = |question: &&String| Request {
            model: model.clone(),
            max_tokens: *max_tokens,
            schema: schema.as_ref().map(ToString::to_string),
            ..Request::new(question.as_str())
        };
        let requests: Vec<_> = next.iter().map(request).collect();
        for answer in llm::complete_all(&requests) {
            match answer {
                Ok(answer) => {
                    self.answered += 1;
                    context.emit(&json!({
                        "content": answer.content,
                        "tokens": answer.prompt_tokens + answer.completion_tokens,
                        "cost_micros": answer.cost_micros,
                        "cached": answer.cached,
                        "repaired": answer.repaired,
                    }))?;
                }
                Err(error) if *fail => return Err(error.into()),
                Err(error) => {
                    context.emit(&json!({"absent": error.is_absent(), "error": error.to_string()}))?;
                }
            }
        }
        self.asked += requests.len();
        Ok(Step::progress(self.asked as u64, questions.len() as u64))
    }
}

waymark_sdk::export!(Asker);
