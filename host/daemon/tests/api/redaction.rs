//! What people are not shown of jobs.

use super::harness::Host;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use waymark::config;
use waymark_job::{Progress, redact::HIDDEN};
use waymark_store::{NewCheckpoint, Then};

const SECRET: &str = "hunter22";

fn token(name: &str, scope: config::Scope) -> config::Token {
    use sha2::{Digest as _, Sha256};
    config::Token {
        name: name.to_owned(),
        sha256: hex::encode(Sha256::digest(name)),
        scopes: vec![scope],
        rate: None,
    }
}

#[tokio::test]
async fn hidden_fields_are_shown_to_nobody_but_an_admin_who_asks_for_them() {
    let host = Host::with_config(|config| {
        config.redaction.fields = vec!["/password".into(), "/people/*/ssn".into()];
        config.api.tokens =
            vec![token("operator", config::Scope::Operate), token("admin", config::Scope::Admin)];
    })
    .await;
    let ask = async |who: &str, method: Method, path: String, body: Value| {
        let request = host.request(method, &path).bearer_auth(who);
        let request = if body.is_null() { request } else { request.json(&body) };
        host.send(request).await
    };
    let get = async |who: &str, path: String| ask(who, Method::GET, path, Value::Null).await;
    let input = json!({"password": SECRET, "people": [{"ssn": 123_456_789, "name": "ann"}], "n": 1});
    let shown = json!({"password": HIDDEN, "people": [{"ssn": HIDDEN, "name": "ann"}], "n": 1});
    let job = json!({"type": super::harness::TYPE, "input": input, "metadata": {"note": SECRET}});
    let made = ask("operator", Method::POST, "/api/v1/jobs".into(), job).await.json();
    assert_eq!((&made["input"], &made["metadata"]["note"]), (&shown, &json!(HIDDEN)));
    let id = made["id"].as_str().unwrap().to_owned();

    // The worker has it whole, and says it wherever it can.
    let mut claim = host.claim().await;
    assert_eq!(serde_json::from_str::<Value>(&claim.job.spec.input).unwrap(), input);
    let said = json!({"login": format!("ann:{SECRET}"), "ssn": 123_456_789}).to_string();
    host.store
        .append_logs(vec![(claim.job.id, json!({"at": 1, "level": "info", "message": SECRET}).to_string())])
        .await
        .unwrap();
    host.commit(&mut claim, Then::Continue, |commit| {
        commit.outputs = vec![said.clone()];
        commit.record.progress = Some(Progress { message: Some(SECRET.into()), ..Progress::default() });
        commit.checkpoint = Some(NewCheckpoint {
            mime_type: "application/json".into(),
            state_version: 1,
            state: said.clone().into_bytes(),
            plugin_version: "1.0.0".into(),
            plugin_digest: "abc".into(),
        });
    })
    .await;
    host.commit(&mut claim, Then::Succeeded { result: said.clone() }, |_| {}).await;
    let paths = ["", "/output", "/logs", "/checkpoint", "/checkpoints", "/events"];
    let paths: Vec<_> = paths.iter().map(|path| format!("/api/v1/jobs/{id}{path}")).collect();
    let pages = [
        format!("/jobs/{id}"),
        format!("/jobs/{id}/checkpoints"),
        format!("/jobs/{id}/replay"),
        "/jobs".into(),
    ];
    let lists = ["/api/v1/jobs?include=input,result".to_owned()];
    for path in paths.iter().chain(&pages).chain(&lists) {
        for who in ["operator", "admin"] {
            let answer = get(who, path.clone()).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            let text = &answer.text;
            assert!(!text.contains(SECRET) && !text.contains("123456789"), "{path}: {text}");
        }
    }
    let job = get("operator", paths[0].clone()).await.json();
    assert_eq!(job["result"], json!({"login": format!("ann:{HIDDEN}"), "ssn": HIDDEN}));

    for path in [&paths[0], &paths[1], &paths[3]] {
        let asked = format!("{path}?reveal=true");
        assert_eq!(get("operator", asked.clone()).await.code(), "scope-missing");
        let answer = get("admin", asked.clone()).await;
        assert!(answer.text.contains(SECRET), "{asked}: {}", answer.text);
        let audit = get("admin", format!("/api/v1/audit?about={id}")).await.json();
        let mut seen = audit["entries"].as_array().unwrap().iter().filter(|entry| entry["path"] == asked);
        let newest = seen.next().unwrap();
        assert_eq!((&newest["actor"], &newest["status"]), (&json!("admin"), &json!(200)));
        let refused = seen.next().unwrap();
        assert_eq!((&refused["actor"], &refused["status"]), (&json!("operator"), &json!(403)));
    }

    // A replay has what its author was not shown, unless they change it.
    let changes = json!({"input": {"password": HIDDEN, "people": [{"ssn": 7}], "n": 2}});
    let made = ask("operator", Method::POST, format!("/api/v1/jobs/{id}/replay"), changes).await.json();
    assert_eq!(made["input"], json!({"password": HIDDEN, "people": [{"ssn": HIDDEN}], "n": 2}));
    let claim = host.claim().await;
    let whole: Value = serde_json::from_str(&claim.job.spec.input).unwrap();
    assert_eq!(whole, json!({"password": SECRET, "people": [{"ssn": 7}], "n": 2}));
}
