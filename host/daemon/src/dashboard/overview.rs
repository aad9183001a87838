//! `/`: how it goes, over the last hours, and what is stuck.

use super::{
    chart::{Chart, Kind, Series},
    format,
    page::{Fresh, Page, Section},
    part,
    stuck::{self, Standing},
    viewer::Viewer,
};
use crate::api::{
    Problem, Service,
    request::{Params, invalid_query},
};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use waymark_job::State;
use waymark_store::{Deploy, Minute};

/// Spans that can be chosen: name, label, minutes in all, minutes of each bar.
const SPANS: [(&str, &str, u64, u64); 4] = [
    ("1h", "1 hour", 60, 1),
    ("6h", "6 hours", 360, 6),
    ("24h", "24 hours", 1_440, 24),
    ("48h", "48 hours", 2_880, 48),
];

/// Parameters of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    span: Option<String>,
}

/// Several minutes as one.
#[derive(Default)]
struct Bar {
    at_ms: u64,
    minutes: f64,
    succeeded: f64,
    failed: f64,
    started: f64,
    waited_ms: f64,
    queued: f64,
    running: f64,
}

impl Bar {
    fn new(minutes: &[Minute]) -> Self {
        let mut bar = Self {
            at_ms: minutes.first().map_or(0, |minute| minute.at_ms),
            minutes: minutes.len().max(1) as f64,
            ..Self::default()
        };
        for minute in minutes {
            bar.succeeded += minute.succeeded as f64;
            bar.failed += minute.failed as f64;
            bar.started += minute.started as f64;
            bar.waited_ms += minute.waited_ms as f64;
            bar.queued = bar.queued.max(minute.queued.unwrap_or(0) as f64);
            bar.running = bar.running.max(minute.running.unwrap_or(0) as f64);
        }
        bar
    }

    fn wait_ms(&self) -> f64 {
        if self.started > 0.0 { self.waited_ms / self.started } else { 0.0 }
    }
}

fn wait(value: f64) -> String {
    format::span(value as u64)
}

fn charts(minutes: &[Minute], each: u64, deploys: &[Deploy]) -> Markup {
    let bars: Vec<_> = minutes.chunks(each as usize).map(Bar::new).collect();
    let times: Vec<_> = bars.iter().map(|bar| bar.at_ms).collect();
    let (first_ms, length_ms) =
        (times.first().copied().unwrap_or(0), (minutes.len() as f64 * 60_000.0).max(1.0));
    let marks: Vec<_> = deploys
        .iter()
        .filter(|deploy| deploy.at_ms >= first_ms)
        .map(|deploy| {
            let what = format!(
                "{} {} came into service at {}",
                deploy.job_type,
                deploy.version,
                format::clock(deploy.at_ms)
            );
            (((deploy.at_ms - first_ms) as f64 / length_ms).min(1.0), what)
        })
        .collect();
    let values = |of: fn(&Bar) -> f64| bars.iter().map(of).collect::<Vec<_>>();
    let last = minutes.iter().rev().nth(1).copied().unwrap_or_default();
    let now = minutes.last().copied().unwrap_or_default();
    let chart = |title, text: String, kind, unit, series| {
        Chart { title, now: text, kind, series, unit, times: &times, marks: &marks }.draw()
    };
    let one = |name, class, values| vec![Series { name, class, values }];
    let failed: u64 = minutes.iter().map(|minute| minute.failed).sum();
    let longest = Bar::new(&[last]).wait_ms();
    html! {
        (chart("Jobs ended per minute", format!("{} in the last minute", format::number(last.succeeded + last.failed)), Kind::Bars, format::short, vec![
            Series { name: "succeeded", class: "succeeded", values: values(|bar| bar.succeeded / bar.minutes) },
            Series { name: "failed", class: "failed", values: values(|bar| bar.failed / bar.minutes) },
        ]))
        (chart("Failures", format!("{} in this span", format::number(failed)), Kind::Bars, format::short, one("failed", "failed", values(|bar| bar.failed))))
        (chart("Waiting time before the first start, mean", format!("{} in the last minute", wait(longest)), Kind::Lines, wait, one("waiting time", "waiting", values(Bar::wait_ms))))
        (chart("Jobs running and queued", format!("{} run, {} queued", format::number(now.running.or(last.running).unwrap_or(0)), format::number(now.queued.or(last.queued).unwrap_or(0))), Kind::Lines, format::short, vec![
            Series { name: "running", class: "running", values: values(|bar| bar.running) },
            Series { name: "queued", class: "queued", values: values(|bar| bar.queued) },
        ]))
    }
}

fn tile(label: &str, value: u64, link: &str, class: &str) -> Markup {
    html! {
        a class=(format!("tile {class}")) href=(link) { span.label { (label) } span.value { (format::number(value)) } }
    }
}

fn first_visit() -> Markup {
    part::empty(
        "No job type is loaded yet",
        html! {
            ol.steps {
                li { "Make a plugin, or take one: " code { "waymark plugin new my-job" } ", then " code { "waymark plugin build" } "." }
                li { "Put it into service: " code { "waymark plugin install my-job.wasm" } ", or copy it into the host's plugin directory." }
                li { "Submit a job: " code { "waymark job submit my-job" } "." }
            }
            p { "To see a job without any plugin: " code { "waymark job submit waymark.echo --input '{\"hello\":\"world\"}'" } }
        },
    )
}

/// `GET /`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Params(asked): Params<Asked>,
) -> Result<Response, Problem> {
    let chosen = asked.span.as_deref().unwrap_or("1h");
    let Some((name, _, length, each)) = SPANS.into_iter().find(|(name, ..)| *name == chosen) else {
        return Err(invalid_query("span: must be 1h, 6h, 24h or 48h"));
    };
    let store = &service.store;
    let standing = Standing::read(store).await?;
    let causes = stuck::causes(&service, &standing).await?;
    let now_ms = store.now_ms().await?;
    let minutes = store.history(now_ms, length).await?;
    let deploys = store.deploys().await?;
    let nothing_yet = standing.counts.is_empty() && service.directory.list().is_empty();
    let slots = |field: &str| standing.hosts.iter().filter_map(|host| host[field].as_u64()).sum::<u64>();
    let body = html! {
        div.head { h1 { "Overview" } }
        @if nothing_yet { (first_visit()) }
        div #tiles .tiles data-live {
            @for state in [State::Running, State::Queued, State::Scheduled, State::Waiting, State::Paused, State::Failed, State::Succeeded] {
                (tile(state.name(), standing.jobs(state), &format!("/jobs?status={}", state.name()), state.name()))
            }
            a.tile href="/hosts" {
                span.label { "slots in use" }
                span.value { (format::number(slots("used"))) small { " / " (format::number(slots("slots"))) } }
            }
        }
        section.card aria-labelledby="stuck-title" {
            h2 #stuck-title { "Stuck, and why" }
            div #stuck data-live { (stuck::list(&causes)) }
        }
        section aria-labelledby="history-title" {
            div.head {
                h2 #history-title { "The last hours" }
                nav.segments aria-label="Span" {
                    @for (one, label, ..) in SPANS {
                        a href=(format!("/?span={one}")) aria-current=[(one == name).then_some("true")] { (label) }
                    }
                }
            }
            div #charts .charts data-live { (charts(&minutes, each, &deploys)) }
        }
        section.card aria-labelledby="deploys-title" {
            h2 #deploys-title { "Versions that came into service" }
            div #deploys data-live {
                @if deploys.is_empty() { p.hint { "None yet: a new version of a plugin is marked in the charts." } }
                @else {
                    ul.lines {
                        @for deploy in deploys.iter().take(8) {
                            li { strong { (deploy.job_type) } " " code { (deploy.version) } " " span.hint { (format::ago(now_ms, deploy.at_ms)) } }
                        }
                    }
                }
            }
        }
    };
    Ok(Page {
        section: Section::Overview,
        title: "Overview",
        fresh: Fresh::Live("/api/v1/events".to_owned()),
        body,
    }
    .answer(&viewer))
}
