//! `waymark.workflow`: coordinates the jobs of a graph.
//!
//! Its state says where every node stands ([`State`]); a step takes in the ends of nodes that came since, and starts
//! what can be started. In between the job waits without a slot and wakes with the next end. Ids of nodes' jobs follow
//! from the state, so that a step that is repeated after a crash names the same jobs and none is started twice.

use super::{Context, Native};
use crate::worker::run::{Effects, Next};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use waymark_job::{
    Control, JobId, Progress, Spec,
    workflow::{Graph, ITEMS_MAX, Node, Phase, Scope, Start, State, Task, references, resolve},
};
use waymark_sandbox::Fault;
use waymark_store::{NewJob, NodeResult, Then};

/// The job type.
pub(crate) const NAME: &str = "waymark.workflow";

/// Longest graph as stored, bytes: a checked graph is a few times longer than the body that it came in.
pub(crate) const GRAPH_BYTES_MAX: usize = 256 << 20;
/// Jobs started or cancelled in one step. Bounds the time of its commit.
const STARTS_MAX: usize = 25;
/// Inputs of the jobs started in one step, bytes; one more may go beyond.
const INPUTS_BYTES_MAX: usize = 1 << 20;
/// Ends of nodes taken in with one call.
const ENDS_MAX: u64 = 1_000;
/// Results that one step reads, bytes. A result may have 1 MiB, and an input may speak of 10,000.
const RESULTS_BYTES_MAX: usize = 64 << 20;
/// Graphs that a worker keeps at hand; a graph never changes.
const GRAPHS_MAX: usize = 16;

/// A graph, and its nodes by name.
pub(in crate::worker) struct Known {
    graph: Graph,
    index: HashMap<String, usize>,
}

/// Graphs of workflows that this worker coordinated last.
#[derive(Default)]
pub(in crate::worker) struct Graphs(Mutex<VecDeque<(JobId, Arc<Known>)>>);

impl Graphs {
    fn get(&self, id: &JobId) -> Option<Arc<Known>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(other, _)| other == id).map(|(_, graph)| graph.clone())
    }

    fn put(&self, id: JobId, graph: Arc<Known>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(GRAPHS_MAX - 1);
        known.push_front((id, graph));
    }
}

pub(super) struct Workflow {
    /// None before the first step.
    state: Option<State>,
    effects: Effects,
    bytes: usize,
}

impl Native for Workflow {
    fn begin(_: &Context<'_>, state: Option<&[u8]>) -> Result<Self, Fault> {
        let state = state
            .map(serde_json::from_slice)
            .transpose()
            .map_err(|error| Fault::Host(format!("the state of the workflow cannot be read: {error}")))?;
        Ok(Self { state, effects: Effects::default(), bytes: 0 })
    }

    async fn step(&mut self, context: &Context<'_>) -> Result<Next, Fault> {
        let known = graph(context, self.state.is_none()).await?;
        let run = context.record.run;
        let mut state = self.state.take().unwrap_or_else(|| State::new(&known.graph, run));
        let next = self.advance(context, &known, &mut state).await;
        self.state = Some(state);
        next
    }

    fn checkpoint(&self) -> Vec<u8> {
        // A state is numbers and texts: it can always be written.
        self.state.as_ref().and_then(|state| serde_json::to_vec(state).ok()).unwrap_or_default()
    }

    fn take_effects(&mut self) -> Effects {
        self.bytes = 0;
        std::mem::take(&mut self.effects)
    }
}

impl Workflow {
    async fn advance(
        &mut self,
        context: &Context<'_>,
        known: &Known,
        state: &mut State,
    ) -> Result<Next, Fault> {
        let graph = &known.graph;
        let again = state.run != context.record.run;
        if state.phase == Phase::Done && !again {
            return outcome(context, known, state).await;
        }
        loop {
            let ends =
                context.patiently(|| context.shared.store.ends(&context.id, state.seen, ENDS_MAX)).await?;
            state.seen += ends.len() as u64;
            for (letter, child) in &ends {
                state.ended(graph, &context.id, child, *letter);
            }
            // A run that goes on from an earlier one first hears all that it missed.
            if !again || (ends.len() as u64) < ENDS_MAX {
                break;
            }
        }
        if again {
            state.retry(graph, context.record.run);
        }
        let mut reader = Reader { context, known, results: HashMap::new(), bytes: 0 };
        let mut budget = STARTS_MAX;
        let next = loop {
            if state.turn(graph) {
                self.end(&mut reader, state).await?;
                break Next::Progressed(Progress::default());
            }
            if state.phase == Phase::Stopping {
                let active: Vec<_> = state.active().take(STARTS_MAX).collect();
                for start in active {
                    let id = state.id(&context.id, start);
                    context.patiently(|| context.shared.store.control(&id, Control::Cancel, None)).await?;
                }
                break Next::Progressed(Progress::default());
            }
            let starts = state.starts(graph, budget);
            if starts.is_empty() {
                break Next::Leave(Then::AwaitChild { seen: state.seen });
            }
            for start in starts {
                budget -= 1;
                match self.start(&mut reader, state, start).await? {
                    Ok(()) => {}
                    Err(why) => state.cannot_start(graph, start, why),
                }
                if self.bytes > INPUTS_BYTES_MAX {
                    budget = 0;
                }
                // What cannot be started may stop the rest.
                if budget == 0 || state.phase == Phase::Stopping {
                    break;
                }
            }
            if budget == 0 {
                break Next::Progressed(Progress::default());
            }
        };
        let counts = state.counts();
        let ended = counts.total - counts.waiting - counts.active;
        let progress = Progress { current: ended as u64, total: Some(counts.total as u64), message: None };
        self.effects.progress = Some(progress);
        Ok(next)
    }

    /// Starts a job, or says why it cannot be started.
    async fn start(
        &mut self,
        reader: &mut Reader<'_>,
        state: &mut State,
        start: Start,
    ) -> Result<Result<(), String>, Fault> {
        let (known, context) = (reader.known, reader.context);
        let (Start::Node(at) | Start::Item(at, _) | Start::Undo(at)) = start;
        let (node, name) = (&known.graph.nodes[at], &known.graph.names[at]);
        let mut items = Vec::new();
        if let Some(map) = node.map.as_ref().filter(|_| !matches!(start, Start::Undo(_))) {
            let list = match reader.fill(state, &map.over, None).await? {
                Ok(Value::Array(list)) if list.len() <= ITEMS_MAX => list,
                Ok(Value::Array(list)) => {
                    return Ok(Err(format!(
                        "the list has {} items; at most {ITEMS_MAX} are taken",
                        list.len()
                    )));
                }
                Ok(_) => return Ok(Err("what it maps over is not a list".to_owned())),
                Err(why) => return Ok(Err(why)),
            };
            if matches!(start, Start::Node(_)) {
                state.mapped(&known.graph, at, list.len());
                return Ok(Ok(()));
            }
            items = list;
        }
        let (job_type, input) = match start {
            Start::Node(_) => (&node.job_type, reader.fill_or_null(state, node.input.as_ref()).await?),
            Start::Item(_, number) => {
                let Some(item) = items.get(number) else {
                    return Ok(Err("the list that it maps over has become shorter".to_owned()));
                };
                let input = match &node.input {
                    Some(template) => reader.fill(state, template, Some((number, item))).await?,
                    None => Ok(item.clone()),
                };
                (&node.job_type, input)
            }
            Start::Undo(_) => {
                let Some(task) = &node.compensate else { return Ok(Ok(())) };
                let own = json!({"$from": name});
                (&task.job_type, reader.fill(state, task.input.as_ref().unwrap_or(&own), None).await?)
            }
        };
        let input = match input {
            Ok(input) => input.to_string(),
            Err(why) => return Ok(Err(why)),
        };
        let bytes_max = context.shared.config.api.input_bytes_max;
        if input.len() > bytes_max {
            return Ok(Err(format!("its input has {} bytes; at most {bytes_max} are accepted", input.len())));
        }
        let mut metadata = json!({"workflow": context.id, "node": name});
        if let Start::Item(_, number) = start {
            metadata["index"] = number.into();
        }
        let mut spec = part(context, job_type, input, &metadata);
        if !matches!(start, Start::Undo(_)) {
            settings(&mut spec, node);
        }
        self.spawn(state.id(&context.id, start), spec);
        state.started(start);
        Ok(Ok(()))
    }

    fn spawn(&mut self, id: JobId, spec: Spec) {
        self.bytes += spec.input.len();
        self.effects.children.push(NewJob { id: Some(id), spec, ..NewJob::default() });
    }

    /// Starts the job that runs at the end; nobody waits for it.
    async fn end(&mut self, reader: &mut Reader<'_>, state: &State) -> Result<(), Fault> {
        let (graph, context) = (&reader.known.graph, reader.context);
        let succeeded = state.cause().is_none();
        let task = if succeeded { &graph.on_success } else { &graph.on_failure };
        let Some(Task { job_type, input }) = task else { return Ok(()) };
        let input = match input {
            Some(template) => reader.fill(state, template, None).await?,
            None => {
                let status = if succeeded { "succeeded" } else { "failed" };
                let error = if succeeded { None } else { Some(why(context, reader.known, state).await?) };
                Ok(json!({"workflow": context.id, "status": status, "error": error, "nodes": state.counts()}))
            }
        };
        match input {
            Ok(input) => {
                let metadata = json!({"workflow": context.id, "end": true});
                let spec = part(context, job_type, input.to_string(), &metadata);
                self.spawn(state.end_id(&context.id), spec);
            }
            Err(why) => {
                tracing::warn!(job_id = %context.id, why, "the job at the end of a workflow was not started");
            }
        }
        Ok(())
    }
}

/// A job of the workflow without the settings of its node.
fn part(context: &Context<'_>, job_type: &str, input: String, metadata: &Value) -> Spec {
    Spec {
        job_type: job_type.to_owned(),
        input,
        priority: context.spec.priority,
        metadata: Some(metadata.to_string()),
        correlation_id: context.spec.correlation_id.clone(),
        parent: Some(context.id),
        trace: context.trace.clone(),
        ..Spec::default()
    }
}

fn settings(spec: &mut Spec, node: &Node) {
    spec.queue = node.queue.clone().filter(|queue| *queue != node.job_type).unwrap_or_default();
    spec.priority = node.priority.unwrap_or(spec.priority);
    spec.max_attempts = node.max_attempts;
    spec.soft_limit_ms = node.soft_limit_ms;
    spec.hard_limit_ms = node.hard_limit_ms;
}

async fn graph(context: &Context<'_>, first: bool) -> Result<Arc<Known>, Fault> {
    let store = &context.shared.store;
    if first {
        context.patiently(|| store.keep_graph(&context.id)).await?;
    }
    if let Some(known) = context.shared.graphs.get(&context.id) {
        return Ok(known);
    }
    let text = context.patiently(|| store.graph(&context.id, GRAPH_BYTES_MAX)).await?;
    let lost = |message: String| Fault::Trap { kind: "graph-lost", message, trace: None };
    let text = text.ok_or_else(|| lost("the graph of the workflow is not kept any more".into()))?;
    let graph: Graph = serde_json::from_slice(&text)
        .map_err(|error| lost(format!("the graph of the workflow cannot be read: {error}")))?;
    let index = graph.names.iter().cloned().zip(0..).collect();
    let known = Arc::new(Known { graph, index });
    context.shared.graphs.put(context.id, known.clone());
    Ok(known)
}

/// What the workflow ends with.
async fn outcome(context: &Context<'_>, known: &Known, state: &State) -> Result<Next, Fault> {
    let failed = |message: String| Fault::Trap { kind: "node-failed", message, trace: None };
    if state.cause().is_some() {
        return Err(failed(why(context, known, state).await?));
    }
    let mut reader = Reader { context, known, results: HashMap::new(), bytes: 0 };
    let result = match &known.graph.result {
        Some(template) => reader.fill(state, template, None).await?,
        None => Ok(json!({"nodes": state.counts()})),
    };
    let bytes_max = context.shared.config.policy(NAME).result_bytes_max;
    match result.map(|result| result.to_string()) {
        Ok(result) if result.len() as u64 <= bytes_max => Ok(Next::Completed(result)),
        Ok(result) => Err(Fault::Trap {
            kind: "oversized",
            message: format!("the result has {} bytes; at most {bytes_max} are kept", result.len()),
            trace: None,
        }),
        Err(why) => Err(failed(format!("the result of the workflow: {why}"))),
    }
}

/// Why the workflow failed, in one sentence.
async fn why(context: &Context<'_>, known: &Known, state: &State) -> Result<String, Fault> {
    let Some(node) = state.cause() else { return Ok(String::new()) };
    let name = &known.graph.names[node];
    let start = state.failed_item(node).map_or(Start::Node(node), |item| Start::Item(node, item));
    let what = match start {
        Start::Item(_, item) => format!("item {item} of node {name:?}"),
        Start::Node(_) | Start::Undo(_) => format!("node {name:?}"),
    };
    if let Some(error) = state.error(node) {
        return Ok(format!("{what} could not be started: {error}"));
    }
    let id = state.id(&context.id, start);
    let job = context.patiently(|| context.shared.store.get(&id)).await?;
    Ok(match job.map(|job| (job.state, job.record.error)) {
        None => format!("{what}: its job {id} was deleted"),
        Some((_, Some(error))) => format!("{what} failed: {}", error.message),
        Some((state, None)) => format!("{what} ended as {}", state.name()),
    })
}

/// Reads results for the templates of one step.
struct Reader<'a> {
    context: &'a Context<'a>,
    known: &'a Known,
    results: HashMap<usize, Result<Option<Value>, String>>,
    bytes: usize,
}

struct Filling<'a> {
    reader: &'a Reader<'a>,
    item: Option<(usize, &'a Value)>,
}

impl Scope for Filling<'_> {
    fn result(&self, node: &str) -> Option<&Value> {
        let node = self.reader.known.index.get(node)?;
        self.reader.results.get(node)?.as_ref().ok()?.as_ref()
    }

    fn item(&self) -> Option<(usize, &Value)> {
        self.item
    }
}

impl Reader<'_> {
    async fn fill_or_null(
        &mut self,
        state: &State,
        template: Option<&Value>,
    ) -> Result<Result<Value, String>, Fault> {
        match template {
            Some(template) => self.fill(state, template, None).await,
            None => Ok(Ok(Value::Null)),
        }
    }

    /// The template with the results that it speaks of, or what is wrong.
    async fn fill(
        &mut self,
        state: &State,
        template: &Value,
        item: Option<(usize, &Value)>,
    ) -> Result<Result<Value, String>, Fault> {
        let wanted: Vec<usize> = match references(template) {
            Ok((found, _)) => {
                let names = found.iter().flat_map(|reference| &reference.nodes);
                names.filter_map(|name| self.known.index.get(*name).copied()).collect()
            }
            Err(why) => return Ok(Err(why)),
        };
        self.read(state, &wanted).await?;
        for node in wanted {
            if let Some(Err(why)) = self.results.get(&node) {
                return Ok(Err(why.clone()));
            }
        }
        Ok(resolve(template, &Filling { reader: self, item }))
    }

    /// Reads the results of these nodes, unless they are here.
    async fn read(&mut self, state: &State, nodes: &[usize]) -> Result<(), Fault> {
        let (mut owners, mut ids) = (Vec::new(), Vec::new());
        for node in nodes.iter().copied() {
            if self.results.contains_key(&node) {
                continue;
            }
            if !state.has_result(node) {
                self.results.insert(node, Ok(None));
                continue;
            }
            match state.items(node) {
                None => {
                    owners.push(node);
                    ids.push(state.id(&self.context.id, Start::Node(node)));
                }
                Some(items) => {
                    self.results.insert(node, Ok(Some(Value::Array(vec![Value::Null; items.len()]))));
                    for item in
                        items.iter().enumerate().filter(|(_, succeeded)| **succeeded).map(|(item, _)| item)
                    {
                        owners.push(node);
                        ids.push(state.id(&self.context.id, Start::Item(node, item)));
                    }
                }
            }
        }
        for (owners, ids) in owners.chunks(ENDS_MAX as usize).zip(ids.chunks(ENDS_MAX as usize)) {
            let found = self.context.patiently(|| self.context.shared.store.results(ids)).await?;
            for ((node, id), result) in owners.iter().zip(ids).zip(found) {
                let name = &self.known.graph.names[*node];
                let value = match result {
                    NodeResult::Gone => Err(format!("the job {id} of node {name:?} was deleted")),
                    NodeResult::Is(text) => {
                        self.bytes += text.len();
                        if self.bytes > RESULTS_BYTES_MAX {
                            Err(format!(
                                "the results that it speaks of have more than {RESULTS_BYTES_MAX} bytes"
                            ))
                        } else {
                            serde_json::from_str::<Value>(&text).map_err(|error| {
                                format!("the result of node {name:?} cannot be read: {error}")
                            })
                        }
                    }
                };
                let (_, item) = id.part_of();
                match (value, self.results.get_mut(node)) {
                    (Ok(value), Some(Ok(Some(Value::Array(list))))) if state.items(*node).is_some() => {
                        if let Some(place) = list.get_mut(item as usize) {
                            *place = value;
                        }
                    }
                    (Ok(value), None) => drop(self.results.insert(*node, Ok(Some(value)))),
                    (Ok(_), Some(_)) => {}
                    (Err(why), _) => drop(self.results.insert(*node, Err(why))),
                }
            }
        }
        Ok(())
    }
}
