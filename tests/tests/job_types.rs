//! The job types that prepare and carry out tests: each on the input that it is shipped with, many at once, while their
//! host is killed again and again. Every result and every output record is that of an undisturbed run.

use crate::support::{Random, observer};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};
use waymark_tests::{World, root};

const TYPES: [&str; 7] = [
    "auto_map_pdes",
    "generate_recommendations",
    "generate_profiling_rules",
    "execute_tests",
    "generate_test_attributes",
    "intelligent_sampling",
    "execute_profiling_rules",
];
/// Jobs of each type that are under way while the host is killed.
const COPIES: usize = 100;
/// Kills of the host under each type, unless `WAYMARK_KILLS` says otherwise.
const KILLS: usize = 2;
/// A kill comes within so long after the host has begun to run jobs, in milliseconds.
const KILL_WITHIN_MS: usize = 200;

#[test]
fn every_type_comes_to_the_same_however_often_its_host_is_killed() {
    let kills =
        std::env::var("WAYMARK_KILLS").map_or(KILLS, |text| text.parse().expect("WAYMARK_KILLS is a number"));
    let data = root().join("plugins/data");
    let policy = |name: &str| {
        format!(
            "[plugins.{name}]\ncheckpoint = {{ every_steps = 1 }}\ngrants.files = [{{ host = {data:?} }}]\n"
        )
    };
    let policies: String = TYPES.iter().map(|name| policy(name)).collect();
    let world = World::new(&format!("[worker]\nlease_ms = 1000\ncrashes_max = 1000\n{policies}"));
    let observer = observer(&world, &[]);
    let mut host = world.host(&TYPES);
    let mut random = Random::announced();
    let mut hits = 0;
    for name in TYPES {
        let input =
            fs::read_to_string(root().join(format!("plugins/{name}/input.json"))).expect("the input is read");
        let mut input: Value = input.parse().expect("the input is JSON");
        if name == "generate_test_attributes" {
            // With a model, `job_models` kills it.
            input["fallback"] = json!("rules");
        }
        let job = json!({"type": name, "input": input});
        let undisturbed = host.submit(&job);
        let (result, outputs) = (host.result(&undisturbed), host.outputs(&undisturbed));
        assert!(!outputs.is_empty(), "{name} emits nothing");

        let mut ids = Vec::new();
        for _ in 0..kills {
            ids.extend(host.submit_all(&vec![job.clone(); COPIES]));
            thread::sleep(Duration::from_millis(random.below(KILL_WITHIN_MS) as u64));
            host.kill();
            let open = ids.iter().filter(|id| observer.job(id)["ended_at"].is_null()).count();
            println!("{name}: killed with {open} of {} jobs open", ids.len());
            hits += usize::from(open > 0);
            host.start();
        }
        for id in &ids {
            let job = observer.ended(id);
            assert_eq!((&job["status"], &job["run"]), (&json!("succeeded"), &json!(1)), "{job}");
            assert_eq!(job["result"], result, "the result of {name}");
            assert_eq!(observer.outputs(id), outputs, "the output records of {name}");
        }
    }
    assert!(hits > 0, "every job had ended before its host was killed");
}
