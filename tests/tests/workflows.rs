//! Jobs that the worker runs by itself.

use serde_json::json;
use waymark_tests::World;

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
