//! A guest for the system tests: keeps values in buckets (`wasi:keyvalue`), reads its configuration (`wasi:config`), and
//! emits what came of each call.

#![expect(missing_docs, reason = "a test guest; its fields are described where they are read")]

use waymark_sdk::prelude::*;

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
            context.emit(&host::run(&call).unwrap_or_else(|error| json!({"error": error})))
        })?;
        Ok(more.unwrap_or(Step::Done(())))
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    use super::{Call, Value, json};

    #[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    mod bindings {
        wit_bindgen::generate!({
            inline: "
                package test:keeper;
                world keeper {
                    import wasi:keyvalue/store@0.2.0-draft;
                    import wasi:keyvalue/atomics@0.2.0-draft;
                    import wasi:config/store@0.2.0-rc.1;
                }
            ",
            path: ["../../../wit/deps/keyvalue", "../../../wit/deps/config"],
            generate_all,
        });
    }

    use bindings::wasi::{
        config::store as config,
        keyvalue::{atomics, store},
    };

    pub(super) fn run(call: &Call) -> Result<Value, String> {
        let said = |error: store::Error| format!("{error:?}");
        let bucket = || store::open("default").map_err(said);
        Ok(match call {
            Call::Open { bucket } => json!(store::open(bucket).map_err(said).is_ok()),
            Call::Set { key, bytes } => {
                bucket()?.set(key, &vec![b'x'; *bytes]).map_err(said)?;
                json!(true)
            }
            Call::Get { key } => json!(bucket()?.get(key).map_err(said)?.map(|value| value.len())),
            Call::Exists { key } => json!(bucket()?.exists(key).map_err(said)?),
            Call::Delete { key } => {
                bucket()?.delete(key).map_err(said)?;
                json!(true)
            }
            Call::Keys {} => json!(bucket()?.list_keys(None).map_err(said)?.keys),
            Call::Increment { key, delta } => {
                json!(atomics::increment(&bucket()?, key, *delta).map_err(said)?)
            }
            Call::Config { key } => json!(config::get(key).map_err(|error| format!("{error:?}"))?),
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use super::{Call, Value};

    pub(super) fn run(_: &Call) -> Result<Value, String> {
        Err("only a host keeps values".to_owned())
    }
}

waymark_sdk::export!(Keeper);
