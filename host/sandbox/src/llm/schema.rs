//! Answers that must be JSON of a certain shape.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Mistakes that are told to the model.
const MISTAKES_MAX: usize = 10;
/// Longest description of one mistake, characters: it may repeat the answer.
const MISTAKE_CHARS_MAX: usize = 300;

/// The validator of a guest's schema. References to elsewhere are not followed, and patterns take linear time.
///
/// # Errors
/// The schema is none; one sentence.
pub(super) fn validator(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.build(schema).map_err(|error| format!("the schema is no JSON Schema: {error}"))
}

/// The JSON in an answer, in one line.
///
/// # Errors
/// What is wrong with it, for the model.
pub(super) fn fitting(validator: &Validator, content: &str) -> Result<String, String> {
    let value: Value =
        serde_json::from_str(bare(content)).map_err(|error| format!("it is not JSON: {error}"))?;
    let mistakes: Vec<String> = validator
        .iter_errors(&value)
        .take(MISTAKES_MAX)
        .map(|error| format!("{}: {error}", error.instance_path()).chars().take(MISTAKE_CHARS_MAX).collect())
        .collect();
    if mistakes.is_empty() { Ok(value.to_string()) } else { Err(mistakes.join("; ")) }
}

/// Without the fence that models like to put around code.
fn bare(content: &str) -> &str {
    let content = content.trim();
    let Some(inner) = content.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else {
        return content;
    };
    inner.strip_prefix("json").unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_found_within_a_fence_and_checked() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let validator = validator(&schema).unwrap();
        assert_eq!(fitting(&validator, "```json\n{\"n\":\n3}\n```").unwrap(), "{\"n\":3}");
        assert!(fitting(&validator, "{\"n\": \"x\"}").unwrap_err().starts_with("/n: "));
        assert!(fitting(&validator, "three").unwrap_err().contains("not JSON"));
    }

    #[test]
    fn a_schema_cannot_make_the_host_fetch_or_hang() {
        let elsewhere = json!({"$ref": "http://169.254.169.254/schema.json"});
        assert!(validator(&elsewhere).is_err());
        let file = json!({"$ref": "file:///etc/passwd"});
        assert!(validator(&file).is_err());
        let slow = json!({"type": "string", "pattern": "^(a+)+$"});
        let validator = validator(&slow).unwrap();
        assert!(fitting(&validator, &format!("\"{}!\"", "a".repeat(50_000))).is_err());
    }
}
