//! Does what tasks of a Celery application do: adds, multiplies, fails, counts slowly.

use waymark_sdk::prelude::*;

/// A task and its arguments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// `add`, `mul`, `boom`, `again`, `slow` or `echo`.
    op: String,
    /// Positional arguments.
    #[serde(default)]
    args: Vec<Value>,
    /// Named arguments.
    #[serde(default)]
    kwargs: Value,
}

/// The state of a task.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    #[serde(flatten)]
    cursor: Cursor,
    input: Input,
}

/// The sum of all numbers, however deep.
fn sum(value: &Value) -> i64 {
    match value {
        Value::Array(values) => values.iter().map(sum).sum(),
        Value::Object(values) => values.values().map(sum).sum(),
        other => other.as_i64().unwrap_or(0),
    }
}

impl Job for Task {
    type Input = Input;
    type Output = Value;
    const NAME: &str = "tasks";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "What tasks of a Celery application do; for tests.";

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        let steps =
            if input.op == "slow" { input.args.first().and_then(Value::as_u64).unwrap_or(1) } else { 1 };
        Ok(Self { cursor: Cursor::new(steps), input })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Value>, Failure> {
        let Input { op, args, kwargs } = &self.input;
        match op.as_str() {
            "add" => Ok(Step::Done(json!(args.iter().map(sum).sum::<i64>() + sum(kwargs)))),
            "mul" => Ok(Step::Done(json!(args.iter().map(sum).product::<i64>()))),
            "echo" => Ok(Step::Done(json!(args))),
            "boom" => {
                let shown = args.first().map(Value::to_string).unwrap_or_default();
                Err(Failure::permanent(format_args!("ValueError: bad {shown}")))
            }
            "again" if context.job().attempt == 1 => Err(Failure::transient("KeyError: again")),
            "again" => Ok(Step::Done(json!(context.job().attempt))),
            "slow" => {
                self.cursor.advance(1);
                if self.cursor.at_end() {
                    return Ok(Step::Done(json!(self.cursor.index())));
                }
                let pause = args.get(1).and_then(Value::as_u64).unwrap_or(0);
                if pause > 0 {
                    return Ok(Step::Sleep(std::time::Duration::from_millis(pause)));
                }
                Ok(Step::Progress(self.cursor.progress()))
            }
            other => Err(Failure::invalid_input(format_args!("there is no task {other:?}"))),
        }
    }
}

waymark_sdk::export!(Task);
