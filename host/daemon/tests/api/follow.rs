//! Events, output, logs, checkpoints.

use crate::harness::{Answer, Host};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use waymark::cli::watch::{Event, Parser};
use waymark_job::{JobId, Progress};
use waymark_store::{NewCheckpoint, Then};

fn progress(current: u64) -> Progress {
    Progress { current, total: Some(4), message: Some("mapping".into()) }
}

fn checkpoint(state: &[u8], mime_type: &str) -> NewCheckpoint {
    NewCheckpoint {
        mime_type: mime_type.into(),
        state_version: 2,
        state: state.to_vec(),
        plugin_version: "1.2.3".into(),
        plugin_digest: "d1".into(),
    }
}

/// Reads events until `enough`, or until the stream ends.
async fn read(
    host: &Host,
    id: JobId,
    query: &str,
    last: Option<&str>,
    enough: impl Fn(&[Event]) -> bool,
) -> Vec<Event> {
    let mut request = host.request(Method::GET, &format!("/api/v1/jobs/{id}/events{query}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut parser = Parser::default();
    let mut events = Vec::new();
    let reading = async {
        while let Some(bytes) = stream.next().await {
            events.extend(parser.feed(&bytes.unwrap()));
            if enough(&events) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the events arrive");
    events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

async fn log(host: &Host, id: JobId, message: &str) {
    let line = json!({"at": 1_790_000_000_123_u64, "level": "info", "message": message, "fields": {}});
    host.store.append_logs(vec![(id, line.to_string())]).await.unwrap();
}

#[tokio::test]
async fn events_tell_a_job_from_its_line_to_its_end() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let reader = read(&host, id, "", None, |_| false);
    let work = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut claim = host.claim().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        log(&host, id, "hello").await;
        claim.record.progress = Some(progress(1));
        host.commit(&mut claim, Then::Continue, |commit| {
            commit.outputs = vec![r#"{"a":1}"#.into(), "{\n\"a\":2}".into()];
            commit.checkpoint = Some(checkpoint(b"{}", "application/json"));
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        claim.record.progress = Some(progress(4));
        host.commit(&mut claim, Then::Succeeded { result: "[1,2]".into() }, |commit| {
            commit.outputs = vec!["3".into()];
        })
        .await;
    };
    let (events, ()) = tokio::join!(reader, work);
    let states: Vec<_> = events
        .iter()
        .filter(|event| event.name == "state")
        .map(|event| data(event)["status"].clone())
        .collect();
    assert_eq!(states, ["queued", "running", "succeeded"], "{events:?}");
    let outputs: Vec<_> = events.iter().filter(|event| event.name == "output").map(data).collect();
    assert_eq!(outputs, [json!({"a": 1}), json!({"a": 2}), json!(3)]);
    let logs: Vec<_> = events.iter().filter(|event| event.name == "log").map(data).collect();
    assert_eq!(logs.len(), 1);
    assert_eq!(
        logs[0],
        json!({"at": "2026-09-21T14:13:20.123Z", "level": "info", "message": "hello", "fields": {}})
    );
    let steps: Vec<_> = events.iter().filter(|event| event.name == "progress").map(data).collect();
    assert_eq!(steps[0], json!({"current": 1, "total": 4, "message": "mapping", "percent": 25.0}));
    assert_eq!(steps.last().unwrap()["percent"], 100.0);
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &data(last)["result"]), ("state", &json!([1, 2])));

    // Whoever comes back with the last id is told to stay away.
    let request =
        host.request(Method::GET, &format!("/api/v1/jobs/{id}/events")).header("last-event-id", &last.id);
    assert_eq!(host.send(request).await.status, 204);

    // Whoever comes back with another one hears exactly the rest.
    for (index, event) in events.iter().enumerate().take(events.len() - 1) {
        let rest = read(&host, id, "", Some(&event.id), |_| false).await;
        let told = |name: &str, events: &[Event]| -> Vec<Value> {
            events.iter().filter(|event| event.name == name).map(data).collect()
        };
        for name in ["output", "log"] {
            assert_eq!(told(name, &rest), told(name, &events[index + 1..]), "{name} after {index}");
        }
        assert_eq!(data(rest.last().unwrap())["status"], "succeeded");
    }
    let only = read(&host, id, "?only=output", None, |_| false).await;
    assert_eq!(names(&only), ["output", "output", "output", "state"]);
}

#[tokio::test]
async fn a_new_run_is_told_as_a_reset() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let mut claim = host.claim().await;
    host.commit(&mut claim, Then::Succeeded { result: "1".into() }, |commit| {
        commit.outputs = vec!["7".into()]
    })
    .await;
    let first = read(&host, id, "", None, |_| false).await;
    assert_eq!(host.post(&format!("/api/v1/jobs/{id}/restart"), "").await.status, 202);
    let last = first.last().unwrap().id.clone();
    let again = read(&host, id, "", Some(&last), |events| events.len() >= 2).await;
    assert_eq!(names(&again)[..2], ["reset", "state"]);
    assert_eq!(data(&again[0])["run"], 2);
    assert_eq!(data(&again[1])["status"], "queued");
}

#[tokio::test]
async fn a_stream_ends_when_its_job_is_deleted_or_its_host_stops() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let reader = read(&host, id, "", None, |_| false);
    let delete = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.send(host.request(Method::DELETE, &format!("/api/v1/jobs/{id}"))).await
    };
    let (events, _) = tokio::join!(reader, delete);
    assert_eq!(names(&events), ["state"]);
    let id = host.submit("").await;
    let reader = read(&host, id, "", None, |_| false);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.stop.send(true).unwrap();
    };
    let (events, ()) = tokio::join!(reader, stop);
    assert_eq!(names(&events), ["state"]);
}

#[tokio::test]
async fn output_is_read_in_slices_of_lines() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let mut claim = host.claim().await;
    host.commit(&mut claim, Then::Succeeded { result: "1".into() }, |commit| {
        commit.outputs = (0..1_200).map(|index| format!("{{\"i\":{index}}}")).collect();
    })
    .await;
    let lines = |answer: &Answer| -> Vec<u64> {
        let values = answer.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        values.map(|value| value["i"].as_u64().unwrap()).collect()
    };
    let all = host.get(&format!("/api/v1/jobs/{id}/output")).await;
    assert_eq!(all.headers["content-type"], "application/x-ndjson");
    assert_eq!(
        (&all.headers["waymark-next-from"], &all.headers["waymark-total"]),
        (&"1200".parse().unwrap(), &"1200".parse().unwrap())
    );
    assert_eq!(lines(&all), (0..1_200).collect::<Vec<_>>());
    let slice = host.get(&format!("/api/v1/jobs/{id}/output?from=490&limit=600")).await;
    assert_eq!(lines(&slice), (490..1_090).collect::<Vec<_>>());
    assert_eq!(slice.headers["waymark-next-from"], "1090");
    assert_eq!(host.get(&format!("/api/v1/jobs/{id}/output?from=5000")).await.text, "");
}

#[tokio::test]
async fn logs_are_read_in_pages() {
    let host = Host::start().await;
    let id = host.submit("").await;
    for index in 0..5 {
        log(&host, id, &format!("line {index}")).await;
    }
    let page = host.get(&format!("/api/v1/jobs/{id}/logs?limit=3")).await.json();
    assert_eq!((page["lines"].as_array().unwrap().len(), &page["next_from"]), (3, &json!(3)));
    let page = host.get(&format!("/api/v1/jobs/{id}/logs?from=3")).await.json();
    assert_eq!(page["lines"][1]["message"], "line 4");
    assert_eq!(page["next_from"], 5);
}

#[tokio::test]
async fn logs_go_on_after_old_lines_were_dropped() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let line = |index: u64| {
        json!({"at": 1, "level": "info", "message": index.to_string(), "fields": {}}).to_string()
    };
    host.store.append_logs((0..1_500).map(|index| (id, line(index))).collect()).await.unwrap();
    let page = host.get(&format!("/api/v1/jobs/{id}/logs?from=0")).await.json();
    let messages: Vec<_> =
        page["lines"].as_array().unwrap().iter().map(|line| line["message"].clone()).collect();
    assert_eq!((messages.first(), messages.last()), (Some(&json!("500")), Some(&json!("1499"))));
    assert_eq!(page["next_from"], 1_500);
    host.store.append_logs(vec![(id, line(1_500))]).await.unwrap();
    let page = host.get(&format!("/api/v1/jobs/{id}/logs?from=1500")).await.json();
    assert_eq!(page["lines"][0]["message"], "1500");
}

#[tokio::test]
async fn checkpoints_have_the_promised_shape() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let answer = host.get(&format!("/api/v1/jobs/{id}/checkpoint")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "no-checkpoint"));
    let mut claim = host.claim().await;
    claim.record.progress = Some(progress(1));
    host.commit(&mut claim, Then::Continue, |commit| {
        commit.checkpoint = Some(checkpoint(br#"{"row":10}"#, "application/json"));
    })
    .await;
    claim.record.progress = Some(progress(2));
    host.commit(&mut claim, Then::Paused, |commit| {
        commit.checkpoint = Some(checkpoint(&[0xff, 0], "application/cbor"));
    })
    .await;
    let newest = host.get(&format!("/api/v1/jobs/{id}/checkpoint")).await.json();
    assert_eq!((&newest["task_id"], &newest["task_name"]), (&json!(id.to_string()), &json!("elsewhere")));
    let place = &newest["checkpoint_data"];
    assert_eq!((&place["current_index"], &place["total_items"]), (&json!(2), &json!(4)));
    assert_eq!((&place["state"], &place["encoding"]), (&json!("/wA="), &json!("base64")));
    assert_eq!((&newest["run"], &newest["step"], &newest["bytes"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!(newest["plugin_version"], "1.2.3");
    assert_eq!(newest["digest"].as_str().unwrap().len(), 64);
    assert!(newest["created_at"].as_str().unwrap() < newest["expires_at"].as_str().unwrap());
    let older = host.get(&format!("/api/v1/jobs/{id}/checkpoint?step=1")).await.json();
    assert_eq!(older["checkpoint_data"]["state"], json!({"row": 10}));
    let all = host.get(&format!("/api/v1/jobs/{id}/checkpoints")).await.json();
    let steps: Vec<_> =
        all["checkpoints"].as_array().unwrap().iter().map(|one| one["step"].clone()).collect();
    assert_eq!(steps, [2, 1]);
    let answer = host.post(&format!("/api/v1/jobs/{id}/restart?from=1"), "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["run"]), (202, &json!(2)), "{}", answer.text);
}
