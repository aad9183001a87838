//! A language model that is a list of answers: what the shipped job types ask is looked up by what it is about.

use crate::endpoint::{Asked, Reply};
use serde_json::{Value, json};

/// Answers by kind of question and subject; what is not among them has an answer that says little.
pub struct Model {
    answers: Value,
}

/// Kinds of questions, by a property that the schema of their answer has.
const KINDS: [&str; 5] = ["attributes", "explanation", "rules", "column", "passage"];

impl Model {
    /// Answers of the shape `{KIND: {SUBJECT: answer}}`.
    #[must_use]
    pub fn new(answers: Value) -> Self {
        Self { answers }
    }

    /// Answers as OpenAI's chat completions do.
    ///
    /// # Panics
    /// It is a question that no shipped job type asks.
    #[must_use]
    pub fn reply(&self, asked: &Asked) -> Reply {
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let question = body["messages"][1]["content"].as_str().expect("a question");
        let properties = &body["response_format"]["json_schema"]["schema"]["properties"];
        let kind = KINDS.into_iter().find(|kind| properties[*kind].is_object()).expect("a known schema");
        let content = match &self.answers[kind][subject(kind, question)] {
            Value::Null => otherwise(kind),
            answer => answer.clone(),
        };
        let body = json!({
            "choices": [{"message": {"role": "assistant", "content": content.to_string()}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        });
        Reply::new(200, body.to_string())
    }
}

/// What a question is about.
fn subject(kind: &str, question: &str) -> String {
    let line = |begins: &str| {
        let line = question.lines().find_map(|line| line.strip_prefix(begins));
        line.unwrap_or_else(|| panic!("no line {begins:?} in {question}")).to_owned()
    };
    let told = || question.parse::<Value>().expect("JSON");
    let text = |value: &Value| value.as_str().expect("a name").to_owned();
    match kind {
        "attributes" => line("Section: "),
        "explanation" => text(&told()["section"]),
        "passage" => format!("{} of {}", line("Value: "), line("Record: ")),
        _ => text(&told()["attribute"]["name"]),
    }
}

fn otherwise(kind: &str) -> Value {
    match kind {
        "attributes" => json!({"attributes": []}),
        "explanation" => json!({"explanation": "What is known of the section leads to this decision."}),
        "rules" => json!({"rules": []}),
        "column" => json!({"column": 1, "confidence": 0.9, "reason": "Name and meaning agree."}),
        _ => json!({"value": null, "passage": ""}),
    }
}
