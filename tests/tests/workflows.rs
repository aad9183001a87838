//! Workflows, and the job types that a worker runs by itself.

use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use waymark_tests::{World, client::Client, eventually};

const PATIENCE: Duration = Duration::from_secs(30);
/// Nodes that fail do so at once.
const CONFIG: &str = "
[plugins.counter]
checkpoint = { every_steps = 1 }
[plugins.counter.retry]
max_attempts = 1
";

fn echo(input: Value) -> Value {
    json!({"type": "waymark.echo", "input": input})
}

fn submit(host: &Client, workflow: &Value) -> String {
    let job = host.post("/api/v1/workflows", workflow).expect(201);
    job["id"].as_str().expect("an id").to_owned()
}

fn show(host: &Client, id: &str) -> Value {
    host.get(&format!("/api/v1/workflows/{id}?nodes=1000")).expect(200)
}

fn node<'a>(workflow: &'a Value, name: &str) -> &'a Value {
    let nodes = workflow["nodes"].as_array().expect("nodes");
    nodes.iter().find(|node| node["name"] == name).expect("a node of this name")
}

#[track_caller]
fn succeeded(host: &Client, workflow: &Value) -> Value {
    let job = host.ended(&submit(host, workflow));
    assert_eq!(job["status"], "succeeded", "{job}");
    job["result"].clone()
}

#[test]
fn a_host_without_plugins_runs_the_job_types_of_its_own() {
    let world = World::new("");
    let host = world.host(&[]);
    let input = json!({"a": [1, 2.50], "b": null});
    let id = host.submit(&json!({"type": "waymark.echo", "input": input}));
    let job = host.ended(&id);
    assert_eq!((&job["status"], &job["result"]), (&json!("succeeded"), &input), "{job}");
    let refused = host.post("/api/v1/jobs", &json!({"type": "waymark.workflow", "input": {}}));
    assert_eq!((refused.status, refused.code()), (422, "invalid-field"), "{}", refused.body);
}

#[test]
fn chains_groups_chords_and_maps_hand_on_their_results() {
    let world = World::new("");
    let host = world.host(&[]);
    let chain = json!({"chain": [echo(json!({"x": 1})), {"type": "waymark.echo"}, echo(json!([{"$from": "2", "pointer": "/x"}]))]});
    assert_eq!(succeeded(&host, &chain), json!([1]));
    assert_eq!(
        succeeded(&host, &json!({"group": [echo(json!(1)), echo(json!(null)), echo(json!("c"))]})),
        json!([1, null, "c"])
    );
    let chord =
        json!({"chord": {"header": [echo(json!(1)), echo(json!(2))], "body": {"type": "waymark.echo"}}});
    assert_eq!(succeeded(&host, &chord), json!([1, 2]));
    let map = json!({
        "nodes": {
            "list": echo(json!({"rows": (0..25).collect::<Vec<_>>()})),
            "each": {
                "type": "waymark.echo", "input": {"row": {"$item": ""}, "at": {"$index": true}},
                "map": {"over": {"$from": "list", "pointer": "/rows"}, "parallel": 3},
            },
            "none": {"type": "waymark.echo", "map": {"over": []}},
        },
        "result": [{"$from": "each", "pointer": "/24"}, {"$from": "none"}],
    });
    assert_eq!(succeeded(&host, &map), json!([{"row": 24, "at": 24}, []]));
}

#[test]
fn a_failed_node_does_what_its_policy_says() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let graph = |policy: &str| {
        json!({
            "nodes": {
                "one": {"type": "waymark.echo", "input": 1, "compensate": {"type": "waymark.echo"}},
                "two": {"type": "waymark.echo", "input": {"$from": "one"}, "compensate": {"type": "waymark.echo", "input": "undo two"}},
                "bad": {"type": "counter", "input": {"steps": 1, "fail_at": 1}, "needs": ["two"], "on_failure": policy},
                "last": {"type": "waymark.echo", "input": {"$from": "bad", "default": "none"}},
            },
            "result": {"$from": "last"},
            "on_failure": {"type": "waymark.echo"},
        })
    };
    assert_eq!(succeeded(&host, &graph("continue")), "none");
    for (policy, jobs) in [("stop", 0), ("compensate", 2)] {
        let mut asked = graph(policy);
        asked["correlation_id"] = json!(policy);
        let id = submit(&host, &asked);
        let job = host.ended(&id);
        assert_eq!(
            (&job["status"], &job["error"]["kind"]),
            (&json!("failed"), &json!("node-failed")),
            "{job}"
        );
        let shown = show(&host, &id);
        assert_eq!(
            (&shown["counts"]["failed"], &shown["counts"]["skipped"]),
            (&json!(1), &json!(1)),
            "{shown}"
        );
        assert_eq!(
            (node(&shown, "bad")["state"].as_str(), node(&shown, "last")["state"].as_str()),
            (Some("failed"), Some("skipped"))
        );
        // The nodes one and two, and the callback, besides compensations.
        eventually("everything ran", PATIENCE, || {
            let page = host
                .get(&format!("/api/v1/jobs?type=waymark.echo&status=succeeded&correlation_id={policy}"))
                .expect(200);
            (page["jobs"].as_array().expect("jobs").len() == 3 + jobs).then_some(())
        });
    }
}

#[test]
fn a_retry_keeps_what_succeeded() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let graph = json!({
        "nodes": {
            "first": echo(json!(1)),
            "wait": {"type": "counter", "input": {"steps": 2, "await_signal": "go"}, "needs": ["first"]},
            "after": {"type": "waymark.echo", "input": {"$from": "first"}, "needs": ["wait"]},
        },
        "result": {"$from": "after"},
    });
    let waiting = |id: &str| {
        eventually("the node waits", PATIENCE, || {
            let shown = show(&host, id);
            (node(&shown, "wait")["job_status"] == "waiting").then_some(shown)
        })
    };
    let ask = |id: &str, what: &str| {
        host.post(&format!("/api/v1/jobs/{id}/{what}"), &Value::Null).expect(202);
    };
    // Pause and resume reach the node, which waits for its signal still.
    let id = submit(&host, &graph);
    waiting(&id);
    ask(&id, "pause");
    assert_eq!(node(&show(&host, &id), "wait")["job_status"], "paused");
    ask(&id, "resume");
    let shown = waiting(&id);
    let job = node(&shown, "wait")["job_id"].as_str().expect("its job");
    host.post(&format!("/api/v1/jobs/{job}/signals/go"), &Value::Null).expect(202);
    let resumed = host.ended(&id);
    assert_eq!((&resumed["status"], &resumed["run"]), (&json!("succeeded"), &json!(1)), "{resumed}");
    // So does cancel.
    let id = submit(&host, &graph);
    let before = waiting(&id);
    ask(&id, "cancel");
    let shown = show(&host, &id);
    assert_eq!(node(&shown, "wait")["state"], "cancelled", "{shown}");
    assert_eq!(node(&shown, "after")["state"], "skipped", "{shown}");
    host.post(&format!("/api/v1/workflows/{id}/retry"), &Value::Null).expect(202);
    let again = waiting(&id);
    assert_eq!(node(&again, "first")["job_id"], node(&before, "first")["job_id"]);
    assert_ne!(node(&again, "wait")["job_id"], node(&before, "wait")["job_id"]);
    let job = node(&again, "wait")["job_id"].as_str().expect("an id").to_owned();
    host.post(&format!("/api/v1/jobs/{job}/signals/go"), &json!(1)).expect(202);
    let ended = host.ended(&id);
    assert_eq!(
        (&ended["status"], &ended["result"], &ended["run"]),
        (&json!("succeeded"), &json!(1), &json!(2)),
        "{ended}"
    );
    assert_eq!(host.request("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"").status, 204);
    assert_eq!(host.get(&format!("/api/v1/jobs/{job}")).status, 404);
}

#[test]
fn mistakes_in_a_graph_are_named() {
    let world = World::new("");
    let host = world.host(&[]);
    for (graph, part) in [
        (
            json!({"nodes": {"a": {"type": "waymark.echo", "needs": ["b"]}, "b": {"type": "waymark.echo", "needs": ["a"]}}}),
            "circle",
        ),
        (json!({"nodes": {"a": {"type": "nobody"}}}), "no host knows the job type"),
        (json!({"nodes": {"a": {"type": "waymark.workflow"}}}), "no host knows the job type"),
        (json!({"nodes": {"a": {"type": "waymark.echo", "input": {"$from": "z"}}}}), "no node \"z\""),
    ] {
        let refused = host.post("/api/v1/workflows", &graph);
        assert_eq!((refused.status, refused.code()), (422, "invalid-field"), "{}", refused.body);
        assert!(refused.body["detail"].as_str().expect("a detail").contains(part), "{}", refused.body);
    }
}

#[test]
fn a_killed_host_neither_loses_nor_repeats_a_node() {
    let world = World::new("[worker]\nlease_ms = 1000\n");
    let mut first = world.host(&[]);
    let nodes: Map<_, _> = (0..400)
        .map(|at: u32| {
            let needs: Vec<_> = at.checked_sub(20).map(|before| before.to_string()).into_iter().collect();
            (at.to_string(), json!({"type": "waymark.echo", "input": at, "needs": needs}))
        })
        .collect();
    let id = submit(&first, &json!({"nodes": nodes, "correlation_id": "killed"}));
    eventually("it is under way", PATIENCE, || {
        (show(&first, &id)["counts"]["succeeded"].as_u64() >= Some(40)).then_some(())
    });
    first.kill();
    let host = world.host(&[]);
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["result"]["nodes"]["succeeded"], 400);
    let page = host.get("/api/v1/jobs?correlation_id=killed&type=waymark.echo&limit=1000").expect(200);
    assert_eq!(page["jobs"].as_array().expect("jobs").len(), 400);
}

#[test]
fn ten_thousand_nodes_come_to_their_end_without_slow_scripts() {
    let world = World::alone("");
    world.redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
    let host = world.host(&[]);
    let plain = |needs: Vec<String>| json!({"type": "waymark.echo", "input": 1, "needs": needs});
    let wide: Map<_, _> = (0..10_000)
        .map(|at| {
            let node = match at {
                0 => plain(vec![]),
                9_999 => plain((1..9_999).map(|at: u32| at.to_string()).collect()),
                _ => plain(vec!["0".into()]),
            };
            (at.to_string(), node)
        })
        .collect();
    let layered: Map<_, _> = (0..10_000_u32)
        .map(|at| {
            let before = (at / 100).checked_sub(1).map(|layer| layer * 100);
            let needs = before.into_iter().flat_map(|from| [from + at % 100, from + (at * 7 + 1) % 100]);
            (at.to_string(), plain(needs.map(|at| at.to_string()).collect()))
        })
        .collect();
    for (name, nodes) in [("wide", wide), ("layered", layered)] {
        let began = Instant::now();
        let id = submit(&host, &json!({"nodes": nodes}));
        let job = eventually("it ends", Duration::from_secs(120), || {
            let job = host.get(&format!("/api/v1/jobs/{id}?wait_ms=20000")).expect(200);
            (job["status"] != "running" && job["status"] != "waiting" && job["status"] != "queued")
                .then_some(job)
        });
        assert_eq!(job["result"]["nodes"]["succeeded"], 10_000, "{name}: {job}");
        println!("{name}: 10,000 nodes in {:?}", began.elapsed());
    }
    assert_eq!(world.redis.command(&["SLOWLOG", "LEN"]).trim(), ":0");
}

#[test]
fn a_workflow_is_made_once_for_its_key_and_its_end_is_told() {
    let world = World::new("");
    let host = world.host(&[]);
    let graph = |x: u64| {
        json!({
            "group": [echo(json!(x)), echo(json!(2))], "webhook": {"url": "http://127.0.0.1:9/told", "on": ["succeeded"]},
        })
    };
    let post = |graph: &Value| {
        host.request(
            "POST",
            "/api/v1/workflows",
            &[("idempotency-key", "once")],
            graph.to_string().as_bytes(),
        )
    };
    let made = post(&graph(1)).expect(201);
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!(post(&graph(1)).expect(200)["id"], made["id"]);
    let other = post(&graph(3));
    assert_eq!((other.status, other.code()), (422, "idempotency-key-reused"), "{}", other.body);
    let job = host.ended(&id);
    assert_eq!((&job["status"], &job["result"]), (&json!("succeeded"), &json!([1, 2])), "{job}");
    assert_eq!(post(&graph(1)).expect(200)["status"], "succeeded", "and later too");
    let told = host.get(&format!("/api/v1/jobs?type=waymark.webhook&correlation_id={id}&include=input"));
    let told = told.expect(200);
    let hooks = told["jobs"].as_array().expect("jobs");
    assert_eq!(hooks.len(), 1, "{told}");
    assert_eq!(hooks[0]["input"]["url"], "http://127.0.0.1:9/told", "{told}");
    for (webhook, pointer) in [
        (json!({"url": "ftp://x"}), "/webhook/url"),
        (json!({"url": "http://x", "secret": "nobody"}), "/webhook/secret"),
        (json!({"uri": "http://x"}), "/webhook"),
    ] {
        let refused = host.post("/api/v1/workflows", &json!({"chain": [echo(json!(1))], "webhook": webhook}));
        assert_eq!((refused.status, refused.code()), (422, "invalid-field"), "{}", refused.body);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{}", refused.body);
    }
}

#[test]
fn workflows_deleted_in_bulk_take_their_nodes_with_them() {
    let world = World::new("");
    let host = world.host(&[]);
    let graph = json!({"tags": ["gone"], "group": [echo(json!(1)), echo(json!(2)), echo(json!(3))]});
    let ids = [submit(&host, &graph), submit(&host, &graph)];
    for id in &ids {
        assert_eq!(host.ended(id)["status"], "succeeded");
    }
    let kept = host.submit(&echo(json!("kept")));
    assert_eq!(host.ended(&kept)["status"], "succeeded");
    let step = host.post("/api/v1/jobs/bulk/delete?tag=gone&type=waymark.workflow", &Value::Null).expect(200);
    assert_eq!((&step["matched"], &step["done"]), (&json!(2), &json!(2)), "{step}");
    let left = host.get("/api/v1/jobs").expect(200);
    let left: Vec<_> = left["jobs"].as_array().expect("jobs").iter().map(|job| &job["id"]).collect();
    assert_eq!(left, [&json!(kept)]);
}
