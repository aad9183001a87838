//! Where every node stands, and what follows from that.
//!
//! About two bytes a node: a letter, and the run of the workflow in which it was last started. The jobs' ids follow
//! from these ([`JobId::part`]), so that none is kept.

use super::{Graph, OnFailure};
use crate::JobId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The place of a compensation among the items of its node.
const UNDO: u32 = 16_383;
/// The place of the job that runs at the end, among the nodes.
const END: u32 = 16_383;
/// Nodes that could not be started, and are kept with the reason.
const ERRORS_MAX: usize = 100;

const WAITING: u8 = b'.';
const ACTIVE: u8 = b'r';
const SUCCEEDED: u8 = b'S';
const FAILED: u8 = b'F';
const CANCELLED: u8 = b'C';
/// It failed, and the workflow went on.
const PASSED: u8 = b'P';

/// What the workflow is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nodes run.
    #[default]
    Running,
    /// A node failed: what is active is being cancelled.
    Stopping,
    /// Compensations run.
    Undoing,
    /// Nothing is left to do.
    Done,
}

/// The items of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Items {
    #[serde(with = "letters")]
    letters: Vec<u8>,
    runs: Vec<u32>,
}

/// Where every node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The workflow's run that this was written in.
    pub run: u32,
    /// Ends of children that are taken into account.
    pub seen: u64,
    /// What the workflow is about.
    pub phase: Phase,
    #[serde(with = "letters")]
    letters: Vec<u8>,
    runs: Vec<u32>,
    maps: BTreeMap<u32, Items>,
    undone: BTreeMap<u32, u8>,
    errors: BTreeMap<u32, String>,
    cause: Option<u32>,
}

/// A job to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A node; a map's list is not known yet.
    Node(usize),
    /// An item of a map.
    Item(usize, usize),
    /// The compensation of a node.
    Undo(usize),
}

/// How many nodes stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All nodes.
    pub total: usize,
    /// Not started yet.
    pub waiting: usize,
    /// Started and not ended.
    pub active: usize,
    /// Ended well.
    pub succeeded: usize,
    /// Failed, those counted after which the workflow went on.
    pub failed: usize,
    /// Cancelled or deleted.
    pub cancelled: usize,
    /// Never started, because the workflow stopped before.
    pub skipped: usize,
}

/// Letters are written as one text.
mod letters {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(letters: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(letters).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_ascii() { Ok(text.into_bytes()) } else { Err(D::Error::custom("a letter is no letter")) }
    }
}

fn is_open(letter: u8) -> bool {
    letter == WAITING || letter == ACTIVE
}

impl State {
    /// Nothing has been started.
    #[must_use]
    pub fn new(graph: &Graph, run: u32) -> Self {
        let nodes = graph.nodes.len();
        Self { run, letters: vec![WAITING; nodes], runs: vec![run; nodes], ..Self::default() }
    }

    /// The id of a job that was or is to be started.
    #[must_use]
    pub fn id(&self, workflow: &JobId, start: Start) -> JobId {
        let part = |node: usize, item| JobId::part(workflow, self.runs[node], node as u32, item);
        match start {
            Start::Node(node) => part(node, 0),
            Start::Undo(node) => part(node, UNDO),
            Start::Item(node, item) => {
                let run = self.maps.get(&(node as u32)).and_then(|items| items.runs.get(item)).copied();
                JobId::part(workflow, run.unwrap_or(self.run), node as u32, item as u32)
            }
        }
    }

    /// The id of the job that runs at the end.
    #[must_use]
    pub fn end_id(&self, workflow: &JobId) -> JobId {
        JobId::part(workflow, self.run, END, 0)
    }

    /// What can be started now, at most `most`.
    #[must_use]
    pub fn starts(&self, graph: &Graph, most: usize) -> Vec<Start> {
        match self.phase {
            Phase::Running => {}
            Phase::Undoing if self.undone.values().all(|letter| *letter != ACTIVE) => {
                let next = graph.order.iter().rev().find(|node| {
                    self.letters[**node as usize] == SUCCEEDED
                        && graph.nodes[**node as usize].compensate.is_some()
                        && !self.undone.contains_key(node)
                });
                return next.map(|node| Start::Undo(*node as usize)).into_iter().collect();
            }
            Phase::Undoing | Phase::Stopping | Phase::Done => return Vec::new(),
        }
        let mut starts = Vec::new();
        for (node, items) in &self.maps {
            if self.letters[*node as usize] != ACTIVE {
                continue;
            }
            let most_at_once =
                graph.nodes[*node as usize].map.as_ref().map_or(1, |map| map.parallel as usize);
            let active = items.letters.iter().filter(|letter| **letter == ACTIVE).count();
            let waiting = items.letters.iter().enumerate().filter(|(_, letter)| **letter == WAITING);
            starts.extend(
                waiting
                    .take(most_at_once.saturating_sub(active).min(most.saturating_sub(starts.len())))
                    .map(|(item, _)| Start::Item(*node as usize, item)),
            );
        }
        for node in &graph.order {
            if starts.len() >= most {
                break;
            }
            let ended = |other: &u32| matches!(self.letters[*other as usize], SUCCEEDED | PASSED);
            if self.letters[*node as usize] == WAITING && graph.needs[*node as usize].iter().all(ended) {
                starts.push(Start::Node(*node as usize));
            }
        }
        starts
    }

    /// It is being started.
    pub fn started(&mut self, start: Start) {
        match start {
            Start::Node(node) => self.letters[node] = ACTIVE,
            Start::Item(node, item) => {
                if let Some(letter) =
                    self.maps.get_mut(&(node as u32)).and_then(|items| items.letters.get_mut(item))
                {
                    *letter = ACTIVE;
                }
            }
            Start::Undo(node) => drop(self.undone.insert(node as u32, ACTIVE)),
        }
    }

    /// The list of a map is known. Items that succeeded in an earlier run are not run again.
    pub fn mapped(&mut self, graph: &Graph, node: usize, length: usize) {
        let run = self.run;
        let items = self.maps.entry(node as u32).or_default();
        if items.letters.len() != length {
            *items = Items { letters: vec![WAITING; length], runs: vec![run; length] };
        }
        self.letters[node] = ACTIVE;
        self.settle_map(graph, node);
    }

    /// It cannot be started; `why` is one sentence.
    pub fn cannot_start(&mut self, graph: &Graph, start: Start, why: String) {
        let (Start::Node(node) | Start::Item(node, _) | Start::Undo(node)) = start;
        if self.errors.len() < ERRORS_MAX {
            self.errors.insert(node as u32, why);
        }
        self.settle(graph, start, FAILED);
    }

    /// A child ended: `letter` is that of its state. A child of an earlier run, or one that is known to have ended,
    /// changes nothing.
    pub fn ended(&mut self, graph: &Graph, workflow: &JobId, child: &JobId, letter: char) {
        let letter = match letter {
            'S' => SUCCEEDED,
            'F' => FAILED,
            _ => CANCELLED,
        };
        let (node, item) = child.part_of();
        let node = node as usize;
        if node >= self.letters.len() {
            return;
        }
        let start = match self.maps.get(&(node as u32)) {
            _ if item == UNDO => Start::Undo(node),
            Some(_) => Start::Item(node, item as usize),
            None => Start::Node(node),
        };
        if self.id(workflow, start) == *child {
            self.settle(graph, start, letter);
        }
    }

    fn settle(&mut self, graph: &Graph, start: Start, letter: u8) {
        match start {
            Start::Undo(node) => drop(self.undone.insert(node as u32, letter)),
            Start::Node(node) => self.settle_node(graph, node, letter),
            Start::Item(node, item) => {
                let items = self.maps.get_mut(&(node as u32));
                let Some(known) = items.and_then(|items| items.letters.get_mut(item)) else { return };
                if is_open(*known) {
                    *known = letter;
                    if letter != SUCCEEDED && graph.nodes[node].on_failure != OnFailure::Continue {
                        self.settle_node(graph, node, letter);
                    }
                    self.settle_map(graph, node);
                }
            }
        }
    }

    fn settle_node(&mut self, graph: &Graph, node: usize, letter: u8) {
        if !is_open(self.letters[node]) {
            return;
        }
        self.letters[node] = letter;
        if letter == SUCCEEDED {
            return;
        }
        if graph.nodes[node].on_failure == OnFailure::Continue {
            self.letters[node] = PASSED;
        } else if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.cause = Some(node as u32);
        }
    }

    /// A map has ended when all its items have.
    fn settle_map(&mut self, graph: &Graph, node: usize) {
        let items = self.maps.get(&(node as u32));
        if items.is_some_and(|items| items.letters.iter().all(|letter| !is_open(*letter))) {
            self.settle_node(graph, node, SUCCEEDED);
        }
    }

    /// Goes to the next phase where nothing is left to do in this one. Answers whether the workflow is done.
    pub fn turn(&mut self, graph: &Graph) -> bool {
        loop {
            let idle = self.phase != Phase::Done
                && self.active().next().is_none()
                && self.starts(graph, 1).is_empty();
            self.phase = match self.phase {
                Phase::Stopping if idle => {
                    let policy = self.cause.map(|node| graph.nodes[node as usize].on_failure);
                    if policy == Some(OnFailure::Compensate) { Phase::Undoing } else { Phase::Done }
                }
                Phase::Running | Phase::Undoing if idle => Phase::Done,
                Phase::Done => return true,
                _ => return false,
            };
        }
    }

    /// Everything that was started and has not ended.
    pub fn active(&self) -> impl Iterator<Item = Start> {
        let is_active = |letter: &u8| *letter == ACTIVE;
        let nodes = self.letters.iter().enumerate().filter(move |(_, letter)| is_active(letter));
        let nodes = nodes.map(|(node, _)| node).filter(|node| !self.maps.contains_key(&(*node as u32)));
        let items = self.maps.iter().flat_map(move |(node, items)| {
            let items = items.letters.iter().enumerate().filter(move |(_, letter)| is_active(letter));
            items.map(|(item, _)| Start::Item(*node as usize, item))
        });
        let undone = self.undone.iter().filter(move |(_, letter)| is_active(letter));
        nodes.map(Start::Node).chain(items).chain(undone.map(|(node, _)| Start::Undo(*node as usize)))
    }

    /// A new run of the workflow that keeps what succeeded: nodes that did not, and all that need them, wait again.
    pub fn retry(&mut self, graph: &Graph, run: u32) {
        let mut again = vec![false; self.letters.len()];
        for node in &graph.order {
            let at = *node as usize;
            again[at] = self.letters[at] != SUCCEEDED
                || self.undone.contains_key(node)
                || graph.needs[at].iter().any(|other| again[*other as usize]);
            if !again[at] {
                continue;
            }
            let below = graph.needs[at].iter().any(|other| again[*other as usize]);
            self.letters[at] = WAITING;
            self.runs[at] = run;
            if below || self.undone.contains_key(node) {
                self.maps.remove(node);
            } else if let Some(items) = self.maps.get_mut(node) {
                for (letter, its_run) in items.letters.iter_mut().zip(&mut items.runs) {
                    if *letter != SUCCEEDED {
                        (*letter, *its_run) = (WAITING, run);
                    }
                }
            }
        }
        self.run = run;
        self.phase = Phase::Running;
        self.cause = None;
        self.undone.clear();
        self.errors.clear();
    }

    /// The workflow has ended, by itself or from outside: what was not started is skipped.
    pub fn close(&mut self) {
        self.phase = Phase::Done;
    }

    /// The node whose failure ended the workflow.
    #[must_use]
    pub fn cause(&self) -> Option<usize> {
        self.cause.map(|node| node as usize)
    }

    /// The first item of a map that failed or was cancelled.
    #[must_use]
    pub fn failed_item(&self, node: usize) -> Option<usize> {
        let letters = &self.maps.get(&(node as u32))?.letters;
        let failed = letters.iter().position(|letter| *letter == FAILED);
        failed.or_else(|| letters.iter().position(|letter| *letter == CANCELLED))
    }

    /// Why a node could not be started.
    #[must_use]
    pub fn error(&self, node: usize) -> Option<&str> {
        self.errors.get(&(node as u32)).map(String::as_str)
    }

    /// Did it succeed, so that it has a result?
    #[must_use]
    pub fn has_result(&self, node: usize) -> bool {
        self.letters[node] == SUCCEEDED
    }

    /// Was a job made for it in its last run? A map has none of its own.
    #[must_use]
    pub fn has_job(&self, node: usize) -> bool {
        self.letters[node] != WAITING && !self.maps.contains_key(&(node as u32)) && self.error(node).is_none()
    }

    /// The items of a map whose list is known, and which of them succeeded.
    #[must_use]
    pub fn items(&self, node: usize) -> Option<Vec<bool>> {
        let items = self.maps.get(&(node as u32))?;
        Some(items.letters.iter().map(|letter| *letter == SUCCEEDED).collect())
    }

    /// Items of a map: in all, ended, failed or cancelled.
    #[must_use]
    pub fn item_counts(&self, node: usize) -> Option<(usize, usize, usize)> {
        let letters = &self.maps.get(&(node as u32))?.letters;
        let ended = letters.iter().filter(|letter| !is_open(**letter)).count();
        let succeeded = letters.iter().filter(|letter| **letter == SUCCEEDED).count();
        Some((letters.len(), ended, ended - succeeded))
    }

    /// `waiting`, `active`, `succeeded`, `failed`, `cancelled` or `skipped`.
    #[must_use]
    pub fn node_state(&self, node: usize) -> &'static str {
        match self.letters[node] {
            WAITING if self.phase == Phase::Running => "waiting",
            WAITING => "skipped",
            ACTIVE => "active",
            SUCCEEDED => "succeeded",
            CANCELLED => "cancelled",
            _ => "failed",
        }
    }

    /// How many nodes stand where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { total: self.letters.len(), ..Counts::default() };
        for node in 0..self.letters.len() {
            match self.node_state(node) {
                "waiting" => counts.waiting += 1,
                "active" => counts.active += 1,
                "succeeded" => counts.succeeded += 1,
                "cancelled" => counts.cancelled += 1,
                "skipped" => counts.skipped += 1,
                _ => counts.failed += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::{BTreeSet, HashMap};

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % bound as u64) as usize
        }
    }

    fn random_graph(random: &mut Random, policies: &[&str]) -> Graph {
        let size = 1 + random.below(30);
        let nodes: serde_json::Map<_, _> = (0..size)
            .map(|at| {
                let needs: BTreeSet<_> =
                    (0..random.below(4)).filter(|_| at > 0).map(|_| random.below(at).to_string()).collect();
                let mut node = json!({
                    "type": "t", "needs": needs, "on_failure": policies[random.below(policies.len())],
                    "compensate": {"type": "u"},
                });
                if random.below(4) == 0 {
                    node["map"] = json!({"over": [], "parallel": 1 + random.below(3)});
                }
                (at.to_string(), node)
            })
            .collect();
        Graph::read(json!({"nodes": nodes}).to_string().as_bytes()).unwrap().0
    }

    /// Runs a workflow as a coordinator would, with failures of one in `fail`; answers the order of the ends.
    fn run(
        random: &mut Random,
        graph: &Graph,
        state: &mut State,
        workflow: &JobId,
        fail: usize,
    ) -> Vec<Start> {
        let (mut started, mut ends, mut lengths) = (HashMap::new(), Vec::new(), HashMap::new());
        loop {
            for start in state.starts(graph, 1 + random.below(5)) {
                if let Start::Node(node) = start {
                    let done = graph.needs[node].iter().all(|need| !is_open(state.letters[*need as usize]));
                    assert!(done, "a node starts after those it needs");
                    if graph.nodes[node].map.is_some() {
                        let length = *lengths.entry(node).or_insert_with(|| random.below(5));
                        state.mapped(graph, node, length);
                        continue;
                    }
                }
                if let Start::Item(node, _) = start {
                    let active =
                        state.active().filter(|one| matches!(one, Start::Item(other, _) if *other == node));
                    assert!(active.count() < graph.nodes[node].map.as_ref().unwrap().parallel as usize);
                }
                assert!(started.insert(state.id(workflow, start), start).is_none(), "each starts once");
                state.started(start);
            }
            // What is written is what is read.
            *state = serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap();
            if state.turn(graph) {
                assert!(state.active().next().is_none());
                return ends;
            }
            let active: Vec<_> = state.active().collect();
            if active.is_empty() {
                continue;
            }
            let one = active[random.below(active.len())];
            let letter = match (state.phase, one) {
                (Phase::Stopping, _) => 'C',
                (_, Start::Undo(_)) => 'S',
                _ if random.below(fail) == 0 => 'F',
                _ => 'S',
            };
            let id = state.id(workflow, one);
            state.ended(graph, workflow, &id, letter);
            ends.push(one);
            let before = state.clone();
            state.ended(graph, workflow, &id, 'S');
            if !matches!(one, Start::Undo(_)) {
                assert_eq!(*state, before, "an end counts once");
            }
        }
    }

    #[test]
    fn every_node_runs_once_and_after_those_it_needs() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let graph = random_graph(&mut random, &["stop", "continue", "compensate"]);
            let workflow = JobId::generate(1, 0).unwrap();
            let mut state = State::new(&graph, 1);
            run(&mut random, &graph, &mut state, &workflow, usize::MAX);
            assert_eq!(state.counts().succeeded, graph.nodes.len(), "seed {seed}");
            assert_eq!(state.cause(), None);
        }
    }

    #[test]
    fn failures_do_what_their_nodes_say_and_a_retry_comes_to_the_end() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let graph = random_graph(&mut random, &["stop", "continue", "compensate"]);
            let workflow = JobId::generate(1, 0).unwrap();
            let mut state = State::new(&graph, 1);
            let ends = run(&mut random, &graph, &mut state, &workflow, 5);
            let place: HashMap<_, _> =
                graph.order.iter().enumerate().map(|(at, node)| (*node as usize, at)).collect();
            let undone: Vec<_> = ends
                .iter()
                .filter_map(|one| if let Start::Undo(node) = one { Some(place[node]) } else { None })
                .collect();
            assert!(
                undone.is_sorted_by(|left, right| left > right),
                "the latest is undone first: {undone:?}"
            );
            if let Some(cause) = state.cause() {
                let policy = graph.nodes[cause].on_failure;
                assert_ne!(policy, OnFailure::Continue);
                let kept = (0..graph.nodes.len()).filter(|node| state.has_result(*node)).count();
                assert_eq!(
                    undone.len(),
                    if policy == OnFailure::Compensate { kept } else { 0 },
                    "seed {seed}"
                );
            } else {
                assert_eq!(state.counts().waiting + state.counts().skipped, 0, "seed {seed}");
            }
            let kept: BTreeSet<_> = (0..graph.nodes.len())
                .filter(|node| state.has_result(*node) && !state.undone.contains_key(&(*node as u32)))
                .collect();
            state.retry(&graph, 2);
            let again = run(&mut random, &graph, &mut state, &workflow, usize::MAX);
            assert_eq!(state.counts().succeeded, graph.nodes.len(), "seed {seed}");
            for one in again {
                if let Start::Node(node) = one {
                    let below =
                        |node: usize| graph.needs[node].iter().any(|need| !kept.contains(&(*need as usize)));
                    assert!(!kept.contains(&node) || below(node) || state.runs[node] == 2, "seed {seed}");
                }
            }
        }
    }
}
