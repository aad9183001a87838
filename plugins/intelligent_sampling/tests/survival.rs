//! Samples on the mortgage data: the same after every crash, and right in what can be said without a
//! second implementation (that one is in `tests/independent`).

use std::collections::BTreeSet;

use intelligent_sampling::Sampling;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Crash, Harness, Run};

fn run(input: &Value) -> Run {
    waymark_sdk::files::root_for_this_thread(concat!(env!("CARGO_MANIFEST_DIR"), "/../data"));
    let run = testing::assert_survives_anything::<Sampling>(input);
    let yielding = Harness::new().always_yielding().crash(Crash::BetweenSteps).run::<Sampling>(input);
    assert_eq!(run.result, yielding.result, "the result depends on where a step ends");
    assert_eq!(run.outputs, yielding.outputs);
    assert!(run.result.is_err() || yielding.steps >= run.steps);
    run
}

fn hmda(strategy: Value) -> Value {
    json!({
        "data_set": {"file": "hmda_boston_1990.csv"}, "key": "rownames", "sample_size": 50, "seed": 7,
        "strategy": strategy,
    })
}

fn with(mut input: Value, name: &str, value: Value) -> Value {
    input[name] = value;
    input
}

fn keys(result: &Value) -> BTreeSet<String> {
    let sample = result["sample"].as_array().unwrap();
    sample.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_random_sample_has_its_size_and_no_row_twice() {
    let result = run(&hmda(json!({"kind": "random"}))).result.unwrap();
    assert_eq!(result["population"]["rows"], 2380);
    assert_eq!(result["sample_size"], 50);
    assert_eq!(keys(&result).len(), 50);
}

#[test]
fn a_large_sample_is_whole_in_the_output_and_cut_in_the_result() {
    let strategy = json!({"kind": "stratified", "by": ["deny", "afam", "single", "hschool", "selfemp", "phist", "insurance", "condomin"]});
    let run = run(&with(hmda(strategy), "sample_size", json!(2380)));
    let result = run.result.unwrap();
    assert_eq!(result["sample_complete"], false);
    assert!(result["sample"].as_array().unwrap().len() < 2380 && result.to_string().len() < 500_000);
    assert_eq!((run.outputs.len(), &result["sample_size"]), (2380, &json!(2380)));
}

#[test]
fn a_gentle_pace_draws_the_same_sample() {
    let plain = run(&hmda(json!({"kind": "random"})));
    let gentle = with(hmda(json!({"kind": "random"})), "pace", json!({"rows_per_step": 100, "rest_ms": 50}));
    let gentle = run(&gentle);
    assert_eq!(plain.result, gentle.result);
    assert_eq!(gentle.steps, 24);
}

#[test]
fn another_seed_draws_another_sample() {
    let one = run(&hmda(json!({"kind": "random"}))).result.unwrap();
    let other = run(&with(hmda(json!({"kind": "random"})), "seed", json!(8))).result.unwrap();
    assert!(keys(&one).intersection(&keys(&other)).count() < 10);
}

#[test]
fn a_table_smaller_than_the_sample_is_taken_whole() {
    let input = with(
        with(hmda(json!({"kind": "random"})), "sample_size", json!(10_000)),
        "filters",
        json!([{"column": "chist", "op": "eq", "value": 6}]),
    );
    let result = run(&input).result.unwrap();
    assert_eq!(result["sample_size"], result["population"]["rows_matching"]);
    assert_eq!(result["coverage"][0]["share"], 1.0);
}

#[test]
fn every_stratum_gets_its_minimum_and_the_sizes_add_up() {
    let strategy = json!({"kind": "stratified", "by": ["deny", {"column": "pirat", "bins": [0.2, 0.4]}],
        "min_per_stratum": 3});
    let result = run(&hmda(strategy)).result.unwrap();
    let coverage = result["coverage"].as_array().unwrap();
    assert_eq!(coverage.len(), 6);
    let mut population = 0;
    let mut sampled = 0;
    for stratum in coverage {
        population += stratum["population"].as_u64().unwrap();
        sampled += stratum["sampled"].as_u64().unwrap();
        assert!(stratum["sampled"].as_u64().unwrap() >= 3);
        assert_eq!(stratum["sampled"], stratum["allotted"]);
    }
    assert_eq!((population, sampled), (2380, 50));
}

#[test]
fn equal_allocation_gives_the_same_to_each() {
    let strategy = json!({"kind": "stratified", "by": ["deny", "afam"], "allocation": "equal"});
    let result = run(&hmda(strategy)).result.unwrap();
    for stratum in result["coverage"].as_array().unwrap() {
        assert!(matches!(stratum["sampled"].as_u64(), Some(12 | 13)));
    }
}

#[test]
fn rows_without_weight_are_never_chosen() {
    let strategy = json!({"kind": "risk_weighted", "column": "deny", "weights": {"yes": 1.0}});
    let result = run(&with(hmda(strategy), "include", json!(["deny"])));
    assert!(result.outputs.iter().all(|row| row["values"]["deny"] == "yes"));
    let result = result.result.unwrap();
    assert_eq!(result["sample_size"], 50);
    assert_eq!(result["population"]["rows_without_weight"], 2095);
}

#[test]
fn edge_cases_are_in_the_sample_and_the_strata_keep_their_shares() {
    let strategy = json!({"kind": "stratified", "by": ["deny"]});
    let plain = run(&hmda(strategy.clone())).result.unwrap();
    let result =
        run(&with(hmda(strategy), "edge_cases", json!({"columns": ["pirat", "chist"]}))).result.unwrap();
    assert_eq!(result["coverage"], plain["coverage"]);
    let greatest =
        result["edge_cases"].as_array().unwrap().iter().find(|case| case["case"] == "greatest").unwrap();
    assert_eq!((&greatest["value"], &greatest["sampled"]), (&json!("3"), &json!(1)));
    assert!(result["sample"].to_string().contains("greatest pirat: 3"));
}

#[test]
fn edge_cases_alone_are_a_sample_too() {
    let result = run(&hmda(json!({"kind": "edge_cases"}))).result.unwrap();
    assert!(result["sample_size"].as_u64().unwrap() > 5);
    for row in result["sample"].as_array().unwrap() {
        assert!(row["reason"].as_str().unwrap().starts_with("edge case: "), "{row}");
    }
}

#[test]
fn rows_of_the_input_are_sampled_like_a_file() {
    let rows: Vec<Value> = (0..30)
        .map(|id| json!({"id": id, "group": if id % 3 == 0 { Value::Null } else { json!("a") }}))
        .collect();
    let result = run(&json!({
        "data_set": {"rows": rows}, "key": ["id", "group"], "sample_size": 6,
        "strategy": {"kind": "stratified", "by": ["group"]},
    }))
    .result
    .unwrap();
    assert_eq!(result["coverage"][0]["stratum"], json!({"group": null}));
    assert_eq!(result["coverage"][0]["sampled"], 2);
    assert!(result["sample"][0]["key"]["id"].is_string());
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let plain = hmda(json!({"kind": "random"}));
    let by = |by: Value| hmda(json!({"kind": "stratified", "by": by, "min_per_stratum": 40}));
    for (input, says) in [
        (with(plain.clone(), "key", json!("id")), "there is no column \"id\"; there are: rownames, deny"),
        (with(plain.clone(), "sample_size", json!(0)), "`sample_size` must be 1 to 10000"),
        (with(plain.clone(), "colour", json!(1)), "unknown field `colour`"),
        (with(plain.clone(), "data_set", json!({"file": "../secret.csv"})), "without `..`"),
        (with(plain.clone(), "data_set", json!({"file": "none.csv"})), "no directory granted"),
        (with(plain.clone(), "data_set", json!({})), "one of `file`, `rows` and `sql`"),
        (hmda(json!({"kind": "lottery"})), "unknown variant `lottery`"),
        (by(json!(["deny", "afam"])), "need a sample of 160"),
        (by(json!([])), "`by` needs 1 to 8 columns"),
        (
            with(plain, "filters", json!([{"column": "deny", "op": "matches", "value": "("}])),
            "the pattern \"(\"",
        ),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}
