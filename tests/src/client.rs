//! The HTTP API, as a caller meets it.

use crate::{PATIENCE, eventually};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    time::Duration,
};
use ureq::{Agent, Body, http};

/// Longest wait for the answer to a request that does not wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A caller of one host. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    agent: Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; 0 if there was no answer at all.
    pub status: u16,
    /// JSON body, a string where it is no JSON, null where there is none.
    pub body: Value,
    /// The `location` header.
    pub location: Option<String>,
}

impl Answer {
    /// The stable code of a problem.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    /// The body of an answer that must have this status.
    ///
    /// # Panics
    /// It has another.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "the check alone is worth the call")]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub struct Event {
    /// `state`, `progress`, `log`, `output` or `reset`.
    pub name: String,
    /// What a reader that comes back says it has seen last.
    pub id: String,
    /// JSON.
    pub data: Value,
}

/// A stream of events; ends when the host ends it.
pub struct Events(Box<dyn BufRead + Send>);

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event { name: String::new(), id: String::new(), data: Value::Null };
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("data is JSON"),
                Some(_) => {}
                None if event.name.is_empty() => {}
                None => return Some(event),
            }
        }
    }
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_WITHIN)).build();
        Self { url: url.to_owned(), agent: config.into() }
    }

    /// Any request. Status 0 says that there was no answer.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // A length without a body is what servers expect of POST and PUT only.
        let sent = if matches!(method, "POST" | "PUT") {
            self.agent.run(request.body(body.to_vec()).expect("a request"))
        } else {
            self.agent.run(request.body(()).expect("a request"))
        };
        match sent {
            Ok(answer) => read(answer),
            Err(error) => Answer { status: 0, body: Value::String(error.to_string()), location: None },
        }
    }

    /// `GET`
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// `POST` of a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Submits a job and returns its id.
    ///
    /// # Panics
    /// It is not accepted.
    #[must_use]
    #[track_caller]
    pub fn submit(&self, job: &Value) -> String {
        let job = self.post("/api/v1/jobs", job).expect(201);
        job["id"].as_str().expect("an id").to_owned()
    }

    /// Submits many jobs in one call and returns their ids.
    ///
    /// # Panics
    /// One is not accepted.
    #[must_use]
    #[track_caller]
    pub fn submit_all(&self, jobs: &[Value]) -> Vec<String> {
        let answer = self.post("/api/v1/jobs/batch", &serde_json::json!({"jobs": jobs})).expect(201);
        let jobs = answer["jobs"].as_array().expect("jobs");
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The job as it is now.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).expect(200)
    }

    /// Asks for `pause`, `resume`, `restart`, `restart?from=N` or `cancel`.
    #[must_use]
    pub fn control(&self, id: &str, verb: &str) -> Answer {
        self.request("POST", &format!("/api/v1/jobs/{id}/{verb}"), &[], b"")
    }

    /// Deletes the job.
    #[must_use]
    pub fn delete(&self, id: &str) -> Answer {
        self.request("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"")
    }

    /// Waits until `until` holds for the job, and returns it.
    ///
    /// # Panics
    /// It does not come to hold.
    #[must_use]
    #[track_caller]
    pub fn until(&self, id: &str, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = eventually_or(PATIENCE, || {
            last = self.get(&format!("/api/v1/jobs/{id}")).body;
            until(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("job {id} is not {what} within {PATIENCE:?}: {last}"))
    }

    /// Waits until the job has this status, and returns it.
    ///
    /// # Panics
    /// It does not come to have it.
    #[track_caller]
    pub fn reaches(&self, id: &str, status: &str) -> Value {
        self.until(id, status, |job| job["status"] == status)
    }

    /// Waits for the job's end and returns it.
    ///
    /// # Panics
    /// It does not end in time.
    #[must_use]
    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        let path = format!("/api/v1/jobs/{id}?wait_ms={}", PATIENCE.as_millis());
        let job = self.get(&path).expect(200);
        assert!(is_ended(&job), "the job does not end: {job}");
        job
    }

    /// Waits for the job's end, which must be a success, and returns its result.
    ///
    /// # Panics
    /// It does not end in time or ends otherwise.
    #[must_use]
    #[track_caller]
    pub fn result(&self, id: &str) -> Value {
        let job = self.ended(id);
        assert_eq!(job["status"], "succeeded", "{job}");
        job["result"].clone()
    }

    /// Its output records.
    ///
    /// # Panics
    /// They cannot be read.
    #[must_use]
    #[track_caller]
    pub fn outputs(&self, id: &str) -> Vec<Value> {
        let text = match self.get(&format!("/api/v1/jobs/{id}/output")).expect(200) {
            Value::Null => String::new(),
            Value::String(text) => text,
            // One line alone is JSON.
            one => one.to_string(),
        };
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Messages of its log lines.
    ///
    /// # Panics
    /// They cannot be read.
    #[must_use]
    #[track_caller]
    pub fn log_messages(&self, id: &str) -> Vec<String> {
        let page = self.get(&format!("/api/v1/jobs/{id}/logs")).expect(200);
        let lines = page["lines"].as_array().expect("lines");
        lines.iter().map(|line| line["message"].as_str().expect("a message").to_owned()).collect()
    }

    /// Its kept checkpoints, newest first.
    ///
    /// # Panics
    /// They cannot be read.
    #[must_use]
    #[track_caller]
    pub fn checkpoints(&self, id: &str) -> Vec<Value> {
        let kept = self.get(&format!("/api/v1/jobs/{id}/checkpoints")).expect(200);
        kept["checkpoints"].as_array().expect("checkpoints").clone()
    }

    /// What happens to a job, after the event that was seen last.
    ///
    /// # Panics
    /// The stream does not begin.
    #[must_use]
    #[track_caller]
    pub fn events(&self, id: &str, last: Option<&str>) -> Events {
        self.events_at(&format!("/api/v1/jobs/{id}/events"), last)
    }

    /// What is told at a path, after the event that was seen last.
    ///
    /// # Panics
    /// The stream does not begin.
    #[must_use]
    #[track_caller]
    pub fn events_at(&self, path: &str, last: Option<&str>) -> Events {
        let mut request = http::Request::builder().uri(format!("{}{path}", self.url));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = self.agent.run(request.body(()).expect("a request")).expect("an answer");
        assert_eq!(answer.status(), 200);
        Events(Box::new(BufReader::new(answer.into_body().into_reader())))
    }

    /// The value of a Prometheus sample, or 0 where there is none; samples that begin alike are added up.
    ///
    /// # Panics
    /// The metrics cannot be read.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, begins: &str) -> f64 {
        let Value::String(text) = self.get("/metrics").expect(200) else { return 0.0 };
        let samples = text.lines().filter(|line| line.starts_with(begins));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Waits until `until` holds for the plugin of this name, and returns it.
    ///
    /// # Panics
    /// It does not come to hold.
    #[track_caller]
    pub fn plugin(&self, name: &str, what: &str, within: Duration, until: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("plugin {name} is {what}"), within, || {
            let plugin = self.get(&format!("/api/v1/plugins/{name}")).body;
            until(&plugin).then_some(plugin)
        })
    }
}

/// Has the job ended?
#[must_use]
pub fn is_ended(job: &Value) -> bool {
    matches!(job["status"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

fn eventually_or<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let from = std::time::Instant::now();
    while from.elapsed() < within {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(crate::LOOK_EVERY);
    }
    None
}

fn read(answer: http::Response<Body>) -> Answer {
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = answer.into_body().into_with_config().limit(1 << 30).read_to_string();
    let body = match text {
        Ok(text) if text.is_empty() => Value::Null,
        Ok(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Err(error) => return Answer { status: 0, body: Value::String(error.to_string()), location: None },
    };
    Answer { status, body, location }
}
