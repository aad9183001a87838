//! What waits, and what it needs.

use crate::harness::{Host, TYPE};
use serde_json::{Value, json};

async fn put(host: &Host, id: &str, record: &Value) {
    host.store.put_host(id, &record.to_string(), 60_000).await.unwrap();
}

#[tokio::test]
async fn what_waits_runs_and_is_wanted_is_told_for_all_queues_or_some() {
    let host = Host::start().await;
    let empty = host.get("/api/v1/scale").await.json();
    assert_eq!(empty["waiting"], 0);
    assert_eq!((&empty["wanted_slots"], &empty["wanted_hosts"]), (&json!(0), &json!(0)));
    // Nobody is there, and hosts can be started from nothing.
    for queue in ["night", "night", "night", "day"] {
        host.submit(&format!(r#","queue":"{queue}""#)).await;
    }
    let alone = host.get("/api/v1/scale").await.json();
    assert_eq!((&alone["waiting"], &alone["hosts"]), (&json!(4), &json!(0)));
    assert_eq!((&alone["wanted_slots"], &alone["wanted_hosts"]), (&json!(4), &json!(1)));

    let record = json!({"ready": true, "slots": 2, "slots_max": 2, "used": 2, "stay_us": 5_000_000});
    put(&host, "all-1", &record).await;
    let night = json!({"queues": ["ni*"], "slots": 2, "slots_max": 2, "used": 1, "stay_us": 5_000_000});
    put(&host, "night-1", &night).await;
    put(&host, "leaving-1", &json!({"draining": true, "slots": 8, "used": 8})).await;
    let all = host.get("/api/v1/scale").await.json();
    assert_eq!((&all["hosts"], &all["slots"], &all["running"]), (&json!(2), &json!(4), &json!(3)));
    assert_eq!(all["stay_ms"], 5_000.0);
    // Four jobs of 5 s within 10 s: two more slots than those in use; hosts have two slots each.
    assert_eq!((&all["wanted_slots"], &all["wanted_hosts"]), (&json!(5), &json!(3)));
    assert!(all["oldest_waiting_seconds"].as_f64().unwrap() >= 0.0);
    let queues: Vec<_> = all["queues"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(queues, ["day", "night"]);

    let day = host.get("/api/v1/scale?queue=day&target_ms=5000").await.json();
    assert_eq!((&day["waiting"], &day["hosts"], &day["running"]), (&json!(1), &json!(1), &json!(2)));
    assert_eq!(day["wanted_slots"], 3);
    assert_eq!(host.get("/api/v1/scale?queue=ni*,day").await.json()["waiting"], 4);
    let _ = host.post("/api/v1/queues/night/pause", "").await;
    assert_eq!(host.get("/api/v1/scale").await.json()["waiting"], 1);
    let text = host.get("/metrics").await.text;
    for line in
        [r#"waymark_queue_waiting{queue="day"} 1"#, "waymark_wanted_slots 4", "waymark_wanted_hosts 2"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains(r#"waymark_queue_waiting{queue="night"}"#), "{TYPE}: {text}");

    for query in ["target_ms=0", "queue=a%20b", "queue=a,", "x=1"] {
        assert_eq!(host.get(&format!("/api/v1/scale?{query}")).await.code(), "invalid-query", "{query}");
    }
}
