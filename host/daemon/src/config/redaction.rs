//! `redaction`: what people are not shown of jobs.

use super::Config;
use serde::{Deserialize, Serialize};
use waymark_job::redact::Rules;

/// What people are not shown of jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redaction {
    /// Fields of inputs, of every job type: JSON Pointers in which `*` is every item of a list or member of an object, such
    /// as `/password` or `/customers/*/ssn`. Default: none.
    pub fields: Vec<String>,
}

impl Config {
    /// What people are not shown of jobs.
    ///
    /// # Errors
    /// A pointer is malformed; the message names its table.
    pub fn redaction(&self) -> anyhow::Result<Rules> {
        for (name, own) in &self.plugins {
            Rules::new(&own.redact, []).map_err(|why| anyhow::anyhow!("plugins.{name}.redact: {why}"))?;
        }
        let own = self.plugins.iter().map(|(name, own)| (name.as_str(), own.redact.as_slice()));
        Rules::new(&self.redaction.fields, own).map_err(|why| anyhow::anyhow!("redaction.fields: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn fields_that_are_hidden_are_checked() {
        let text = "[redaction]\nfields = [\"/password\"]\n[plugins.mail]\nredact = [\"/to/*/address\"]\n";
        let rules = load(text).unwrap().redaction().unwrap();
        assert!(!rules.mask("any", "{\"password\":\"abcdef\"}").is_empty());
        assert!(!rules.mask("mail", "{\"to\":[{\"address\":\"abcdef\"}]}").is_empty());
        let error = load(&text.replace("/to", "to")).unwrap_err().to_string();
        assert!(error.starts_with("plugins.mail.redact: \"to/*/address\""), "{error}");
    }
}
