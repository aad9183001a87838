//! Chains, groups and chords, written as graphs. Their nodes are named by number, from 1.

use super::graph::Node;
use serde::Deserialize;
use serde_json::{Value, json};

/// A group, and a job that gets the list of its results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chord {
    header: Vec<Node>,
    body: Node,
}

type Written = (Vec<(String, Node)>, Option<Value>);

/// One after the other; one without an input gets the result of the one before. The result is the last one's.
pub(super) fn chain(tasks: Vec<Node>) -> Written {
    let mut nodes: Vec<(String, Node)> = Vec::with_capacity(tasks.len());
    for (index, mut node) in tasks.into_iter().enumerate() {
        if index > 0 {
            let before = index.to_string();
            if node.input.is_none() && node.map.is_none() {
                node.input = Some(json!({"$from": before}));
            }
            node.needs.push(before);
        }
        nodes.push(((index + 1).to_string(), node));
    }
    let result = nodes.last().map(|(name, _)| json!({"$from": name}));
    (nodes, result)
}

/// All at once. The result is the list of theirs.
pub(super) fn group(tasks: Vec<Node>) -> Written {
    let nodes: Vec<_> =
        tasks.into_iter().enumerate().map(|(index, node)| ((index + 1).to_string(), node)).collect();
    let names: Vec<_> = nodes.iter().map(|(name, _)| name).collect();
    let result = Some(json!({"$from": names}));
    (nodes, result)
}

/// The header all at once, then `body`, which gets the list of their results unless it has an input of its own. The
/// result is the body's.
pub(super) fn chord(chord: Chord) -> Written {
    let (mut nodes, results) = group(chord.header);
    let mut body = chord.body;
    body.needs.extend(nodes.iter().map(|(name, _)| name.clone()));
    if body.input.is_none() && body.map.is_none() {
        body.input = results;
    }
    nodes.push(("body".to_owned(), body));
    (nodes, Some(json!({"$from": "body"})))
}

#[cfg(test)]
mod tests {
    use super::super::Graph;
    use serde_json::{Value, json};

    fn read(value: &Value) -> Graph {
        Graph::read(value.to_string().as_bytes()).unwrap().0
    }

    #[test]
    fn a_chain_hands_on_its_results() {
        let graph =
            read(&json!({"chain": [{"type": "t", "input": 1}, {"type": "t"}, {"type": "t", "input": 3}]}));
        assert_eq!(graph.needs, [vec![], vec![0], vec![1]]);
        assert_eq!(graph.nodes[1].input, Some(json!({"$from": "1"})));
        assert_eq!(graph.nodes[2].input, Some(json!(3)));
        assert_eq!(graph.result, Some(json!({"$from": "3"})));
    }

    #[test]
    fn a_chord_gathers_the_results_of_its_header() {
        let graph =
            read(&json!({"chord": {"header": [{"type": "t"}, {"type": "t"}], "body": {"type": "u"}}}));
        assert_eq!(graph.names, ["1", "2", "body"]);
        assert_eq!(graph.needs, [vec![], vec![], vec![0, 1]]);
        assert_eq!(graph.nodes[2].input, Some(json!({"$from": ["1", "2"]})));
        let group = read(&json!({"group": [{"type": "t"}, {"type": "t"}]}));
        assert_eq!((group.needs, group.result), (vec![vec![], vec![]], Some(json!({"$from": ["1", "2"]}))));
    }
}
