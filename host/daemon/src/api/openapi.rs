//! The OpenAPI document, generated from the handlers. A copy is kept in `host/daemon/openapi.json`, so that a change
//! of the contract shows in review.
//!
//! A call's description names the refusals that are its own by their codes, with commas between them:
//! `(status = 404, description = "unknown-job, no-checkpoint")`. Those that follow from what a call takes are added here.

use super::{
    Code, Service, audit, batch, bulk, celery, changes, checkpoints, error, error_groups, events, health,
    hosts, jobs, keys, limits, output, plugins, queues, replay, routes as job_routes, scale, schedules,
    workflows,
};
use axum::{
    http::{Method, header},
    response::{IntoResponse, Response},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use utoipa::{
    Modify, OpenApi, ToSchema as _,
    openapi::{
        self, ContentBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
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
        (name = "keys", description = "What stored values are encrypted with."),
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
        .routes(routes!(keys::reencrypt))
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

/// What the guard takes from every request that the audit log keeps.
fn why() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(audit::WHY_CHARS_MAX));
    ParameterBuilder::new()
        .name("why")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("Why, for the audit log."))
        .schema(Some(text))
        .build()
}

/// Is a request like this kept in the audit log?
fn is_audited(method: &Method, path: &str, operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    audit::is_kept(method, path) || parameters.any(|parameter| parameter.name == "reveal")
}

/// All calls, with method and path.
fn calls(document: &mut openapi::OpenApi) -> impl Iterator<Item = (Method, &str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let calls = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        let path = path.as_str();
        calls.into_iter().filter_map(move |(method, call)| Some((method, path, call.as_mut()?)))
    })
}

/// Gives every call that the audit log keeps its parameter `why`.
fn describe_why(document: &mut openapi::OpenApi) {
    for (method, path, operation) in calls(document) {
        if is_audited(&method, path, operation) {
            operation.parameters.get_or_insert_default().push(why());
        }
    }
}

/// Gives every call the refusals that it may be answered with, each status with the codes that go with it.
fn describe_refusals(document: &mut openapi::OpenApi) {
    let mut described = BTreeMap::new();
    for (method, _, operation) in calls(document) {
        let mut codes = own_refusals(operation);
        codes.extend(common_refusals(operation, !method.is_safe()));
        let mut statuses: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
            statuses.entry(code.status().as_u16()).or_default().push(*code);
        }
        let responses = &mut operation.responses.responses;
        responses.retain(|status, _| !is_refusal(status));
        for (status, codes) in statuses {
            let names: Vec<_> = codes.iter().map(|code| code.name()).collect();
            let name = names.join(".");
            responses.insert(status.to_string(), RefOr::Ref(Ref::from_response_name(name.as_str())));
            described.entry(name).or_insert_with(|| RefOr::T(refusal(&codes)));
        }
    }
    document.components.get_or_insert_default().responses.extend(described);
}

fn is_refusal(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

/// The refusals that the call's own description names.
fn own_refusals(operation: &Operation) -> Vec<Code> {
    let mut codes = Vec::new();
    for (status, response) in &operation.responses.responses {
        if let RefOr::T(response) = response
            && is_refusal(status)
        {
            let names = response.description.split(", ");
            codes.extend(names.filter_map(|name| Code::ALL.iter().find(|code| code.name() == name)));
        }
    }
    codes
}

/// The refusals that follow from what a call takes, and from what is done before its handler is asked.
fn common_refusals(operation: &Operation, is_change: bool) -> Vec<Code> {
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let takes = |place: &ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == *place);
    let nobody = SecurityRequirement::default();
    let is_open = operation.security.iter().flatten().any(|needed| *needed == nobody);
    let body = operation.request_body.as_ref();
    let groups: [(bool, &[Code]); 8] = [
        (true, &[Code::ForeignOrigin, Code::Internal, Code::Timeout, Code::TooManyConnections]),
        (!is_open, &[Code::Unauthorized, Code::ScopeMissing, Code::RateLimited, Code::StoreUnavailable]),
        (is_change, &[Code::ReadOnly, Code::RequestTimeout, Code::StoreFull]),
        (takes(&ParameterIn::Path), &[Code::UnknownPath]),
        (takes(&ParameterIn::Query), &[Code::InvalidQuery]),
        (parameters.iter().any(|parameter| parameter.name == "cursor"), &[Code::BadCursor]),
        (body.is_some(), &[Code::BodyTooLarge]),
        (body.is_some_and(|body| body.content.contains_key("application/json")), &[Code::MalformedJson]),
    ];
    groups.into_iter().filter(|(holds, _)| *holds).flat_map(|(_, codes)| codes).copied().collect()
}

/// What the refusals of one status look like.
fn refusal(codes: &[Code]) -> openapi::Response {
    let sentences: Vec<_> =
        codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
    let problem = RefOr::Ref(Ref::from_schema_name(error::Document::name()));
    ResponseBuilder::new()
        .description(sentences.join(" "))
        .content("application/problem+json", ContentBuilder::new().schema(Some(problem)).build())
        .build()
}

/// The document, as pretty JSON.
///
/// # Panics
/// Never: the document is made of strings and maps.
#[must_use]
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut document = routes().into_openapi();
        describe_why(&mut document);
        describe_refusals(&mut document);
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
    fn every_refusal_that_a_call_names_is_a_code_of_its_status() {
        let mut named = 0;
        for (_, path, operation) in calls(&mut routes().into_openapi()) {
            for (status, response) in &operation.responses.responses {
                assert_ne!(status, "default", "{path}");
                let RefOr::T(response) = response else { continue };
                for name in response.description.split(", ").filter(|_| is_refusal(status)) {
                    let code = Code::ALL.iter().find(|code| code.name() == name);
                    let expected = code.map(|code| code.status().as_u16().to_string());
                    assert_eq!(expected.as_deref(), Some(status.as_str()), "{path}: {name}");
                    named += 1;
                }
            }
        }
        assert!(named > 50, "only {named} refusals are named");
    }

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
