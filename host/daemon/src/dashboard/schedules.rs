//! `/schedules` and `/schedules/{name}`: next times, history, and the switches.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part::{self, Fields, Look},
    viewer::{Form, Viewer},
};
use crate::api::{Problem, Service, request::Name, schedules as api};
use axum::{
    extract::{Path, State as Shared},
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use waymark_job::schedule::{Schedule, Timing, Work};
use waymark_store::{Fired, StoredSchedule};

/// Schedules of a page.
const LIMIT: usize = 100;
/// Planned times that are shown.
const UPCOMING: usize = 10;

/// Parameters of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    cursor: Option<String>,
}

fn timing(schedule: &Schedule) -> Markup {
    match &schedule.timing {
        Timing::Cron(pattern) => {
            html! { code { (pattern) } @if schedule.timezone != "UTC" { " " span.note { (schedule.timezone) } } }
        }
        Timing::Every { every_ms, .. } => html! { "every " (format::span(*every_ms)) },
        Timing::At(at_ms) => html! { "once, " (format::time(*at_ms)) },
    }
}

fn work(schedule: &Schedule) -> Markup {
    match &schedule.work {
        Work::Job(spec) => html! { (spec.job_type) },
        Work::Action(action) => html! { span.note { (action.name()) } },
    }
}

const fn status(stored: &StoredSchedule) -> &'static str {
    let state = &stored.state;
    match (state.paused, state.next_ms.is_some() || state.waiting_ms.is_some()) {
        (true, _) => "paused",
        (false, true) => "active",
        (false, false) => "ended",
    }
}

fn controls(viewer: &Viewer, stored: &StoredSchedule) -> Markup {
    if !viewer.may_operate() {
        return html! {};
    }
    let at = |verb: &str| format!("/schedules/{}/{verb}", part::segment(&stored.schedule.name));
    html! {
        @if stored.state.paused { (part::button(viewer, &at("resume"), "Resume", Look::Plain, None)) }
        @else { (part::button(viewer, &at("pause"), "Pause", Look::Plain, None)) }
        (part::button(viewer, &at("run"), "Run now", Look::Plain, None))
    }
}

fn link(stored: &StoredSchedule) -> Markup {
    let name = &stored.schedule.name;
    html! { a href=(format!("/schedules/{}", part::segment(name))) { (name) } }
}

fn next(now_ms: u64, stored: &StoredSchedule) -> Markup {
    match stored.state.next_ms.filter(|_| !stored.state.paused) {
        Some(at_ms) => format::ago(now_ms, at_ms),
        None => html! { span.none { "–" } },
    }
}

/// `GET /schedules`
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Fields(asked): Fields<Asked>,
) -> Result<Response, Problem> {
    let found = service.store.schedules(asked.cursor.as_deref(), LIMIT).await?;
    let now_ms = service.store.now_ms().await?;
    let more = found.last().filter(|_| found.len() == LIMIT);
    let more = more.map(|last| part::query([("cursor", last.schedule.name.as_str())]));
    let body = html! {
        div.head { h1 { "Schedules" } }
        div #schedules data-live {
            div.scroll role="region" aria-label="Schedules" tabindex="0" {
                table {
                    thead { tr { th scope="col" { "Schedule" } th scope="col" { "State" } th scope="col" { "When" } th.wide scope="col" { "Makes" }
                        th.num scope="col" { "Next" } th.num.wide scope="col" { "Last" } th.num.wide scope="col" { "Fired" } th.num.wide scope="col" { "Missed" } th scope="col" { span.hidden { "Actions" } } } }
                    tbody {
                        @for stored in &found {
                            tr {
                                td { (link(stored)) @if let Some(error) = &stored.state.error { span.error title=(error) { (error) } } }
                                td { (part::badge(status(stored))) }
                                td { (timing(&stored.schedule)) }
                                td.wide { (work(&stored.schedule)) }
                                td.num { (next(now_ms, stored)) }
                                td.num.wide { @if let Some(at_ms) = stored.state.last_ms { (format::ago(now_ms, at_ms)) } @else { span.none { "–" } } }
                                td.num.wide { (format::number(stored.state.fired)) }
                                td.num.wide { (format::number(stored.state.missed)) }
                                td.act { (controls(&viewer, stored)) }
                            }
                        }
                    }
                }
            }
        }
        (part::pager("/schedules", "", asked.cursor.is_none(), more))
        p.hint { "Make one: " code { "waymark schedule put NAME TYPE INPUT --cron '30 2 * * *'" } ". Those named " code { "waymark." } "… are the host's own." }
    };
    Ok(Page { section: Section::Schedules, title: "Schedules", fresh: Fresh::Polled, body }.answer(&viewer))
}

fn history(fired: &[Fired]) -> Markup {
    html! {
        @if fired.is_empty() { p.hint { "It has not fired yet." } }
        @else {
            div.scroll role="region" aria-label="History" tabindex="0" {
                table {
                    thead { tr { th scope="col" { "Planned" } th scope="col" { "What became of it" } } }
                    tbody {
                        @for one in fired {
                            tr {
                                td { (format::time(one.planned_ms)) }
                                td {
                                    @if let Some(job) = &one.job { "job " (part::job_link(job)) }
                                    @if let Some(note) = &one.note { (note) }
                                    @if let Some(times) = one.times { " " span.note { (format::number(times)) " times" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `GET /schedules/{name}`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Name(name): Name,
) -> Result<Response, Problem> {
    let stored = service.schedule(&name).await?;
    let fired = service.store.schedule_history(&name).await?;
    let now_ms = service.store.now_ms().await?;
    let StoredSchedule { schedule, state } = &stored;
    let upcoming = api::upcoming(&stored, now_ms, UPCOMING);
    let body = html! {
        div.head {
            div { p.crumbs { a href="/schedules" { "Schedules" } } h1 { (schedule.name) } }
            div #controls .buttons data-live { (controls(&viewer, &stored)) }
        }
        section.card aria-label="Definition" {
            div #standing data-live {
                p.standing { (part::badge(status(&stored))) }
                dl.facts {
                    div { dt { "When" } dd { (timing(schedule)) } }
                    div { dt { "Time zone" } dd { (schedule.timezone) } }
                    div { dt { "Makes" } dd { (work(schedule)) } }
                    div { dt { "Overlap" } dd { (schedule.overlap.name()) } }
                    div { dt { "Catch up" } dd { (schedule.catch_up.name()) } }
                    div { dt { "Next" } dd { (next(now_ms, &stored)) } }
                    div { dt { "Fired" } dd.num { (format::number(state.fired)) } }
                    div { dt { "Missed" } dd.num { (format::number(state.missed)) } }
                    @if let Some(job) = &state.job { div { dt { "Last job" } dd { (part::job_link(job)) } } }
                    @if let Some(did) = &state.did { div { dt { "Did last" } dd { (did) } } }
                }
                @if let Some(error) = &state.error { p.error { (error) } }
            }
        }
        div.columns {
            section.card aria-labelledby="next-title" {
                h2 #next-title { "Next times" }
                div #next data-live {
                    @if upcoming.is_empty() { p.hint { "None." } }
                    @else { ol.lines { @for at_ms in &upcoming { li { (format::time(*at_ms)) " " span.hint { (format::ago(now_ms, *at_ms)) } } } } }
                }
            }
            section.card aria-labelledby="history-title" { h2 #history-title { "History" } div #history data-live { (history(&fired)) } }
        }
        @if let Work::Job(spec) = &schedule.work {
            section.card aria-labelledby="input-title" { h2 #input-title { "Input" } (part::text_block("input", "Input", &service.shown_input(spec))) }
        }
    };
    Ok(Page { section: Section::Schedules, title: &schedule.name, fresh: Fresh::Polled, body }
        .answer(&viewer))
}

/// `POST /schedules/{name}/{action}`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    Path((name, action)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    let back = format!("/schedules/{}", part::segment(&name));
    match action.as_str() {
        "pause" => api::pause(Shared(service), Name(name)).await?,
        "resume" => api::resume(Shared(service), Name(name)).await?,
        "run" => api::run(Shared(service), Name(name)).await?,
        _ => return Err(part::no_action(&action)),
    };
    Ok(see(form.back(&back)))
}
