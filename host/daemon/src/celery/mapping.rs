//! Which job type runs a task, and what its input is.
//!
//! Without a template the input is `{"args": […], "kwargs": {…}}`. In a template a text that begins with `$` stands for a
//! value: `$` and a JSON Pointer (RFC 6901) into that document, such as `$/args/0` or `$/kwargs/user/name`; `$` alone is
//! all of it; `$$` is a dollar sign. A member whose value is not there is left out, an item of a list is null.

use super::message::{Raw, raw};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

/// What runs a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskMapping {
    /// The job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Template of the input. Default: `{"args": […], "kwargs": {…}}`.
    #[serde(default)]
    pub input: Option<Value>,
    /// Waymark's queue. Default: the job type's own.
    #[serde(default)]
    pub queue: Option<String>,
    /// Waymark's priority, 0 to 9, 9 first, whatever the message says. Default: 9 minus the message's, because Celery on
    /// Redis serves 0 first.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Attempts in all. Default: the job type's.
    #[serde(default)]
    pub max_attempts: Option<u32>,
}

impl TaskMapping {
    /// What is wrong with it, in one sentence that begins with the key.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.job_type.is_empty() {
            return Err("type: is missing".into());
        }
        if self.job_type.starts_with("waymark.") && self.job_type != "waymark.echo" {
            return Err(format!("type: jobs of type {} are made by the host itself", self.job_type));
        }
        if self.priority.is_some_and(|priority| priority > 9) {
            return Err("priority: must be 0 to 9".into());
        }
        if self.max_attempts == Some(0) {
            return Err("max_attempts: must be at least 1".into());
        }
        fn walk(value: &Value) -> Result<(), String> {
            match value {
                Value::String(text) => match text.strip_prefix('$') {
                    Some(rest) if !(rest.is_empty() || rest.starts_with(['/', '$'])) => Err(format!(
                        "input: {text:?} is neither \"$/a/pointer\" nor, with \"$$\" in front, a text"
                    )),
                    _ => Ok(()),
                },
                Value::Array(values) => values.iter().try_for_each(walk),
                Value::Object(values) => values.values().try_for_each(walk),
                _ => Ok(()),
            }
        }
        self.input.as_ref().map_or(Ok(()), walk)
    }
}

/// The input of a task's job, JSON text.
pub(crate) fn input(template: Option<&Value>, args: &[Raw], kwargs: &BTreeMap<String, Raw>) -> String {
    let whole = Document { args, kwargs };
    match template {
        None => raw(&whole).get().to_owned(),
        Some(template) => {
            let whole = raw(&whole);
            fill(template, &whole).unwrap_or_else(|| RawValue::NULL.to_owned()).get().to_owned()
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    args: &'a [Raw],
    kwargs: &'a BTreeMap<String, Raw>,
}

fn fill(template: &Value, whole: &RawValue) -> Option<Raw> {
    Some(match template {
        Value::String(text) => match text.strip_prefix('$') {
            None => raw(text),
            Some(rest) if rest.starts_with('$') => raw(&rest),
            Some(pointer) => find(whole, pointer)?,
        },
        Value::Array(values) => {
            let null = || RawValue::NULL.to_owned();
            raw(&values.iter().map(|value| fill(value, whole).unwrap_or_else(null)).collect::<Vec<_>>())
        }
        Value::Object(values) => raw(&values
            .iter()
            .filter_map(|(name, value)| Some((name, fill(value, whole)?)))
            .collect::<BTreeMap<_, _>>()),
        other => raw(other),
    })
}

/// What a pointer finds; texts of values stay as they are.
fn find(value: &RawValue, pointer: &str) -> Option<Raw> {
    let Some(rest) = pointer.strip_prefix('/') else { return Some(value.to_owned()) };
    let (name, rest) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    if value.get().starts_with('{') {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get()).ok()?;
        find(members.get(&name)?, rest)
    } else {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        find(items.get(name.parse::<usize>().ok()?)?, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapped(template: Option<Value>) -> Value {
        let args = [raw(&1), raw(&json!({"a/b": [5, 6]}))];
        let kwargs = BTreeMap::from([("name".to_owned(), raw(&"x"))]);
        serde_json::from_str(&input(template.as_ref(), &args, &kwargs)).unwrap()
    }

    #[test]
    fn the_input_is_arguments_unless_a_template_says_otherwise() {
        assert_eq!(mapped(None), json!({"args": [1, {"a/b": [5, 6]}], "kwargs": {"name": "x"}}));
        let template = json!({
            "first": "$/args/0", "deep": "$/args/1/a~1b/1", "who": ["$/kwargs/name", "$/kwargs/none"],
            "left_out": "$/kwargs/none", "text": "$$5", "fixed": true,
        });
        assert_eq!(
            mapped(Some(template)),
            json!({"first": 1, "deep": 6, "who": ["x", null], "text": "$5", "fixed": true})
        );
        assert_eq!(mapped(Some(json!("$/args/0"))), json!(1));
        assert_eq!(mapped(Some(json!("$/args/9"))), json!(null));
    }

    #[test]
    fn a_number_of_any_length_stays_what_it_is() {
        let long = RawValue::from_string("123456789012345678901234567890".into()).unwrap();
        let text = input(Some(&json!({"n": "$/args/0"})), &[long], &BTreeMap::new());
        assert_eq!(text, r#"{"n":123456789012345678901234567890}"#);
    }

    #[test]
    fn a_text_that_looks_like_a_pointer_and_is_none_is_named() {
        let mapping = |input: Value| TaskMapping {
            job_type: "t".into(),
            input: Some(input),
            queue: None,
            priority: None,
            max_attempts: None,
        };
        assert!(mapping(json!({"x": "$/args/0"})).check().is_ok());
        assert!(mapping(json!({"x": ["$args"]})).check().unwrap_err().starts_with("input:"));
    }
}
