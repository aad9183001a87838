//! Natively, with a model that is a function: crashes, citations, duplicates, and what happens without a model.

use std::cell::RefCell;
use std::rc::Rc;

use generate_test_attributes::Reading;
use waymark_sdk::llm::{Error, Request, answer_on_this_thread};
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Run, assert_survives_anything};

const TEXT: &str = "\
# Loans
Report the loan amount in dollars. It is mandatory.

# Borrowers
Report the income of the borrower, and the loan amounts once more.

# Notes
Nothing is asked for here.
";

fn proposal(name: &str, kind: &str, citation: &str) -> Value {
    json!({
        "name": name, "description": format!("The {name}."), "data_type": kind, "mandatory": true, "critical": false,
        "citation": citation,
    })
}

/// A model that answers by what the section says; returns what it was asked.
fn model(answer: impl Fn(&str, usize) -> Result<Value, Error> + 'static) -> Rc<RefCell<Vec<Request>>> {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let notes = asked.clone();
    answer_on_this_thread(move |request| {
        notes.borrow_mut().push(request.clone());
        answer(&request.messages[1].1, request.messages.len()).map(|value| value.to_string())
    });
    asked
}

fn sound(section: &str, _: usize) -> Result<Value, Error> {
    let attributes = if section.contains("Section: Loans") {
        vec![proposal("Loan amount", "amount", "report the  LOAN amount")]
    } else if section.contains("Section: Borrowers") {
        let again = proposal("loan amt", "decimal", "the loan amounts once more");
        vec![proposal("Income", "amount", "the income of the borrower"), again]
    } else {
        Vec::new()
    };
    Ok(json!({"attributes": attributes}))
}

fn run(input: &Value) -> Run {
    assert_survives_anything::<Reading>(input)
}

#[test]
fn attributes_are_found_cited_and_merged_and_survive_every_crash() {
    let asked = model(sound);
    let run = run(&json!({"report": "R", "text": TEXT, "sections_per_step": 1}));
    let result = run.result.unwrap();
    assert_eq!(result["sections"], json!({"total": 3, "by_model": 3, "by_rules": 0, "by_nobody": 0}));
    let attributes = result["attributes"].as_array().unwrap();
    assert_eq!(attributes.len(), 2);
    let loan = &attributes[0];
    assert_eq!(loan["citation"], "Report the loan amount", "as it stands in the section");
    assert_eq!(loan["section"], "Loans");
    let merged = json!([{
        "attribute": "Loan amount", "also_called": "loan amt", "section": "Borrowers",
        "disagree": "the type is \"amount\" and \"decimal\"",
    }]);
    assert_eq!(result["merged"], merged);
    assert_eq!(result["unproved"], json!([]));
    assert_eq!(run.outputs.len(), 3 + 2 + 1);
    assert!(asked.borrow()[0].schema.as_deref().is_some_and(|schema| schema.contains("citation")));
}

#[test]
fn a_citation_that_is_not_there_is_asked_for_again_and_then_marked() {
    let asked = model(|section, messages| {
        let citation = match (section.contains("Section: Loans"), messages) {
            // System, question, answer, complaint.
            (true, 4) => "the loan amount in dollars",
            (true, _) => "state the amount of the loan",
            (false, _) => "made up",
        };
        let name = if section.contains("Section: Loans") { "Loan amount" } else { "Mystery" };
        Ok(json!({"attributes": [proposal(name, "amount", citation)]}))
    });
    let result = run(&json!({"report": "R", "text": TEXT})).result.unwrap();
    assert_eq!(result["attributes"][0]["citation"], "the loan amount in dollars");
    assert_eq!(result["unproved"], json!(["Mystery"]));
    assert!(result["attributes"][1].get("citation").is_none());
    let complaint = asked.borrow().iter().find_map(|request| request.messages.get(3).cloned());
    let complaint = complaint.unwrap().1;
    assert!(complaint.contains("\"state the amount of the loan\""), "{complaint}");
}

#[test]
fn without_a_model_it_fails_or_goes_by_rules_as_it_is_told() {
    let absent = |_: &str, _: usize| Err(Error::NotConfigured("no provider is configured".into()));
    model(absent);
    let text = "# A\n- **Loan amount** (currency, mandatory): what was borrowed\n# B\nOnly words.";
    match run(&json!({"report": "R", "text": text})).result {
        Err(Failure::Permanent(message)) => {
            assert!(
                message.contains("no provider") && message.contains("\"fallback\": \"rules\""),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    let result = run(&json!({"report": "R", "text": text, "fallback": "rules"})).result.unwrap();
    assert_eq!(result["sections"]["by_rules"], 2);
    assert_eq!(result["attributes"][0]["name"], "Loan amount");
    assert_eq!(result["attributes"][0]["mandatory"], true);
}

#[test]
fn one_bad_answer_costs_one_section_and_what_may_pass_is_tried_again() {
    model(|section, messages| match section.contains("Section: Notes") {
        true => Err(Error::BadAnswer("asked twice".into())),
        false => sound(section, messages),
    });
    let result = run(&json!({"report": "R", "text": TEXT})).result.unwrap();
    assert_eq!(result["attributes"].as_array().unwrap().len(), 2);
    assert_eq!(result["unread"][0]["section"], "Notes");
    model(|_, _| Err(Error::Limited(50, "busy".into())));
    assert!(matches!(run(&json!({"report": "R", "text": TEXT})).result, Err(Failure::RetryAfter(..))));
    model(|_, _| Err(Error::OverBudget("spent".into())));
    assert!(matches!(run(&json!({"report": "R", "text": TEXT})).result, Err(Failure::Permanent(_))));
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason() {
    for (input, says) in [
        (json!({"report": "R", "text": "# only\n\n---"}), "1 to 2000 sections, and has 0"),
        (json!({"report": "R", "text": "a", "sections_per_step": 0}), "1 to 50"),
        (json!({"report": "R", "text": "a", "section_bytes_max": 1}), "500 to 100000"),
        (json!({"report": "R", "text": "x".repeat(5 << 20)}), "at most"),
        (json!({"report": "R", "text": "a", "fallback": "luck"}), "fallback: unknown variant"),
    ] {
        match run(&input).result {
            Err(Failure::InvalidInput(message)) => assert!(message.contains(says), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}
