//! Which jobs: the parameters that lists and bulk calls share.

use super::{
    error::Problem,
    request::{invalid_query, read_query, shorten},
};
use axum::{extract::FromRequestParts, http::request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::IntoParams;
use waymark_job::State;
use waymark_store::{Filter, Span};

/// Which jobs. All that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// States, with commas between them.
    status: Option<String>,
    /// Job type.
    #[serde(rename = "type")]
    job_type: Option<String>,
    /// Queue.
    queue: Option<String>,
    /// A label.
    tag: Option<String>,
    /// The caller's id for the larger whole.
    correlation_id: Option<String>,
    /// Kind of the last failure, such as `guest-trap`.
    error_kind: Option<String>,
    /// Accepted at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    created_since: Option<String>,
    /// Accepted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    created_until: Option<String>,
    /// Ended at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    ended_since: Option<String>,
    /// Ended before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    ended_until: Option<String>,
}

impl Which {
    const FIELDS: [&str; 10] = [
        "status",
        "type",
        "queue",
        "tag",
        "correlation_id",
        "error_kind",
        "created_since",
        "created_until",
        "ended_since",
        "ended_until",
    ];

    fn filter(self) -> Result<Filter, Problem> {
        Ok(Filter {
            states: states(self.status.as_deref())?,
            job_type: self.job_type,
            queue: self.queue,
            tag: self.tag,
            correlation_id: self.correlation_id,
            error_kind: self.error_kind,
            created: Span {
                from_ms: moment("created_since", self.created_since)?,
                to_ms: moment("created_until", self.created_until)?,
            },
            ended: Span {
                from_ms: moment("ended_since", self.ended_since)?,
                to_ms: moment("ended_until", self.ended_until)?,
            },
        })
    }
}

/// The filter of a query, and its other parameters. Unknown ones are refused.
pub(crate) struct Filtered<T>(pub Filter, pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Filtered<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

impl<T: DeserializeOwned> Filtered<T> {
    /// Reads a query string.
    ///
    /// # Errors
    /// `invalid-query`.
    pub(crate) fn read(query: &str) -> Result<Self, Problem> {
        // Two shapes that refuse unknown fields cannot be flattened into one.
        let is_filter = |pair: &&str| Which::FIELDS.contains(&pair.split('=').next().unwrap_or_default());
        let (which, others): (Vec<_>, Vec<_>) =
            query.split('&').filter(|pair| !pair.is_empty()).partition(is_filter);
        Ok(Self(read_query::<Which>(&which.join("&"))?.filter()?, read_query(&others.join("&"))?))
    }
}

/// States by their names, with commas between them.
pub(super) fn states(names: Option<&str>) -> Result<Vec<State>, Problem> {
    let state = |name| {
        State::from_name(name).ok_or_else(|| {
            let all = State::ALL.map(State::name).join(", ");
            invalid_query(format!("status: there is no {:?}; there are {all}", shorten(name)))
        })
    };
    names.into_iter().flat_map(|names| names.split(',')).map(state).collect()
}

/// A time, Unix milliseconds; before 1970 is 0.
fn moment(name: &str, text: Option<String>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match OffsetDateTime::parse(&text, &Rfc3339) {
        Ok(time) => Ok(Some(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))),
        Err(_) => {
            Err(invalid_query(format!("{name}: must be a time in RFC 3339, such as 2026-01-31T18:00:00Z")))
        }
    }
}
