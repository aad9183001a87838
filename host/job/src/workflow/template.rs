//! Inputs that are built from earlier results.
//!
//! Anywhere in an input an object with one of these keys stands for a value:
//!
//! | object | stands for |
//! | --- | --- |
//! | `{"$from": "a", "pointer": "/x/0", "default": 1}` | what the RFC 6901 pointer finds in node a's result; without `pointer` all of it; without `default` it must be there |
//! | `{"$from": ["a", "b"]}` | the list of their results, `pointer` and `default` applied to each |
//! | `{"$item": "/x"}` | in a map: what the pointer finds in the item; `""` is all of it |
//! | `{"$index": true}` | in a map: the number of the item, from 0 |
//! | `{"$literal": …}` | its content, unchanged |

use serde_json::{Map, Value};

/// Deepest nesting that is looked through; JSON readers stop at 128.
const DEPTH_MAX: usize = 128;

/// A place in an input that stands for results of nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference<'a> {
    /// The nodes; several give a list.
    pub nodes: Vec<&'a str>,
    /// One node, not a list of one.
    pub single: bool,
    /// RFC 6901.
    pub pointer: &'a str,
    /// What it is where there is nothing.
    pub default: Option<&'a Value>,
}

enum Place<'a> {
    From(Reference<'a>),
    Item(&'a str),
    Index,
    Literal(&'a Value),
    Plain,
}

fn place(object: &Map<String, Value>) -> Result<Place<'_>, String> {
    let only = |allowed: &[&str]| match object.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(format!("{key:?} does not belong beside {:?}", allowed[0])),
        None => Ok(()),
    };
    let pointer = |value: Option<&'_ Value>| match value {
        None => Ok(()),
        Some(Value::String(text)) if text.is_empty() || text.starts_with('/') => Ok(()),
        Some(_) => Err("a pointer is \"\" or begins with '/' (RFC 6901)".to_owned()),
    };
    if let Some(from) = object.get("$from") {
        only(&["$from", "pointer", "default"])?;
        pointer(object.get("pointer"))?;
        let (nodes, single) = match from {
            Value::String(name) => (vec![name.as_str()], true),
            Value::Array(names) if names.iter().all(Value::is_string) => {
                (names.iter().filter_map(Value::as_str).collect(), false)
            }
            _ => return Err("\"$from\" takes the name of a node, or a list of names".to_owned()),
        };
        let pointer = object.get("pointer").and_then(Value::as_str).unwrap_or("");
        return Ok(Place::From(Reference { nodes, single, pointer, default: object.get("default") }));
    }
    if let Some(item) = object.get("$item") {
        only(&["$item"])?;
        pointer(Some(item))?;
        return Ok(Place::Item(item.as_str().unwrap_or("")));
    }
    if object.contains_key("$index") {
        only(&["$index"])?;
        return Ok(Place::Index);
    }
    if let Some(literal) = object.get("$literal") {
        only(&["$literal"])?;
        return Ok(Place::Literal(literal));
    }
    Ok(Place::Plain)
}

/// Every reference to a node in a template, and whether it speaks of an item.
///
/// # Errors
/// What is wrong with one of them, in one sentence.
pub fn references(template: &Value) -> Result<(Vec<Reference<'_>>, bool), String> {
    fn walk<'a>(
        value: &'a Value,
        depth: usize,
        found: &mut Vec<Reference<'a>>,
        of_item: &mut bool,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deep".to_owned());
        }
        match value {
            Value::Array(values) => {
                values.iter().try_for_each(|value| walk(value, depth + 1, found, of_item))
            }
            Value::Object(object) => match place(object)? {
                Place::From(reference) => {
                    found.push(reference);
                    Ok(())
                }
                Place::Item(_) | Place::Index => {
                    *of_item = true;
                    Ok(())
                }
                Place::Literal(_) => Ok(()),
                Place::Plain => object.values().try_for_each(|value| walk(value, depth + 1, found, of_item)),
            },
            _ => Ok(()),
        }
    }
    let (mut found, mut of_item) = (Vec::new(), false);
    walk(template, 0, &mut found, &mut of_item)?;
    Ok((found, of_item))
}

/// What a template may speak of.
pub trait Scope {
    /// The result of a node; `None` if it has none because it failed and the workflow went on.
    fn result(&self, node: &str) -> Option<&Value>;
    /// The item and its number, in a map.
    fn item(&self) -> Option<(usize, &Value)>;
}

/// The template with every place filled in.
///
/// # Errors
/// A reference finds nothing and has no default.
pub fn resolve(template: &Value, scope: &impl Scope) -> Result<Value, String> {
    match template {
        Value::Array(values) => values.iter().map(|value| resolve(value, scope)).collect(),
        Value::Object(object) => match place(object)? {
            Place::Literal(value) => Ok(value.clone()),
            Place::Index => Ok(scope.item().map_or(Value::Null, |(index, _)| index.into())),
            Place::Item(pointer) => {
                let (index, item) = scope.item().ok_or("there is no item here")?;
                let found = item.pointer(pointer).cloned();
                found.ok_or_else(|| format!("item {index} has nothing at {pointer:?}"))
            }
            Place::From(reference) => {
                let mut found = reference.nodes.iter().map(|node| look(node, &reference, scope));
                if reference.single { found.next().unwrap_or(Ok(Value::Null)) } else { found.collect() }
            }
            Place::Plain => object
                .iter()
                .map(|(key, value)| Ok((key.clone(), resolve(value, scope)?)))
                .collect::<Result<Map<_, _>, String>>()
                .map(Value::Object),
        },
        other => Ok(other.clone()),
    }
}

fn look(node: &str, reference: &Reference<'_>, scope: &impl Scope) -> Result<Value, String> {
    let result = scope.result(node);
    let found = result.and_then(|value| value.pointer(reference.pointer)).or(reference.default);
    match (found, result) {
        (Some(value), _) => Ok(value.clone()),
        // It failed, and the workflow goes on without it.
        (None, None) => Ok(Value::Null),
        (None, Some(_)) => Err(format!("the result of {node:?} has nothing at {:?}", reference.pointer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Results(Value, Option<Value>);

    impl Scope for Results {
        fn result(&self, node: &str) -> Option<&Value> {
            self.0.get(node)
        }
        fn item(&self) -> Option<(usize, &Value)> {
            self.1.as_ref().map(|item| (3, item))
        }
    }

    fn filled(template: &Value) -> Result<Value, String> {
        resolve(template, &Results(json!({"a": {"x/y": [7, null]}, "b": 2}), Some(json!({"k": "v"}))))
    }

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        let template =
            json!({"one": {"$from": "b"}, "deep": [{"$from": "a", "pointer": "/x~1y/0"}], "same": 1.5});
        assert_eq!(filled(&template), Ok(json!({"one": 2, "deep": [7], "same": 1.5})));
        assert_eq!(filled(&json!({"$from": ["b", "a"], "pointer": ""})), Ok(json!([2, {"x/y": [7, null]}])));
        assert_eq!(
            filled(&json!([{"$item": "/k"}, {"$item": ""}, {"$index": true}])),
            Ok(json!(["v", {"k": "v"}, 3]))
        );
    }

    #[test]
    fn a_default_stands_where_there_is_nothing_and_null_is_something() {
        assert_eq!(filled(&json!({"$from": "b", "pointer": "/no", "default": []})), Ok(json!([])));
        assert_eq!(filled(&json!({"$from": "a", "pointer": "/x~1y/1", "default": 5})), Ok(json!(null)));
        assert_eq!(filled(&json!({"$from": "failed"})), Ok(json!(null)));
        assert_eq!(filled(&json!({"$from": "failed", "default": 0})), Ok(json!(0)));
        assert_eq!(
            filled(&json!({"$from": "b", "pointer": "/no"})),
            Err("the result of \"b\" has nothing at \"/no\"".into())
        );
    }

    #[test]
    fn a_literal_is_left_alone() {
        assert_eq!(filled(&json!({"$literal": {"$from": "b"}})), Ok(json!({"$from": "b"})));
        assert_eq!(references(&json!({"$literal": {"$from": "b"}})), Ok((vec![], false)));
    }

    #[test]
    fn a_malformed_reference_says_what_is_wrong() {
        for (template, part) in [
            (json!({"$from": 1}), "takes the name of a node"),
            (json!({"$from": "a", "path": ""}), "\"path\" does not belong beside"),
            (json!({"$from": "a", "pointer": "x"}), "begins with '/'"),
            (json!({"$item": 1}), "begins with '/'"),
        ] {
            let error = references(&template).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
