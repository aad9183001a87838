//! What a caller asks for, checked: names, needs, cycles, bounds.

use super::{short, template};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

/// Most nodes of one workflow. Bounds its state and what a reader is shown.
pub const NODES_MAX: usize = 10_000;
/// Most items of one map.
pub const ITEMS_MAX: usize = 10_000;
/// Longest name of a node, characters.
const NAME_MAX: usize = 64;

/// What happens when a node fails for good, or is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing more is started, what runs is cancelled, the workflow fails.
    #[default]
    Stop,
    /// The rest goes on, nodes that need this one too: its result is then `null`, or the reference's default.
    Continue,
    /// As `stop`; then the compensations of the nodes that succeeded run one by one, the latest node's first.
    Compensate,
}

/// A job beside the graph: a compensation, or what is done at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Template of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// A node that runs once for each item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// Template of the list, such as `{"$from": "a", "pointer": "/rows"}`. At most 10,000 items.
    pub over: Value,
    /// Items at once, at least 1. Default 100.
    #[serde(default = "parallel")]
    pub parallel: u32,
}

fn parallel() -> u32 {
    100
}

/// One job, or one job for each item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Template of its input. Default `null`; in a map the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Nodes that end before this one starts, besides those that its input speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Queue. Default: the job type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// 0 to 9; 9 is served first. Default: the workflow's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Attempts in all, 1 to 1,000. Default: the job type's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Running time after which the job is asked to finish, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_limit_ms: Option<u64>,
    /// Running time after which an attempt fails, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit_ms: Option<u64>,
    /// What happens when it fails. Default `stop`.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Undoes this node when the workflow compensates. Default input: the node's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Task>,
    /// Runs it once for each item of a list; its result is the list of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
}

/// Nodes by name, in the order in which they were written; a name that stands twice is kept for the check.
#[derive(Clone, Debug, Default)]
struct Nodes(Vec<(String, Node)>);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Nodes;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of nodes")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Nodes, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = map.next_entry()? {
                    nodes.push(node);
                }
                Ok(Nodes(nodes))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The jobs of a workflow as a caller writes them: exactly one of `nodes`, `chain`, `group` and `chord`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    name: Option<String>,
    priority: u8,
    metadata: Option<serde_json::Map<String, Value>>,
    tags: Vec<String>,
    correlation_id: Option<String>,
    webhook: Option<Value>,
    nodes: Option<Nodes>,
    chain: Option<Vec<Node>>,
    group: Option<Vec<Node>>,
    chord: Option<short::Chord>,
    on_success: Option<Task>,
    on_failure: Option<Task>,
    result: Option<Value>,
}

/// What is said of a workflow beside its jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// For people.
    pub name: Option<String>,
    /// Of its jobs, unless a node has its own; 0 to 9.
    pub priority: u8,
    /// Free metadata.
    pub metadata: Option<serde_json::Map<String, Value>>,
    /// Labels.
    pub tags: Vec<String>,
    /// The caller's identifier for a larger whole; its jobs have it too.
    pub correlation_id: Option<String>,
    /// Who is told of its end, as the caller wrote it: the same as of a job.
    pub webhook: Option<Value>,
}

/// What is wrong with a graph, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// RFC 6901, into what the caller wrote.
    pub pointer: String,
    /// One sentence.
    pub detail: String,
}

/// Most flaws that are told at once.
const FLAWS_MAX: usize = 20;

/// A checked graph: every need is a node, and there is no cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The nodes' names.
    pub names: Vec<String>,
    /// The nodes, in the same order.
    pub nodes: Vec<Node>,
    /// For each node those that it needs, in ascending order.
    pub needs: Vec<Vec<u32>>,
    /// All nodes, each after those it needs.
    pub order: Vec<u32>,
    /// Runs when all went well.
    pub on_success: Option<Task>,
    /// Runs when the workflow failed.
    pub on_failure: Option<Task>,
    /// Template of the workflow's result.
    pub result: Option<Value>,
}

impl Graph {
    /// Reads and checks what a caller wrote.
    ///
    /// # Errors
    /// What is wrong with it: shape, names, needs, cycles, bounds.
    pub fn read(text: &[u8]) -> Result<(Self, About), Vec<Flaw>> {
        let flaw = |pointer: &str, detail: String| vec![Flaw { pointer: pointer.to_owned(), detail }];
        let written: Written =
            serde_json::from_slice(text).map_err(|error| flaw("", format!("cannot be read: {error}")))?;
        let shapes = [
            written.nodes.is_some(),
            written.chain.is_some(),
            written.group.is_some(),
            written.chord.is_some(),
        ];
        if shapes.iter().filter(|given| **given).count() != 1 {
            return Err(flaw("", "needs exactly one of nodes, chain, group and chord".into()));
        }
        let (nodes, result, root) = if let Some(nodes) = written.nodes {
            (nodes.0, None, "/nodes")
        } else if let Some(chain) = written.chain {
            let (nodes, result) = short::chain(chain);
            (nodes, result, "/chain")
        } else if let Some(group) = written.group {
            let (nodes, result) = short::group(group);
            (nodes, result, "/group")
        } else {
            let (nodes, result) = written.chord.map(short::chord).unwrap_or_default();
            (nodes, result, "/chord")
        };
        let mut graph = Self {
            names: Vec::with_capacity(nodes.len()),
            nodes: Vec::with_capacity(nodes.len()),
            needs: Vec::new(),
            order: Vec::new(),
            on_success: written.on_success,
            on_failure: written.on_failure,
            result: written.result.or(result),
        };
        for (name, node) in nodes {
            graph.names.push(name);
            graph.nodes.push(node);
        }
        let about = About {
            name: written.name,
            priority: written.priority,
            metadata: written.metadata,
            tags: written.tags,
            correlation_id: written.correlation_id,
            webhook: written.webhook,
        };
        let mut flaws = graph.check(root);
        if flaws.is_empty() { Ok((graph, about)) } else { Err(flaws.drain(..).take(FLAWS_MAX).collect()) }
    }

    fn check(&mut self, root: &str) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut wrong = |pointer: String, detail: String| flaws.push(Flaw { pointer, detail });
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            wrong(root.into(), format!("must be 1 to {NODES_MAX} nodes; there are {}", self.nodes.len()));
            return flaws;
        }
        let mut index = HashMap::with_capacity(self.names.len());
        for (at, name) in self.names.iter().enumerate() {
            let at_node = format!("{root}/{}", name.replace('~', "~0").replace('/', "~1"));
            let fits = (1..=NAME_MAX).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
            if !fits {
                wrong(at_node, "a node's name must be 1 to 64 of letters, digits, '_', '-' and '.'".into());
            } else if index.insert(name.as_str(), at as u32).is_some() {
                wrong(at_node, "there are two nodes of this name".into());
            }
        }
        let mut needs = Vec::with_capacity(self.nodes.len());
        for (at, (name, node)) in self.names.iter().zip(&self.nodes).enumerate() {
            let mut found = BTreeSet::new();
            let mut need = |other: &str, field: &str| match index.get(other) {
                Some(other) if *other as usize == at => {
                    Err((field.to_owned(), "a node cannot need itself".to_owned()))
                }
                Some(other) => {
                    found.insert(*other);
                    Ok(())
                }
                None => Err((field.to_owned(), format!("there is no node {other:?}"))),
            };
            let mut errors = Vec::new();
            for other in &node.needs {
                errors.extend(need(other, "needs").err());
            }
            let map = node.map.as_ref();
            let templates = [("input", node.input.as_ref()), ("map/over", map.map(|map| &map.over))];
            for (field, value) in templates.into_iter().filter_map(|(field, value)| Some((field, value?))) {
                match template::references(value) {
                    Err(detail) => errors.push((field.to_owned(), detail)),
                    Ok((_, true)) if map.is_none() || field != "input" => {
                        errors.push((
                            field.to_owned(),
                            "\"$item\" and \"$index\" belong into the input of a map".into(),
                        ));
                    }
                    Ok((references, _)) => {
                        for other in references.iter().flat_map(|reference| &reference.nodes) {
                            errors.extend(need(other, field).err());
                        }
                    }
                }
            }
            if map.is_some_and(|map| map.parallel == 0) {
                errors.push(("map/parallel".into(), "must be at least 1".into()));
            }
            if node.priority.is_some_and(|priority| priority > crate::record::PRIORITY_MAX) {
                errors.push(("priority".into(), "must be 0 to 9".into()));
            }
            if node.max_attempts.is_some_and(|attempts| !(1..=1_000).contains(&attempts)) {
                errors.push(("max_attempts".into(), "must be 1 to 1000".into()));
            }
            for (field, detail) in errors {
                wrong(format!("{root}/{name}/{field}"), detail);
            }
            needs.push(found.into_iter().collect::<Vec<_>>());
        }
        // Beside the graph, results of all nodes may be spoken of.
        let beside = self.nodes.iter().zip(&self.names).filter_map(|(node, name)| {
            Some((format!("{root}/{name}/compensate/input"), node.compensate.as_ref()?.input.as_ref()?))
        });
        let ends = [("/on_success/input", &self.on_success), ("/on_failure/input", &self.on_failure)];
        let ends =
            ends.into_iter().filter_map(|(at, task)| Some((at.to_owned(), task.as_ref()?.input.as_ref()?)));
        for (at, value) in
            beside.chain(ends).chain(self.result.iter().map(|value| ("/result".to_owned(), value)))
        {
            match template::references(value) {
                Err(detail) => wrong(at, detail),
                Ok((_, true)) => wrong(at, "\"$item\" and \"$index\" belong into the input of a map".into()),
                Ok((references, _)) => {
                    let unknown =
                        references.iter().flat_map(|one| &one.nodes).find(|name| !index.contains_key(*name));
                    if let Some(name) = unknown {
                        wrong(at, format!("there is no node {name:?}"));
                    }
                }
            }
        }
        self.needs = needs;
        if flaws.is_empty() {
            match sort(&self.needs) {
                Ok(order) => self.order = order,
                Err(cycle) => {
                    let names: Vec<_> =
                        cycle.iter().map(|node| self.names[*node as usize].as_str()).collect();
                    let detail = format!("these nodes need one another in a circle: {}", names.join(" -> "));
                    flaws.push(Flaw { pointer: root.to_owned(), detail });
                }
            }
        }
        flaws
    }

    /// Every job type in it, with the input where that is the same whatever happens, and where it was written.
    pub fn tasks(&self) -> impl Iterator<Item = (String, &str, Option<&Value>)> {
        let nodes = self.nodes.iter().zip(&self.names).flat_map(|(node, name)| {
            let own = node.input.as_ref().filter(|_| node.map.is_none());
            let own = std::iter::once((format!("/nodes/{name}"), node.job_type.as_str(), own));
            let undo = node.compensate.as_ref();
            own.chain(undo.map(|task| {
                (format!("/nodes/{name}/compensate"), task.job_type.as_str(), task.input.as_ref())
            }))
        });
        let ends = [("/on_success", &self.on_success), ("/on_failure", &self.on_failure)];
        let ends = ends.into_iter().filter_map(|(at, task)| {
            let task = task.as_ref()?;
            Some((at.to_owned(), task.job_type.as_str(), task.input.as_ref()))
        });
        nodes.chain(ends).map(|(at, job_type, input)| {
            let literal = |input: &&Value| {
                matches!(template::references(input), Ok((references, false)) if references.is_empty())
            };
            (at, job_type, input.filter(literal))
        })
    }

    /// The number of a node.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

/// Every node after those it needs; a cycle otherwise, its first node again at its end.
fn sort(needs: &[Vec<u32>]) -> Result<Vec<u32>, Vec<u32>> {
    let mut next = vec![Vec::new(); needs.len()];
    let mut missing: Vec<_> = needs.iter().map(Vec::len).collect();
    for (node, needed) in needs.iter().enumerate() {
        for other in needed {
            next[*other as usize].push(node as u32);
        }
    }
    let mut order: Vec<u32> = (0..needs.len() as u32).filter(|node| missing[*node as usize] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        for other in &next[order[at] as usize] {
            missing[*other as usize] -= 1;
            if missing[*other as usize] == 0 {
                order.push(*other);
            }
        }
        at += 1;
    }
    if order.len() == needs.len() {
        return Ok(order);
    }
    // Whatever is left needs something that is left: going back must come to a node seen before.
    let left = |node: &&u32| missing[**node as usize] > 0;
    let Some(mut node) = (0..needs.len() as u32).find(|node| missing[*node as usize] > 0) else {
        return Ok(order);
    };
    let mut path = Vec::new();
    loop {
        if let Some(from) = path.iter().position(|seen| *seen == node) {
            let mut cycle: Vec<u32> = path.split_off(from);
            cycle.push(node);
            cycle.reverse();
            return Err(cycle);
        }
        path.push(node);
        match needs[node as usize].iter().find(left) {
            Some(other) => node = *other,
            None => return Err(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flaws(value: &Value) -> Vec<(String, String)> {
        let flaws = Graph::read(value.to_string().as_bytes()).unwrap_err();
        flaws.into_iter().map(|flaw| (flaw.pointer, flaw.detail)).collect()
    }

    fn node(needs: &[&str]) -> Value {
        json!({"type": "t", "needs": needs})
    }

    #[test]
    fn speaking_of_a_result_is_needing_it() {
        let text = br#"{"nodes": {
            "c": {"type": "t", "input": {"x": {"$from": "b"}}, "needs": ["a"]},
            "b": {"type": "t", "map": {"over": {"$from": "a"}}},
            "a": {"type": "t"}
        }}"#;
        let (graph, _) = Graph::read(text).unwrap();
        assert_eq!(graph.names, ["c", "b", "a"]);
        assert_eq!(graph.needs, [vec![1, 2], vec![2], vec![]]);
        assert_eq!(graph.order, [2, 1, 0]);
    }

    #[test]
    fn a_cycle_is_named() {
        let found = flaws(
            &json!({"nodes": {"a": node(&["b"]), "b": node(&["c"]), "c": node(&["b"]), "d": node(&[])}}),
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].1.ends_with("c -> b -> c") || found[0].1.ends_with("b -> c -> b"), "{found:?}");
    }

    #[test]
    fn every_mistake_is_named_where_it_was_made() {
        for (graph, pointer, part) in [
            (json!({"nodes": {"a": node(&["x"])}}), "/nodes/a/needs", "no node \"x\""),
            (json!({"nodes": {"a": node(&["a"])}}), "/nodes/a/needs", "cannot need itself"),
            (json!({"nodes": {"a": {"type": "t", "input": {"$from": "x"}}}}), "/nodes/a/input", "no node"),
            (json!({"nodes": {"a": {"type": "t", "input": {"$item": ""}}}}), "/nodes/a/input", "of a map"),
            (json!({"nodes": {"a/b": node(&[])}}), "/nodes/a~1b", "must be 1 to 64"),
            (json!({"nodes": {}}), "/nodes", "1 to 10000"),
            (json!({}), "", "exactly one of"),
            (json!({"nodes": {}, "chain": []}), "", "exactly one of"),
            (json!({"nodes": {"a": {"type": "t", "typo": 1}}}), "", "unknown field `typo`"),
            (json!({"nodes": {"a": node(&[])}, "result": {"$from": "z"}}), "/result", "no node"),
        ] {
            let found = flaws(&graph);
            assert!(found[0].0 == pointer && found[0].1.contains(part), "{found:?}");
        }
        let twice = Graph::read(br#"{"nodes": {"a": {"type": "t"}, "a": {"type": "t"}}}"#).unwrap_err();
        assert!(twice[0].detail.contains("two nodes"), "{twice:?}");
        let many: serde_json::Map<_, _> = (0..=NODES_MAX).map(|at| (at.to_string(), node(&[]))).collect();
        assert!(flaws(&json!({"nodes": many}))[0].1.contains("there are 10001"));
    }
}
