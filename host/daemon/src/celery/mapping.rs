//! Which job type runs a task, and what its input is.
//!
//! Without a template the input is `{"args": […], "kwargs": {…}}`. In a template a text that begins with `$` stands for a
//! value: `$` and a JSON Pointer (RFC 6901) into that document, such as `$/args/0` or `$/kwargs/user/name`; `$` alone is
//! all of it; `$$` is a dollar sign. A member whose value is not there is left out, an item of a list is null.

use super::message::{Raw, raw, to_value};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::collections::{BTreeMap, BTreeSet};

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

/// What a task is called with.
pub(crate) type Arguments = (Vec<Raw>, BTreeMap<String, Raw>);

/// Highest place of an argument.
const ARGUMENTS_MAX: usize = 100;

/// The arguments of a task that makes a job of this input: what [`input`] does, the other way round.
///
/// # Errors
/// The input has something that is none of the task's arguments, or not what the template fixes; one sentence.
pub(crate) fn arguments(template: Option<&Value>, input: &str) -> Result<Arguments, String> {
    let whole: &RawValue =
        serde_json::from_str(input).map_err(|error| format!("the input is no JSON: {error}"))?;
    let mut gathered = Gathered::default();
    match template {
        None => gathered.put(&Place::Whole, whole, "")?,
        Some(template) => gathered.walk(template, whole, "")?,
    }
    without_holes(gathered.args.keys().copied())?;
    Ok((gathered.args.into_values().collect(), gathered.kwargs))
}

/// Can a template be read the other way round? It says where each argument goes as a whole, and leaves none out before
/// another.
///
/// # Errors
/// One sentence.
pub(crate) fn check_arguments(template: &Value) -> Result<(), String> {
    fn walk(template: &Value, places: &mut Vec<Place>) -> Result<(), String> {
        match template {
            Value::String(text) => match text.strip_prefix('$') {
                Some(pointer) if !pointer.starts_with('$') => {
                    let place = Place::of(pointer).ok_or_else(|| {
                        format!(
                            "{text:?} is no whole argument such as \"$/args/0\" or \"$/kwargs/name\": a task cannot be \
                             called with a part of one"
                        )
                    })?;
                    places.push(place);
                    Ok(())
                }
                _ => Ok(()),
            },
            Value::Array(values) => values.iter().try_for_each(|value| walk(value, places)),
            Value::Object(values) => values.values().try_for_each(|value| walk(value, places)),
            _ => Ok(()),
        }
    }
    let mut places = Vec::new();
    walk(template, &mut places)?;
    if places.iter().any(|place| matches!(place, Place::Whole | Place::Args)) {
        return Ok(());
    }
    let numbers: BTreeSet<_> = places
        .iter()
        .filter_map(|place| match place {
            Place::Arg(number) => Some(*number),
            _ => None,
        })
        .collect();
    without_holes(numbers.into_iter())
}

fn without_holes(numbers: impl Iterator<Item = usize>) -> Result<(), String> {
    match numbers.enumerate().find(|(wanted, number)| wanted != number) {
        Some((missing, _)) => {
            Err(format!("nothing says what argument {missing} of the task is, and later ones follow"))
        }
        None => Ok(()),
    }
}

/// Where a value goes among the arguments.
enum Place {
    Whole,
    Args,
    Kwargs,
    Arg(usize),
    Kwarg(String),
}

impl Place {
    fn of(pointer: &str) -> Option<Self> {
        Some(match pointer {
            "" => Self::Whole,
            "/args" => Self::Args,
            "/kwargs" => Self::Kwargs,
            _ => match pointer.strip_prefix("/args/") {
                Some(number) => Self::Arg(number.parse().ok().filter(|number| *number < ARGUMENTS_MAX)?),
                None => {
                    let name = pointer.strip_prefix("/kwargs/").filter(|name| !name.contains('/'))?;
                    Self::Kwarg(name.replace("~1", "/").replace("~0", "~"))
                }
            },
        })
    }
}

fn members<'a>(value: &'a RawValue, at: &str) -> Result<BTreeMap<String, &'a RawValue>, String> {
    serde_json::from_str(value.get()).map_err(|_| format!("input{at} must be an object"))
}

fn items<'a>(value: &'a RawValue, at: &str) -> Result<Vec<&'a RawValue>, String> {
    serde_json::from_str(value.get()).map_err(|_| format!("input{at} must be an array"))
}

fn homeless(at: &str) -> String {
    format!("input{at} is none of the arguments of the task")
}

/// Arguments, as far as they are known.
#[derive(Default)]
struct Gathered {
    args: BTreeMap<usize, Raw>,
    kwargs: BTreeMap<String, Raw>,
}

impl Gathered {
    /// `at`: the value's place in the input.
    fn put(&mut self, place: &Place, value: &RawValue, at: &str) -> Result<(), String> {
        match place {
            Place::Whole => {
                for (name, value) in members(value, at)? {
                    let at = format!("{at}/{name}");
                    match name.as_str() {
                        "args" => self.put(&Place::Args, value, &at)?,
                        "kwargs" => self.put(&Place::Kwargs, value, &at)?,
                        _ => return Err(homeless(&at)),
                    }
                }
            }
            Place::Args => {
                let items = items(value, at)?;
                self.args.extend(items.into_iter().map(ToOwned::to_owned).enumerate());
            }
            Place::Kwargs => {
                let members = members(value, at)?;
                self.kwargs.extend(members.into_iter().map(|(name, value)| (name, value.to_owned())));
            }
            Place::Arg(number) => drop(self.args.insert(*number, value.to_owned())),
            Place::Kwarg(name) => drop(self.kwargs.insert(name.clone(), value.to_owned())),
        }
        Ok(())
    }

    fn walk(&mut self, template: &Value, value: &RawValue, at: &str) -> Result<(), String> {
        match template {
            Value::String(text) if text.starts_with('$') && !text.starts_with("$$") => {
                let place = Place::of(&text[1..]).ok_or_else(|| homeless(at))?;
                self.put(&place, value, at)
            }
            Value::Array(templates) => {
                let items = items(value, at)?;
                if items.len() > templates.len() {
                    return Err(homeless(&format!("{at}/{}", templates.len())));
                }
                let mut both = templates.iter().zip(items).enumerate();
                both.try_for_each(|(index, (template, value))| {
                    self.walk(template, value, &format!("{at}/{index}"))
                })
            }
            Value::Object(templates) => {
                for (name, value) in members(value, at)? {
                    let at = format!("{at}/{name}");
                    let template = templates.get(&name).ok_or_else(|| homeless(&at))?;
                    self.walk(template, value, &at)?;
                }
                Ok(())
            }
            fixed => {
                let fixed = match fixed {
                    Value::String(text) => Value::String(text.strip_prefix('$').unwrap_or(text).to_owned()),
                    other => other.clone(),
                };
                if to_value(value) == fixed {
                    return Ok(());
                }
                Err(format!("input{at} must be {fixed}: the task is told nothing of it"))
            }
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
    fn an_input_is_read_as_the_arguments_that_it_would_be_made_of() {
        let both = |template: Option<Value>, text: &str| {
            let (args, kwargs) = arguments(template.as_ref(), text)?;
            // There and back again.
            assert_eq!(input(template.as_ref(), &args, &kwargs), text);
            Ok::<_, String>((args.len(), kwargs.len()))
        };
        assert_eq!(
            both(None, r#"{"args":[1,{"a":null}],"kwargs":{"x":123456789012345678901234567890}}"#),
            Ok((2, 1))
        );
        let template = json!({"deep": ["$/args/1", {"who": "$/kwargs/a~1b"}], "first": "$/args/0", "op": "add", "sum": "$$5"});
        let text = r#"{"deep":[[2],{"who":"x"}],"first":1,"op":"add","sum":"$5"}"#;
        assert_eq!(both(Some(template.clone()), text), Ok((2, 1)));
        assert_eq!(both(Some(json!("$/args/0")), "7"), Ok((1, 0)));
        assert_eq!(
            both(Some(json!({"n": "$/kwargs/n", "rest": "$/args"})), r#"{"rest":[1,2,3]}"#),
            Ok((3, 0))
        );
        assert_eq!(arguments(None, "{}").unwrap().0.len(), 0);

        let why = |template: Option<&Value>, text: &str| arguments(template, text).unwrap_err();
        assert_eq!(why(None, r#"{"n": 1}"#), "input/n is none of the arguments of the task");
        assert_eq!(why(None, "[1]"), "input must be an object");
        assert_eq!(why(None, r#"{"args": 1}"#), "input/args must be an array");
        assert!(why(Some(&template), r#"{"first": 1, "op": "mul"}"#).starts_with("input/op must be \"add\""));
        assert_eq!(
            why(Some(&template), r#"{"deep": [1, {}, 3]}"#),
            "input/deep/2 is none of the arguments of the task"
        );
        assert!(why(Some(&template), r#"{"deep": [1]}"#).contains("argument 0"));
        assert!(why(None, "{").contains("no JSON"));
    }

    #[test]
    fn a_template_that_cannot_be_read_the_other_way_round_is_named() {
        for fits in
            [json!("$"), json!({"a": "$/args", "b": "$/args/7"}), json!(["$/args/1", "$/args/0"]), json!({})]
        {
            assert_eq!(check_arguments(&fits), Ok(()));
        }
        assert!(check_arguments(&json!({"x": "$/args/0/name"})).unwrap_err().contains("$/args/0/name"));
        assert!(check_arguments(&json!({"x": "$/kwargs/a/b"})).unwrap_err().contains("whole argument"));
        assert!(check_arguments(&json!({"x": "$/headers"})).is_err());
        assert!(check_arguments(&json!(["$/args/0", "$/args/2"])).unwrap_err().contains("argument 1"));
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
