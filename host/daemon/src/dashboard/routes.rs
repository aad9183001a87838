//! `/routes` and `/routes/{type}`: who runs the jobs of a type, how canaries stand, what was counted and what differs.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part,
    viewer::{Form, Viewer},
};
use crate::api::{
    Problem, Service,
    audit::{WHY_CHARS_MAX, Why},
    request::Name,
    routes::{Arm, Canary, Shown, Whole, named},
};
use axum::{
    Extension,
    extract::{Path, State as Shared},
    response::Response,
};
use maud::{Markup, html};
use std::sync::Arc;
use waymark_job::route::{Route, guard::Guards};
use waymark_store::Mismatch;

/// Pairs that differ on the page.
const PAIRS_SHOWN: usize = 20;
/// Longest value of a difference on the page, characters.
const VALUE_CHARS_MAX: usize = 120;

fn path(job_type: &str) -> String {
    format!("/routes/{}", part::segment(job_type))
}

/// A canary's standing as a badge.
fn standing(canary: Option<&Canary>) -> Markup {
    match canary.map(|canary| canary.standing) {
        None => html! { span.none { "–" } },
        Some("running") => part::badge("running"),
        Some("held") => part::badge("paused"),
        Some("promoted") => html! { (part::badge("succeeded")) span.note { "promoted" } },
        Some(_) => html! { (part::badge("failed")) span.note { "rolled back" } },
    }
}

fn controls(viewer: &Viewer, shown: &Shown) -> Markup {
    if !viewer.may_operate() {
        return html! {};
    }
    let at = |verb: &str| format!("{}/{verb}", path(&shown.job_type));
    let stands = shown.canary.as_ref().map(|canary| canary.standing);
    let button = |verb: &str, label: &str, class: &str, ask: Option<&str>| {
        html! { button class=(class) type="submit" form="change" formaction=(at(verb)) data-ask=[ask] { (label) } }
    };
    html! {
        @if matches!(stands, Some("running" | "held")) { (button("promote", "Promote", "", None)) }
        @if stands == Some("running") { (button("hold", "Hold", "", None)) }
        @if stands.is_some_and(|stands| stands != "rolled back") {
            (button("rollback", "Roll back", "danger", Some("Take all jobs from the target under trial?")))
        }
        (button("undo", "Undo last change", "", Some("Make this route what it was before its last change?")))
    }
}

/// The form of all controls: what is typed stays while the page is kept fresh.
fn change(viewer: &Viewer) -> Markup {
    html! {
        @if viewer.may_operate() {
            form #change method="post" {
                // Whoever presses Enter in the field asks for nothing.
                button type="submit" disabled hidden {}
                input type="hidden" name="back" value=(viewer.here);
                label { span { "Why, for the history" } input type="text" name="why" maxlength=(WHY_CHARS_MAX) autocomplete="off"; }
            }
        }
    }
}

fn weights(route: &Route) -> Markup {
    html! { @for target in route.targets.iter() { span.note { (target.arm) " " (target.weight) " %" } " " } }
}

/// `GET /routes`
pub(super) async fn list(Shared(service): Shared<Arc<Service>>, viewer: Viewer) -> Result<Response, Problem> {
    let routes = service.all_routes().await?;
    let now_ms = service.store.now_ms().await?;
    let body = html! {
        div.head { h1 { "Routes" } }
        div #routes data-live {
            @if routes.is_empty() {
                (part::empty("No routes yet", html! { p { "Jobs run on the active version of their plugin. A route sends a part of them to another: " code { "waymark route put TYPE route.json" } "." } }))
            } @else {
                div.scroll role="region" aria-label="Routes" tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "Job type" } th scope="col" { "Weights" } th scope="col" { "Canary" } th.num scope="col" { "Changed" } } }
                        tbody {
                            @for one in &routes {
                                tr {
                                    td { a href=(path(&one.job_type)) { (one.job_type) } }
                                    td { (weights(&one.route)) }
                                    td { (standing(one.canary.as_ref())) @if let Some(canary) = &one.canary { " " span.hint { "step " (canary.step) " of " (canary.steps) } } }
                                    td.num { (format::ago(now_ms, one.changed_at.0)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(Page { section: Section::Routes, title: "Routes", fresh: Fresh::Polled, body }.answer(&viewer))
}

fn ms(value: Option<f64>) -> Markup {
    match value {
        Some(ms) => html! { (format!("{ms:.1} ms")) },
        None => html! { span.none { "–" } },
    }
}

fn arms(arms: &[Arm]) -> Markup {
    html! {
        div.scroll role="region" aria-label="Targets" tabindex="0" {
            table {
                thead { tr { th scope="col" { "Target" } th.num scope="col" { "Weight" } th.wide scope="col" { "Runs on" } th.num scope="col" { "Attempts" }
                    th.num scope="col" { "Errors" } th.num scope="col" { "Mean" } th.num.wide scope="col" { "Half within" } th.num scope="col" { "95 % within" } th.num.wide scope="col" { "Result" } } }
                tbody {
                    @for arm in arms {
                        tr {
                            td { (arm.arm) }
                            td.num { (arm.weight) " %" }
                            td.wide { (arm.kind) " " code title=(arm.target) { (arm.target.chars().take(24).collect::<String>()) } }
                            td.num { (format::number(arm.attempts)) }
                            td.num { @if let Some(rate) = arm.error_rate { (format!("{:.2} %", rate * 100.0)) } @else { span.none { "–" } } }
                            td.num { (ms(arm.mean_ms)) }
                            td.num.wide { (ms(arm.p50_ms)) }
                            td.num { (ms(arm.p95_ms)) }
                            td.num.wide { @if let Some(bytes) = arm.result_bytes { (format::bytes(bytes)) } @else { span.none { "–" } } }
                        }
                    }
                }
            }
        }
    }
}

fn guards(guards: &Guards) -> Markup {
    html! {
        ul.lines {
            @if let Some(guard) = guards.error_rate { li { "Errors: from " (guard.min_samples) " attempts of each, a difference of at least " (format!("{:.1}", guard.at_least * 100.0)) " points" } }
            @if let Some(guard) = guards.latency { li { "Running time: from " (guard.min_samples) " attempts of each, more than " (guard.ratio) " times as long" } }
            @if let Some(guard) = guards.mismatch { li { "Results: from " (guard.min_samples) " pairs, more than " (format!("{:.1}", guard.at_most * 100.0)) " % that differ" } }
            @if guards.is_empty() { li { "None." } }
        }
    }
}

fn steps(whole: &Whole, now_ms: u64) -> Markup {
    let (Some(definition), Some(canary)) = (&whole.shown.route.canary, &whole.shown.canary) else {
        return html! { p.hint { "There is none." } };
    };
    html! {
        p.standing { (standing(Some(canary))) " " span.hint { "since " (format::ago(now_ms, canary.since.0)) ", looked at " (canary.looks) " times" } }
        ol.lines {
            @for (index, step) in definition.steps.iter().enumerate() {
                li {
                    (step.percent) " % for at least " (format::span(step.min_ms))
                    @if index + 1 == canary.step { " " span.note { "now" } }
                }
            }
        }
        p.hint { "Guards, together wrong in " (format!("{:.2}", definition.alpha * 100.0)) " % of canaries without a fault at most:" }
        (guards(&definition.guards))
    }
}

fn history(whole: &Whole) -> Markup {
    html! {
        div.scroll role="region" aria-label="History" tabindex="0" {
            table {
                thead { tr { th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "Why" } } }
                tbody {
                    @for one in &whole.history {
                        tr { td { (format::time(one.at.0)) } td { (one.who) } td { (one.what) } td { (one.why) } }
                    }
                }
            }
        }
    }
}

fn short(value: Option<&serde_json::Value>) -> String {
    let text = value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

fn pairs(found: &[Mismatch]) -> Markup {
    html! {
        @if found.is_empty() { p.hint { "None are kept." } }
        @else {
            div.scroll role="region" aria-label="Results that differ" tabindex="0" {
                table {
                    thead { tr { th scope="col" { "Job" } th scope="col" { "Shadow" } th scope="col" { "Place" } th scope="col" { "Job has" } th scope="col" { "Shadow has" } } }
                    tbody {
                        @for pair in found.iter().take(PAIRS_SHOWN) {
                            @if let Some(first) = pair.differences.first() {
                                tr {
                                    td { (part::job_link(&pair.job)) }
                                    td { (part::job_link(&pair.shadow)) }
                                    td { code { (if first.pointer.is_empty() { "the whole" } else { first.pointer.as_str() }) }
                                        @if pair.differences.len() > 1 { " " span.note { "and " (pair.differences.len() - 1) " more" } } }
                                    td { code { (short(first.left.as_ref())) } }
                                    td { code { (short(first.right.as_ref())) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `GET /routes/{type}`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Name(name): Name,
) -> Result<Response, Problem> {
    let whole = service.whole_route(&name).await?;
    let differing = service.store.mismatches(&name).await?;
    let now_ms = service.store.now_ms().await?;
    let route = &whole.shown.route;
    let body = html! {
        div.head {
            div { p.crumbs { a href="/routes" { "Routes" } } h1 { (name) } }
            div.buttons { (change(&viewer)) div #controls .buttons data-live { (controls(&viewer, &whole.shown)) } }
        }
        section.card aria-labelledby="arms-title" {
            h2 #arms-title { "Targets" }
            div #arms data-live {
                (arms(&whole.arms))
                p.hint { "Counted since the route or its canary's step began. " @if let Some(key) = &route.sticky { "Jobs stay together by " code { (key) } "." } @else { "Jobs are spread by their ids." } }
            }
        }
        div.columns {
            section.card aria-labelledby="canary-title" { h2 #canary-title { "Canary" } div #canary data-live { (steps(&whole, now_ms)) } }
            section.card aria-labelledby="history-title" { h2 #history-title { "History" } div #history data-live { (history(&whole)) } }
        }
        section.card aria-labelledby="pairs-title" {
            h2 #pairs-title { "Results that differ" }
            div #pairs data-live {
                @if let Some(shadow) = &route.shadow {
                    p.hint { (shadow.percent) " % of jobs are copied to " (shadow.arm) ": " (format::number(whole.mismatched)) " of " (format::number(whole.compared)) " compared results differ." }
                }
                (pairs(&differing))
            }
        }
        @if !route.flags.is_empty() {
            section.card aria-labelledby="flags-title" {
                h2 #flags-title { "Flags" }
                ul.lines { @for flag in &route.flags { li { (flag.values.join(", ")) " → " (flag.arm) } } }
            }
        }
    };
    Ok(Page { section: Section::Routes, title: &name, fresh: Fresh::Polled, body }.answer(&viewer))
}

/// `POST /routes/{type}/{action}`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Extension(Why(why)): Extension<Why>,
    Path((name, action)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    let left = service.act_on_route(&name, named(&action, false)?, viewer.actor_name(), &why).await?;
    let back = path(&name);
    // An undo may leave no route to show.
    Ok(see(if left.is_none() { "/routes" } else { form.back(&back) }))
}
