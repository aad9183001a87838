//! Test execution: the same after every crash, and a reason for each outcome.

use execute_tests::Execution;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Crash, Harness, Run};

fn run(input: &Value) -> Run {
    waymark_sdk::files::root_for_this_thread(concat!(env!("CARGO_MANIFEST_DIR"), "/../data"));
    let run = testing::assert_survives_anything::<Execution>(input);
    let yielding = Harness::new().always_yielding().crash(Crash::BetweenSteps).run::<Execution>(input);
    assert_eq!((&run.result, &run.outputs), (&yielding.result, &yielding.outputs));
    run
}

fn counts(run: &Run) -> Value {
    run.result.as_ref().unwrap()["counts"].clone()
}

/// The outcome of one case: status and reason.
fn one(attribute: Value, expected: Value, found: Value) -> (String, String) {
    let name = attribute["name"].clone();
    let input = json!({
        "attributes": [attribute], "evidence": {}, "cases": [{"attribute": name, "expected": expected, "found": found}],
    });
    let outcome = run(&input).outputs.remove(0);
    let text = |name: &str| outcome[name].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn the_shipped_input_has_passes_failures_and_doubts() {
    let input: Value = include_str!("../input.json").parse().unwrap();
    let run = run(&input);
    assert_eq!(
        counts(&run),
        json!({"total": 20, "passed": 13, "failed": 1, "inconclusive": 6}),
        "{:?}",
        run.outputs
    );
    let exceptions = run.result.as_ref().unwrap()["exceptions"].as_array().unwrap().clone();
    let failed: Vec<_> = exceptions.iter().filter(|one| one["status"] == "fail").collect();
    assert_eq!((&failed[0]["key"], &failed[0]["attribute"]), (&json!("42"), &json!("Application denied")));
    let document = run.outputs.iter().find(|one| one["evidence"] == "letter 120").unwrap();
    assert_eq!((&document["found"], &document["status"]), (&json!("no"), &json!("pass")));
}

#[test]
fn values_are_compared_as_what_they_mean() {
    let is = |kind: &str| json!({"name": "a", "data_type": kind});
    for (attribute, expected, found, status, says) in [
        (is("amount"), json!(1234.5), json!("$1,234.50"), "pass", "the same number"),
        (is("amount"), json!("1234.50"), json!("1.234,51 EUR"), "fail", "0.01 apart"),
        (is("date"), json!("2024-03-01"), json!("1 March 2024"), "pass", "the same date"),
        (is("date"), json!("2024-03-01"), json!("01/03/2024"), "inconclusive", "2024-03-01 or 2024-01-03"),
        (is("boolean"), json!(true), json!("Y"), "pass", "the same"),
        (is("text"), json!("Main  Street 1"), json!("main street 1"), "pass", "but for capitals"),
        (is("text"), json!("a"), json!("b"), "fail", "expected \"a\", found \"b\""),
        (is("integer"), json!(5), json!("five"), "inconclusive", "\"five\" is not a number"),
        (
            json!({"name": "a", "data_type": "date", "evidence_date_format": "%d/%m/%Y", "tolerance": {"days": 1}}),
            json!("2024-03-01"),
            json!("02/03/2024"),
            "pass",
            "1 days apart, within tolerance",
        ),
        (json!({"name": "a", "tolerance": {"case": true}}), json!("a"), json!("A"), "fail", "expected"),
    ] {
        let (is, reason) = one(attribute, expected, found);
        assert!(is == status && reason.contains(says), "{is}: {reason}");
    }
}

#[test]
fn what_is_not_there_is_told_apart() {
    let rows = |rows: Value| json!({"data_set": {"rows": rows}, "key": "id"});
    let input = json!({
        "attributes": [{"name": "a"}],
        "sample": [{"key": 1}, {"key": 2}, {"key": 3}, {"key": 4}, {"key": 5}],
        "source": rows(json!([{"id": 1, "a": "x"}, {"id": 2, "a": null}, {"id": 3, "a": "x"}, {"id": 4, "a": "x"}])),
        "evidence": rows(json!([{"id": 1, "a": null}, {"id": 2, "a": null}, {"id": 3, "a": "x"}, {"id": 3, "a": "x"}])),
    });
    let run = run(&input);
    let said: Vec<_> = run
        .outputs
        .iter()
        .map(|one| (one["status"].as_str().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("fail", "expected \"x\", found no value"),
            ("pass", "neither has a value"),
            ("inconclusive", "the evidence has more than one row with this key"),
            ("inconclusive", "there is no evidence"),
            ("inconclusive", "the source has no row with this key"),
        ]
    );
}

#[test]
fn six_hundred_cases_take_several_steps() {
    let cases: Vec<_> = (0..600).map(|n| json!({"attribute": "a", "expected": n, "found": n % 10})).collect();
    let run =
        run(&json!({"attributes": [{"name": "a", "data_type": "integer"}], "evidence": {}, "cases": cases}));
    assert!(run.steps >= 3);
    assert_eq!(counts(&run), json!({"total": 600, "passed": 10, "failed": 590, "inconclusive": 0}));
    assert_eq!(run.result.unwrap()["exceptions"].as_array().map(Vec::len), Some(500));
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let a = json!([{"name": "a"}]);
    for (input, says) in [
        (json!({"attributes": a, "evidence": {}}), "0 cases"),
        (json!({"attributes": a, "evidence": {}, "sample": [{"key": 1}]}), "needs the `source`"),
        (
            json!({"attributes": a, "evidence": {}, "cases": [{"attribute": "b", "expected": 1}]}),
            "\"b\", which is no attribute",
        ),
        (json!({"attributes": [{"name": "a"}, {"name": "a"}], "evidence": {}}), "\"a\" is there twice"),
        (json!({"attributes": a, "evidence": {"csv": "k", "data_set": {"rows": []}}}), "not both"),
        (
            json!({"attributes": a, "evidence": {}, "cases": [{"attribute": "a", "key": [], "expected": 1}]}),
            "a key is a text",
        ),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}

#[test]
fn attributes_of_the_report_are_tested_as_they_are_and_only_those_wanted() {
    let input = json!({
        "attributes": [{"name": "a", "tolerance": {"absolute": 1.0}, "data_type": "decimal"}],
        "report_attributes": [
            {"name": "a", "mandatory": true}, {"name": "b", "data_type": "decimal", "citation": "b is asked for"}, {"name": "c"},
        ],
        "only": ["a", "b", "d"],
        "sample": [{"key": 1}],
        "source": {"data_set": {"rows": [{"key": 1, "a": 2.0, "b": 3.0, "c": 4}]}, "key": "key"},
        "evidence": {"csv": "key,a,b,c\n1,2.5,3.5,4\n"},
    });
    let result = testing::assert_survives_anything::<Execution>(&input).result.unwrap();
    let told: Vec<_> = result["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["attribute"], &one["pass_rate"]))
        .collect();
    assert_eq!(told, [(&json!("a"), &json!(1.0)), (&json!("b"), &json!(0.0))]);
}
