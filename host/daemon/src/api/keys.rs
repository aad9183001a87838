//! `POST /keys/reencrypt`: what old keys encrypted is encrypted again by the active one, a bounded step per request.
//!
//! Nothing is kept about it: a pass that was broken off is begun anew, and finds done what is done.

use super::{
    Service,
    error::Problem,
    request::{Params, invalid_query, reply},
};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::{IntoParams, ToSchema};
use waymark_store::Resealed;

/// From where, and whether anything is written.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Step {
    /// `next_cursor` of the step before. Default: the first jobs.
    cursor: Option<String>,
    /// Only count. Default false.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// What a step found and did.
#[derive(Serialize, ToSchema)]
pub(super) struct Reencrypted<'a> {
    /// Id of the active key; `null` where there is none.
    active: Option<&'a str>,
    /// Jobs looked at.
    jobs: u64,
    /// Values by the id of the key that they were encrypted with when they were looked at; a job's input with its metadata
    /// is one.
    values: BTreeMap<String, u64>,
    /// Those of other keys that are encrypted with the active one now.
    reencrypted: u64,
    /// Those of other keys that stay as they are: it was a dry run, they changed meanwhile, their key is missing, or they lie in a
    /// storage that does not answer. Another pass finds them.
    left: u64,
    /// `cursor` of the next step; `null` at the end.
    next_cursor: Option<String>,
}

/// Encrypts with the active key what another one encrypted, for about a second; running hosts need not stop. Needs the scope
/// `admin`.
#[utoipa::path(
    post, path = "/api/v1/keys/reencrypt", tag = "keys", operation_id = "reencrypt", params(Step),
    responses((status = 200, description = "One step.", body = Reencrypted)),
)]
pub(super) async fn reencrypt(
    Shared(service): Shared<Arc<Service>>,
    Params(step): Params<Step>,
) -> Result<Response, Problem> {
    let active = service.store.options().encryption.active();
    if active.is_none() && !step.dry_run {
        return Err(invalid_query(
            "dry_run: this host has no active key ([encryption] of its configuration), so it can only count: ask with \
             dry_run=true",
        ));
    }
    let found = service.store.reseal(step.cursor.as_deref(), step.dry_run).await?;
    let Resealed { jobs, found: values, resealed: reencrypted, left, cursor: next_cursor } = found;
    Ok(reply(StatusCode::OK, &Reencrypted { active, jobs, values, reencrypted, left, next_cursor }))
}
