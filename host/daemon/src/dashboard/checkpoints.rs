//! `/jobs/{id}/checkpoints`: what a checkpoint holds, and how two of them differ.

use super::{
    format,
    page::{Fresh, Page, Section},
    part::{self, Fields},
    viewer::Viewer,
};
use crate::api::{Code, Problem, Service, request::Id};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use serde::Deserialize;
use similar::{ChangeTag, TextDiff};
use std::{sync::Arc, time::Duration};
use waymark_job::redact::{HIDDEN, Mask};
use waymark_store::Checkpoint;

/// Longest text of a checkpoint that is compared, bytes.
const DIFF_BYTES_MAX: usize = 512 << 10;
/// After so long the comparison becomes coarser.
const DIFF_WITHIN: Duration = Duration::from_millis(200);
/// Lines around a difference.
const CONTEXT: usize = 3;
/// Lines of differences on a page.
const LINES_MAX: usize = 2_000;
/// Bytes of a binary state on one line.
const ROW: usize = 16;

/// Parameters of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Step of the one to look at, or of the old side.
    a: Option<u64>,
    /// Step of the new side.
    b: Option<u64>,
}

/// A state as text: JSON in lines, other text as it is, anything else as bytes.
fn text(checkpoint: &Checkpoint, mask: &Mask, most: usize) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(&checkpoint.state)
        && !text.contains('\0')
    {
        return format::pretty(&mask.json(text), most);
    }
    if !mask.is_empty() {
        // Nobody knows where in it the values are.
        return (HIDDEN.to_owned(), false);
    }
    let bytes = &checkpoint.state[..checkpoint.state.len().min(most / 4)];
    let rows =
        bytes.chunks(ROW).enumerate().map(|(at, row)| format!("{:08x}  {}", at * ROW, hex::encode(row)));
    (rows.collect::<Vec<_>>().join("\n"), bytes.len() < checkpoint.state.len())
}

fn facts(checkpoint: &Checkpoint, now_ms: u64) -> Markup {
    html! {
        dl.facts {
            div { dt { "Step" } dd.num { (format::number(checkpoint.step)) } }
            div { dt { "Run" } dd.num { (checkpoint.run) } }
            div { dt { "Size" } dd.num { (format::bytes(checkpoint.bytes)) } }
            div { dt { "Outputs" } dd.num { (format::number(checkpoint.outputs)) } }
            div { dt { "Media type" } dd { (checkpoint.mime_type) ", version " (checkpoint.state_version) } }
            div { dt { "Plugin" } dd { (checkpoint.plugin_version) } }
            div { dt { "Written" } dd { (format::ago(now_ms, checkpoint.created_ms)) } }
            @if let Some(at_ms) = checkpoint.expires_ms { div { dt { "Expires" } dd { (format::ago(now_ms, at_ms)) } } }
            div { dt { "SHA-256" } dd { code { (&checkpoint.digest.get(..16).unwrap_or(&checkpoint.digest)) "…" } } }
        }
    }
}

fn differences(old: &Checkpoint, new: &Checkpoint, mask: &Mask) -> Markup {
    let ((old, old_cut), (new, new_cut)) = (text(old, mask, DIFF_BYTES_MAX), text(new, mask, DIFF_BYTES_MAX));
    if old == new {
        return part::empty("The two states are the same", html! {});
    }
    let diff = TextDiff::configure().timeout(DIFF_WITHIN).diff_lines(&old, &new);
    let mut groups: Vec<Vec<_>> = diff
        .grouped_ops(CONTEXT)
        .iter()
        .map(|group| group.iter().flat_map(|op| diff.iter_changes(op)).collect())
        .collect();
    let lines: usize = groups.iter().map(Vec::len).sum();
    let mut left = LINES_MAX;
    for group in &mut groups {
        group.truncate(left);
        left -= group.len();
    }
    html! {
        div.scroll role="region" aria-label="Differences" tabindex="0" {
            table.diff {
                caption.hidden { "Line of the old state, line of the new one, text" }
                @for group in &groups {
                    tbody {
                        @for change in group {
                            @let (class, sign) = match change.tag() { ChangeTag::Delete => ("gone", "−"), ChangeTag::Insert => ("new", "+"), ChangeTag::Equal => ("same", " ") };
                            tr class=(class) {
                                td.num { @if let Some(at) = change.old_index() { (at + 1) } }
                                td.num { @if let Some(at) = change.new_index() { (at + 1) } }
                                td.sign { (sign) }
                                td { code { (change.value().trim_end_matches('\n')) } }
                            }
                        }
                    }
                }
            }
        }
        @if lines > LINES_MAX { p.hint { "Only the first " (format::number(LINES_MAX as u64)) " lines are shown." } }
        @if old_cut || new_cut { p.hint { "Only the first " (format::bytes(DIFF_BYTES_MAX as u64)) " were compared." } }
    }
}

/// `GET /jobs/{id}/checkpoints`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Id(id): Id,
    Fields(asked): Fields<Asked>,
) -> Result<Response, Problem> {
    let (view, mask) = service.masked(&id).await?;
    let kept = service.store.checkpoints(&id).await?;
    let now_ms = service.store.now_ms().await?;
    let find = |step: u64| {
        kept.iter().find(|one| one.step == step).ok_or_else(|| {
            Problem::new(Code::NoCheckpoint, format!("The job keeps no checkpoint of step {step} any more."))
        })
    };
    let first = match asked.a {
        Some(step) => Some(find(step)?),
        None => kept.first(),
    };
    let second = asked.b.map(find).transpose()?;
    let select = |name: &str, label: &str, chosen: Option<u64>, none: Option<&str>| {
        html! {
            label { span { (label) }
                select name=(name) {
                    @if let Some(none) = none { option value="" { (none) } }
                    @for one in &kept {
                        option value=(one.step) selected[chosen == Some(one.step)] { "step " (format::number(one.step)) " (run " (one.run) ")" }
                    }
                }
            }
        }
    };
    let body = html! {
        div.head { div { p.crumbs { a href="/jobs" { "Jobs" } " / " a href=(format!("/jobs/{id}")) { (view.spec.job_type) " " (part::short_id(&id)) } } h1 { "Checkpoints" } } }
        @if kept.is_empty() {
            (part::empty("No checkpoint is kept", html! { p { "The job has saved none, or they have expired." } }))
        } @else {
            form.filter method="get" action=(format!("/jobs/{id}/checkpoints")) {
                div.fields {
                    (select("a", "Look at", first.map(|one| one.step), None))
                    (select("b", "Compare with", asked.b, Some("nothing")))
                    div.buttons { button.primary type="submit" { "Show" } }
                }
            }
            @if let (Some(old), Some(new)) = (first, second) {
                div.columns { section.card { h2 { "Step " (old.step) } (facts(old, now_ms)) } section.card { h2 { "Step " (new.step) } (facts(new, now_ms)) } }
                section.card { h2 { "From step " (old.step) " to step " (new.step) } (differences(old, new, &mask)) }
            } @else if let Some(one) = first {
                @let (shown, cut) = text(one, &mask, part::TEXT_BYTES_MAX);
                section.card { h2 { "Step " (one.step) } (facts(one, now_ms)) }
                section.card {
                    div.head { h2 { "State" } (part::copy("state", "Copy")) }
                    pre #state tabindex="0" aria-label="State" { code { (shown) } }
                    @if cut { p.hint { "Cut; the API has all " (format::bytes(one.bytes)) "." } }
                }
            }
        }
    };
    Ok(Page { section: Section::Jobs, title: "Checkpoints", fresh: Fresh::Never, body }.answer(&viewer))
}
