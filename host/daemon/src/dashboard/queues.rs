//! `/queues`: depth, age, limits, and the switch of each.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part::{self, Look},
    viewer::{Form, Viewer},
};
use crate::api::{Problem, Service, queues as api, request::Name};
use axum::{
    extract::{Path, State as Shared},
    response::Response,
};
use maud::{Markup, html};
use std::sync::Arc;
use waymark_job::flow::{Limits, Rate, WhenFull};
use waymark_store::Queue;

/// Queues on the page, the deepest first.
const SHOWN_MAX: usize = 500;

fn rate(rate: &Rate) -> String {
    let each = format!("{} / {}", rate.count, format::span(rate.per_ms.get()));
    match rate.burst {
        Some(burst) => format!("{each}, bursts of {burst}"),
        None => each,
    }
}

fn limits(limits: &Limits) -> Markup {
    let mut words = Vec::new();
    words.extend(limits.concurrency.map(|most| format!("{most} at once")));
    words.extend(limits.rate.as_ref().map(rate));
    words.extend(limits.per_key.concurrency.map(|most| format!("{most} at once per key")));
    words.extend(limits.per_key.rate.as_ref().map(|of| format!("{} per key", rate(of))));
    words.extend(match limits.when_full {
        WhenFull::Wait => None,
        WhenFull::Reject => Some("refuses when full".to_owned()),
        WhenFull::Replace => Some("replaces when full".to_owned()),
        WhenFull::CancelRunning => Some("cancels running when full".to_owned()),
    });
    html! { (words.join("; ")) }
}

fn controls(viewer: &Viewer, queue: &Queue) -> Markup {
    if !viewer.may_operate() {
        return html! {};
    }
    let at = |verb: &str| format!("/queues/{}/{verb}", part::segment(&queue.name));
    html! {
        @if queue.paused { (part::button(viewer, &at("resume"), "Resume", Look::Plain, None)) }
        @else { (part::button(viewer, &at("pause"), "Pause", Look::Plain, None)) }
        @if queue.depth > 0 {
            (part::button(viewer, &at("purge"), "Purge", Look::Danger, Some("Cancel every job that is queued in this queue?")))
        }
    }
}

/// `GET /queues`
pub(super) async fn page(Shared(service): Shared<Arc<Service>>, viewer: Viewer) -> Result<Response, Problem> {
    let store = &service.store;
    let mut queues = store.queues().await?;
    let rules = store.all_limits().await?;
    let now_ms = store.now_ms().await?;
    for name in rules
        .keys()
        .filter(|name| !queues.iter().any(|queue| queue.name == **name))
        .cloned()
        .collect::<Vec<_>>()
    {
        queues.push(Queue { name, ..Queue::default() });
    }
    queues.sort_by(|left, right| right.depth.cmp(&left.depth).then_with(|| left.name.cmp(&right.name)));
    let all = queues.len();
    queues.truncate(SHOWN_MAX);
    let body = html! {
        div.head { h1 { "Queues" } }
        div #queues data-live {
            @if queues.is_empty() {
                (part::empty("No queues yet", html! { p { "A queue is there as soon as a job was submitted to it. A job type's own queue bears its name." } }))
            } @else {
                div.scroll role="region" aria-label="Queues" tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "Queue" } th scope="col" { "State" } th.num scope="col" { "Queued" } th.num scope="col" { "Oldest" }
                            th.wide scope="col" { "Limits" } th scope="col" { span.hidden { "Actions" } } } }
                        tbody {
                            @for queue in &queues {
                                tr {
                                    td { a href=(format!("/jobs?{}", part::query([("queue", queue.name.as_str())]))) { (queue.name) } }
                                    td { (part::badge(if queue.paused { "paused" } else { "active" })) }
                                    td.num { (format::number(queue.depth)) }
                                    td.num { @if let Some(at_ms) = queue.oldest_ms { (format::coarse(now_ms.saturating_sub(at_ms))) } @else { span.none { "–" } } }
                                    td.wide { @if let Some(rules) = rules.get(&queue.name) { (limits(rules)) } @else { span.none { "none" } } }
                                    td.act { (controls(&viewer, queue)) }
                                }
                            }
                        }
                    }
                }
                @if all > SHOWN_MAX { p.hint { "The deepest " (SHOWN_MAX) " of " (format::number(all as u64)) " queues." } }
            }
        }
        p.hint { "Set limits: " code { "waymark queue limit QUEUE --concurrency 10" } }
    };
    Ok(Page { section: Section::Queues, title: "Queues", fresh: Fresh::Polled, body }.answer(&viewer))
}

/// `POST /queues/{queue}/{action}`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    Path((queue, action)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    match action.as_str() {
        "pause" => api::pause(Shared(service), Name(queue)).await?,
        "resume" => api::resume(Shared(service), Name(queue)).await?,
        "purge" => api::purge(Shared(service), Name(queue)).await?,
        _ => return Err(part::no_action(&action)),
    };
    Ok(see(form.back("/queues")))
}
