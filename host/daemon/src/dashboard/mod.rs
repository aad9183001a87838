//! The dashboard: pages for people, at `/`.
//!
//! Pages are written on the server and are whole without scripts; `dashboard.js` keeps them fresh, from the events of
//! the API or by asking again. What is shown is read through the same calls of the store as the API does, and what is
//! asked for goes through the API's handlers: there is no second way to do anything. Every text of a guest or a caller
//! is escaped by the templates. A list reads one bounded page, however many jobs there are.
//!
//! * [`viewer`]: who looks, and the forms that they send.
//! * [`page`]: the frame around every page; [`part`]: pieces that pages share; [`format`](mod@format): numbers and times.
//! * [`chart`], [`graph`]: drawings.
//! * One file per page: [`overview`] with [`stuck`], [`jobs`] with [`bulk`], [`job`] with [`timeline`],
//!   [`checkpoints`], [`workflows`], [`schedules`], [`queues`], [`routes`], [`plugins`], [`hosts`], [`errors`], [`audit`].
//! * [`assets`]: the style sheet, the script and the icon, from the binary.

mod assets;
mod audit;
mod bulk;
mod chart;
mod checkpoints;
mod errors;
mod format;
mod graph;
mod hosts;
mod job;
mod jobs;
mod overview;
mod page;
mod part;
mod plugins;
mod queues;
mod routes;
mod schedules;
mod stuck;
mod timeline;
mod viewer;
mod workflows;

pub(crate) use page::{Frame, bare_page, problem_page};

use crate::api::Service;
use axum::{
    Router,
    routing::{get, post},
};
use std::sync::Arc;

/// Every page and form. Paths are those of the API without its first part.
pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/jobs", get(jobs::page))
        .route("/jobs/bulk", post(bulk::act))
        .route("/jobs/{id}", get(job::page))
        .route("/jobs/{id}/checkpoints", get(checkpoints::page))
        .route("/jobs/{id}/replay", get(job::replay_form).post(job::replay))
        .route("/jobs/{id}/{action}", post(job::act))
        .route("/workflows", get(workflows::list))
        .route("/workflows/{id}", get(workflows::page))
        .route("/workflows/{id}/retry", post(workflows::retry))
        .route("/schedules", get(schedules::list))
        .route("/schedules/{name}", get(schedules::page))
        .route("/schedules/{name}/{action}", post(schedules::act))
        .route("/queues", get(queues::page))
        .route("/queues/{queue}/{action}", post(queues::act))
        .route("/routes", get(self::routes::list))
        .route("/routes/{type}", get(self::routes::page))
        .route("/routes/{type}/{action}", post(self::routes::act))
        .route("/plugins", get(plugins::page))
        .route("/plugins/{type}/rollback", post(plugins::roll_back))
        .route("/hosts", get(hosts::page))
        .route("/hosts/{id}/{action}", post(hosts::act))
        .route("/errors", get(errors::list))
        .route("/errors/{fingerprint}", get(errors::page))
        .route("/errors/{fingerprint}/forget", post(errors::forget))
        .route("/audit", get(audit::page))
        .route("/theme", post(page::theme))
        .route("/assets/{file}", get(assets::serve))
}
