//! Events of all jobs.

use crate::harness::{Host, TYPE};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use waymark::cli::watch::{Event, Parser};
use waymark_store::{CHANGES_KEPT, Then};

/// A reader that stays.
struct Reader {
    response: reqwest::Response,
    parser: Parser,
    events: Vec<Event>,
}

impl Reader {
    async fn open(host: &Host, query: &str, last: Option<&str>) -> Self {
        let mut request = host.request(Method::GET, &format!("/api/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, parser: Parser::default(), events: Vec::new() }
    }

    async fn until(&mut self, enough: impl Fn(&[Event]) -> bool) -> &[Event] {
        let reading = async {
            while !enough(&self.events) {
                let bytes = self.response.chunk().await.unwrap().expect("the stream goes on");
                self.events.extend(self.parser.feed(&bytes));
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        assert!(read.is_ok(), "the events arrive: {:?}", self.events);
        &self.events
    }
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

/// Ids and states, in the order they were told.
fn told(events: &[Event]) -> Vec<(String, String)> {
    let text = |event: &Event, name: &str| data(event)[name].as_str().unwrap().to_owned();
    events.iter().map(|event| (text(event, "id"), text(event, "status"))).collect()
}

fn last_is(status: &'static str) -> impl Fn(&[Event]) -> bool {
    move |events| events.last().is_some_and(|event| data(event)["status"] == status)
}

#[tokio::test]
async fn all_jobs_are_told_as_the_filter_asks() {
    let host = Host::start().await;
    let mut all = Reader::open(&host, "", None).await;
    let mut tagged = Reader::open(&host, "?tag=a%20b&type=elsewhere&status=queued,succeeded", None).await;
    let mut whole = Reader::open(&host, "?correlation_id=run-7&queue=night", None).await;
    let mut none = Reader::open(&host, "?queue=day", None).await;
    let plain = host.submit("").await.to_string();
    host.claim().await;
    let labelled =
        host.submit(r#","tags":["a b"],"correlation_id":"run-7","queue":"night""#).await.to_string();
    let mut second = host.claim().await;
    let ended = Then::Succeeded { result: "1".into() };
    host.commit(&mut second, ended.clone(), |_| {}).await;
    let state = |id: &str, status: &str| (id.to_owned(), status.to_owned());
    let events = all.until(last_is("succeeded")).await;
    assert_eq!(
        told(events),
        [
            state(&plain, "queued"),
            state(&plain, "running"),
            state(&labelled, "queued"),
            state(&labelled, "running"),
            state(&labelled, "succeeded"),
        ]
    );
    let last = data(&events[4]);
    assert_eq!(
        (&last["type"], &last["queue"], &last["tags"]),
        (&json!(TYPE), &json!("night"), &json!(["a b"]))
    );
    assert_eq!((&last["priority"], &last["correlation_id"]), (&json!(0), &json!("run-7")));
    assert!(last["at"].as_str().unwrap().ends_with('Z'), "{last}");
    assert_eq!(data(&events[0])["correlation_id"], Value::Null);
    assert_eq!(
        told(tagged.until(last_is("succeeded")).await),
        [state(&labelled, "queued"), state(&labelled, "succeeded")]
    );
    assert_eq!(told(whole.until(last_is("succeeded")).await).len(), 3);

    // Whoever comes back hears exactly the rest, and no place is older than the next.
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    for (at, id) in ids.iter().enumerate().take(4) {
        let mut again = Reader::open(&host, "", Some(id)).await;
        assert_eq!(told(again.until(last_is("succeeded")).await), told(events)[at + 1..], "after {at}");
        let mut again = Reader::open(&host, &format!("?last_event_id={id}"), None).await;
        assert_eq!(again.until(last_is("succeeded")).await.len(), 4 - at);
    }
    // A job that had not ended is told when it is deleted.
    let delete = host.request(Method::DELETE, &format!("/api/v1/jobs/{plain}"));
    assert_eq!(host.send(delete).await.status, 204);
    let events = all.until(last_is("cancelled")).await;
    assert_eq!(told(events)[5], state(&plain, "cancelled"));
    assert!(none.events.is_empty());
    let day = host.submit(r#","queue":"day""#).await.to_string();
    assert_eq!(told(none.until(last_is("queued")).await), [state(&day, "queued")]);
}

#[tokio::test]
async fn a_reader_that_was_away_for_too_long_is_told_that_something_is_missing() {
    let host = Host::start().await;
    let mut reader = Reader::open(&host, "", None).await;
    let id = host.submit("").await;
    let seen = reader.until(|events| !events.is_empty()).await[0].clone();
    let line = |number: u64| json!({"at": number, "level": "info", "message": "x", "fields": {}}).to_string();
    // Each of these is a change.
    for piece in 0..10 {
        let lines = (0..50).map(|number| host.store.append_logs(vec![(id, line(piece * 50 + number))]));
        join_all(lines).await.into_iter().for_each(Result::unwrap);
    }
    let all = reader.until(|events| events.len() >= 501).await;
    assert!(all.iter().all(|event| event.name == "job"), "nobody who stays misses anything");
    let mut again = Reader::open(&host, "", Some(&seen.id)).await;
    assert_eq!(told(again.until(|events| events.len() >= 500).await), told(&all[1..]));
    for piece in 0..(CHANGES_KEPT + 200) / 50 {
        let lines = (0..50).map(|number| host.store.append_logs(vec![(id, line(piece * 50 + number))]));
        join_all(lines).await.into_iter().for_each(Result::unwrap);
    }
    let mut late = Reader::open(&host, "", Some(&seen.id)).await;
    let events = late.until(|events| events.len() as u64 > CHANGES_KEPT).await;
    assert_eq!(events[0].name, "gap");
    let gap = data(&events[0]);
    assert_eq!((&gap["partition"], &gap["after"]), (&json!(0), &data(&seen)["at"]), "{gap}");
    assert_eq!(gap["until"], data(&events[1])["at"], "what is kept follows");
    assert!(events[1..].iter().all(|event| event.name == "job"), "one gap");
    // One who came to nothing yet, and one with an id that means nothing here.
    for last in ["0-0", "1.0.0.00000000.00000000"] {
        let mut other = Reader::open(&host, "", Some(last)).await;
        let events = other.until(|events| events.len() > 1).await;
        assert_eq!((events[0].name.as_str(), &data(&events[0])["after"]), ("gap", &Value::Null), "{last}");
    }
}

#[tokio::test]
async fn the_number_of_readers_has_a_bound() {
    let host = Host::start().await;
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(Reader::open(&host, "", None).await);
    }
    let refused = host.get("/api/v1/events").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "too-many-readers"));
    assert!(refused.headers.contains_key("retry-after"));
    let id = host.submit("").await.to_string();
    for reader in &mut readers {
        assert_eq!(
            told(reader.until(|events| !events.is_empty()).await),
            [(id.clone(), "queued".to_owned())]
        );
    }
    readers.pop();
    let again = async {
        while host.request(Method::GET, "/api/v1/events").send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("whoever leaves makes room");
    assert_eq!(host.get("/api/v1/events?state=queued").await.code(), "invalid-query");
    assert_eq!(host.get("/api/v1/events?status=gone").await.code(), "invalid-query");
    // The host does not wait for readers when it stops.
    host.stop.send(true).unwrap();
    let mut last = readers.pop().unwrap();
    let end = async { while last.response.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stream ends");
}
