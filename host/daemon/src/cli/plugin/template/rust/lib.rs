//! The job type `{name}`.

use waymark_sdk::prelude::*;

/// What a caller sends. An input that does not fit is refused before a job is made.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Numbers to add up.
    pub numbers: Vec<f64>,
}

/// What the job answers in the end.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Output {
    pub sum: f64,
}

/// The job. This is also the checkpoint: what is not in here does not outlive a step.
#[derive(Serialize, Deserialize)]
struct Sum {
    #[serde(flatten)]
    numbers: Items<f64>,
    sum: f64,
}

impl Job for Sum {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "{name}";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Adds up numbers.";

    fn start(input: Input, context: &mut Context) -> Result<Self, Failure> {
        context.info(&format!("{} numbers to add up", input.numbers.len()));
        // Two a step, so that there is something to see. A real step takes 10 to 500 ms.
        Ok(Self { numbers: Items::new(input.numbers).per_step(2), sum: 0.0 })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let more = self.numbers.each(context, |number, context| {
            self.sum += number;
            context.emit(&json!({"number": number, "sum": self.sum}))
        })?;
        Ok(more.unwrap_or_else(|| Step::Done(Output { sum: self.sum })))
    }
}

waymark_sdk::export!(Sum);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_right_however_often_the_job_is_interrupted() {
        let input = Input { numbers: vec![1.0, 2.0, 6.0] };
        let run = waymark_sdk::testing::assert_survives_anything::<Sum>(&input);
        assert_eq!(run.result, Ok(json!({"sum": 9.0})));
    }
}
