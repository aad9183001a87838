//! `/workflows` and `/workflows/{id}`: the graph with its live states.

use super::{
    format, graph,
    page::{Fresh, Page, Section},
    part::{self, Fields, Look},
    viewer::Viewer,
};
use crate::{
    api::{Problem, Service, request::Id, workflows as api},
    worker::WORKFLOW,
};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use waymark_job::{
    State as JobState,
    workflow::{Counts, Graph, Start, State},
};
use waymark_store::{Filter, View};

/// Workflows of a page.
const LIMIT: usize = 50;
/// Nodes that are drawn; a larger graph is a list of its first nodes.
const DRAWN_MAX: usize = 400;

/// Parameters of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    cursor: Option<String>,
}

/// What a workflow's input says of it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct About {
    name: Option<String>,
    nodes: u64,
}

fn about(view: &View) -> About {
    serde_json::from_str(&view.spec.input).unwrap_or_default()
}

/// `GET /workflows`
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Fields(asked): Fields<Asked>,
) -> Result<Response, Problem> {
    let filter = Filter { job_type: Some(WORKFLOW.to_owned()), ..Filter::default() };
    let page = service.store.list(&filter, LIMIT, asked.cursor.as_deref()).await?;
    let now_ms = service.store.now_ms().await?;
    let next = page.cursor.as_deref().map(|cursor| part::query([("cursor", cursor)]));
    let body = html! {
        div.head { h1 { "Workflows" } }
        div #workflows data-live {
            @if page.jobs.is_empty() {
                (part::empty("No workflows", html! { p { "A workflow is a graph of jobs. Submit one: " code { "waymark workflow submit FILE" } } }))
            } @else {
                div.scroll role="region" aria-label="Workflows" tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "State" } th scope="col" { "Workflow" } th scope="col" { "Name" } th.num scope="col" { "Nodes" }
                            th scope="col" { "Progress" } th.num scope="col" { "Created" } th.num.wide scope="col" { "Ran" } } }
                        tbody {
                            @for view in &page.jobs {
                                @let about = about(view);
                                tr {
                                    td { (part::state(view)) }
                                    td { a.id href=(format!("/workflows/{}", view.id)) title=(view.id) { (part::short_id(&view.id)) } }
                                    td { @if let Some(name) = &about.name { (name) } @else { span.none { "–" } } }
                                    td.num { (format::number(about.nodes)) }
                                    td { (part::progress(view)) }
                                    td.num { (format::ago(now_ms, view.id.created_ms())) }
                                    td.num.wide { (super::jobs::ran(now_ms, view)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        (part::pager("/workflows", "", asked.cursor.is_none(), next))
    };
    Ok(Page { section: Section::Workflows, title: "Workflows", fresh: Fresh::Polled, body }.answer(&viewer))
}

fn counts(counts: &Counts) -> Markup {
    let all = [
        ("waiting", counts.waiting),
        ("active", counts.active),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("skipped", counts.skipped),
    ];
    html! {
        ul.counts {
            @for (name, count) in all.into_iter().filter(|(_, count)| *count > 0) { li { (part::badge(name)) span.num { (format::number(count as u64)) } } }
        }
    }
}

struct Drawn<'a> {
    view: &'a View,
    graph: &'a Graph,
    state: &'a State,
    jobs: HashMap<waymark_job::JobId, View>,
}

impl Drawn<'_> {
    fn below(&self, at: usize) -> String {
        self.items(at).unwrap_or_else(|| self.graph.nodes[at].job_type.clone())
    }

    /// How far a node is that has a job for each item of a list.
    fn items(&self, at: usize) -> Option<String> {
        let (total, ended, _) = self.state.item_counts(at)?;
        Some(format!("{} of {} items", format::number(ended as u64), format::number(total as u64)))
    }

    fn job(&self, at: usize) -> Option<&View> {
        self.state
            .has_job(at)
            .then(|| self.state.id(&self.view.id, Start::Node(at)))
            .and_then(|id| self.jobs.get(&id))
    }

    fn svg(&self) -> Markup {
        let node = |at: usize| graph::Node {
            name: &self.graph.names[at],
            below: self.below(at),
            state: self.state.node_state(at),
            link: self.job(at).map(|job| format!("/jobs/{}", job.id)),
            needs: &self.graph.needs[at],
        };
        let nodes: Vec<_> = (0..self.graph.nodes.len()).map(node).collect();
        html! { div.scroll.drawing role="region" aria-label="Drawing" tabindex="0" { (graph::draw(&nodes, &self.graph.order)) } }
    }

    fn table(&self) -> Markup {
        html! {
            div.scroll role="region" aria-label="Nodes" tabindex="0" {
                table {
                    thead { tr { th scope="col" { "State" } th scope="col" { "Node" } th scope="col" { "Type" } th.wide scope="col" { "Needs" }
                        th scope="col" { "Job" } th.wide scope="col" { "About" } } }
                    tbody {
                        @for at in 0..self.graph.nodes.len().min(DRAWN_MAX) {
                            @let job = self.job(at);
                            @let error = self.state.error(at).map(str::to_owned).or_else(|| Some(job?.record.error.as_ref()?.message.clone()));
                            tr {
                                td { (part::badge(self.state.node_state(at))) }
                                td { (self.graph.names[at]) }
                                td { (self.graph.nodes[at].job_type) }
                                td.wide { @for other in self.graph.needs[at].iter().take(6) { (self.graph.names[*other as usize]) " " }
                                    @if self.graph.needs[at].len() > 6 { "and " (self.graph.needs[at].len() - 6) " more" } }
                                td { @if let Some(job) = job { (part::job_link(&job.id)) } @else { span.none { "–" } } }
                                td.wide.about { @if let Some(error) = error { span.error title=(error) { (error) } } @else if let Some(items) = self.items(at) { (items) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `GET /workflows/{id}`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Problem> {
    let (view, graph) = api::load(&service, &id).await?;
    let state = api::progress(&service, &view, &graph).await?;
    let shown = graph.nodes.len().min(DRAWN_MAX);
    let ids: Vec<_> =
        (0..shown).filter(|at| state.has_job(*at)).map(|at| state.id(&id, Start::Node(at))).collect();
    let jobs = service.store.views(id.partition(), &ids).await?;
    let drawn = Drawn {
        view: &view,
        graph: &graph,
        state: &state,
        jobs: jobs.into_iter().map(|job| (job.id, job)).collect(),
    };
    let (about, whole) = (about(&view), state.counts());
    let name = about.name.as_deref().unwrap_or("Workflow");
    let body = html! {
        div.head {
            div { p.crumbs { a href="/workflows" { "Workflows" } " / " (part::job_link(&id)) } h1 { (name) } }
            div #controls .buttons data-live {
                @if viewer.may_operate() {
                    @let at = |verb: &str| format!("/jobs/{id}/{verb}");
                    @if view.state == JobState::Paused { (part::button(&viewer, &at("resume"), "Resume", Look::Plain, None)) }
                    @else if !view.state.is_ended() { (part::button(&viewer, &at("pause"), "Pause", Look::Plain, None)) }
                    @if view.state.is_ended() { @if whole.succeeded < whole.total { (part::button(&viewer, &format!("/workflows/{id}/retry"), "Retry what did not succeed", Look::Plain, None)) } }
                    @else { (part::button(&viewer, &at("cancel"), "Cancel", Look::Danger, Some("Cancel this workflow with all its jobs?"))) }
                }
            }
        }
        div #standing .card data-live { p.standing { (part::state(&view)) (part::progress(&view)) } (counts(&whole)) }
        section.card aria-labelledby="graph-title" {
            h2 #graph-title { "Graph" }
            div #graph data-live {
                @if graph.nodes.len() > DRAWN_MAX { p.hint { "A graph of " (format::number(graph.nodes.len() as u64)) " nodes is not drawn." } }
                @else { (drawn.svg()) }
            }
        }
        section.card aria-labelledby="nodes-title" {
            h2 #nodes-title { "Nodes" }
            @if graph.nodes.len() > DRAWN_MAX { p.hint { "The first " (DRAWN_MAX) " of " (format::number(graph.nodes.len() as u64)) "." } }
            div #nodes data-live { (drawn.table()) }
        }
    };
    let fresh = if view.state.is_ended() { Fresh::Never } else { Fresh::Polled };
    Ok(Page { section: Section::Workflows, title: name, fresh, body }.answer(&viewer))
}

/// `POST /workflows/{id}/retry`
pub(super) async fn retry(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Id(id): Id,
    _: super::viewer::Form,
) -> Result<Response, Problem> {
    api::run_again(&service, id, viewer.actor_name()).await?;
    Ok(super::page::see(&format!("/workflows/{id}")))
}
