//! Explanations by a language model, which natively is a function.

use generate_recommendations::Scoping;
use waymark_sdk::llm::{Error, answer_on_this_thread};
use waymark_sdk::prelude::*;
use waymark_sdk::testing::{Run, assert_survives_anything};

fn run(ask_model: bool) -> Run {
    let sections: Vec<_> = (0..30)
        .map(|n| json!({"name": format!("s{n}"), "materiality": 0.25, "criticality": "high", "attributes": ["Loan amount"]}))
        .collect();
    assert_survives_anything::<Scoping>(&json!({"sections": sections, "ask_model": ask_model}))
}

#[test]
fn each_recommendation_is_explained_and_none_is_changed() {
    answer_on_this_thread(|request| {
        let facts: Value = request.messages[1].1.parse().expect("facts");
        let section = facts["section"].as_str().expect("a section");
        let text = match section {
            "s3" => "It is 99 % of the report.".to_owned(),
            "s4" => return Err(Error::BadAnswer("asked twice".into())),
            _ => format!("{section} is  a quarter of the report (25 %)."),
        };
        Ok(json!({"explanation": text}).to_string())
    });
    let plain = run(false).result.unwrap();
    let explained = run(true);
    let result = explained.result.unwrap();
    let mut without = result.clone();
    let mut by_section = std::collections::BTreeMap::new();
    for one in without["recommendations"].as_array_mut().unwrap() {
        let explanation = one.as_object_mut().unwrap().remove("explanation");
        by_section.insert(one["section"].as_str().unwrap().to_owned(), explanation);
    }
    assert_eq!(without, plain);
    assert_eq!(by_section["s0"], Some(json!("s0 is a quarter of the report (25 %).")));
    assert_eq!(by_section["s3"], None, "a number that it was not told");
    assert_eq!(by_section["s4"], None, "an answer of no use");
    assert_eq!(by_section.values().flatten().count(), 28);
    assert_eq!(explained.outputs.len(), 60);
}

#[test]
fn without_a_model_the_rules_speak_for_themselves() {
    answer_on_this_thread(|_| Err(Error::NotConfigured("no provider".into())));
    let (plain, asked) = (run(false), run(true));
    assert_eq!(plain.result, asked.result);
    assert_eq!(plain.outputs, asked.outputs);
    answer_on_this_thread(|_| Err(Error::Unavailable("down".into())));
    assert!(matches!(run(true).result, Err(Failure::Transient(_))), "what may pass is tried again");
}
