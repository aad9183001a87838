//! Scoping: the same after every crash, within a budget, and with a reason for each section.

use generate_recommendations::Scoping;
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{self, Run};

fn run(input: &Value) -> Run {
    testing::assert_survives_anything::<Scoping>(input)
}

fn advice(run: &Run) -> Vec<(String, String)> {
    let result = run.result.as_ref().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = result["recommendations"].as_array().unwrap().iter();
    all.map(|one| (text(&one["section"]), text(&one["advice"]))).collect()
}

#[test]
fn the_shipped_input_survives_every_crash() {
    let input: Value = include_str!("../input.json").parse().unwrap();
    let run = run(&input);
    let sections = input["sections"].as_array().unwrap().len();
    assert_eq!(run.outputs.len(), 2 * sections);
    assert_eq!(run.result.unwrap()["coverage"]["sections"], sections);
}

#[test]
fn a_hundred_sections_take_several_steps() {
    let sections: Vec<_> =
        (0..120).map(|n| json!({"name": format!("s{n}"), "materiality": f64::from(n) / 120.0})).collect();
    let run = run(&json!({"sections": sections}));
    assert!(run.steps > 2);
    assert_eq!(run.result.unwrap()["recommendations"][0]["section"], "s119");
}

#[test]
fn a_budget_puts_off_what_is_not_critical() {
    let section = |name: &str, criticality: &str, failed: u64| json!({"name": name, "criticality": criticality, "history": [{"tested": 100, "failed": failed}]});
    let input = json!({
        "sections": [section("a", "high", 8), section("b", "critical", 0), section("c", "high", 9), section("d", "low", 0)],
        "budget": 2,
    });
    let run = run(&input);
    let expected = [("c", "test"), ("a", "defer"), ("b", "test"), ("d", "skip")];
    assert_eq!(advice(&run), expected.map(|(section, advice)| (section.to_owned(), advice.to_owned())));
    let coverage = &run.result.unwrap()["coverage"];
    assert_eq!((&coverage["sections_to_test"], &coverage["sections_deferred"]), (&json!(2), &json!(1)));
}

#[test]
fn an_attribute_without_a_sure_mapping_makes_its_section_riskier() {
    let with = |mappings: Value| {
        let input = json!({"sections": [{"name": "a", "complexity": 0.1, "attributes": ["x", "y"]}], "mappings": mappings});
        run(&input).result.unwrap()["recommendations"][0].clone()
    };
    let sure = with(json!([
        {"attribute": "x", "column": "x", "confidence": 0.9}, {"attribute": "y", "column": "y", "confidence": 0.9},
    ]));
    let unsure = with(json!([{"attribute": "x", "column": "x", "confidence": 0.9, "status": "mapped"}]));
    assert!(unsure["risk"].as_f64() > sure["risk"].as_f64());
    assert!(unsure["rationale"].as_str().unwrap().contains("50 % of its attributes have no sure mapping"));
}

#[test]
fn attributes_join_the_sections_that_they_name() {
    let input = json!({
        "sections": [{"name": "Loans", "criticality": "low", "attributes": ["Loan amount"]}],
        "attributes": [
            {"name": "Loan amount", "section": "Loans", "critical": true}, {"name": "Term", "section": "Loans"},
            {"name": "Income", "section": "Borrowers", "critical": true}, {"name": "Remarks"},
        ],
    });
    let result = run(&input).result.unwrap();
    let of = |name: &str| {
        let all = result["recommendations"].as_array().unwrap();
        all.iter().find(|one| one["section"] == name).unwrap().clone()
    };
    assert_eq!(of("Loans")["attributes"], json!(["Loan amount", "Term"]));
    assert_eq!(of("Loans")["factors"]["criticality"], 0.1, "what was said of a section stays");
    assert_eq!(of("Borrowers")["factors"]["criticality"], 0.75);
    assert!(of("(no section)")["factors"].get("criticality").is_none());
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    for (input, says) in [
        (json!({"sections": []}), "1 to 2000"),
        (json!({"sections": [{"name": "a"}, {"name": "a"}]}), "\"a\" is there twice"),
        (
            json!({"sections": [{"name": "a", "history": [{"tested": 1, "failed": 2}]}]}),
            "more failed than tested",
        ),
        (json!({"sections": [{"name": "a"}], "weights": {"defects": -1}}), "must not be negative"),
        (json!({"sections": [{"name": "a", "risk": 1}]}), "unknown field `risk`"),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{input}: {other:?}"),
        }
    }
}
