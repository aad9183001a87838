//! Pieces that pages share.

use super::{format, page::icon, viewer::Viewer};
use crate::api::{
    Code, Problem,
    request::{self, shorten},
};
use axum::{extract::FromRequestParts, http::request::Parts};
use maud::{Markup, html};
use serde::de::DeserializeOwned;
use waymark_job::{JobId, State};
use waymark_store::View;

/// Longest text that a page shows of an input, a result or a record, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// The drawing of a state: the shape tells what the colour tells.
const fn shape(name: &str) -> &'static str {
    match name.as_bytes() {
        b"running" | b"active" => "M6 4l10 6-10 6z",
        b"paused" => "M5 4h3.500v12H5zM11.5 4H15v12h-3.500z",
        b"succeeded" | b"loaded" | b"ready" => "M8 15.5 2.7 10.200l1.8-1.800L8 11.900l7.5-7.5 1.8 1.800z",
        b"failed" | b"quarantined" => {
            "M4.8 3 10 8.2 15.2 3 17 4.8 11.8 10l5.2 5.2-1.8 1.800L10 11.8 4.8 17 3 15.2 8.2 10 3 4.800z"
        }
        b"cancelled" | b"skipped" | b"retired" => "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM5 9h10v2H5z",
        b"scheduled" => "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm-.9 3h1.800v4.300l3 3-1.3 1.3-3.5-3.500z",
        b"waiting" => "M4 8.500h3v3H4zM8.5 8.500h3v3h-3zM13 8.500h3v3h-3z",
        _ => "M4 5h12v2H4zM4 9h12v2H4zM4 13h12v2H4z",
    }
}

/// A state by its name.
pub(super) fn badge(name: &str) -> Markup {
    html! { span class=(format!("state {name}")) { (icon(shape(name))) span { (name) } } }
}

/// Where a job stands.
pub(super) fn state(view: &View) -> Markup {
    html! {
        (badge(view.state.name()))
        @if view.pause_pending { " " span.note { "pauses after its step" } }
        @else if let (State::Waiting, Some(signal)) = (view.state, &view.record.signal) { " " span.note { "for " (signal) } }
        @else if let Some(then) = when_resumed(view) { " " span.note { "when resumed: " (then) } }
    }
}

/// What a paused job goes back to that slept or waited, unless that has come meanwhile.
fn when_resumed(view: &View) -> Option<String> {
    let parked = view.record.parked.filter(|_| view.state == State::Paused)?;
    match (State::from_letter(parked)?, &view.record.signal) {
        (State::Waiting, Some(signal)) => Some(format!("waiting for {signal}")),
        (state, _) => Some(state.name().to_owned()),
    }
}

/// How far a job is.
pub(super) fn progress(view: &View) -> Markup {
    let Some(progress) = &view.record.progress else { return html! { span.none { "–" } } };
    let current = format::number(progress.current);
    let Some(total) = progress.total.filter(|total| *total > 0) else {
        return html! { span.num { (current) } };
    };
    let done = if view.state == State::Succeeded { total } else { progress.current.min(total) };
    let percent = (done as f64 / total as f64 * 1_000.0).floor() / 10.0;
    html! {
        span.progress {
            progress max=(total) value=(done) aria-label=(format!("{current} of {}", format::number(total))) {}
            span.num title=(format!("{current} of {}", format::number(total))) { (percent) " %" }
        }
    }
}

/// A job's id as a link.
pub(super) fn job_link(id: &JobId) -> Markup {
    html! { a.id href=(format!("/jobs/{id}")) title=(id) { (short_id(id)) } }
}

/// Eight letters of an id after those that say when it was made: they differ between the jobs of one moment.
pub(super) fn short_id(id: &JobId) -> &str {
    id.as_str().get(10..18).unwrap_or_default()
}

/// How a button looks.
#[derive(Clone, Copy)]
pub(super) enum Look {
    Plain,
    Danger,
}

/// A form of one button.
pub(super) fn button(viewer: &Viewer, action: &str, label: &str, look: Look, ask: Option<&str>) -> Markup {
    let class = match look {
        Look::Plain => "",
        Look::Danger => "danger",
    };
    html! {
        form.inline method="post" action=(action) data-ask=[ask] {
            input type="hidden" name="back" value=(viewer.here);
            button class=(class) type="submit" { (label) }
        }
    }
}

/// A part of a path with everything escaped that could end it.
pub(super) fn segment(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A query string of these pairs; empty values are left out.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.append_pair(name, value);
    }
    text.finish()
}

/// Parameters that a form wrote: a field that was left empty is none. Unknown ones are refused.
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Fields<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let filled = query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        request::read_query(&filled).map(Self)
    }
}

/// A form asks for an action that there is not.
pub(super) fn no_action(action: &str) -> Problem {
    Problem::new(Code::UnknownPath, format!("There is no action {:?}.", shorten(action)))
}

/// What a page says where a list would be.
pub(super) fn empty(title: &str, body: Markup) -> Markup {
    html! { div.empty { p.title { (title) } (body) } }
}

/// Text of a guest or a caller, in lines.
pub(super) fn text_block(id: &str, label: &str, text: &str) -> Markup {
    let (shown, cut) = format::pretty(text, TEXT_BYTES_MAX);
    html! {
        div.block {
            pre id=(id) tabindex="0" aria-label=(label) { code { (shown) } }
            @if cut { p.hint { "Cut at " (format::bytes(TEXT_BYTES_MAX as u64)) "; the API has all " (format::bytes(text.len() as u64)) "." } }
        }
    }
}

/// A button that copies the text of the element with this id. Works with scripts only, and is shown then.
pub(super) fn copy(id: &str, label: &str) -> Markup {
    html! { button.quiet.script type="button" data-copy=(id) { (label) } }
}

/// Links to the first page and to the next one.
pub(super) fn pager(path: &str, first: &str, is_first: bool, next: Option<String>) -> Markup {
    let first = if first.is_empty() { path.to_owned() } else { format!("{path}?{first}") };
    html! {
        nav.pager aria-label="Pages of the list" {
            @if !is_first { a.button href=(first) { "Newest" } }
            @if let Some(next) = next { a.button rel="next" href=(format!("{path}?{next}")) { "Older" } }
        }
    }
}

/// Which control fits which state; what the API would refuse is not offered.
pub(super) fn controls(viewer: &Viewer, view: &View) -> Markup {
    if !viewer.may_operate() {
        return html! {};
    }
    let at = |verb: &str| format!("/jobs/{}/{verb}", view.id);
    let ended = view.state.is_ended();
    let paused = view.state == State::Paused;
    html! {
        @if paused || view.pause_pending { (button(viewer, &at("resume"), "Resume", Look::Plain, None)) }
        @else if !ended { (button(viewer, &at("pause"), "Pause", Look::Plain, None)) }
        @if view.state == State::Failed { (button(viewer, &at("retry"), "Retry", Look::Plain, None)) }
        @if ended || paused {
            (button(viewer, &at("restart"), "Restart", Look::Plain, Some("Run this job again from its beginning? What it has done so far in this run is discarded.")))
        }
        @if !ended { (button(viewer, &at("cancel"), "Cancel", Look::Danger, Some("Cancel this job? It ends now."))) }
        @if ended {
            a.button href=(at("replay")) { "Replay…" }
            (button(viewer, &at("delete"), "Delete", Look::Danger, Some("Delete this job with all that it kept? This cannot be undone.")))
        }
    }
}
