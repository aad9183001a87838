//! Rules: the same after every crash, run by the job type that they are for, and dropped where they say nothing.

use generate_profiling_rules::Generating;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Crash, Harness, Run};

fn run(input: &Value) -> Run {
    waymark_sdk::files::root_for_this_thread(concat!(env!("CARGO_MANIFEST_DIR"), "/../data"));
    let run = testing::assert_survives_anything::<Generating>(input);
    let yielding = Harness::new().always_yielding().crash(Crash::BetweenSteps).run::<Generating>(input);
    assert_eq!((&run.result, &run.outputs), (&yielding.result, &yielding.outputs));
    run
}

#[test]
fn the_rules_of_the_shipped_input_are_run_as_they_are() {
    let input: Value = include_str!("../input.json").parse().unwrap();
    let first = run(&input).result.unwrap();
    assert_eq!((&first["rules"], &first["unmapped"]), (&json!(9), &json!(["Branch code"])));
    // What the rules' own run finds of the columns makes more rules.
    let ran = testing::run::<waymark_rules::Profiling>(&first["job"]).result.unwrap();
    assert_eq!(ran["rules"]["failed"], 0, "{ran}");
    let mut input = input;
    input["columns"] = ran["columns"].clone();
    let second = run(&input).result.unwrap();
    assert!(second["rules"].as_u64() > Some(9), "{second}");
    let ran = testing::run::<waymark_rules::Profiling>(&second["job"]).result.unwrap();
    assert_eq!(ran["rules"]["total"], second["rules"]);
}

#[test]
fn a_rule_that_says_nothing_of_any_row_is_dropped() {
    let input = json!({
        "data_set": {"rows": [{"a": null, "b": 1}, {"a": null, "b": 2}]},
        "attributes": [{"name": "a", "data_type": "date"}, {"name": "b", "data_type": "integer"}],
    });
    let result = run(&input).result.unwrap();
    assert_eq!(result["dropped"][0]["id"], "a: is of its type");
    assert_eq!(result["job"]["rules"][0]["id"], "b: is of its type");
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let rows = json!({"rows": [{"a": 1}]});
    for (input, says) in [
        (json!({"data_set": rows, "attributes": []}), "1 to 500"),
        (json!({"data_set": rows, "attributes": [{"name": "a"}], "sample_rows": 0}), "1 to 5000"),
        (json!({"data_set": rows, "attributes": [{"name": "a"}], "key": "id"}), "there is no column \"id\""),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}
