//! Queues, plugins, hosts, health, metrics, the document.

use crate::harness::{Host, TYPE};
use serde_json::json;
use std::time::Duration;
use waymark::host::Readiness;
use waymark_store::Message;

#[tokio::test]
async fn a_queue_is_paused_resumed_and_purged() {
    let host = Host::start().await;
    for _ in 0..3 {
        host.submit(r#","queue":"night""#).await;
    }
    let queue = async || host.get("/api/v1/queues").await.json()["queues"][0].clone();
    let before = queue().await;
    assert_eq!(
        (&before["name"], &before["depth"], &before["paused"]),
        (&json!("night"), &json!(3), &json!(false))
    );
    assert!(before["oldest_at"].is_string(), "{before}");
    assert_eq!(host.post("/api/v1/queues/night/pause", "").await.status, 202);
    assert_eq!(queue().await["paused"], true);
    assert_eq!(
        host.post("/api/v1/queues/night/resume", "").await.json(),
        json!({"name": "night", "paused": false})
    );
    assert_eq!(queue().await["paused"], false);
    assert_eq!(
        host.post("/api/v1/queues/night/purge", "").await.json(),
        json!({"name": "night", "cancelled": 3})
    );
    let counts = host.get("/api/v1/counts").await.json();
    assert_eq!(counts["counts"], json!([{"type": TYPE, "status": "cancelled", "jobs": 3}]));
}

#[tokio::test]
async fn types_of_other_hosts_are_listed_apart() {
    let host = Host::start().await;
    let plugins = host.get("/api/v1/plugins").await.json();
    assert_eq!(plugins["plugins"], json!([]));
    assert_eq!(plugins["elsewhere"][0]["name"], TYPE);
    assert_eq!(plugins["elsewhere"][0]["descriptor"]["version"], "1.0.0");
}

#[tokio::test]
async fn a_refused_upload_leaves_no_file() {
    let host = Host::start().await;
    let request = host.request(reqwest::Method::PUT, "/api/v1/plugins/garbage").body("no wasm");
    let answer = host.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "plugin-refused"), "{}", answer.text);
    assert!(answer.json()["reason"].is_string(), "{}", answer.text);
    let files = std::fs::read_dir(host.folder.path().join("plugins")).unwrap().count();
    assert_eq!(files, 0);
}

#[tokio::test]
async fn hosts_are_listed_and_drained() {
    let mut host = Host::start().await;
    host.store.put_host("other-1", r#"{"id":"other-1","ready":true}"#, 60_000).await.unwrap();
    let hosts = host.get("/api/v1/hosts").await.json();
    assert_eq!((&hosts["this"], &hosts["hosts"][0]["id"]), (&json!("host-1"), &json!("other-1")));
    assert_eq!(host.post("/api/v1/hosts/host-1/drain", "").await.status, 202);
    tokio::time::timeout(Duration::from_secs(5), host.drained.recv()).await.unwrap().unwrap();
    let mut messages = host.store.subscribe();
    let heard = async {
        loop {
            if let Message::Drain { host } = messages.next().await {
                return host;
            }
        }
    };
    let ask = async {
        // The subscription may take a moment: ask until it is heard.
        loop {
            assert_eq!(host.post("/api/v1/hosts/other-1/drain", "").await.status, 202);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let drained = tokio::select! {
        drained = tokio::time::timeout(Duration::from_secs(10), heard) => drained.unwrap(),
        () = ask => unreachable!(),
    };
    assert_eq!(drained, "other-1");
}

#[tokio::test]
async fn health_and_readiness_differ() {
    let host = Host::start().await;
    assert_eq!(host.get("/healthz").await.json()["status"], "ok");
    assert_eq!(host.get("/readyz").await.json()["status"], "ready");
    host.ready.send(Readiness { ready: false, reason: "worker processes are starting".into() }).unwrap();
    let answer = host.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "not-ready"));
    assert!(answer.text.contains("worker processes are starting"));
    assert_eq!(host.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_count_requests_and_jobs() {
    let host = Host::start().await;
    host.submit("").await;
    let text = host.get("/metrics").await.text;
    for line in [
        r#"waymark_http_requests_total{method="POST",route="/api/v1/jobs",status="201"} 1"#,
        r#"waymark_jobs{state="queued",type="elsewhere"} 1"#,
        r#"waymark_queue_depth{queue="elsewhere"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn the_document_is_served_and_names_every_path() {
    let host = Host::start().await;
    let document = host.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let calls = [
        ("/api/v1/jobs", vec!["get", "post"]),
        ("/api/v1/jobs/batch", vec!["post"]),
        ("/api/v1/jobs/{id}", vec!["get", "delete"]),
        ("/api/v1/jobs/{id}/pause", vec!["post"]),
        ("/api/v1/jobs/{id}/resume", vec!["post"]),
        ("/api/v1/jobs/{id}/restart", vec!["post"]),
        ("/api/v1/jobs/{id}/cancel", vec!["post"]),
        ("/api/v1/jobs/{id}/events", vec!["get"]),
        ("/api/v1/jobs/{id}/output", vec!["get"]),
        ("/api/v1/jobs/{id}/logs", vec!["get"]),
        ("/api/v1/jobs/{id}/checkpoint", vec!["get"]),
        ("/api/v1/jobs/{id}/checkpoints", vec!["get"]),
        ("/api/v1/plugins", vec!["get"]),
        ("/api/v1/plugins/{type}", vec!["get", "put", "delete"]),
        ("/api/v1/queues", vec!["get"]),
        ("/api/v1/queues/{queue}/pause", vec!["post"]),
        ("/api/v1/queues/{queue}/resume", vec!["post"]),
        ("/api/v1/queues/{queue}/purge", vec!["post"]),
        ("/api/v1/hosts", vec!["get"]),
        ("/api/v1/hosts/{id}/drain", vec!["post"]),
        ("/healthz", vec!["get"]),
        ("/readyz", vec!["get"]),
        ("/metrics", vec!["get"]),
        ("/api/v1/openapi.json", vec!["get"]),
    ];
    for (path, methods) in calls {
        for method in methods {
            let call = &document["paths"][path][method];
            assert!(call["responses"]["403"].is_object(), "{method} {path}");
            assert!(call["responses"].get("default").is_none(), "{method} {path}: each status is named");
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"#/components/").skip(1) {
        let (kind, name) = reference.split('"').next().unwrap().split_once('/').unwrap();
        assert!(document["components"][kind][name].is_object(), "{kind}/{name}");
    }
}
