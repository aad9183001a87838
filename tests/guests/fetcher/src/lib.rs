//! A guest for the system tests: sends HTTP requests, one a step, and emits what came of each.

#![expect(missing_docs, reason = "a test guest; its fields are described where they are read")]

use waymark_sdk::http;
use waymark_sdk::prelude::*;

#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// Length of the body, bytes.
    #[serde(default)]
    body_bytes: usize,
    /// Send another request to where the answer points, as often as that.
    #[serde(default)]
    redirects: u32,
}

fn get() -> String {
    "GET".to_owned()
}

#[derive(Deserialize, Serialize)]
pub struct Fetcher {
    requests: Items<Request>,
}

impl Job for Fetcher {
    type Input = Vec<Request>;
    type Output = ();
    const NAME: &str = "fetcher";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Sends HTTP requests.";

    fn start(input: Vec<Request>, _: &mut Context) -> Result<Self, Failure> {
        Ok(Self { requests: Items::new(input).per_step(1) })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<()>, Failure> {
        let more = self.requests.each(context, |request: Request, context| {
            let mut outgoing = http::Request {
                method: request.method,
                url: request.url,
                headers: request.headers,
                body: vec![b'x'; request.body_bytes],
            };
            let mut answer = outgoing.send();
            for _ in 0..request.redirects {
                let Some(next) = answer.as_ref().ok().and_then(|answer| answer.header("location")) else {
                    break;
                };
                next.clone_into(&mut outgoing.url);
                answer = outgoing.send();
            }
            context.emit(&match answer {
                Ok(answer) => json!({"status": answer.status, "bytes": answer.body.len()}),
                Err(error) => json!({"error": error.to_string()}),
            })
        })?;
        Ok(more.unwrap_or(Step::Done(())))
    }
}

waymark_sdk::export!(Fetcher);
