//! What a language model and a database add: natively both are functions.

use auto_map_pdes::AutoMap;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Run, assert_survives_anything};
use waymark_sdk::{llm, sql};

fn run(input: &Value) -> Run {
    assert_survives_anything::<AutoMap>(input)
}

fn ambiguous() -> Value {
    json!({
        "attributes": [{"name": "Loan amount"}, {"name": "Moon phase"}],
        "catalogue": [{"table": "t", "column": "loan_amount_2"}, {"table": "t", "column": "loan_amount_1"}],
        "ask_model": true,
    })
}

fn choose(column: Value) {
    llm::answer_on_this_thread(move |request| {
        let told: Value = request.messages[1].1.parse().expect("JSON");
        assert_eq!(told["attribute"]["name"], "Loan amount", "what has no candidates is not asked about");
        assert_eq!(told["columns"][1]["column"], "t.loan_amount_1");
        Ok(json!({"column": column, "confidence": 0.9, "reason": "It is the newest."}).to_string())
    });
}

#[test]
fn a_model_decides_between_candidates_that_are_close() {
    choose(json!(2));
    let run = run(&ambiguous());
    let mapping = &run.result.unwrap()["mappings"][0];
    assert_eq!(
        (&mapping["pde"], &mapping["status"]),
        (&json!("t.loan_amount_1"), &json!("mapped")),
        "{mapping}"
    );
    assert!(mapping["reason"].as_str().unwrap().contains("a model chose it (0.90): It is the newest."));
    assert!(run.outputs.iter().any(|record| record["record"] == "ranking"));
}

#[test]
fn a_model_that_chooses_none_or_nonsense_is_heard_as_such() {
    choose(json!(null));
    let none = run(&ambiguous()).result.unwrap();
    assert_eq!(none["mappings"][0]["status"], "unmapped", "{none}");
    llm::answer_on_this_thread(|_| Err(llm::Error::NotConfigured("no provider".into())));
    let without = run(&ambiguous()).result.unwrap();
    assert_eq!(without["mappings"][0]["status"], "ambiguous");
    choose(json!(9));
    assert_eq!(run(&ambiguous()).result.unwrap(), without);
    llm::answer_on_this_thread(|_| Err(llm::Error::Limited(10, "busy".into())));
    assert!(matches!(run(&ambiguous()).result, Err(Failure::RetryAfter(..))));
}

#[test]
fn values_show_what_a_column_holds() {
    sql::answer_on_this_thread(|connection, statement, _| {
        assert_eq!(connection, "warehouse");
        let values = if statement.starts_with("SELECT \"denied\" FROM \"los\".\"hmda\" WHERE") {
            vec!["yes", "no", "yes"]
        } else if statement.contains("\"denied_on\"") {
            vec!["2024-01-31", "2024-02-01"]
        } else {
            return Err(sql::Error::BadStatement("no such column".into()));
        };
        let rows = values.into_iter().map(|value| vec![sql::Value::from(value)]).collect();
        Ok((vec!["v".to_owned()], rows))
    });
    let mut input = json!({
        "attributes": [{"name": "Denied", "data_type": "boolean"}],
        "catalogue": [
            {"table": "los.hmda", "column": "denied_on", "data_type": "text"},
            {"table": "los.hmda", "column": "denied", "data_type": "varchar(3)"},
            {"table": "los.hmda", "column": "denied\"; DROP TABLE hmda"},
        ],
        "min_confidence": 0.1,
    });
    let before = run(&input).result.unwrap()["mappings"][0].clone();
    input["connection"] = json!("warehouse");
    let read = run(&input);
    let after = &read.result.unwrap()["mappings"][0];
    assert_eq!(after["column"], "denied");
    assert!(after["confidence"].as_f64() > before["confidence"].as_f64(), "{before} {after}");
    assert!(after["reason"].as_str().unwrap().contains("type Boolean for Boolean"), "{after}");
    assert_eq!(read.outputs[0]["record"], "not read");
    assert_eq!(after["candidates"].as_array().unwrap().len(), 3);
}
