//! `/routes`: which version of a job type, or who else, runs its jobs; canaries, what was counted, and what differs.

use super::{
    Service,
    answer::Timestamp,
    audit::Why,
    auth::Actor,
    error::{Code, Problem, Violation},
    request::{self, Name, Names, Params, reply, shorten},
    submission::is_job_type,
};
use crate::routes::{self, Act, Routes};
use axum::{
    Extension,
    body::Body,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use waymark_job::route::{Change, Route, Stored, compare::Difference, guard};
use waymark_store::Mismatch;

/// A route.
#[derive(Serialize, ToSchema)]
#[schema(as = Route)]
pub(crate) struct Shown {
    /// Job type.
    #[serde(rename = "type")]
    pub(crate) job_type: String,
    /// As it was put, with the weights of now and the digests of its versions: `targets`, `sticky`, `flags`, `canary`,
    /// `shadow`.
    #[schema(value_type = Object)]
    pub(crate) route: Route,
    /// Grows with every change.
    pub(crate) revision: u64,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) changed_at: Timestamp,
    /// How far its canary is; `null` where there is none.
    pub(crate) canary: Option<Canary>,
}

/// How far a canary is.
#[derive(Serialize, ToSchema)]
#[schema(as = RouteCanary)]
pub(crate) struct Canary {
    /// `running`, `held`, `promoted` or `rolled back`.
    pub(crate) standing: &'static str,
    /// Number of its step, from 1.
    pub(crate) step: usize,
    /// Steps in all.
    pub(crate) steps: usize,
    /// When that began.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// How often the counts of this step were looked at.
    pub(crate) looks: u32,
}

/// What was counted of one target since the route, or its canary's step, began.
#[derive(Serialize, ToSchema)]
#[schema(as = RouteArm)]
pub(crate) struct Arm {
    /// Name of the target.
    pub(crate) arm: String,
    /// Share, per cent.
    pub(crate) weight: u8,
    /// `version`, `celery` or `http`.
    pub(crate) kind: String,
    /// SHA-256 of the version, the Celery queue and task, or the address.
    pub(crate) target: String,
    /// Attempts that ended.
    pub(crate) attempts: u64,
    /// Those that failed.
    pub(crate) errors: u64,
    /// The same as a part, 0 to 1.
    pub(crate) error_rate: Option<f64>,
    /// Mean running time of those that succeeded, milliseconds.
    pub(crate) mean_ms: Option<f64>,
    /// Half of them ran no longer, milliseconds; as exactly as a fifth.
    pub(crate) p50_ms: Option<f64>,
    /// 95 of 100 ran no longer.
    pub(crate) p95_ms: Option<f64>,
    /// Mean length of their results, bytes.
    pub(crate) result_bytes: Option<u64>,
}

/// An entry of a route's history.
#[derive(Serialize, ToSchema)]
#[schema(as = RouteChange)]
pub(crate) struct Changed {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Name of the token or user; `waymark`: the host itself.
    pub(crate) who: String,
    /// `put`, `delete`, `advance`, `promote`, `hold`, `rollback` or `undo`.
    pub(crate) what: String,
    /// Why, as whoever asked said, or with the figures that decided.
    pub(crate) why: String,
}

/// A route with what was counted and what changed.
#[derive(Serialize, ToSchema)]
#[schema(as = RouteWithCounts)]
pub(crate) struct Whole {
    /// The route; `null`: the active version of the plugin runs the type.
    #[serde(flatten)]
    pub(crate) shown: Shown,
    /// What was counted of each target.
    pub(crate) arms: Vec<Arm>,
    /// Pairs of a job and its shadow job that were compared.
    pub(crate) compared: u64,
    /// Those that differ.
    pub(crate) mismatched: u64,
    /// The last changes, newest first, at most 50.
    pub(crate) history: Vec<Changed>,
}

/// All routes.
#[derive(Serialize, ToSchema)]
#[schema(as = Routes)]
pub(super) struct All {
    /// By job type.
    routes: Vec<Shown>,
}

impl Shown {
    pub(crate) fn new(job_type: String, stored: Stored) -> Self {
        let steps = stored.route.canary.as_ref().map_or(0, |canary| canary.steps.len());
        let canary = stored.progress.as_ref().map(|progress| Canary {
            standing: routes::standing(progress),
            step: progress.step + 1,
            steps,
            since: Timestamp(progress.since_ms),
            looks: progress.looks,
        });
        let (revision, changed_at) = (stored.revision, Timestamp(stored.changed_ms));
        Self { job_type, route: stored.route, revision, changed_at, canary }
    }
}

fn arms(route: &Route, counts: &guard::Counts) -> Vec<Arm> {
    let none = guard::Arm::default();
    let shown = |target: &waymark_job::route::Target| {
        let counted = counts.arms.get(&target.arm).unwrap_or(&none);
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
        let routed = target.routed();
        Arm {
            arm: routed.arm,
            weight: target.weight,
            kind: routed.kind,
            target: routed.target,
            attempts: counted.attempts,
            errors: counted.errors,
            error_rate: counted.error_rate(),
            mean_ms: ms(counted.mean_us()),
            p50_ms: ms(counted.quantile_us(0.5)),
            p95_ms: ms(counted.quantile_us(0.95)),
            result_bytes: counted.bytes.checked_div(counted.attempts - counted.errors.min(counted.attempts)),
        }
    };
    route.targets.iter().map(shown).collect()
}

fn changed(change: Change) -> Changed {
    Changed { at: Timestamp(change.at_ms), who: change.who, what: change.what, why: change.why }
}

impl Service {
    fn routes(&self) -> Routes {
        Routes::new(self.store.clone(), self.directory.clone(), self.celery.clone())
    }

    /// All routes, by job type.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn all_routes(&self) -> Result<Vec<Shown>, Problem> {
        let found = self.store.routes().await?;
        Ok(found.into_iter().map(|(job_type, stored)| Shown::new(job_type, stored)).collect())
    }

    /// A route with what was counted and what changed.
    ///
    /// # Errors
    /// `unknown-route`, or the store does not answer.
    pub(crate) async fn whole_route(&self, job_type: &str) -> Result<Whole, Problem> {
        let stored = self.store.route(job_type).await?.ok_or_else(|| unknown(job_type))?;
        let counts = self.store.route_counts(job_type, stored.epoch).await?;
        let history = self.store.route_changes(job_type).await?.into_iter().map(changed).collect();
        Ok(Whole {
            arms: arms(&stored.route, &counts),
            compared: counts.compared,
            mismatched: counts.mismatched,
            history,
            shown: Shown::new(job_type.to_owned(), stored),
        })
    }

    /// Does what is asked of a route; who asked and why goes into its history.
    ///
    /// # Errors
    /// `unknown-route`, `wrong-standing`, `route-changed`, or the store does not answer.
    pub(crate) async fn act_on_route(
        &self,
        job_type: &str,
        act: Act,
        who: &str,
        why: &str,
    ) -> Result<Option<Stored>, Problem> {
        let next = self.routes().act(job_type, act, who, why).await?;
        self.metrics.route_changes.with_label_values(&[job_type, act.name()]).inc();
        Ok(next)
    }
}

fn unknown(job_type: &str) -> Problem {
    Problem::new(Code::UnknownRoute, format!("The job type {:?} has no route.", shorten(job_type)))
}

/// Lists the routes.
#[utoipa::path(
    get, path = "/api/v1/routes", tag = "routes", operation_id = "list_routes",
    responses((status = 200, description = "The routes.", body = All)),
)]
pub(super) async fn list(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    Ok(reply(StatusCode::OK, &All { routes: service.all_routes().await? }))
}

/// Shows the route of a job type, what was counted of each of its targets, and its last changes.
#[utoipa::path(
    get, path = "/api/v1/routes/{type}", tag = "routes", operation_id = "show_route",
    params(("type" = String, Path, description = "Job type.")),
    responses(
        (status = 200, description = "The route.", body = Whole),
        (status = 404, description = "unknown-route"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    Ok(reply(StatusCode::OK, &service.whole_route(&name).await?))
}

/// Puts a route in the place of the one there is. It holds within two seconds for every job that has not committed a
/// step; a canary begins with its first step.
#[utoipa::path(
    put, path = "/api/v1/routes/{type}", tag = "routes", operation_id = "put_route",
    params(("type" = String, Path, description = "Job type.")),
    request_body(content = Object, description = "`targets`, `sticky`, `flags`, `canary`, `shadow`: docs/routes.md."),
    responses(
        (status = 200, description = "It holds.", body = Shown),
        (status = 409, description = "route-changed"),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(super) async fn put(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Extension(Why(why)): Extension<Why>,
    Name(name): Name,
    body: Body,
) -> Result<Response, Problem> {
    if !is_job_type(&name) {
        let detail = "a job type is named with 1 to 64 of a-z, 0-9, '_' and '-'".to_owned();
        return Err(Problem::violations(
            Code::InvalidField,
            vec![Violation { pointer: String::new(), detail }],
        ));
    }
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let value = serde_json::from_slice(&text).map_err(|error| {
        Problem::new(Code::MalformedJson, format!("The body is not well-formed JSON: {error}."))
    })?;
    let route = routes::read(&value).map_err(|(pointer, detail)| {
        Problem::violations(Code::InvalidField, vec![Violation { pointer, detail }])
    })?;
    let stored = service.routes().put(&name, route, &actor.name, &why).await?;
    service.metrics.route_changes.with_label_values(&[name.as_str(), "put"]).inc();
    Ok(reply(StatusCode::OK, &Shown::new(name, stored)))
}

/// Removes a route: the active version of the plugin runs the type again.
#[utoipa::path(
    delete, path = "/api/v1/routes/{type}", tag = "routes", operation_id = "delete_route",
    params(("type" = String, Path, description = "Job type.")),
    responses(
        (status = 204, description = "The type has no route."),
        (status = 404, description = "unknown-route"),
        (status = 409, description = "route-changed"),
    ),
)]
pub(super) async fn delete(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Extension(Why(why)): Extension<Why>,
    Name(name): Name,
) -> Result<Response, Problem> {
    service.routes().delete(&name, &actor.name, &why).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Parameters of a change.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// To the last step instead of the next one; for `promote` alone. Default false.
    full: Option<bool>,
}

/// Changes a route: `promote` takes its canary to the next step, `hold` keeps it in its step, `rollback` takes all
/// weight from it, `undo` makes the route what it was before its last change.
#[utoipa::path(
    post, path = "/api/v1/routes/{type}/{action}", tag = "routes", operation_id = "change_route",
    params(
        ("type" = String, Path, description = "Job type."),
        ("action" = String, Path, description = "`promote`, `hold`, `rollback` or `undo`."),
        How,
    ),
    responses(
        (status = 200, description = "Done.", body = Shown),
        (status = 204, description = "Done: the type had no route before its last change, and has none again."),
        (status = 404, description = "unknown-route"),
        (status = 409, description = "wrong-standing, route-changed"),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(super) async fn act(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Extension(Why(why)): Extension<Why>,
    Names(name, action): Names,
    Params(how): Params<How>,
) -> Result<Response, Problem> {
    let act = named(&action, how.full == Some(true))?;
    Ok(match service.act_on_route(&name, act, &actor.name, &why).await? {
        Some(stored) => reply(StatusCode::OK, &Shown::new(name, stored)),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// What a word of the path asks for.
pub(crate) fn named(action: &str, full: bool) -> Result<Act, Problem> {
    match action {
        "promote" if full => Ok(Act::PromoteFully),
        "promote" => Ok(Act::Promote),
        "hold" => Ok(Act::Hold),
        "rollback" => Ok(Act::RollBack),
        "undo" => Ok(Act::Undo),
        _ => Err(Problem::new(
            Code::UnknownPath,
            format!("There is no action {:?}: there are promote, hold, rollback and undo.", shorten(action)),
        )),
    }
}

/// A job and its shadow job that ended in different ways.
#[derive(Serialize, ToSchema)]
#[schema(as = ShadowMismatch)]
pub(super) struct Pair {
    /// When they were compared.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The job.
    #[schema(value_type = String)]
    job: waymark_job::JobId,
    /// Its shadow job.
    #[schema(value_type = String)]
    shadow: waymark_job::JobId,
    /// How the job ended: `{"succeeded": result}` or `{"failed": kind}`; `null`: too long to be kept here.
    #[schema(value_type = Option<Object>)]
    left: Option<waymark_job::route::compare::Outcome>,
    /// How its shadow job ended.
    #[schema(value_type = Option<Object>)]
    right: Option<waymark_job::route::compare::Outcome>,
    /// Where they differ, at most 20 places, each with `pointer`, `left` and `right`.
    #[schema(value_type = Vec<Object>)]
    differences: Vec<Difference>,
}

/// Pairs that differ.
#[derive(Serialize, ToSchema)]
#[schema(as = ShadowMismatches)]
pub(super) struct Pairs {
    /// Newest first, at most 100.
    mismatches: Vec<Pair>,
}

/// Lists the newest pairs of a job and its shadow job that ended in different ways.
#[utoipa::path(
    get, path = "/api/v1/routes/{type}/mismatches", tag = "routes", operation_id = "list_mismatches",
    params(("type" = String, Path, description = "Job type.")),
    responses((status = 200, description = "The pairs.", body = Pairs)),
)]
pub(super) async fn mismatches(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    let pair = |one: Mismatch| Pair {
        at: Timestamp(one.at_ms),
        job: one.job,
        shadow: one.shadow,
        left: one.left,
        right: one.right,
        differences: one.differences,
    };
    let mismatches = service.store.mismatches(&name).await?.into_iter().map(pair).collect();
    Ok(reply(StatusCode::OK, &Pairs { mismatches }))
}
