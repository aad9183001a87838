//! Values that a language model reads in documents, which natively is a function.

use std::cell::Cell;
use std::rc::Rc;

use execute_tests::Execution;
use waymark_sdk::llm::{Error, answer_on_this_thread};
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Run, assert_survives_anything};

fn input(letters: usize) -> Value {
    let documents: Vec<_> = (0..letters)
        .map(|key| {
            let text = format!("Dear borrower, we lend you  {key},000 dollars.\nTerm: 30 years");
            json!({"key": key, "name": format!("letter {key}"), "text": text})
        })
        .collect();
    let case = |key: usize| {
        [
            json!({"attribute": "Loan amount", "key": key, "expected": key * 1000}),
            json!({"attribute": "Term", "key": key, "expected": "30 years"}),
        ]
    };
    let cases: Vec<Value> = (0..letters).flat_map(case).collect();
    json!({
        "attributes": [{"name": "Loan amount", "data_type": "amount"}, {"name": "Term"}],
        "cases": cases, "evidence": {"documents": documents}, "ask_model": true,
    })
}

fn run(input: &Value) -> Run {
    assert_survives_anything::<Execution>(input)
}

#[test]
fn a_value_counts_where_it_stands_in_the_document() {
    answer_on_this_thread(|request| {
        let question = &request.messages[1].1;
        assert!(question.contains("Value: Loan amount\n"), "labels need no model: {question}");
        let key: usize = question.split(['\n', ' ']).nth(1).and_then(|key| key.parse().ok()).expect("a key");
        let answer = match key {
            // Made up, and a passage without its value.
            2 => json!({"value": "2,500", "passage": "we lend you 2,500 dollars"}),
            3 => json!({"value": "3,000", "passage": "Dear borrower"}),
            4 => json!({"value": null, "passage": ""}),
            5 => return Err(Error::BadAnswer("asked twice".into())),
            _ => json!({"value": format!("{key},000"), "passage": format!("We lend you {key},000 dollars")}),
        };
        Ok(answer.to_string())
    });
    let run = run(&input(50));
    let result = run.result.unwrap();
    let loan = &result["attributes"][0];
    assert_eq!(
        loan["counts"],
        json!({"total": 50, "passed": 46, "failed": 0, "inconclusive": 4}),
        "{result}"
    );
    assert_eq!(result["attributes"][1]["counts"]["passed"], 50);
    assert!(run.steps > 2, "no step asks more than 20 questions");
    let read = run.outputs.iter().find(|one| one["key"] == "7").expect("a record");
    assert_eq!((&read["found"], &read["evidence"]), (&json!("7,000"), &json!("letter 7 (read by a model)")));
}

#[test]
fn without_a_model_or_unasked_there_is_no_evidence() {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    answer_on_this_thread(move |_| {
        count.set(count.get() + 1);
        Err(Error::NotConfigured("no provider".into()))
    });
    let mut plain = input(30);
    let first = run(&plain).result.unwrap();
    assert_eq!(first["attributes"][0]["counts"]["inconclusive"], 30);
    let calls = asked.get();
    assert!(calls > 0);
    plain["ask_model"] = json!(false);
    assert_eq!(run(&plain).result.unwrap(), first);
    assert_eq!(asked.get(), calls, "it is asked only where that is wanted");
}
