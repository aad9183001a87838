//! Rules that a language model proposes, which natively is a function.

use generate_profiling_rules::Generating;
use waymark_sdk::llm::{Error, answer_on_this_thread};
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Run, assert_survives_anything};

fn input() -> Value {
    let rows: Vec<_> = (0..20).map(|n| json!({"amount": n * 10, "income": n * 100, "kind": "a"})).collect();
    json!({
        "data_set": {"rows": rows}, "ask_model": true,
        "attributes": [{"name": "amount", "mandatory": true}, {"name": "kind"}, {"name": "absent"}],
    })
}

fn run(input: &Value) -> Run {
    assert_survives_anything::<Generating>(input)
}

fn rule(id: &str, check: Value) -> Value {
    json!({"id": id, "check": check})
}

#[test]
fn a_proposal_is_kept_where_it_evaluates_and_is_new() {
    answer_on_this_thread(|request| {
        let told: Value = request.messages[1].1.parse().expect("JSON");
        assert_eq!(told["columns"], json!(["amount", "income", "kind"]));
        let name = told["attribute"]["name"].as_str().expect("a name");
        assert_ne!(name, "absent", "what has no column is not asked about");
        let rules = match name {
            "amount" => json!([
                rule(
                    "less than income",
                    json!({"kind": "comparison", "condition": {"column": "amount", "op": "le", "other_column": "income"}})
                ),
                rule("no such column", json!({"kind": "completeness", "columns": "amounts"})),
                rule("no pattern", json!({"kind": "regex", "column": "amount", "pattern": "("})),
                rule("there already", json!({"kind": "completeness", "columns": "amount"})),
                rule("all fail", json!({"kind": "range", "column": "amount", "min": 1_000})),
            ]),
            _ => return Err(Error::BadAnswer("asked twice".into())),
        };
        Ok(json!({"rules": rules}).to_string())
    });
    let run = run(&input());
    let result = run.result.unwrap();
    assert_eq!(result["proposed"], 1, "{result}");
    let ids: Vec<_> = result["job"]["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    assert_eq!(ids, ["amount: is there", "amount: model 1: less than income"]);
    let dropped: Vec<_> =
        result["dropped"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(dropped.len(), 4);
    assert!(dropped[0].contains("\"amounts\""), "{dropped:?}");
    assert_eq!(dropped[2..], ["it is there already", "every sample row fails it"]);
    assert!(run.outputs.iter().any(|record| record["by"] == "model" && record["record"] == "rule"));
    // What was kept runs as it is.
    let ran = waymark_sdk::testing::run::<waymark_rules::Profiling>(&result["job"]).result.unwrap();
    assert_eq!(ran["rules"]["passed"], 2, "{ran}");
}

#[test]
fn without_a_model_there_are_the_deterministic_rules() {
    answer_on_this_thread(|_| Err(Error::NotConfigured("no provider".into())));
    let asked = run(&input());
    let mut unasked = input();
    unasked["ask_model"] = json!(false);
    let unasked = run(&unasked);
    assert_eq!((&asked.result, &asked.outputs), (&unasked.result, &unasked.outputs));
    answer_on_this_thread(|_| Err(Error::Unavailable("down".into())));
    assert!(matches!(run(&input()).result, Err(Failure::Transient(_))), "what may pass is tried again");
}
