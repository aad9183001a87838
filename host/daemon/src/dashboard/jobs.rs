//! `/jobs`: one page of the jobs that a filter takes, newest first. The filter is the query of the page, with the names
//! of the API; a link to it is a saved view.

use super::{
    format,
    page::{Fresh, Page, Section},
    part,
    viewer::Viewer,
};
use crate::api::{Problem, Service, filter::Filtered};
use axum::{
    extract::{RawQuery, State as Shared},
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};
use waymark_job::{State, record::PRIORITY_MAX};
use waymark_store::{Filter, View};

/// Jobs of a page.
const LIMIT: usize = 50;
/// Text fields of the filter: name, label, what it looks like.
pub(super) const FIELDS: [(&str, &str, &str); 9] = [
    ("type", "Type", ""),
    ("queue", "Queue", ""),
    ("tag", "Tag", ""),
    ("correlation_id", "Correlation id", ""),
    ("error_kind", "Error kind", "guest-trap"),
    ("created_since", "Created since", "2026-01-31T18:00:00Z"),
    ("created_until", "Created until", "2026-01-31T18:00:00Z"),
    ("ended_since", "Ended since", "2026-01-31T18:00:00Z"),
    ("ended_until", "Ended until", "2026-01-31T18:00:00Z"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    cursor: Option<String>,
}

/// The query of a page, with what was left empty taken away.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pairs: Vec<(String, String)>,
}

impl Asked {
    /// Several boxes of one name count as one field.
    pub(super) fn read(query: &str) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match pairs.iter_mut().find(|(known, _)| *known == name && known == "status") {
                Some((_, known)) => *known = format!("{known},{value}"),
                None => pairs.push((name.into_owned(), value.to_owned())),
            }
        }
        Self { pairs }
    }

    /// Where changes of these jobs are told, and of some others: a job that leaves a state must be told too.
    fn changes(&self) -> String {
        let known = ["type", "queue", "tag", "correlation_id"].map(|name| (name, self.get(name)));
        match part::query(known) {
            query if query.is_empty() => "/api/v1/events".to_owned(),
            query => format!("/api/v1/events?{query}"),
        }
    }

    fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// Without where it begins.
    pub(super) fn filter_query(&self) -> String {
        let pairs = self.pairs.iter().filter(|(name, _)| name != "cursor");
        part::query(pairs.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The filter, and where the page begins.
    pub(super) fn filter(&self) -> Result<(Filter, Option<String>), Problem> {
        let query = part::query(self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let Filtered(filter, step) = Filtered::<Step>::read(&query)?;
        Ok((filter, step.cursor))
    }
}

fn filter_form(asked: &Asked, types: &[String]) -> Markup {
    let chosen: BTreeSet<&str> = asked.get("status").split(',').filter(|name| !name.is_empty()).collect();
    let more = FIELDS[2..].iter().any(|(name, ..)| !asked.get(name).is_empty());
    let field = |(name, label, like): (&str, &str, &str)| {
        html! {
            label { span { (label) }
                input type="text" name=(name) value=(asked.get(name)) placeholder=[Some(like).filter(|like| !like.is_empty())]
                    list=[(name == "type").then_some("types")] autocomplete="off" spellcheck="false";
            }
        }
    };
    html! {
        form #filter .filter method="get" action="/jobs" role="search" aria-label="Filter" {
            fieldset.states {
                legend.hidden { "States" }
                @for state in State::ALL {
                    label.choice {
                        input type="checkbox" name="status" value=(state.name()) checked[chosen.contains(state.name())];
                        (part::badge(state.name()))
                    }
                }
            }
            div.fields {
                @for one in &FIELDS[..2] { (field(*one)) }
                datalist #types { @for one in types { option value=(one) {} } }
                details open[more] {
                    summary { "More" }
                    div.fields { @for one in &FIELDS[2..] { (field(*one)) } }
                }
                div.buttons {
                    button.primary type="submit" { "Filter" }
                    @if !asked.pairs.is_empty() { a.button href="/jobs" { "Clear" } }
                }
            }
        }
    }
}

fn bulk_form(viewer: &Viewer, asked: &Asked, filter: &Filter) -> Markup {
    if !viewer.may_operate() {
        return html! {};
    }
    if *filter == Filter::default() {
        return html! { p.hint { "Filter first to control many jobs at once." } };
    }
    html! {
        form.bulk method="post" action="/jobs/bulk" aria-label="Control all jobs of this filter" {
            input type="hidden" name="query" value=(asked.filter_query());
            label { span { "All jobs of this filter" }
                select name="action" {
                    @for action in ["pause", "resume", "retry", "restart", "cancel", "delete", "move", "priority"] {
                        option value=(action) { (action) }
                    }
                }
            }
            label { span { "to" small { " (move: a queue; priority: 0 to " (PRIORITY_MAX) ")" } }
                input type="text" name="to" autocomplete="off" spellcheck="false"; }
            button type="submit" { "Count first…" }
        }
    }
}

/// Rows of jobs. Also for pages that show a few jobs of something else.
pub(super) fn table(now_ms: u64, jobs: &[View], label: &str) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" {
            table.jobs {
                thead { tr {
                    th scope="col" { "State" } th scope="col" { "Job" } th scope="col" { "Type" } th.wide scope="col" { "Queue" }
                    th scope="col" { "Progress" } th.wide.num scope="col" { "Attempt" } th.num scope="col" { "Created" }
                    th.wide.num scope="col" { "Ran" } th.wide scope="col" { "About" }
                } }
                tbody {
                    @for view in jobs {
                        tr {
                            td { (part::state(view)) }
                            td { (part::job_link(&view.id)) }
                            td { (view.spec.job_type) }
                            td.wide { @if view.spec.queue() == view.spec.job_type { span.none { "own" } } @else { (view.spec.queue()) } @if view.spec.priority > 0 { " " span.note { "priority " (view.spec.priority) } } }
                            td { (part::progress(view)) }
                            td.wide.num { @if view.record.run > 1 { span.note { "run " (view.record.run) " · " } } (attempt(view)) }
                            td.num { (format::ago(now_ms, view.id.created_ms())) }
                            td.wide.num { (ran(now_ms, view)) }
                            td.wide.about { (about(view)) }
                        }
                    }
                }
            }
        }
    }
}

fn attempt(view: &View) -> u32 {
    let record = &view.record;
    if record.started_ms.is_none() && view.state != State::Running {
        return 0;
    }
    if view.state == State::Failed { record.attempt.max(1) } else { record.attempt + 1 }
}

/// From the first start of this run to its end, or until now.
pub(super) fn ran(now_ms: u64, view: &View) -> Markup {
    let record = &view.record;
    let Some(started_ms) = record.started_ms else { return html! { span.none { "–" } } };
    let end_ms = if view.state.is_ended() { record.ended_ms.unwrap_or(now_ms) } else { now_ms };
    html! { (format::span(end_ms.saturating_sub(started_ms))) }
}

fn about(view: &View) -> Markup {
    html! {
        @if let Some(error) = &view.record.error { span.error title=(error.message) { (error.kind) ": " (error.message) } }
        @else { @for tag in view.spec.tags.iter().take(4) { a.tag href=(format!("/jobs?{}", part::query([("tag", tag.as_str())]))) { (tag) } } }
    }
}

/// `GET /jobs`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(&query.unwrap_or_default());
    let (filter, cursor) = asked.filter()?;
    let store = &service.store;
    let page = store.list(&filter, LIMIT, cursor.as_deref()).await?;
    let now_ms = store.now_ms().await?;
    let types: Vec<_> = store.types().await?.into_iter().map(|(name, _)| name).collect();
    let first = asked.filter_query();
    let next = page.cursor.as_deref().map(|cursor| {
        let cursor = part::query([("cursor", cursor)]);
        if first.is_empty() { cursor } else { format!("{first}&{cursor}") }
    });
    let body = html! {
        div.head { h1 { "Jobs" } }
        (filter_form(&asked, &types))
        div #jobs data-live {
            @if page.jobs.is_empty() {
                @if cursor.is_some() { (part::empty("No more jobs", html! { p { "This was the end of the list." } })) }
                @else if filter == Filter::default() {
                    (part::empty("No jobs yet", html! { p { "Submit one: " code { "waymark job submit waymark.echo --input '{\"hello\":\"world\"}'" } } }))
                }
                @else { (part::empty("No job fits this filter", html! { p { "Take something away from it, or " a href="/jobs" { "look at all jobs" } "." } })) }
            } @else { (table(now_ms, &page.jobs, "Jobs")) }
        }
        (part::pager("/jobs", &first, cursor.is_none(), next))
        (bulk_form(&viewer, &asked, &filter))
    };
    Ok(Page { section: Section::Jobs, title: "Jobs", fresh: Fresh::Live(asked.changes()), body }
        .answer(&viewer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_of_one_name_are_one_field_and_empty_fields_are_none() {
        let asked = Asked::read("status=failed&status=queued&type=&queue=+night+&cursor=x");
        assert_eq!(asked.filter_query(), "status=failed%2Cqueued&queue=night");
        let (filter, cursor) = asked.filter().unwrap();
        assert_eq!(
            (filter.states.len(), filter.queue.as_deref(), cursor.as_deref()),
            (2, Some("night"), Some("x"))
        );
        assert!(Asked::read("colour=red").filter().is_err());
        assert_eq!(asked.changes(), "/api/v1/events?queue=night");
        assert_eq!(Asked::read("status=failed").changes(), "/api/v1/events");
    }
}
