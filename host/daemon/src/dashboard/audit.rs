//! `/audit`: every change that somebody asked for, newest first.

use super::{
    format,
    page::{Fresh, Page, Section},
    part::{self, Fields},
    viewer::Viewer,
};
use crate::api::{
    Problem, Service,
    audit::{Listed, Which},
};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use std::sync::Arc;

/// Entries of a page.
const LIMIT: usize = 100;

fn row(now_ms: u64, Listed { at, entry }: &Listed) -> Markup {
    html! {
        tr {
            td.num { (format::ago(now_ms, at.0)) }
            td { (entry.actor) " " span.note { (entry.by) } }
            td { code { (entry.method) " " (entry.path) } @if let Some(why) = &entry.why { div { (why) } } @if let Some(body) = &entry.body { div.hint { (body.to_string()) } } }
            td.num { (entry.status) @if let Some(code) = &entry.code { " " span.note { (code) } } }
            td.wide { @if let Some(from) = &entry.from { (from) } @else { span.none { "–" } } }
        }
    }
}

/// `GET /audit`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Fields(mut which): Fields<Which>,
) -> Result<Response, Problem> {
    which.limit = Some(LIMIT);
    let log = service.audit(&which).await?;
    let now_ms = service.store.now_ms().await?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (actor, about) = (text(&which.actor), text(&which.about));
    let first = part::query([("actor", actor.as_str()), ("about", about.as_str())]);
    let next = log.next_cursor.as_deref().map(|cursor| {
        part::query([("actor", actor.as_str()), ("about", about.as_str()), ("cursor", cursor)])
    });
    let body = html! {
        div.head { h1 { "Audit" } }
        form.filter method="get" action="/audit" role="search" aria-label="Filter" {
            div.fields {
                label { span { "Who" } input type="text" name="actor" value=(actor) autocomplete="off" spellcheck="false"; }
                label { span { "Part of the path, such as a job's id" } input type="text" name="about" value=(about) autocomplete="off" spellcheck="false"; }
                div.buttons { button.primary type="submit" { "Filter" } @if !first.is_empty() { a.button href="/audit" { "Clear" } } }
            }
        }
        div #audit data-live {
            @if log.entries.is_empty() { (part::empty("No entries", html! { p { "Every change that somebody asks for is written here. New jobs are in the list of jobs." } })) }
            @else {
                div.scroll role="region" aria-label="Audit log" tabindex="0" {
                    table {
                        thead { tr { th.num scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } th.num scope="col" { "Answer" } th.wide scope="col" { "From" } } }
                        tbody { @for listed in &log.entries { (row(now_ms, listed)) } }
                    }
                }
            }
        }
        (part::pager("/audit", &first, which.cursor.is_none(), next))
    };
    Ok(Page { section: Section::Audit, title: "Audit", fresh: Fresh::Polled, body }.answer(&viewer))
}
