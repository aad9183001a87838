//! The OpenAPI document, generated from the handlers. A copy is kept in `host/daemon/openapi.json`, so that a change
//! of the contract shows in review.

use super::{
    Service, audit, batch, bulk, celery, changes, checkpoints, error, error_groups, events, health, hosts,
    jobs, limits, output, plugins, queues, replay, routes as job_routes, scale, schedules, workflows,
};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use std::sync::{Arc, LazyLock};
use utoipa::{
    Modify, OpenApi, ToSchema as _,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Waymark",
        description = "Runs background jobs as sandboxed WebAssembly components that can be paused, moved, rewound and resumed.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "jobs", description = "Create, follow and control jobs."),
        (name = "workflows", description = "Graphs of jobs that need one another."),
        (name = "plugins", description = "Job types."),
        (name = "queues", description = "Lines of jobs, and how many there are."),
        (name = "routes", description = "Which version of a job type, or who else, runs its jobs."),
        (name = "errors", description = "Failures, folded by what they have in common."),
        (name = "schedules", description = "Jobs that are made at planned times."),
        (name = "hosts", description = "Who runs the jobs."),
        (name = "audit", description = "Who asked for which change."),
        (name = "health", description = "For load balancers and monitoring."),
    ),
    security(("token" = [])),
    components(schemas(error::Document, changes::JobChange, changes::Gap)),
    modifiers(&Common),
)]
struct Base;

/// What holds for every call.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some("Only where the host has tokens.".into());
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(http));
        }
    }
}

/// Every route with its description.
///
/// Each part is a function that is not inlined: what the macros expand to is long, and some of the compiler's passes take
/// the square of a function's length.
pub(super) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(Base::openapi())
        .merge(routes_of_jobs())
        .merge(controls_of_jobs())
        .merge(routes_of_workflows())
        .merge(routes_of_plugins())
        .merge(routes_of_types())
        .merge(routes_of_queues())
        .merge(routes_of_limits())
        .merge(routes_of_errors())
        .merge(routes_of_schedules())
        .merge(routes_of_hosts())
        .merge(routes_of_health())
}

#[inline(never)]
fn routes_of_jobs() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(batch::create))
        .routes(routes!(bulk::step))
        .routes(routes!(jobs::show, jobs::change, jobs::delete))
        .routes(routes!(events::follow))
        .routes(routes!(changes::follow))
        .routes(routes!(output::output))
        .routes(routes!(output::logs))
        .routes(routes!(checkpoints::newest))
        .routes(routes!(checkpoints::list))
}

#[inline(never)]
fn controls_of_jobs() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::restart))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::cancel))
        .routes(routes!(replay::replay))
        .routes(routes!(jobs::signal))
}

#[inline(never)]
fn routes_of_workflows() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(workflows::create, workflows::list))
        .routes(routes!(workflows::show))
        .routes(routes!(workflows::retry))
}

#[inline(never)]
fn routes_of_plugins() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::show, plugins::put, plugins::delete))
        .routes(routes!(plugins::roll_back))
}

#[inline(never)]
fn routes_of_types() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(job_routes::list))
        .routes(routes!(job_routes::show, job_routes::put, job_routes::delete))
        .routes(routes!(job_routes::mismatches))
        .routes(routes!(job_routes::act))
}

#[inline(never)]
fn routes_of_queues() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::purge))
        .routes(routes!(queues::counts))
}

#[inline(never)]
fn routes_of_limits() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new().routes(routes!(celery::show)).routes(routes!(celery::requeue)).routes(routes!(
        limits::show,
        limits::put,
        limits::delete
    ))
}

#[inline(never)]
fn routes_of_errors() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(error_groups::list))
        .routes(routes!(error_groups::show, error_groups::forget))
}

#[inline(never)]
fn routes_of_schedules() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::preview))
        .routes(routes!(schedules::show, schedules::put, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
}

#[inline(never)]
fn routes_of_hosts() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::drain))
        .routes(routes!(hosts::pause))
        .routes(routes!(hosts::resume))
        .routes(routes!(audit::list))
        .routes(routes!(scale::show))
}

#[inline(never)]
fn routes_of_health() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(show))
}

/// The document, as pretty JSON.
///
/// # Panics
/// Never: the document is made of strings and maps.
#[must_use]
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut document = routes().into_openapi();
        for item in document.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let problem = ResponseBuilder::new()
                    .description("Refused or failed: a problem document (RFC 9457) with a stable code.")
                    .content(
                        "application/problem+json",
                        ContentBuilder::new()
                            .schema(Some(RefOr::Ref(Ref::from_schema_name(error::Document::name()))))
                            .build(),
                    )
                    .build();
                operation.responses.responses.insert("default".into(), problem.into());
            }
        }
        let mut text = document.to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &DOCUMENT
}

/// This document.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "health", operation_id = "openapi", security(()),
    responses((status = 200, description = "The document (OpenAPI 3.1).", body = Object)),
)]
async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_document_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
            // The clients' models are made from it.
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/generate.py");
            assert!(std::process::Command::new("python3").arg(script).status().unwrap().success());
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == document(), "host/daemon/openapi.json is out of date: run this test with UPDATE=1");
    }
}
