//! Parts of inputs that people are not shown, such as passwords and numbers of persons.
//!
//! [`Rules`] name fields of inputs, by pointer. Of one job's input they make a [`Mask`], which hides those fields, and
//! their values wherever else the job says them: in results, output records, checkpoints, log lines and errors.

use regex::Regex;
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
};

/// What stands for a value that is hidden.
pub const HIDDEN: &str = "•••";
/// Shortest text, and shortest number, that is also hidden elsewhere, characters: shorter ones stand everywhere by chance.
const VALUE_CHARS_MIN: usize = 4;
/// Most values of one job that are hidden elsewhere. Bounds what looking for them costs.
const VALUES_MAX: usize = 1_000;

/// Names fields of an input: a JSON Pointer (RFC 6901) in which `*` is every item of a list or member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<String>);

impl Pattern {
    fn read(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{text:?} does not begin with /, such as /password or /customers/*/ssn"));
        };
        Ok(Self(rest.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()))
    }

    /// Calls `with` for every value that the pattern names.
    fn each(names: &[String], value: &mut Value, with: &mut impl FnMut(&mut Value)) {
        let Some((name, rest)) = names.split_first() else { return with(value) };
        match value {
            Value::Object(fields) if name == "*" => {
                fields.values_mut().for_each(|field| Self::each(rest, field, with));
            }
            Value::Array(items) if name == "*" => {
                items.iter_mut().for_each(|item| Self::each(rest, item, with));
            }
            Value::Object(fields) => {
                if let Some(field) = fields.get_mut(name) {
                    Self::each(rest, field, with);
                }
            }
            Value::Array(items) => {
                if let Some(item) = name.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                    Self::each(rest, item, with);
                }
            }
            _ => {}
        }
    }
}

/// Which fields of which inputs are hidden.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Pattern>,
    by_type: HashMap<String, Vec<Pattern>>,
}

impl Rules {
    /// Fields of every job type, and those of some.
    ///
    /// # Errors
    /// A pointer is malformed; the message says which.
    pub fn new<'a>(
        all: &[String],
        by_type: impl IntoIterator<Item = (&'a str, &'a [String])>,
    ) -> Result<Self, String> {
        let read = |fields: &[String]| {
            fields.iter().map(|field| Pattern::read(field)).collect::<Result<Vec<_>, _>>()
        };
        let by_type = by_type.into_iter().filter(|(_, fields)| !fields.is_empty());
        let by_type = by_type.map(|(name, fields)| Ok::<_, String>((name.to_owned(), read(fields)?)));
        Ok(Self { by_type: by_type.collect::<Result<_, _>>()?, all: read(all)? })
    }

    fn of<'a>(&'a self, job_type: &str) -> impl Iterator<Item = &'a [String]> {
        let own = self.by_type.get(job_type).map(Vec::as_slice).unwrap_or_default();
        self.all.iter().chain(own).map(|pattern| pattern.0.as_slice())
    }

    /// The mask of a job with this input, JSON text.
    #[must_use]
    pub fn mask(&self, job_type: &str, input: &str) -> Mask {
        if self.of(job_type).next().is_none() {
            return Mask::default();
        }
        let Ok(mut shown) = serde_json::from_str::<Value>(input) else { return Mask::default() };
        let mut values = BTreeSet::new();
        let mut hidden = false;
        for names in self.of(job_type) {
            Pattern::each(names, &mut shown, &mut |value| {
                gather(value, &mut values);
                *value = HIDDEN.into();
                hidden = true;
            });
        }
        if !hidden {
            return Mask::default();
        }
        // The longest first: one may be a part of another.
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.truncate(VALUES_MAX);
        let any: Vec<_> = values.iter().map(|value| regex::escape(value)).collect();
        let elsewhere = if any.is_empty() { None } else { Regex::new(&any.join("|")).ok() };
        // Values that cannot be looked for are not shown anywhere.
        let nowhere = elsewhere.is_none() && !any.is_empty();
        let values = values.into_iter().collect();
        let mask = Mask(Some(Box::new(Hidden { input: String::new(), values, elsewhere, nowhere })));
        mask.within(&mut shown);
        mask.of_input(shown.to_string())
    }

    /// An input that somebody changed after it was shown to them: what is hidden in it is as in the old one.
    #[must_use]
    pub fn restored(&self, job_type: &str, new: &str, old: &str) -> Option<String> {
        self.of(job_type).next()?;
        let mut new: Value = serde_json::from_str(new).ok()?;
        let old: Value = serde_json::from_str(old).ok()?;
        let mut changed = false;
        for names in self.of(job_type) {
            restore(names, &mut new, &old, &mut changed);
        }
        changed.then(|| new.to_string())
    }
}

fn restore(names: &[String], new: &mut Value, old: &Value, changed: &mut bool) {
    let Some((name, rest)) = names.split_first() else {
        if new == HIDDEN {
            *new = old.clone();
            *changed = true;
        }
        return;
    };
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            for (field, value) in new.iter_mut().filter(|(field, _)| name == "*" || *field == name) {
                if let Some(old) = old.get(field) {
                    restore(rest, value, old, changed);
                }
            }
        }
        (Value::Array(new), Value::Array(old)) => {
            for (index, (value, old)) in new.iter_mut().zip(old).enumerate() {
                if name == "*" || *name == index.to_string() {
                    restore(rest, value, old, changed);
                }
            }
        }
        _ => {}
    }
}

/// Texts and numbers within a value.
fn gather(value: &Value, values: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.chars().count() >= VALUE_CHARS_MIN && text != HIDDEN => {
            values.insert(text.clone());
        }
        Value::Number(number) if number.to_string().len() >= VALUE_CHARS_MIN => {
            values.insert(number.to_string());
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, values)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, values)),
        _ => {}
    }
}

/// Hides what one job's rules hide. By default it hides nothing.
#[derive(Clone, Debug, Default)]
pub struct Mask(Option<Box<Hidden>>);

#[derive(Clone, Debug)]
struct Hidden {
    /// The input as it is shown.
    input: String,
    /// The values that are hidden elsewhere too.
    values: HashSet<String>,
    /// The same, to be found within texts.
    elsewhere: Option<Regex>,
    /// Nothing else of the job is shown.
    nowhere: bool,
}

impl Mask {
    fn of_input(mut self, input: String) -> Self {
        if let Some(hidden) = &mut self.0 {
            hidden.input = input;
        }
        self
    }

    /// Does it hide anything?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The input as it is shown; `None`: as it is.
    #[must_use]
    pub fn input(&self) -> Option<&str> {
        self.0.as_ref().map(|hidden| hidden.input.as_str())
    }

    /// A text of the job.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.0.as_deref() {
            None => Cow::Borrowed(text),
            Some(Hidden { nowhere: true, .. }) => Cow::Borrowed(HIDDEN),
            Some(Hidden { elsewhere: None, .. }) => Cow::Borrowed(text),
            Some(Hidden { elsewhere: Some(values), .. }) => values.replace_all(text, HIDDEN),
        }
    }

    /// A JSON text of the job. Where something is hidden the rest may be written in another way.
    #[must_use]
    pub fn json<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_empty() {
            return Cow::Borrowed(text);
        }
        match serde_json::from_str::<Value>(text) {
            Ok(mut value) => {
                if self.within(&mut value) {
                    Cow::Owned(value.to_string())
                } else {
                    Cow::Borrowed(text)
                }
            }
            Err(_) => self.text(text),
        }
    }

    /// Hides within a value; answers whether anything was hidden.
    fn within(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Borrowed(same) if same == text.as_str() => false,
                shown => {
                    *value = Value::String(shown.into_owned());
                    true
                }
            },
            // A number is hidden as a whole only: times and counts are made of the same digits.
            Value::Number(number) => {
                let number = number.to_string();
                let hidden =
                    self.0.as_ref().is_some_and(|hidden| hidden.nowhere || hidden.values.contains(&number));
                if hidden {
                    *value = HIDDEN.into();
                }
                hidden
            }
            Value::Array(items) => {
                items.iter_mut().filter_map(|item| self.within(item).then_some(())).count() > 0
            }
            Value::Object(fields) => {
                let names: Vec<_> =
                    fields.keys().filter(|name| self.text(name) != name.as_str()).cloned().collect();
                let mut any = !names.is_empty();
                for name in names {
                    if let Some(field) = fields.remove(&name) {
                        fields.insert(self.text(&name).into_owned(), field);
                    }
                }
                for field in fields.values_mut() {
                    any |= self.within(field);
                }
                any
            }
            Value::Null | Value::Bool(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(fields: &[&str]) -> Rules {
        let fields: Vec<_> = fields.iter().map(|field| (*field).to_owned()).collect();
        Rules::new(&fields, []).unwrap()
    }

    #[test]
    fn fields_are_hidden_by_pointer() {
        let input = json!({"user": "ann", "password": "hunter22", "people": [{"ssn": 123_456_789, "age": 7}, {"age": 8}], "a/b": {"x": {"y": "deep"}}});
        let mask = rules(&["/password", "/people/*/ssn", "/a~1b/x", "/people/1/age", "/none/*"])
            .mask("t", &input.to_string());
        let shown: Value = serde_json::from_str(mask.input().unwrap()).unwrap();
        assert_eq!(
            shown,
            json!({"user": "ann", "password": HIDDEN, "people": [{"ssn": HIDDEN, "age": 7}, {"age": HIDDEN}], "a/b": {"x": HIDDEN}})
        );
        assert!(rules(&["/other"]).mask("t", &input.to_string()).is_empty());
        assert!(rules(&["/x"]).mask("t", "no JSON").is_empty());
        assert!(Rules::new(&["password".to_owned()], []).is_err());
    }

    #[test]
    fn what_is_hidden_is_hidden_wherever_the_job_says_it() {
        let input =
            json!({"password": "se\"cret é", "pin": 12_345, "short": "ab", "list": ["alpha1"]}).to_string();
        let mask = rules(&["/password", "/pin", "/short", "/list"]).mask("t", &input);
        let said = r#"{"a":"x se\"cret \u00e9 y","se\"cret é":[12345,1.5,"alpha1","ab"]}"#;
        let shown: Value = serde_json::from_str(&mask.json(said)).unwrap();
        assert_eq!(shown, json!({"a": "x ••• y", "•••": [HIDDEN, 1.5, HIDDEN, "ab"]}));
        assert_eq!(mask.text("failed for alpha1 and 12345"), "failed for ••• and •••");
        // What has nothing to hide stays as it was written.
        assert_eq!(mask.json(r#"{"n": 1.10}"#), r#"{"n": 1.10}"#);
    }

    #[test]
    fn a_type_has_fields_of_its_own() {
        let own = vec!["/key".to_owned()];
        let rules = Rules::new(&[], [("mail", own.as_slice())]).unwrap();
        assert!(!rules.mask("mail", r#"{"key":"abcdef"}"#).is_empty());
        assert!(rules.mask("other", r#"{"key":"abcdef"}"#).is_empty());
    }

    #[test]
    fn what_was_shown_hidden_comes_back_as_it_was() {
        let rules = rules(&["/password", "/people/*/ssn"]);
        let old = json!({"password": "hunter22", "n": 1, "people": [{"ssn": 1}, {"ssn": 2}]}).to_string();
        let new =
            json!({"password": HIDDEN, "n": 2, "people": [{"ssn": "new"}, {"ssn": HIDDEN}]}).to_string();
        let restored: Value = serde_json::from_str(&rules.restored("t", &new, &old).unwrap()).unwrap();
        assert_eq!(restored, json!({"password": "hunter22", "n": 2, "people": [{"ssn": "new"}, {"ssn": 2}]}));
        assert_eq!(rules.restored("t", &json!({"password": "x"}).to_string(), &old), None);
    }
}
