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
    fn every_unsound_field_is_named() {
        let wrong: [(types::Descriptor, &str); 6] = [
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
