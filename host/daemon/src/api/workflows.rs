//! `/workflows`: graphs of jobs.
//!
//! A workflow is a job of type `waymark.workflow`: `/jobs/{id}` and its controls, events and deletion hold for it, and
//! reach the jobs of its nodes.

use super::{
    Service,
    answer::{Include, Job, Timestamp},
    auth::Actor,
    error::{Code, Problem, Violation},
    jobs::{JobPage, asked, control, key_reused, label_header, limit_reached},
    request::{self, Id, Params, limit, reply},
    submission::{QUEUE_RULE, WebhookRequest, is_label, is_queue},
};
use crate::{
    traces::of_headers,
    worker::{GRAPH_BYTES_MAX, WORKFLOW},
};
use axum::{
    Extension,
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Arc};
use utoipa::{IntoParams, ToSchema};
use waymark_job::{
    Control, JobId, Spec, State as JobState, Webhook,
    workflow::{Counts, Graph, Start, State},
};
use waymark_store::{Filter, NewJob, View};

/// Nodes in an answer unless more are asked for.
const NODES_DEFAULT: usize = 100;
/// Most nodes in one answer.
const NODES_MAX: usize = 1_000;
/// Workflows in a list unless more are asked for.
const LIST_DEFAULT: usize = 50;
/// Most workflows in one list.
const LIST_MAX: usize = 1_000;
/// Ends of nodes read at once.
const ENDS_MAX: u64 = 10_000;
/// Most violations that are told at once.
const VIOLATIONS_MAX: usize = 20;

/// A workflow: its job, and how many of its nodes stand where.
#[derive(Serialize, ToSchema)]
pub(super) struct Workflow<'a> {
    /// The job that coordinates it.
    job: Job<'a>,
    /// Nodes by state: `total`, `waiting`, `active`, `succeeded`, `failed`, `cancelled` and `skipped`.
    #[schema(value_type = Object)]
    counts: Counts,
    /// One page of its nodes, in the order in which they were written.
    nodes: Vec<NodeView<'a>>,
    /// Number of the first node of the next page; `null` on the last one.
    next_node: Option<usize>,
}

/// A node of a workflow.
#[derive(Serialize, ToSchema)]
pub(super) struct NodeView<'a> {
    /// Its name.
    name: &'a str,
    /// Job type.
    #[serde(rename = "type")]
    job_type: &'a str,
    /// The nodes that end before it starts.
    needs: Vec<&'a str>,
    /// `waiting`, `active`, `succeeded`, `failed`, `cancelled` or `skipped`.
    state: &'static str,
    /// Its job, as soon as there is one; a map has one for each item.
    #[schema(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Where its job stands.
    job_status: Option<&'static str>,
    /// Attempts of its job.
    attempt: Option<u32>,
    /// First start of its job.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// End of its job.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Why it failed, or could not be started.
    error: Option<String>,
    /// Items of a map whose list is known.
    items: Option<Items>,
}

/// Items of a map.
#[derive(Serialize, ToSchema)]
pub(super) struct Items {
    /// In all.
    total: usize,
    /// Ended, those counted that failed.
    ended: usize,
    /// Failed or cancelled.
    failed: usize,
}

/// Parameters of `GET /workflows/{id}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Nodes {
    /// Nodes in the answer, 1 to 1,000. Default 100.
    nodes: Option<usize>,
    /// Number of the first one. Default 0.
    from: Option<usize>,
}

/// Parameters of `GET /workflows`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// States, with commas between them.
    status: Option<String>,
    /// A label.
    tag: Option<String>,
    /// Workflows per page, 1 to 1,000. Default 50.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Makes a workflow.
///
/// The body has exactly one of `nodes`, `chain`, `group` and `chord`; `docs/workflows.md` describes them.
#[utoipa::path(
    post, path = "/api/v1/workflows", tag = "workflows", operation_id = "create_workflow",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "A request repeated with the same key within 24 hours answers the first one's workflow instead of making another. 1 to 128 characters."),
        ("X-Correlation-Id" = Option<String>, Header, description = "Taken as `correlation_id` if the body has none."),
    ),
    request_body(content = Object),
    responses(
        (status = 201, description = "The workflow was made.", body = Job, headers(("Location" = String, description = "Path of the workflow."))),
        (status = 200, description = "The workflow stood already for the idempotency key.", body = Job),
        (status = 400, description = "invalid-header"),
        (status = 404, description = "unknown-job"),
        (status = 422, description = "invalid-field, idempotency-key-reused"),
        (status = 429, description = "limit-reached"),
    ),
)]
pub(super) async fn create(
    Shared(service): Shared<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let idempotency_key = label_header(&headers, "idempotency-key")?;
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let violation = |pointer: String, detail: String| Violation { pointer, detail };
    let (graph, mut about) = Graph::read(&text).map_err(|flaws| {
        let errors = flaws.into_iter().map(|flaw| violation(flaw.pointer, flaw.detail)).collect();
        Problem::violations(Code::InvalidField, errors)
    })?;
    drop(text);
    if about.correlation_id.is_none() {
        about.correlation_id = label_header(&headers, "x-correlation-id")?;
    }
    let mut errors = Vec::new();
    if about.priority > waymark_job::record::PRIORITY_MAX {
        errors.push(violation("/priority".into(), "must be 0 to 9".into()));
    }
    let labels = about.tags.iter().chain(&about.correlation_id).chain(&about.name);
    if about.tags.len() > 32 || labels.into_iter().any(|label| !is_label(label)) {
        let rule = "name, tags (at most 32) and correlation_id must be 1 to 128 characters without control characters";
        errors.push(violation(String::new(), rule.into()));
    }
    for (name, node) in graph.names.iter().zip(&graph.nodes) {
        if node.queue.as_deref().is_some_and(|queue| !is_queue(queue)) {
            errors.push(violation(format!("/nodes/{name}/queue"), QUEUE_RULE.into()));
        }
    }
    let webhook = match about.webhook.take().map(serde_json::from_value::<WebhookRequest>).transpose() {
        Ok(webhook) => webhook,
        Err(error) => {
            errors.push(violation("/webhook".into(), error.to_string()));
            None
        }
    };
    let endpoints = &service.store.options().webhooks;
    if let Some((field, detail)) = webhook.as_ref().and_then(|webhook| webhook.fault(endpoints)) {
        errors.push(violation(format!("/{field}"), detail.into()));
    }
    let mut known: HashMap<&str, bool> = HashMap::new();
    for (at, job_type, input) in graph.tasks() {
        if errors.len() >= VIOLATIONS_MAX {
            break;
        }
        // An unknown type is told once.
        if known.get(job_type) == Some(&false) || (input.is_none() && known.contains_key(job_type)) {
            continue;
        }
        let found = service.check_task(job_type, input).await?;
        known.insert(job_type, input.is_some() || found.is_empty());
        errors.extend(found.into_iter().map(|detail| violation(at.clone(), detail)));
    }
    if !errors.is_empty() {
        return Err(Problem::violations(Code::InvalidField, errors));
    }
    let packed = serde_json::to_vec(&graph)
        .map_err(|error| Problem::internal(format_args!("a graph cannot be written: {error}")))?;
    let now_ms = service.store.now_ms().await?;
    let partition = match &idempotency_key {
        Some(key) => service.store.partition_of_key(key),
        None => service.store.any_partition(now_ms),
    };
    let id = JobId::generate(now_ms, partition)
        .map_err(|error| Problem::internal(format_args!("no randomness: {error}")))?;
    let input = json!({
        "name": about.name, "nodes": graph.nodes.len(), "graph": hex::encode(Sha256::digest(&packed)),
    });
    let spec = Spec {
        job_type: WORKFLOW.to_owned(),
        priority: about.priority,
        input: input.to_string(),
        metadata: about.metadata.map(|metadata| serde_json::Value::Object(metadata).to_string()),
        tags: about.tags,
        correlation_id: about.correlation_id,
        trace: of_headers(&headers),
        webhooks: webhook.map(Webhook::from).into_iter().collect(),
        ..Spec::default()
    };
    // Without its job the graph is forgotten.
    service.store.put_graph(&id, &packed).await?;
    let job = NewJob { id: Some(id), spec: spec.clone(), idempotency_key, ..NewJob::default() };
    let created = service.store.create(vec![job]).await?;
    if created.first().is_some_and(|created| created.refused) {
        return Err(limit_reached(WORKFLOW));
    }
    let id = created.first().map_or(id, |created| created.id);
    service.store.keep_graph(&id).await?;
    let view = service.view(&id).await?;
    let stood = created.first().is_some_and(|created| created.existing);
    if stood && asked(&spec) != asked(&view.spec) {
        return Err(key_reused(&id));
    }
    let status = if stood { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = reply(status, &Job::new(&view, Include::ALL));
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/workflows/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Lists workflows, newest first.
#[utoipa::path(
    get, path = "/api/v1/workflows", tag = "workflows", operation_id = "list_workflows", params(List),
    responses((status = 200, description = "One page.", body = JobPage)),
)]
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    Params(query): Params<List>,
) -> Result<Response, Problem> {
    let limit = limit(query.limit, LIST_DEFAULT, LIST_MAX)?;
    let filter = Filter {
        states: super::filter::states(query.status.as_deref())?,
        job_type: Some(WORKFLOW.to_owned()),
        tag: query.tag,
        ..Filter::default()
    };
    let page = service.store.list(&filter, limit, query.cursor.as_deref()).await?;
    let include = Include { input: true, result: false };
    Ok(reply(StatusCode::OK, &JobPage::new(&page, include)))
}

/// The job and the graph of a workflow.
pub(crate) async fn load(service: &Service, id: &JobId) -> Result<(View, Graph), Problem> {
    let view = service.view(id).await?;
    let unknown = || Problem::new(Code::UnknownJob, format!("The job {id} is no workflow."));
    if view.spec.job_type != WORKFLOW {
        return Err(unknown());
    }
    let text = service.store.graph(id, GRAPH_BYTES_MAX).await?.ok_or_else(unknown)?;
    let graph = serde_json::from_slice(&text).map_err(|error| {
        Problem::internal(format_args!("the graph of workflow {id} cannot be read: {error}"))
    })?;
    Ok((view, graph))
}

/// How far the workflow is, with what came after the last commit of its coordinator.
pub(crate) async fn progress(service: &Service, view: &View, graph: &Graph) -> Result<State, Problem> {
    let id = &view.id;
    let checkpoint = service.store.checkpoints(id).await?.into_iter().next();
    let state = checkpoint.and_then(|checkpoint| serde_json::from_slice::<State>(&checkpoint.state).ok());
    let mut state = state.unwrap_or_else(|| State::new(graph, view.record.run));
    loop {
        let ends = service.store.ends(id, state.seen, ENDS_MAX).await?;
        state.seen += ends.len() as u64;
        ends.iter().for_each(|(letter, child)| state.ended(graph, id, child, *letter));
        if (ends.len() as u64) < ENDS_MAX {
            break;
        }
    }
    if view.state.is_ended() {
        state.close();
    }
    Ok(state)
}

/// Shows a workflow and a page of its nodes.
#[utoipa::path(
    get, path = "/api/v1/workflows/{id}", tag = "workflows", operation_id = "show_workflow",
    params(("id" = String, Path, description = "The workflow's id."), Nodes),
    responses(
        (status = 200, description = "The workflow.", body = Workflow),
        (status = 404, description = "unknown-job"),
        (status = 502, description = "key-missing"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(page): Params<Nodes>,
) -> Result<Response, Problem> {
    let most = limit(page.nodes, NODES_DEFAULT, NODES_MAX)?;
    let (view, graph) = load(&service, &id).await?;
    let state = progress(&service, &view, &graph).await?;
    let from = page.from.unwrap_or(0).min(graph.nodes.len());
    let to = (from + most).min(graph.nodes.len());
    let ids: Vec<_> =
        (from..to).filter(|node| state.has_job(*node)).map(|node| state.id(&id, Start::Node(node))).collect();
    let jobs = service.store.views(id.partition(), &ids).await?;
    let jobs: HashMap<_, _> = jobs.iter().map(|job| (job.id, job)).collect();
    let found = (from..to).map(|at| {
        let job_id = state.has_job(at).then(|| state.id(&id, Start::Node(at)));
        let job = job_id.and_then(|id| jobs.get(&id).copied());
        let failure = || Some(job?.record.error.as_ref()?.message.clone());
        (at, job_id, job, state.error(at).map(str::to_owned).or_else(failure))
    });
    let nodes = found
        .map(|(at, job_id, job, error)| NodeView {
            name: &graph.names[at],
            job_type: &graph.nodes[at].job_type,
            needs: graph.needs[at].iter().map(|other| graph.names[*other as usize].as_str()).collect(),
            state: state.node_state(at),
            job_id,
            job_status: job.map(|job| job.state.name()),
            attempt: job.map(|job| job.record.attempt + u32::from(job.state != JobState::Failed)),
            started_at: job.and_then(|job| job.record.started_ms).map(Timestamp),
            ended_at: job.and_then(|job| job.record.ended_ms).map(Timestamp),
            error,
            items: state.item_counts(at).map(|(total, ended, failed)| Items { total, ended, failed }),
        })
        .collect();
    let answer = Workflow {
        job: Job::new(&view, Include::ALL),
        counts: state.counts(),
        nodes,
        next_node: (to < graph.nodes.len()).then_some(to),
    };
    Ok(reply(StatusCode::OK, &answer))
}

/// Runs an ended workflow again, as its next run: what succeeded is kept, the rest runs again.
#[utoipa::path(
    post, path = "/api/v1/workflows/{id}/retry", tag = "workflows", operation_id = "retry_workflow",
    params(("id" = String, Path, description = "The workflow's id.")),
    responses(
        (status = 202, description = "Queued again.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
        (status = 502, description = "key-missing"),
    ),
)]
pub(super) async fn retry(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
) -> Result<Response, Problem> {
    run_again(&service, id, &actor.name).await
}

/// The same, as `who` asks.
///
/// # Errors
/// `unknown-job`, `wrong-state`, or the store does not answer.
pub(crate) async fn run_again(service: &Service, id: JobId, who: &str) -> Result<Response, Problem> {
    let (view, _) = load(service, &id).await?;
    if !view.state.is_ended() {
        let detail = format!("The workflow is {}: only one that has ended is run again.", view.state.name());
        return Err(Problem::new(Code::WrongState, detail).met(view.state));
    }
    // Nodes that are still being cancelled would count as active.
    service.store.spread(id.partition()).await?;
    let newest = service.store.checkpoints(&id).await?.first().map(|checkpoint| checkpoint.step);
    control(service, id, Control::Restart, newest, who).await
}
