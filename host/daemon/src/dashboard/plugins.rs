//! `/plugins`: what this host can run, and why not what it cannot.

use super::{
    format,
    page::{Fresh, Page, Section, see},
    part::{self, Look},
    viewer::{Form, Viewer},
};
use crate::{
    api::{Problem, Service, plugins as api, request::Name},
    directory::PluginStatus,
};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use std::{collections::BTreeMap, sync::Arc};
use waymark_job::State;

fn loaded(at: time::OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp()).unwrap_or(0) * 1_000
}

/// What became of the jobs of the version before the active one.
fn swap(plugin: &PluginStatus) -> Markup {
    let active = plugin.versions.iter().find(|version| version.active);
    let Some(swap) = active.and_then(|version| version.swap.as_ref()).filter(|swap| !swap.trials.is_empty())
    else {
        return html! {};
    };
    html! {
        details {
            summary { "Jobs of the version before (" (swap.trials.len()) " tried)" }
            ul.lines { @for trial in &swap.trials { li { code { (trial.of) } " " span.note { (trial.verdict) } " " (trial.why) } } }
        }
    }
}

fn card(viewer: &Viewer, plugin: &PluginStatus, counts: &BTreeMap<&str, (u64, u64)>, now_ms: u64) -> Markup {
    let (waiting, running) = counts.get(plugin.name.as_str()).copied().unwrap_or_default();
    html! {
        section.card.plugin {
            div.head {
                h2 { a href=(format!("/jobs?{}", part::query([("type", plugin.name.as_str())]))) { (plugin.name) } @if let Some(version) = &plugin.version { " " small { (version) } } }
                (part::badge(&plugin.state))
            }
            @if let Some(text) = &plugin.description { p { (text) } }
            @if let Some(error) = &plugin.error { p.error { code.kind { (error.code) } " " (error.message) } }
            dl.facts {
                div { dt { "Queued" } dd.num { (format::number(waiting)) } }
                div { dt { "Running" } dd.num { (format::number(running)) } }
                div { dt { "File" } dd { code { (plugin.file) } } }
                div { dt { "Size" } dd.num { (format::bytes(plugin.bytes)) } }
                @if let Some(digest) = &plugin.digest { div { dt { "SHA-256" } dd { code title=(digest) { (digest.get(..16).unwrap_or(digest)) "…" } } } }
                @if let Some(at) = plugin.loaded_at { div { dt { "Loaded" } dd { (format::ago(now_ms, loaded(at))) } } }
            }
            details {
                summary { "Imports (" (plugin.imports.len()) ")" }
                @if plugin.imports.is_empty() { p.hint { "Nothing beyond the contract." } }
                @else { ul.lines { @for import in &plugin.imports { li { code { (import) } } } } }
                @for one in &plugin.capabilities { @if let Some(grant) = &one.grant {
                    p.hint { code { (one.import) } " is " (one.state) ": " (grant) }
                } }
            }
            @if plugin.versions.len() > 1 {
                details {
                    summary { "Versions (" (plugin.versions.len()) ")" }
                    ul.lines {
                        @for version in plugin.versions.iter().rev() {
                            li { (version.version) " " code { (version.digest.get(..16).unwrap_or(&version.digest)) "…" } " "
                                @if version.active { span.note { "new jobs" } } @else if version.withdrawn { span.note { "withdrawn" } } @else { span.note { "for jobs that began with it" } } }
                        }
                    }
                }
            }
            (swap(plugin))
            @let before = plugin.versions.iter().take_while(|version| !version.active).any(|version| !version.withdrawn);
            @if viewer.may_admin() && before && plugin.versions.iter().any(|version| version.active) {
                (part::button(viewer, &format!("/plugins/{}/rollback", part::segment(&plugin.name)), "Roll back", Look::Danger, Some("Make the version before the active one active again?")))
            }
            @if let Some(schema) = &plugin.input_schema {
                details { summary { "Input schema" } (part::text_block(&format!("schema-{}", plugin.name), "Input schema", &schema.to_string())) }
            }
        }
    }
}

/// `GET /plugins`
pub(super) async fn page(Shared(service): Shared<Arc<Service>>, viewer: Viewer) -> Result<Response, Problem> {
    let plugins = service.directory.list();
    let types = service.store.types().await?;
    let now_ms = service.store.now_ms().await?;
    let all = service.store.counts().await?;
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (job_type, state, jobs) in &all {
        let slot = counts.entry(job_type).or_default();
        match state {
            State::Queued => slot.0 += jobs,
            State::Running => slot.1 += jobs,
            _ => {}
        }
    }
    let elsewhere: Vec<_> =
        types.iter().filter(|(name, _)| !plugins.iter().any(|plugin| plugin.name == *name)).collect();
    let body = html! {
        div.head { h1 { "Plugins" } p.hint { "of host " code { (service.host.id) } } }
        @if viewer.may_admin() {
            form #upload .filter.script data-upload {
                div.fields {
                    label { span { "Job type" } input type="text" name="name" required pattern="[a-z0-9_\\-]{1,64}" autocomplete="off"; }
                    label { span { "Component (.wasm)" } input type="file" name="file" accept=".wasm" required; }
                    div.buttons { button type="submit" { "Upload" } }
                }
                p.hint role="status" {}
            }
        }
        div #plugins .cards data-live {
            @if plugins.is_empty() {
                (part::empty("This host has no plugins", html! {
                    p { "Make one: " code { "waymark plugin new my-job" } ". Then put it into service: " code { "waymark plugin install my-job.wasm" } "." }
                }))
            }
            @for plugin in &plugins { (card(&viewer, plugin, &counts, now_ms)) }
        }
        @if !elsewhere.is_empty() {
            section.card { h2 { "Job types that only other hosts have or had" } ul.lines { @for (name, _) in &elsewhere { li { (name) } } } }
        }
    };
    Ok(Page { section: Section::Plugins, title: "Plugins", fresh: Fresh::Polled, body }.answer(&viewer))
}

/// `POST /plugins/{type}/rollback`
pub(super) async fn roll_back(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
    form: Form,
) -> Result<Response, Problem> {
    api::roll_back(Shared(service), Name(name)).await?;
    Ok(see(form.back("/plugins")))
}
