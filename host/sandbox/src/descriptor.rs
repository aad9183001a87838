//! What a plugin says of itself, checked.

use crate::{LoadError, bindings::waymark::task::types};
use serde::{Deserialize, Serialize};

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Name of the job type: 1 to 64 of a-z, 0-9, '_' and '-'.
    pub name: String,
    /// Semantic version of the plugin.
    pub version: String,
    /// A few words for people, at most 4 KiB.
    pub description: String,
    /// JSON Schema of the input, JSON text.
    pub input_schema: String,
    /// JSON Schema of the result, JSON text.
    pub result_schema: String,
    /// Version of the state that `checkpoint` writes now.
    pub state_version: u32,
    /// Oldest version that `restore` still reads.
    pub oldest_state_version: u32,
}

/// Where a plugin says which capabilities it can do without: an annotation at the top of its input schema, a list of
/// packages such as `waymark:llm`.
pub(crate) const OPTIONAL_IMPORTS: &str = "x-waymark-optional-imports";

const DESCRIPTION_BYTES_MAX: usize = 4 << 10;
const NAME_BYTES_MAX: usize = 64;

/// 1 to 64 of a-z, 0-9, '_' and '-': job types and signals.
pub(crate) fn is_name(name: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal)
}

impl Descriptor {
    /// Checks what a guest returned.
    ///
    /// # Errors
    /// `bad-descriptor`, naming the field.
    pub(crate) fn check(raw: types::Descriptor) -> Result<Self, LoadError> {
        let bad = |message: String| LoadError::new("bad-descriptor", message);
        if !is_name(&raw.name) {
            let shown: String = raw.name.chars().take(80).collect();
            return Err(bad(format!("the name {shown:?} is not 1 to 64 of a-z, 0-9, '_' and '-'")));
        }
        semver::Version::parse(&raw.version).map_err(|error| {
            let shown: String = raw.version.chars().take(80).collect();
            bad(format!("the version {shown:?} is not a semantic version: {error}"))
        })?;
        if raw.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(bad(format!("the description is longer than {DESCRIPTION_BYTES_MAX} bytes")));
        }
        for (what, schema) in [("input", &raw.input_schema), ("result", &raw.result_schema)] {
            match serde_json::from_str(schema) {
                Ok(serde_json::Value::Object(schema)) if what == "input" => {
                    let optional = schema.get(OPTIONAL_IMPORTS);
                    let texts = |list: &Vec<serde_json::Value>| list.iter().all(serde_json::Value::is_string);
                    if optional.is_some_and(|list| !list.as_array().is_some_and(texts)) {
                        let example = "a list of packages, such as [\"waymark:llm\"]";
                        return Err(bad(format!("{OPTIONAL_IMPORTS} of the input schema is not {example}")));
                    }
                }
                Ok(serde_json::Value::Object(_) | serde_json::Value::Bool(_)) => {}
                Ok(_) => return Err(bad(format!("the {what} schema is neither an object nor a boolean"))),
                Err(error) => return Err(bad(format!("the {what} schema is not JSON: {error}"))),
            }
        }
        if raw.oldest_state_version > raw.state_version {
            return Err(bad(format!(
                "the oldest readable state version {} is newer than the current {}",
                raw.oldest_state_version, raw.state_version
            )));
        }
        Ok(Self {
            name: raw.name,
            version: raw.version,
            description: raw.description,
            input_schema: raw.input_schema,
            result_schema: raw.result_schema,
            state_version: raw.state_version,
            oldest_state_version: raw.oldest_state_version,
        })
    }
}

impl Descriptor {
    /// Packages of the imports that the plugin can do without, as it says itself.
    #[must_use]
    pub fn optional_imports(&self) -> Vec<String> {
        let schema: serde_json::Value = serde_json::from_str(&self.input_schema).unwrap_or_default();
        let list = schema.get(OPTIONAL_IMPORTS).and_then(serde_json::Value::as_array);
        list.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> types::Descriptor {
        types::Descriptor {
            name: "a-b_1".into(),
            version: "1.2.3".into(),
            description: String::new(),
            input_schema: "{}".into(),
            result_schema: "true".into(),
            state_version: 2,
            oldest_state_version: 1,
        }
    }

    #[test]
    fn a_sound_descriptor_passes() {
        assert_eq!(Descriptor::check(raw()).unwrap().name, "a-b_1");
    }

    #[test]
    fn what_it_can_do_without_is_in_the_input_schema() {
        let input_schema = format!("{{\"{OPTIONAL_IMPORTS}\": [\"waymark:llm\", \"waymark:sql\"]}}");
        let descriptor = Descriptor::check(types::Descriptor { input_schema, ..raw() }).unwrap();
        assert_eq!(descriptor.optional_imports(), ["waymark:llm", "waymark:sql"]);
        let none = types::Descriptor { input_schema: "true".into(), ..raw() };
        assert!(Descriptor::check(none).unwrap().optional_imports().is_empty());
    }

    #[test]
    fn every_unsound_field_is_named() {
        let optional = format!("{{\"{OPTIONAL_IMPORTS}\": \"waymark:llm\"}}");
        let wrong: [(types::Descriptor, &str); 7] = [
            (types::Descriptor { input_schema: optional, ..raw() }, OPTIONAL_IMPORTS),
            (types::Descriptor { name: "Up".into(), ..raw() }, "name"),
            (types::Descriptor { name: "x".repeat(65), ..raw() }, "name"),
            (types::Descriptor { version: "1".into(), ..raw() }, "version"),
            (types::Descriptor { input_schema: "{".into(), ..raw() }, "input schema"),
            (types::Descriptor { result_schema: "3".into(), ..raw() }, "result schema"),
            (types::Descriptor { oldest_state_version: 3, ..raw() }, "state version"),
        ];
        for (descriptor, field) in wrong {
            let error = Descriptor::check(descriptor).unwrap_err();
            assert_eq!(error.code(), "bad-descriptor");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
