//! Are two outcomes of the same input the same? Fields can be left out, numbers may differ a little, arrays may stand
//! in another order.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Differences that are told of one pair.
const DIFFERENCES_MAX: usize = 20;
/// Longest array whose items are matched one with another when their order does not matter; the work grows with the
/// square. Longer ones are compared in the order of their JSON texts.
const MATCHED_MAX: usize = 500;
/// Most pointers of one rule.
pub(super) const POINTERS_MAX: usize = 100;

/// What counts as the same. Places are JSON Pointers into the result; `*` stands for any one name or index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Places that are not compared, such as `/took_ms` or `/rows/*/id`.
    pub ignore: Vec<String>,
    /// Numbers may differ by so much. Default 0.
    pub absolute: f64,
    /// Numbers may differ by this part of the larger one. Default 0.
    pub relative: f64,
    /// Arrays whose order does not matter.
    pub unordered: Vec<String>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With this result.
    Succeeded(Value),
    /// With an error of this kind.
    Failed(String),
}

/// One place where two outcomes differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// JSON Pointer; empty for the whole.
    pub pointer: String,
    /// What the job has there; `None`: nothing.
    #[serde(default)]
    pub left: Option<Value>,
    /// What the other one has there.
    #[serde(default)]
    pub right: Option<Value>,
}

impl Rule {
    /// What is wrong with it: a field and why.
    ///
    /// # Errors
    /// A pointer is none, or a tolerance is negative or no number.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (field, pointers) in [("ignore", &self.ignore), ("unordered", &self.unordered)] {
            if pointers.len() > POINTERS_MAX {
                return Err((field.to_owned(), format!("at most {POINTERS_MAX} pointers")));
            }
            if let Some(index) = pointers.iter().position(|one| !one.is_empty() && !one.starts_with('/')) {
                return Err((
                    format!("{field}/{index}"),
                    "a JSON Pointer begins with '/', such as /took_ms".to_owned(),
                ));
            }
        }
        for (field, value) in [("absolute", self.absolute), ("relative", self.relative)] {
            if !value.is_finite() || value < 0.0 {
                return Err((field.to_owned(), "must be a number from 0".to_owned()));
            }
        }
        Ok(())
    }

    /// Where two outcomes differ, at most 20 places; empty: they are the same. Two failures are the same if their
    /// kinds are.
    #[must_use]
    pub fn differences(&self, left: &Outcome, right: &Outcome) -> Vec<Difference> {
        match (left, right) {
            (Outcome::Succeeded(left), Outcome::Succeeded(right)) => {
                let mut found = Vec::new();
                self.walk(&mut Vec::new(), Some(left), Some(right), &mut found);
                found
            }
            (Outcome::Failed(left), Outcome::Failed(right)) if left == right => Vec::new(),
            _ => {
                let told = |outcome: &Outcome| serde_json::to_value(outcome).ok();
                vec![Difference { pointer: String::new(), left: told(left), right: told(right) }]
            }
        }
    }

    fn walk(
        &self,
        path: &mut Vec<String>,
        left: Option<&Value>,
        right: Option<&Value>,
        found: &mut Vec<Difference>,
    ) {
        if found.len() >= DIFFERENCES_MAX || fits_any(&self.ignore, path) {
            return;
        }
        let mut into = |name: String, left: Option<&Value>, right: Option<&Value>, found: &mut Vec<_>| {
            path.push(name);
            self.walk(path, left, right, found);
            path.pop();
        };
        match (left, right) {
            (Some(Value::Object(left)), Some(Value::Object(right))) => {
                for (name, value) in left {
                    into(name.clone(), Some(value), right.get(name), found);
                }
                for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                    into(name.clone(), None, Some(value), found);
                }
            }
            (Some(Value::Array(left)), Some(Value::Array(right))) => {
                let (left, right): (Vec<_>, Vec<_>) = (left.iter().collect(), right.iter().collect());
                let (left, right) = if fits_any(&self.unordered, path) {
                    self.unmatched(path, left, right)
                } else {
                    (left, right)
                };
                for index in 0..left.len().max(right.len()) {
                    path.push(index.to_string());
                    self.walk(path, left.get(index).copied(), right.get(index).copied(), found);
                    path.pop();
                }
            }
            (Some(Value::Number(left)), Some(Value::Number(right)))
                if left == right || self.is_near(left.as_f64(), right.as_f64()) => {}
            (left, right) if left == right => {}
            (left, right) => found.push(Difference {
                pointer: path.iter().map(|name| format!("/{}", escaped(name))).collect(),
                left: left.cloned(),
                right: right.cloned(),
            }),
        }
    }

    fn is_near(&self, left: Option<f64>, right: Option<f64>) -> bool {
        let (Some(left), Some(right)) = (left, right) else { return false };
        let apart = (left - right).abs();
        apart <= self.absolute || apart <= self.relative * left.abs().max(right.abs())
    }

    /// What is left of two arrays when items that have an equal in the other are taken out, in order.
    fn unmatched<'a>(
        &self,
        path: &[String],
        mut left: Vec<&'a Value>,
        mut right: Vec<&'a Value>,
    ) -> (Vec<&'a Value>, Vec<&'a Value>) {
        if left.len().max(right.len()) > MATCHED_MAX {
            left.sort_by_cached_key(|value| value.to_string());
            right.sort_by_cached_key(|value| value.to_string());
            return (left, right);
        }
        let mut inner = path.to_vec();
        // Items have any index here: only pointers with `*` reach into them.
        inner.push("*".to_owned());
        left.retain(|one| {
            let same = right.iter().position(|other| {
                let mut found = Vec::new();
                self.walk(&mut inner.clone(), Some(one), Some(other), &mut found);
                found.is_empty()
            });
            same.map(|at| right.remove(at)).is_none()
        });
        (left, right)
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn fits_any(pointers: &[String], path: &[String]) -> bool {
    pointers.iter().any(|pointer| {
        if pointer.is_empty() {
            return path.is_empty();
        }
        let mut parts = pointer.split('/').skip(1);
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == escaped(name)))
            && parts.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(rule: &Rule, left: Value, right: Value) -> Vec<String> {
        let found = rule.differences(&Outcome::Succeeded(left), &Outcome::Succeeded(right));
        found.into_iter().map(|one| one.pointer).collect()
    }

    #[test]
    fn what_differs_is_named_by_its_place() {
        let left = json!({"a": 1, "b": [1, {"x/y": 2}], "c": "same"});
        let right = json!({"a": 2, "b": [1, {"x/y": 3}, 4], "c": "same", "d": null});
        assert_eq!(pointers(&Rule::default(), left, right), ["/a", "/b/1/x~1y", "/b/2", "/d"]);
        assert!(pointers(&Rule::default(), json!({"a": 1.0}), json!({"a": 1.0})).is_empty());
    }

    #[test]
    fn places_are_left_out_and_numbers_may_be_near() {
        let rule = Rule {
            ignore: vec!["/took_ms".into(), "/rows/*/id".into()],
            absolute: 0.01,
            relative: 0.001,
            ..Rule::default()
        };
        let left = json!({"took_ms": 3, "rows": [{"id": 1, "v": 10.0}], "big": 1_000_000, "n": 1});
        let right = json!({"took_ms": 9, "rows": [{"id": 2, "v": 10.005}], "big": 1_000_900, "n": 1.02});
        assert_eq!(pointers(&rule, left, right), ["/n"]);
    }

    #[test]
    fn arrays_may_stand_in_another_order() {
        let rule =
            Rule { unordered: vec!["/rows".into()], ignore: vec!["/rows/*/id".into()], ..Rule::default() };
        let left = json!({"rows": [{"id": 1, "v": 1}, {"id": 2, "v": 2}, {"id": 3, "v": 2}]});
        let right = json!({"rows": [{"id": 7, "v": 2}, {"id": 8, "v": 1}, {"id": 9, "v": 2}]});
        assert!(pointers(&rule, left.clone(), right).is_empty());
        assert_eq!(pointers(&rule, left, json!({"rows": [{"v": 2}, {"v": 2}, {"v": 5}]})), ["/rows/0/v"]);
        let long: Vec<_> = (0..2_000).collect();
        let back: Vec<_> = long.iter().rev().copied().collect();
        assert!(pointers(&rule, json!({"rows": long}), json!({"rows": back})).is_empty());
    }

    #[test]
    fn another_kind_of_end_is_a_difference_of_the_whole() {
        let rule = Rule::default();
        let (good, bad) = (Outcome::Succeeded(json!(1)), Outcome::Failed("permanent".into()));
        assert_eq!(rule.differences(&good, &bad).len(), 1);
        assert!(rule.differences(&bad, &bad.clone()).is_empty());
        assert_eq!(rule.differences(&bad, &Outcome::Failed("guest-trap".into())).len(), 1);
    }

    #[test]
    fn a_wrong_rule_is_refused_by_its_field() {
        let rule = Rule { ignore: vec!["took".into()], ..Rule::default() };
        assert_eq!(rule.check().unwrap_err().0, "ignore/0");
        assert_eq!(Rule { relative: -1.0, ..Rule::default() }.check().unwrap_err().0, "relative");
        assert!(Rule::default().check().is_ok());
    }
}
