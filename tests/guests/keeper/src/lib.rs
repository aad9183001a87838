//! A guest for the system tests: keeps values in buckets (`wasi:keyvalue`), reads its configuration (`wasi:config`), and
//! emits what came of each call.

#![expect(missing_docs, reason = "a test guest; its fields are described where they are read")]

use waymark_sdk::{
    config,
    keyvalue::{self, Bucket},
    prelude::*,
};

#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Open { bucket: String },
    Set { key: String, bytes: usize },
    Get { key: String },
    Exists { key: String },
    Delete { key: String },
    Keys {},
    Increment { key: String, delta: u64 },
    Config { key: String },
    Told {},
}

#[derive(Deserialize, Serialize)]
pub struct Keeper {
    calls: Items<Call>,
}

impl Job for Keeper {
    type Input = Vec<Call>;
    type Output = ();
    const NAME: &str = "keeper";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Keeps values in buckets.";

    fn start(input: Vec<Call>, _: &mut Context) -> Result<Self, Failure> {
        Ok(Self { calls: Items::new(input) })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<()>, Failure> {
        let more = self.calls.each(context, |call, context| {
            context.emit(&run(&call).unwrap_or_else(|error| json!({"error": error.to_string()})))
        })?;
        Ok(more.unwrap_or(Step::Done(())))
    }
}

fn run(call: &Call) -> Result<Value, keyvalue::Error> {
    let bucket = || Bucket::open("default");
    Ok(match call {
        Call::Open { bucket } => json!(Bucket::open(bucket).is_ok()),
        Call::Set { key, bytes } => {
            bucket()?.set(key, &vec![b'x'; *bytes])?;
            json!(true)
        }
        Call::Get { key } => json!(bucket()?.get(key)?.map(|value| value.len())),
        Call::Exists { key } => json!(bucket()?.get(key)?.is_some()),
        Call::Delete { key } => {
            bucket()?.delete(key)?;
            json!(true)
        }
        Call::Keys {} => json!(bucket()?.names()?),
        Call::Increment { key, delta } => json!(bucket()?.increment(key, *delta)?),
        Call::Config { key } => json!(config::get(key)),
        Call::Told {} => json!(config::all()),
    })
}

waymark_sdk::export!(Keeper);
