//! Rules on the mortgage data and on rows of the input: the same after every crash, refused with a reason, and
//! counted exactly when memory is short. (That the figures are right is what `independent.rs` shows.)

#[path = "../../support/mod.rs"]
mod support;

use execute_profiling_rules::Profiling;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Crash, Harness, Run};

fn run(input: &Value) -> Run {
    waymark_sdk::files::root_for_this_thread(concat!(env!("CARGO_MANIFEST_DIR"), "/../data"));
    let run = testing::assert_survives_anything::<Profiling>(input);
    let yielding = Harness::new().always_yielding().crash(Crash::BetweenSteps).run::<Profiling>(input);
    assert_eq!(run.result, yielding.result, "the result depends on where a step ends");
    assert_eq!(run.outputs, yielding.outputs);
    run
}

fn rules(rules: Value) -> Value {
    json!({"data_set": {"file": "hmda_boston_1990.csv"}, "key": "rownames", "rules": rules})
}

fn rule(check: Value) -> Value {
    rules(json!([{"id": "it", "check": check}]))
}

fn with(mut input: Value, name: &str, value: Value) -> Value {
    input[name] = value;
    input
}

#[test]
fn the_shipped_input_survives_every_crash() {
    let input: Value = include_str!("../input.json").parse().unwrap();
    let run = run(&input);
    assert_eq!(
        run.result.unwrap()["rules"],
        json!({"total": 13, "passed": 11, "failed": 2, "not_applicable": 0})
    );
    assert_eq!(run.outputs.iter().filter(|record| record["record"] == "rule").count(), 13);
}

#[test]
fn rows_of_the_input_are_checked_like_a_file() {
    let result = run(&json!({
        "data_set": {"rows": [
            {"id": 1, "day": "2024-01-31", "amount": 10.5},
            {"id": 2, "day": "2024-02-30", "amount": null},
            {"id": 2, "day": "31.01.2024", "amount": "much"},
        ]},
        "key": "id",
        "rules": [
            {"id": "unique", "check": {"kind": "uniqueness", "columns": "id"}},
            {"id": "day", "check": {"kind": "type", "column": "day", "expected": "date"}},
            {"id": "amount", "check": {"kind": "range", "column": "amount", "min": 0}},
        ],
    }))
    .result
    .unwrap();
    let counts: Vec<_> = (result["results"].as_array().unwrap().iter())
        .map(|rule| (&rule["rows_passed"], &rule["rows_failed"], &rule["rows_skipped"]))
        .collect();
    let expected = [(1, 2, 0), (1, 2, 0), (1, 1, 1)].map(|(a, b, c)| (json!(a), json!(b), json!(c)));
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a, b, c)).collect();
    assert_eq!(counts, expected);
}

#[test]
fn an_empty_table_has_rules_that_do_not_apply() {
    let result =
        run(&with(rule(json!({"kind": "completeness", "columns": "a"})), "data_set", json!({"rows": []})));
    assert!(matches!(result.result, Err(Failure::InvalidInput(message)) if message.contains("no columns")));
    let nobody = rules(json!([{
        "id": "it", "check": {"kind": "freshness", "column": "deny", "as_of": "2024-01-01", "max_age_days": 1},
        "where": [{"column": "deny", "op": "eq", "value": "perhaps"}],
    }]));
    let result = run(&nobody).result.unwrap();
    assert_eq!(result["results"][0]["status"], "not_applicable");
    assert_eq!(result["score"], Value::Null);
}

#[test]
fn keys_that_do_not_fit_into_memory_take_more_passes_and_the_same_count() {
    let Some(python) = support::python() else { return };
    let folder = support::tables(&python);
    let input = json!({
        "data_set": {"file": "flights_nyc_2013.csv"}, "profile": false, "pace": {"rows_per_step": 100_000},
        "rules": [{"id": "it", "check": {"kind": "uniqueness", "columns": ["tailnum", "time_hour"]}}],
    });
    let run = support::natively::<Profiling>(&folder, &input);
    let result = run.result.unwrap();
    assert!(result["passes"].as_u64().unwrap() > 1);
    let details = &result["results"][0]["details"];
    assert_eq!(
        details["distinct"].as_u64().unwrap() + result["results"][0]["rows_failed"].as_u64().unwrap()
            - details["repeated_keys"].as_u64().unwrap(),
        result["results"][0]["rows_evaluated"].as_u64().unwrap()
    );
}

#[test]
fn a_forgotten_quote_does_not_eat_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("a,b\n1,\"{}", "x\n".repeat(1 << 20));
    std::fs::write(folder.path().join("open.csv"), text).unwrap();
    let input = json!({"data_set": {"file": "open.csv"}});
    match support::natively::<Profiling>(folder.path(), &input).result {
        Err(Failure::Permanent(message)) => assert!(message.contains("is a quote not closed?"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_changes_underway_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("growing.csv");
    std::fs::write(&path, "a\n1\n2\n3\n").unwrap();
    waymark_sdk::files::root_for_this_thread(folder.path());
    let mut context = testing::context();
    let input = json!({"data_set": {"file": "growing.csv"}, "pace": {"rows_per_step": 1}});
    let mut job =
        Profiling::start(waymark_sdk::serde_json::from_value(input).unwrap(), &mut context).unwrap();
    job.step(&mut context).unwrap();
    let state = waymark_sdk::guest::encode(&job).unwrap();
    std::fs::write(&path, "a\n1\n2\n3\n4\n").unwrap();
    let mut restored: Profiling = waymark_sdk::guest::decode("application/json", 1, &state).unwrap();
    let failure = restored.step(&mut context).unwrap_err();
    assert!(failure.to_string().contains("had 8 bytes when the job began and has 10 now"), "{failure}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    let plain = rule(json!({"kind": "completeness", "columns": "deny"}));
    for (input, says) in [
        (with(plain.clone(), "key", json!("id")), "there is no column \"id\""),
        (rule(json!({"kind": "completeness", "columns": []})), "rule \"it\": a list of columns is empty"),
        (rule(json!({"kind": "magic"})), "rules[0].check.kind: unknown variant `magic`"),
        (rule(json!({"kind": "range", "column": "pirat"})), "a range needs `min` or `max`"),
        (rule(json!({"kind": "range", "column": "pirat", "min": 1, "max": "2024-01-01"})), "both be dates"),
        (rule(json!({"kind": "regex", "column": "deny", "pattern": "(?=x)"})), "look-around"),
        (rule(json!({"kind": "date_format", "column": "deny", "format": "%Q"})), "is not a date format"),
        (rule(json!({"kind": "conditional", "when": [], "then": []})), "at least one condition each"),
        (
            rule(
                json!({"kind": "referential", "columns": ["deny", "afam"], "references": {"columns": "deny"}}),
            ),
            "as many columns",
        ),
        (
            rule(json!({"kind": "freshness", "column": "deny", "as_of": "today", "max_age_days": 1})),
            "\"today\" is not an ISO 8601 date",
        ),
        (with(plain.clone(), "evidence_max", json!(101)), "`evidence_max` must be 100 at most"),
        (rules(json!([plain["rules"][0], plain["rules"][0]])), "two rules have the id \"it\""),
        (json!({"data_set": {"file": "hmda_boston_1990.csv"}, "profile": false}), "nothing to do"),
        (rules(json!([{"id": "it", "check": plain["rules"][0]["check"], "threshold": 2}])), "must be 0 to 1"),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}
