//! `/errors` and `/errors/{fingerprint}`: failures that have type, kind, message and innermost calls in common.

use super::{
    format, jobs,
    page::{Fresh, Page, Section, see},
    part::{self, Fields, Look},
    viewer::{Form, Viewer},
};
use crate::api::{Problem, Service, error_groups as api, request::Name};
use axum::{extract::State as Shared, response::Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use waymark_store::{ErrorGroup, ErrorOrder};

/// Groups on the page.
const LIMIT: usize = 100;

/// Parameters of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(rename = "type")]
    job_type: Option<String>,
    sort: Option<String>,
}

fn row(group: &ErrorGroup, now_ms: u64) -> Markup {
    html! {
        tr {
            td.long { a href=(format!("/errors/{}", part::segment(&group.fingerprint))) { code.kind { (group.kind) } " " (group.pattern) } }
            td { (group.job_type) }
            td.num { (format::number(group.attempts)) }
            td.num { (format::number(group.failed)) }
            td.num.wide { (format::ago(now_ms, group.first_ms)) }
            td.num { (format::ago(now_ms, group.last_ms)) }
        }
    }
}

/// `GET /errors`
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Fields(asked): Fields<Asked>,
) -> Result<Response, Problem> {
    let by_attempts = asked.sort.as_deref() == Some("attempts");
    let order = if by_attempts { ErrorOrder::Attempts } else { ErrorOrder::LastSeen };
    let groups = service.store.error_groups(asked.job_type.as_deref(), 0, order).await?;
    let now_ms = service.store.now_ms().await?;
    let to = |sort: &str| {
        format!(
            "/errors?{}",
            part::query([("type", asked.job_type.as_deref().unwrap_or_default()), ("sort", sort)])
        )
    };
    let body = html! {
        div.head {
            h1 { "Errors" }
            nav.segments aria-label="Order" {
                a href=(to("last_seen")) aria-current=[(!by_attempts).then_some("true")] { "Seen last" }
                a href=(to("attempts")) aria-current=[by_attempts.then_some("true")] { "Most attempts" }
            }
        }
        div #errors data-live {
            @if groups.is_empty() { (part::empty("No failures", html! { p { "Failures of the same kind are one group here." } })) }
            @else {
                div.scroll role="region" aria-label="Groups of failures" tabindex="0" {
                    table {
                        thead { tr { th scope="col" { "Failure" } th scope="col" { "Type" } th.num scope="col" { "Attempts" } th.num scope="col" { "Jobs failed" }
                            th.num.wide scope="col" { "First" } th.num scope="col" { "Last" } } }
                        tbody { @for group in groups.iter().take(LIMIT) { (row(group, now_ms)) } }
                    }
                }
                @if groups.len() > LIMIT { p.hint { "The first " (LIMIT) " of " (groups.len()) " groups." } }
            }
        }
    };
    Ok(Page { section: Section::Errors, title: "Errors", fresh: Fresh::Polled, body }.answer(&viewer))
}

/// `GET /errors/{fingerprint}`
pub(super) async fn page(
    Shared(service): Shared<Arc<Service>>,
    viewer: Viewer,
    Name(fingerprint): Name,
) -> Result<Response, Problem> {
    let store = &service.store;
    let group = store.error_group(&fingerprint).await?.ok_or_else(|| api::unknown(&fingerprint))?;
    let mut views = Vec::with_capacity(group.jobs.len());
    for id in &group.jobs {
        views.extend(store.get(id).await?);
    }
    let now_ms = store.now_ms().await?;
    let failed = part::query([
        ("status", "failed"),
        ("type", group.job_type.as_str()),
        ("error_kind", group.kind.as_str()),
    ]);
    let body = html! {
        div.head {
            div { p.crumbs { a href="/errors" { "Errors" } " / " (group.job_type) } h1 { (group.kind) } }
            div.buttons {
                a.button href=(format!("/jobs?{failed}")) { "Failed jobs of this kind" }
                @if viewer.may_operate() {
                    (part::button(&viewer, &format!("/errors/{}/forget", part::segment(&fingerprint)), "Forget", Look::Danger, Some("Forget this group? The next failure of its kind begins a new one.")))
                }
            }
        }
        section.card.failure {
            p { (group.message) }
            dl.facts {
                div { dt { "Attempts" } dd.num { (format::number(group.attempts)) } }
                div { dt { "Jobs failed" } dd.num { (format::number(group.failed)) } }
                div { dt { "First" } dd { (format::ago(now_ms, group.first_ms)) } }
                div { dt { "Last" } dd { (format::ago(now_ms, group.last_ms)) } }
                div { dt { "Fingerprint" } dd { code { (group.fingerprint) } } }
            }
            p.hint { "What they have in common: " (group.pattern) }
            @if !group.frames.is_empty() {
                h2 { "Innermost calls" }
                pre tabindex="0" aria-label="Innermost calls" { code { (group.frames.join("\n")) } }
            }
        }
        section.card {
            h2 { "Versions of the plugin" }
            ul.lines { @for (version, attempts) in &group.versions { li { (version) " " span.hint { (format::number(*attempts)) " attempts" } } } }
        }
        section {
            h2 { "Jobs that failed so last" }
            @if views.is_empty() { (part::empty("They are deleted by now", html! {})) } @else { (jobs::table(now_ms, &views, "Jobs")) }
        }
    };
    Ok(Page { section: Section::Errors, title: &group.kind, fresh: Fresh::Never, body }.answer(&viewer))
}

/// `POST /errors/{fingerprint}/forget`
pub(super) async fn forget(
    Shared(service): Shared<Arc<Service>>,
    Name(fingerprint): Name,
    _: Form,
) -> Result<Response, Problem> {
    api::forget(Shared(service), Name(fingerprint)).await?;
    Ok(see("/errors"))
}
