//! What is known of a job's life, in the order in which it happened.

use super::{format, part};
use maud::{Markup, html};
use waymark_job::{Past, State};
use waymark_store::{Checkpoint, View};

/// Something that happened.
struct Entry {
    at_ms: u64,
    class: &'static str,
    what: Markup,
}

/// A stay that is over, or what somebody asked for.
fn of_past(one: &Past) -> Entry {
    let by = |word: &str| html! { @if let Some(by) = &one.by { (word) code { (by) } } };
    let Some(since_ms) = one.since_ms else {
        let (class, what) = match one.what.as_str() {
            "pause" => ("paused", "Paused"),
            "resume" => ("queued", "Resumed"),
            "restart" => ("queued", "Restarted"),
            "retry" => ("queued", "Retried"),
            "cancel" => ("cancelled", "Cancelled"),
            other => ("queued", other),
        };
        return Entry { at_ms: one.at_ms, class, what: html! { (what) (by(" by ")) } };
    };
    let class = match one.what.as_str() {
        "succeeded" => "succeeded",
        "failed" | "tried again" | "lost" => "failed",
        "cancelled" => "cancelled",
        "paused" => "paused",
        _ => "scheduled",
    };
    let what = html! {
        @if let Some(times) = one.times { (format::number(u64::from(times))) " stays" } @else { "Stay" }
        " in run " (one.run) (by(" on "))
        @if let Some(version) = &one.version { ", plugin " (version) }
        ", " (format::span(one.at_ms.saturating_sub(since_ms))) ": " (one.what)
        @if one.what == "lost" { " (the worker died or was silent)" }
    };
    Entry { at_ms: one.at_ms, class, what }
}

fn entries(view: &View, checkpoints: &[Checkpoint]) -> Vec<Entry> {
    let (spec, record) = (&view.spec, &view.record);
    let mut all: Vec<_> = record.past.iter().map(of_past).collect();
    let mut add = |at_ms: u64, class: &'static str, what: Markup| all.push(Entry { at_ms, class, what });
    let made_by = match (&spec.schedule, spec.replay_of, spec.parent) {
        (Some(firing), ..) => {
            html! { " by schedule " a href=(format!("/schedules/{}", part::segment(&firing.name))) { (firing.name) } }
        }
        (_, Some(old), _) => html! { " as a replay of " (part::job_link(&old)) },
        (_, _, Some(parent)) => html! { " by " (part::job_link(&parent)) },
        _ => html! {},
    };
    add(view.id.created_ms(), "queued", html! { "Accepted" (made_by) });
    // The worker of its record is that of its last stay.
    let stayed = record.past.iter().any(|one| one.run == record.run && one.since_ms.is_some());
    if let Some(started_ms) = record.started_ms {
        add(
            started_ms,
            "running",
            html! {
                "Run " (record.run) " started"
                @if let Some(host) = record.host.as_ref().filter(|_| !stayed) { " on " code { (host) } }
                @if let Some(version) = &record.version { ", plugin " (version) }
            },
        );
    }
    for one in &record.failures {
        add(
            one.at_ms,
            "failed",
            html! {
                "Attempt " (one.attempt) " of run " (one.run) " failed: " code { (one.kind) } " " (one.message)
            },
        );
    }
    for one in checkpoints {
        add(
            one.created_ms,
            "commit",
            html! {
                "Checkpoint at step " (format::number(one.step)) " of run " (one.run) ", " (format::bytes(one.bytes)) ", plugin " (one.plugin_version)
            },
        );
    }
    if let Some(committed_ms) =
        record.committed_ms.filter(|at| !checkpoints.iter().any(|one| one.created_ms == *at))
    {
        add(committed_ms, "commit", html! { "Last commit, step " (format::number(record.step)) });
    }
    if record.crashes > 0 {
        let at_ms = record.committed_ms.or(record.started_ms).unwrap_or(view.id.created_ms());
        add(at_ms, "failed", html! { (record.crashes) " worker(s) died under it since its last commit" });
    }
    if let Some(ended_ms) = record.ended_ms.filter(|_| view.state.is_ended()) {
        add(ended_ms, view.state.name(), html! { "Ended: " (view.state.name()) });
    }
    if let Some(at_ms) = record.not_before_ms.filter(|_| view.state == State::Scheduled) {
        add(at_ms, "scheduled", html! { "Not before this time" });
    }
    all.sort_by_key(|entry| entry.at_ms);
    all
}

/// The list, and how it stands now.
pub(super) fn list(view: &View, checkpoints: &[Checkpoint], now_ms: u64) -> Markup {
    let entries = entries(view, checkpoints);
    let first_ms = entries.first().map_or(0, |entry| entry.at_ms);
    html! {
        ol.timeline tabindex="0" aria-label="Timeline" {
            @for entry in &entries {
                li class=(entry.class) {
                    span.when { (format::time(entry.at_ms)) span.hint { "+" (format::span(entry.at_ms.saturating_sub(first_ms))) } }
                    span.what { (entry.what) }
                }
            }
            @if !view.state.is_ended() {
                li.now class=(view.state.name()) {
                    span.when { "now" span.hint { "+" (format::span(now_ms.saturating_sub(first_ms))) } }
                    span.what { (part::state(view)) }
                }
            }
        }
    }
}
