//! `/jobs/{id}`: all that is known of a job, and what can be done to it.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part, timeline,
    viewer::{Form, Viewer},
};
use crate::{
    api::{
        Code, Problem, Service, events, jobs as api_jobs,
        output::mask_lines,
        replay as api_replay,
        request::{Id, Params, shorten},
    },
    worker::WORKFLOW,
};
use axum::{
    body::Body,
    extract::{Path, State as Shared},
    http::{HeaderMap, header},
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};
use waymark_job::{Control, JobId, State};
use waymark_store::{Checkpoint, Error, View};

/// Newest output records and log lines on the page.
const OUTPUTS: u64 = 50;
/// See [`OUTPUTS`]; a job keeps no more than a thousand lines.
const LOG_LINES: u64 = 200;

/// A stored log line, for reading only.
#[derive(Deserialize)]
struct Line {
    at: u64,
    level: String,
    message: String,
    #[serde(default)]
    fields: Option<Box<RawValue>>,
}

/// What was read; or nothing, and why, where it lies in a storage that is away.
fn unless_away<T: Default>(read: Result<T, Error>) -> Result<(T, Option<Error>), Problem> {
    match read {
        Ok(found) => Ok((found, None)),
        Err(error @ Error::Storage(_)) => Ok((T::default(), Some(error))),
        Err(error) => Err(error.into()),
    }
}

/// Units of work per second, from the kept checkpoints of this run, else from the whole run.
fn rate(view: &View, checkpoints: &[Checkpoint]) -> Option<f64> {
    let record = &view.record;
    let now = (record.committed_ms?, record.progress.as_ref()?.current);
    let of_run = checkpoints.iter().filter(|one| one.run == record.run);
    let points = of_run.filter_map(|one| Some((one.created_ms, one.progress.as_ref()?.current)));
    let first = points.min().filter(|first| first.0 < now.0).or_else(|| Some((record.started_ms?, 0)))?;
    let (passed_ms, done) = (now.0.checked_sub(first.0)?, now.1.checked_sub(first.1)?);
    (passed_ms > 0 && done > 0).then(|| done as f64 * 1_000.0 / passed_ms as f64)
}

fn progress(view: &View, checkpoints: &[Checkpoint]) -> Markup {
    let Some(progress) = &view.record.progress else {
        return html! { p.hint { "It has not told any progress." } };
    };
    let rate = rate(view, checkpoints).filter(|_| !view.state.is_ended());
    let left = progress.total.and_then(|total| total.checked_sub(progress.current));
    html! {
        div.big { (part::progress(view)) }
        dl.facts {
            div { dt { "Done" } dd.num { (format::number(progress.current)) @if let Some(total) = progress.total { " of " (format::number(total)) } } }
            @if let Some(rate) = rate { div { dt { "Rate" } dd.num { (format::short(rate)) " / s" } } }
            @if let (Some(rate), Some(left), State::Running) = (rate, left, view.state) {
                div { dt { "Estimated end" } dd.num { "in " (format::span((left as f64 / rate * 1_000.0) as u64)) } }
            }
        }
        @if let Some(message) = &progress.message { p.says { (message) } }
    }
}

fn facts(view: &View, now_ms: u64) -> Markup {
    let (spec, record) = (&view.spec, &view.record);
    let jobs_with = |name: &str, value: &str| format!("/jobs?{}", part::query([(name, value)]));
    html! {
        dl.facts {
            div { dt { "Type" } dd { a href=(jobs_with("type", &spec.job_type)) { (spec.job_type) } } }
            div { dt { "Queue" } dd { a href=(jobs_with("queue", spec.queue())) { (spec.queue()) } } }
            div { dt { "Priority" } dd.num { (spec.priority) } }
            div { dt { "Run" } dd.num { (record.run) } }
            div { dt { "Failed attempts" } dd.num { (record.attempt) @if let Some(most) = spec.max_attempts { " of " (most) } } }
            div { dt { "Steps" } dd.num { (format::number(record.step)) } }
            div { dt { "Created" } dd { (format::ago(now_ms, view.id.created_ms())) } }
            div { dt { "Ran" } dd.num { (super::jobs::ran(now_ms, view)) } }
            @if let Some(host) = &record.host { div { dt { "Worker" } dd { code { (host) } } } }
            @if let Some(routed) = &record.route { div { dt { "Route" } dd { a href=(format!("/routes/{}", part::segment(&spec.job_type))) { (routed.arm) } } } }
            @if let Some(of) = &spec.shadow { div { dt { "Copy of" } dd { (part::job_link(&of.job)) } } }
            @if let Some(version) = &record.version { div { dt { "Plugin" } dd { (version) } } }
            @if let Some(id) = &spec.correlation_id { div { dt { "Correlation id" } dd { a href=(jobs_with("correlation_id", id)) { (id) } } } }
            @if let Some(key) = &spec.unique_key { div { dt { "Unique key" } dd { code { (key) } } } }
            @if let Some(key) = &spec.key { div { dt { "Flow key" } dd { code { (waymark_job::flow::decode_key(key)) } } } }
            @if let Some(parent) = &spec.parent { div { dt { "Parent" } dd { (part::job_link(parent)) } } }
            @if let Some(old) = &spec.replay_of { div { dt { "Replay of" } dd { (part::job_link(old)) } } }
            @if !record.replays.is_empty() { div { dt { "Replays" } dd { @for id in &record.replays { (part::job_link(id)) " " } } } }
            @if !record.children.is_empty() {
                div { dt { "Children" } dd { @for id in record.children.iter().take(10) { (part::job_link(id)) " " }
                    @if record.children.len() > 10 { "and " (record.children.len() - 10) " more" } } }
            }
            @if !spec.tags.is_empty() { div { dt { "Tags" } dd { @for tag in &spec.tags { a.tag href=(jobs_with("tag", tag)) { (tag) } } } } }
        }
    }
}

fn failure(view: &View) -> Markup {
    let Some(error) = &view.record.error else { return html! {} };
    let title = if view.state == State::Failed { "Error" } else { "Error of the last attempt" };
    html! {
        section.card.failure {
            h2 { (title) }
            p { code.kind { (error.kind) } " " (error.message) }
            @if let Some(trace) = &error.trace {
                details open { summary { "Back-trace" } pre tabindex="0" aria-label="Back-trace" { code { (trace) } } }
            }
        }
    }
}

fn checkpoint_list(viewer: &Viewer, view: &View, checkpoints: &[Checkpoint], now_ms: u64) -> Markup {
    let path = format!("/jobs/{}/checkpoints", view.id);
    let restores = viewer.may_operate() && (view.state.is_ended() || view.state == State::Paused);
    html! {
        @if checkpoints.is_empty() { p.hint { "None is kept: it ended within its first steps, has not committed yet, or they have expired." } }
        @else {
            div.scroll role="region" aria-label="Checkpoints" tabindex="0" {
                table {
                    thead { tr { th.num scope="col" { "Step" } th.num.wide scope="col" { "Run" } th.num scope="col" { "Progress" } th.num scope="col" { "Size" }
                        th.wide scope="col" { "Plugin" } th.num scope="col" { "Written" } th scope="col" { span.hidden { "Actions" } } } }
                    tbody {
                        @for one in checkpoints {
                            tr {
                                td.num { a href=(format!("{path}?a={}", one.step)) { (format::number(one.step)) } }
                                td.num.wide { (one.run) }
                                td.num { (one.progress.as_ref().map_or_else(|| "–".to_owned(), |progress| format::number(progress.current))) }
                                td.num { (format::bytes(one.bytes)) }
                                td.wide { (one.plugin_version) }
                                td.num { (format::ago(now_ms, one.created_ms)) }
                                td.act {
                                    @if restores {
                                        form.inline method="post" action=(format!("/jobs/{}/restart", view.id)) data-ask=(format!("Run this job again from step {}?", one.step)) {
                                            input type="hidden" name="from" value=(one.step);
                                            button type="submit" aria-label=(format!("Restore step {}", one.step)) { "Restore" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            @if checkpoints.len() > 1 { p { a href=(format!("{path}?a={}&b={}", checkpoints[1].step, checkpoints[0].step)) { "Compare two of them" } } }
            @if !restores && viewer.may_operate() { p.hint { "Pause the job to restore one." } }
        }
    }
}

/// Quoted for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The command that submits a job like this one.
fn curl(viewer: &Viewer, view: &View) -> Result<String, Problem> {
    let fields = api_replay::submitted(&view.spec).map_err(Problem::internal)?;
    let body: BTreeMap<_, _> =
        fields.into_iter().filter(|(_, value)| !matches!(value.get(), "null" | "[]" | "0")).collect();
    let body = serde_json::to_string(&body).map_err(Problem::internal)?;
    Ok(format!(
        "curl -X POST {} -H 'content-type: application/json' -d {}",
        quoted(&format!("{}/api/v1/jobs", viewer.origin)),
        quoted(&body)
    ))
}

fn log_line(line: &Line) -> Markup {
    html! {
        li class=(line.level) {
            time datetime=(crate::api::answer::Timestamp(line.at)) { (&format::clock(line.at)[11..]) }
            span.level { (line.level) }
            span.text { (line.message) @if let Some(fields) = &line.fields { " " span.hint { (fields.get()) } } }
        }
    }
}

/// `GET /jobs/{id}`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Problem> {
    let (view, mask) = service.masked(&id).await?;
    let store = &service.store;
    let now_ms = store.now_ms().await?;
    let checkpoints = store.checkpoints(&id).await?;
    let total = view.record.outputs;
    let first_output = total.saturating_sub(OUTPUTS);
    // The page is worth having without what lies in a storage that is away.
    let (outputs, no_outputs) = unless_away(store.outputs(&id, first_output, OUTPUTS).await)?;
    let outputs: Vec<_> = outputs.iter().map(|record| mask.json(record)).collect();
    let (mut all, no_logs) = unless_away(store.logs(&id, 0, 1_000).await)?;
    mask_lines(&mask, &mut all.lines);
    let told = all.first + all.lines.len() as u64;
    let skipped = all.lines.len().saturating_sub(LOG_LINES as usize);
    let lines: Vec<Line> =
        all.lines[skipped..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let before = all.first + skipped as u64;
    let command = curl(&viewer, &view)?;
    let last_seen = events::position(&view, told, if no_outputs.is_some() { first_output } else { total });
    let body = html! {
        div.head {
            div {
                p.crumbs { a href="/jobs" { "Jobs" } " / " (view.spec.job_type) }
                h1.id { (view.id) }
            }
            div #controls .buttons data-live { (part::controls(&viewer, &view)) }
        }
        @if view.spec.job_type == WORKFLOW { p { a href=(format!("/workflows/{id}")) { "Look at this workflow as a graph" } } }
        div.columns {
            section.card aria-label="Where it stands" {
                div #standing data-live {
                    p.standing { (part::state(&view)) @if let Some(at_ms) = view.record.not_before_ms.filter(|_| view.state == State::Scheduled) { span.note { (format::ago(now_ms, at_ms)) } } }
                    (progress(&view, &checkpoints))
                    (facts(&view, now_ms))
                }
            }
            section.card aria-labelledby="timeline-title" {
                h2 #timeline-title { "Timeline" }
                div #timeline data-live { (timeline::list(&view, &checkpoints, now_ms)) }
            }
        }
        div #failure data-live { (failure(&view)) }
        div.columns {
            section.card aria-labelledby="input-title" {
                div.head { h2 #input-title { "Input" } (part::copy("input", "Copy")) }
                (part::text_block("input", "Input", &view.spec.input))
            }
            section.card aria-labelledby="result-title" {
                h2 #result-title { "Result" }
                div #result-box data-live {
                    @if let Some(why) = &view.result_error { p.hint { "It cannot be read: " (why) "." } }
                    @else if view.state == State::Succeeded { (part::copy("result", "Copy")) (part::text_block("result", "Result", view.result.as_deref().unwrap_or("null"))) }
                    @else { p.hint { "There is one when the job has succeeded." } }
                }
            }
        }
        section.card aria-labelledby="checkpoints-title" {
            h2 #checkpoints-title { "Checkpoints" }
            div #checkpoints data-live { (checkpoint_list(&viewer, &view, &checkpoints, now_ms)) }
        }
        section.card aria-labelledby="output-title" {
            div.head { h2 #output-title { "Output" } a href=(format!("/api/v1/jobs/{id}/output")) { "All as NDJSON" } }
            div #output data-live {
                @if let Some(why) = &no_outputs { p.hint { "It cannot be read: " (why) "." } }
                @else if outputs.is_empty() { p.hint { "No record was committed." } }
                @else {
                    p.hint { "Records " (format::number(first_output + 1)) " to " (format::number(total)) " of " (format::number(total)) "." }
                    ol.records tabindex="0" aria-label="Output records" {
                        @for record in &outputs { li { code { (format::pretty(record, 2_000).0.replace('\n', " ").replace("  ", "")) } } }
                    }
                }
            }
        }
        section.card aria-labelledby="log-title" {
            h2 #log-title { "Log" }
            @if before > 0 { p.hint { (format::number(before)) " lines before these are not shown here." } }
            ol #log .log tabindex="0" aria-label="Log" { @for line in &lines { (log_line(line)) } }
            p #log-empty .hint hidden[!lines.is_empty()] {
                @if let Some(why) = &no_logs { "It cannot be read: " (why) "." } @else { "No line yet." }
            }
        }
        section.card aria-labelledby="curl-title" {
            div.head { h2 #curl-title { "The same as a command" } (part::copy("curl", "Copy")) }
            pre #curl .wrap tabindex="0" aria-label="Command" { code { (command) } }
        }
    };
    let fresh = if view.state.is_ended() {
        Fresh::Never
    } else {
        Fresh::Told(format!(
            "/api/v1/jobs/{id}/events?only=state,progress,log,output&last_event_id={last_seen}"
        ))
    };
    let title = format!("{} {}", view.spec.job_type, part::short_id(&id));
    Ok(Page { section: Section::Jobs, title: &title, fresh, body }.answer(&viewer))
}

/// `POST /jobs/{id}/{action}`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Path((id, action)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    let id = JobId::parse(&id).map_err(|_| Problem::unknown_job(shorten(&id)))?;
    let control = match action.as_str() {
        "pause" => Control::Pause,
        "resume" => Control::Resume,
        "cancel" => Control::Cancel,
        "retry" => Control::Retry,
        "restart" => Control::Restart,
        "delete" => {
            api_jobs::delete(Shared(service), Id(id)).await?;
            return Ok(see("/jobs"));
        }
        _ => return Err(part::no_action(&action)),
    };
    let from = form.get("from").and_then(|step| step.parse().ok());
    api_jobs::control(&service, id, control, from, viewer.actor_name()).await?;
    Ok(see(form.back(&format!("/jobs/{id}"))))
}

/// `GET /jobs/{id}/replay`: the form.
pub(super) async fn replay_form(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Response, Problem> {
    let view = service.view(&id).await?;
    let spec = &view.spec;
    let input = format::pretty(&spec.input, usize::MAX).0;
    let body = html! {
        div.head { div { p.crumbs { a href="/jobs" { "Jobs" } " / " (part::job_link(&id)) } h1 { "Edit and replay" } } }
        section.card {
            @if !view.state.is_ended() { p { "The job is " (view.state.name()) ": only an ended job is replayed." } }
            form.edit method="post" action=(format!("/jobs/{id}/replay")) {
                p.hint { "A new job of type " strong { (spec.job_type) } " is made; this one stays as it is." }
                label { span { "Input (JSON)" } textarea name="input" rows="16" spellcheck="false" { (input) } }
                div.fields {
                    label { span { "Queue" } input type="text" name="queue" value=(spec.queue()) autocomplete="off"; }
                    label { span { "Priority" } input type="number" name="priority" min="0" max="9" value=(spec.priority); }
                }
                div.buttons { button.primary type="submit" disabled[!view.state.is_ended() || !viewer.may_operate()] { "Replay" } a.button href=(format!("/jobs/{id}")) { "Back" } }
            }
        }
    };
    Ok(Page { section: Section::Jobs, title: "Edit and replay", fresh: Fresh::Never, body }.answer(&viewer))
}

/// `POST /jobs/{id}/replay`
pub(super) async fn replay(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    form: Form,
) -> Result<Response, Problem> {
    let mut changes: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    if let Some(input) = form.get("input") {
        let input = RawValue::from_string(input.to_owned()).map_err(|error| {
            Problem::new(Code::MalformedJson, format!("The input is not well-formed JSON: {error}."))
        })?;
        changes.insert("input", input);
    }
    if let Some(queue) = form.get("queue") {
        changes.insert("queue", serde_json::value::to_raw_value(queue).map_err(Problem::internal)?);
    }
    if let Some(priority) = form.get("priority").and_then(|text| text.parse::<u8>().ok()) {
        changes.insert("priority", serde_json::value::to_raw_value(&priority).map_err(Problem::internal)?);
    }
    let text = serde_json::to_vec(&changes).map_err(Problem::internal)?;
    let wait = Params(api_jobs::Wait { wait_ms: None });
    let made = api_replay::replay(Shared(service), Id(id), wait, HeaderMap::new(), Body::from(text)).await?;
    let path = made.headers().get(header::LOCATION).and_then(|path| path.to_str().ok());
    // Where the unique key stands for another job already, there is no new one to lead to.
    Ok(see(path.and_then(|path| path.strip_prefix("/api/v1")).unwrap_or(&format!("/jobs/{id}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_the_shell() {
        assert_eq!(quoted("a'b $(c)"), "'a'\\''b $(c)'");
    }
}
