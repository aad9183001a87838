//! `/hosts`: who is there, how busy they are, and their switches.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part::{self, Look},
    viewer::{Form, Viewer},
};
use crate::api::{Problem, Service, hosts as api, request::Name};
use axum::{
    extract::{Path, State as Shared},
    response::Response,
};
use maud::{Markup, html};
use serde_json::Value;
use std::sync::Arc;

fn status(host: &Value) -> &'static str {
    if host["draining"] == true {
        "draining"
    } else if host["paused"] == true {
        "paused"
    } else if host["ready"] == true {
        "ready"
    } else {
        "not ready"
    }
}

fn share(label: &str, share: f64) -> Markup {
    let percent = (share * 100.0).clamp(0.0, 100.0).round();
    html! {
        div { dt { (label) } dd { span.progress { progress max="100" value=(percent) aria-label=(label) {} span.num { (percent) " %" } } } }
    }
}

fn controls(viewer: &Viewer, id: &str, host: &Value) -> Markup {
    if !viewer.may_admin() || host["draining"] == true {
        return html! {};
    }
    let at = |verb: &str| format!("/hosts/{}/{verb}", part::segment(id));
    html! {
        div.buttons {
            @if host["paused"] == true { (part::button(viewer, &at("resume"), "Resume", Look::Plain, None)) }
            @else { (part::button(viewer, &at("pause"), "Pause", Look::Plain, None)) }
            (part::button(viewer, &at("drain"), "Drain", Look::Danger, Some("Drain this host? Its jobs move to other hosts, and it stops.")))
        }
    }
}

fn card(viewer: &Viewer, id: &str, host: &Value, here: &str, leader: Option<&str>, ping: &str) -> Markup {
    let text = |field: &str| host[field].as_str().unwrap_or_default().to_owned();
    let number = |field: &str| host[field].as_u64().unwrap_or(0);
    let load = &host["load"];
    let slots = number("slots");
    let list = |field: &str| host[field].as_array().cloned().unwrap_or_default();
    let types = list("types");
    let workers = list("workers");
    let queues: Vec<_> =
        list("queues").iter().filter_map(|queue| queue.as_str().map(str::to_owned)).collect();
    html! {
        section.card {
            div.head {
                div { h2.id { (id) } p.hint { (text("address")) " · version " (text("version"))
                    @if id == here { " · answers you, Redis in " (ping) } @if leader == Some(id) { " · leads" } } }
                (part::badge(status(host)))
            }
            dl.facts {
                div { dt { "Slots" } dd { span.progress { progress max=(slots.max(1)) value=(number("used")) aria-label="Slots in use" {} span.num { (format::number(number("used"))) " / " (format::number(slots)) } } } }
                (share("Processor", load["cpu"].as_f64().unwrap_or(0.0)))
                (share("Memory", load["memory"].as_f64().unwrap_or(0.0)))
                div { dt { "Workers' memory" } dd.num { (format::bytes(load["workers_memory_bytes"].as_u64().unwrap_or(0))) } }
                div { dt { "Queues" } dd { @if queues.is_empty() { "all" } @else { (queues.join(", ")) } } }
            }
            details {
                summary { "Workers (" (workers.len()) "), job types (" (types.len()) ")" }
                ul.lines {
                    @for worker in &workers {
                        li { code { (worker["id"].as_str().unwrap_or_default()) } " " span.hint { "process " (worker["pid"].as_u64().unwrap_or(0)) ", "
                            (worker["used"].as_u64().unwrap_or(0)) " of " (worker["slots"].as_u64().unwrap_or(0)) " slots" } }
                    }
                    @for one in &types {
                        li { a href=(format!("/jobs?{}", part::query([("type", one["name"].as_str().unwrap_or_default()), ("status", "running")]))) { (one["name"].as_str().unwrap_or_default()) } " " (one["version"].as_str().unwrap_or_default()) }
                    }
                }
            }
            (controls(viewer, id, host))
        }
    }
}

/// `GET /hosts`
pub(super) async fn page(Shared(service): Shared<Arc<Service>>, viewer: Viewer) -> Result<Response, Problem> {
    let mut hosts = service.store.hosts().await?;
    hosts.sort();
    let leader = service.store.leader().await?;
    let ping = service.store.ping().await?;
    let ping = format!("{:.2} ms", ping.as_secs_f64() * 1e3);
    let body = html! {
        div.head { h1 { "Hosts" } }
        div #hosts .cards data-live {
            @if hosts.is_empty() { (part::empty("No host has been heard of", html! { p { "They tell every second that they are there." } })) }
            @for (id, record) in &hosts {
                // Text that is no JSON can only come of damage in the store.
                @let host = serde_json::from_str::<Value>(record).unwrap_or_default();
                (card(&viewer, id, &host, &service.host.id, leader.as_deref(), &ping))
            }
        }
    };
    Ok(Page { section: Section::Hosts, title: "Hosts", fresh: Fresh::Polled, body }.answer(&viewer))
}

/// `POST /hosts/{id}/{action}`
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    Path((id, action)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    match action.as_str() {
        "pause" => api::pause(Shared(service), Name(id)).await?,
        "resume" => api::resume(Shared(service), Name(id)).await?,
        "drain" => api::drain(Shared(service), Name(id)).await?,
        _ => return Err(part::no_action(&action)),
    };
    Ok(see(form.back("/hosts")))
}
