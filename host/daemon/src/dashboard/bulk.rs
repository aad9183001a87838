//! `POST /jobs/bulk`: one control for all jobs of a filter. It is counted first, then confirmed, then done a bounded
//! piece per request.

use super::{
    format,
    jobs::Asked,
    page::{Fresh, Page, Section, see},
    viewer::{Form, Viewer},
};
use crate::api::{
    Problem, Service,
    bulk::{Action, STEP_MAX},
    request::invalid_query,
};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use waymark_store::Filter;

/// Longest time that one request goes on, so that it stays below the API's time limit.
const AT_ONCE: Duration = Duration::from_secs(3);

/// How far it is.
#[derive(Clone, Copy, Default)]
struct Done {
    matched: u64,
    done: u64,
}

fn hidden(form: &Form, names: &[&str]) -> Markup {
    html! {
        @for name in names { @if let Some(value) = form.get(name) { input type="hidden" name=(name) value=(value); } }
    }
}

fn number(form: &Form, name: &str) -> u64 {
    form.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Counts the jobs of a filter; answers whether there are more than were counted.
async fn count(service: &Service, filter: &Filter) -> Result<(u64, bool), Problem> {
    let began = Instant::now();
    let (mut counted, mut cursor) = (0, None);
    loop {
        let page = service.store.list(filter, STEP_MAX, cursor.as_deref()).await?;
        counted += page.jobs.len() as u64;
        cursor = page.cursor;
        if cursor.is_none() || began.elapsed() > AT_ONCE {
            return Ok((counted, cursor.is_some()));
        }
    }
}

fn confirm(form: &Form, words: &str, counted: u64, more: bool, back: &str) -> Markup {
    let jobs = if counted == 1 { "job" } else { "jobs" };
    html! {
        section.message {
            h1 { "Do this to " (format::number(counted)) @if more { " or more" } " " (jobs) "?" }
            p { strong { (words) } ", for every job that this filter takes:" }
            p { code { (form.get("query").unwrap_or_default()) } }
            p.hint { "Jobs in whose state this does not fit stay as they are. Jobs that come to fit the filter meanwhile are included." }
            @if counted == 0 { p { "No job fits now; there is nothing to do." } }
            div.buttons {
                @if counted > 0 {
                    form.inline method="post" action="/jobs/bulk" {
                        (hidden(form, &["query", "action", "to"]))
                        input type="hidden" name="confirmed" value="yes";
                        button.danger type="submit" { (words) }
                    }
                }
                a.button href=(back) { "Back" }
            }
        }
    }
}

/// `POST /jobs/bulk`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    form: Form,
) -> Result<Response, Problem> {
    let asked = Asked::read(form.get("query").unwrap_or_default());
    let (filter, _) = asked.filter()?;
    if filter == Filter::default() {
        return Err(invalid_query(
            "name at least one part of the filter: all jobs at once would be a dangerous default",
        ));
    }
    let name = form.get("action").unwrap_or_default();
    let to = form.get("to").filter(|_| matches!(name, "move" | "priority"));
    let action = Action::read(name, to.map(str::to_owned))?;
    let back = format!("/jobs?{}", asked.filter_query());
    let words = match to {
        Some(to) => format!("{name} to {to}"),
        None => name.to_owned(),
    };
    let answer = |title: &str, body| {
        Ok(Page { section: Section::Jobs, title, fresh: Fresh::Never, body }.answer(&viewer))
    };
    if form.get("confirmed").is_none() {
        let (counted, more) = count(&service, &filter).await?;
        return answer("Confirm", confirm(&form, &words, counted, more, &back));
    }
    let began = Instant::now();
    let mut so_far = Done { matched: number(&form, "matched"), done: number(&form, "done") };
    let mut cursor = form.get("cursor").map(str::to_owned);
    loop {
        let page = service.store.list(&filter, STEP_MAX, cursor.as_deref()).await?;
        so_far.matched += page.jobs.len() as u64;
        so_far.done += action.apply(&service.store, &page.jobs, viewer.actor_name()).await? as u64;
        cursor = page.cursor;
        if cursor.is_none() || began.elapsed() > AT_ONCE {
            break;
        }
    }
    tracing::info!(action = name, matched = so_far.matched, done = so_far.done, "bulk control");
    if so_far.matched == 0 {
        return Ok(see(&back));
    }
    let kept = so_far.matched - so_far.done.min(so_far.matched);
    let body = html! {
        section.message {
            h1 { @if cursor.is_some() { "Not done yet" } @else { "Done" } }
            p { strong { (words) } ": " (format::number(so_far.done)) " of " (format::number(so_far.matched)) " jobs did as asked"
                @if kept > 0 { "; in the state of the other " (format::number(kept)) " it does not fit" } "." }
            div.buttons {
                @if let Some(cursor) = &cursor {
                    form.inline method="post" action="/jobs/bulk" data-auto {
                        (hidden(&form, &["query", "action", "to", "confirmed"]))
                        input type="hidden" name="cursor" value=(cursor);
                        input type="hidden" name="matched" value=(so_far.matched);
                        input type="hidden" name="done" value=(so_far.done);
                        button.primary type="submit" { "Go on" }
                    }
                }
                a.button href=(back) { "Back to the jobs" }
            }
        }
    };
    answer(if cursor.is_some() { "Not done yet" } else { "Done" }, body)
}
