//! What a caller can do with a job, from its submission to its deletion.

use serde_json::json;
use waymark_tests::World;

#[test]
fn a_submitted_job_runs_and_its_result_is_kept() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 10, "emit": true, "log": true}}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    println!("{job}");
}
