//! Routes of job types: putting and changing them, and the canaries that go on by themselves.
//!
//! Every host takes changes; a change names the revision that it is made from, so two at once cannot undo each other
//! unseen. The host that leads looks at the counts of canaries every second. Should two believe that they lead, the
//! same comparison of revisions lets one of them decide.

use crate::{
    api::{Code, Problem, audit, error::Violation},
    celery::{complete, config::Celery},
    config::Config,
    directory,
    metrics::Metrics,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use waymark_job::route::{Change, Decision, Route, Stored};
use waymark_store::Store;

/// How often canaries are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a route of the configuration is tried whose versions are not there yet.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// How often a change is tried that somebody else was faster than.
const TRIES: usize = 5;
/// Digits of a digest that name a version, at least.
const DIGITS_MIN: usize = 12;
/// Who the host itself is in histories.
const HOST: &str = "waymark";

/// What is asked of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The canary's next step.
    Promote,
    /// Its last one.
    PromoteFully,
    /// It stays in its step.
    Hold,
    /// It loses its weight.
    RollBack,
    /// The route becomes what it was before its last change.
    Undo,
}

impl Act {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Promote | Self::PromoteFully => "promote",
            Self::Hold => "hold",
            Self::RollBack => "rollback",
            Self::Undo => "undo",
        }
    }
}

/// What routes are changed with.
#[derive(Clone)]
pub(crate) struct Routes {
    store: Store,
    directory: directory::Handle,
    celery: Arc<Celery>,
}

fn violation((pointer, detail): (String, String)) -> Problem {
    Problem::violations(Code::InvalidField, vec![Violation { pointer, detail }])
}

fn unknown(job_type: &str) -> Problem {
    Problem::new(Code::UnknownRoute, format!("The job type {job_type:?} has no route."))
}

impl Routes {
    pub(crate) const fn new(store: Store, directory: directory::Handle, celery: Arc<Celery>) -> Self {
        Self { store, directory, celery }
    }

    /// Versions of a type that some host holds: digest and version, newest last.
    async fn versions(&self, job_type: &str) -> Result<Vec<(String, String)>, waymark_store::Error> {
        let mut found = Vec::new();
        for (_, record) in self.store.hosts().await? {
            // Text that is no JSON can only come of damage in the store.
            let record: Value = serde_json::from_str(&record).unwrap_or_default();
            for one in record["held"].as_array().into_iter().flatten() {
                if one["name"].as_str() == Some(job_type)
                    && let (Some(digest), Some(version)) = (one["digest"].as_str(), one["version"].as_str())
                {
                    found.push((digest.to_owned(), version.to_owned()));
                }
            }
        }
        let own = self.directory.get(job_type).map(|status| status.versions).unwrap_or_default();
        for version in own {
            found.retain(|(digest, _)| *digest != version.digest);
            found.push((version.digest, version.version));
        }
        Ok(found)
    }

    /// Checks a route, and writes into it the digests of its versions and the tasks of its queues of Celery.
    async fn resolve(&self, job_type: &str, route: &mut Route) -> Result<(), Problem> {
        route.check().map_err(violation)?;
        let held = self.versions(job_type).await?;
        for (index, target) in route.targets.iter_mut().enumerate() {
            if let Some(celery) = &mut target.celery {
                complete(&self.celery, self.store.can_serve_celery(), job_type, celery)
                    .map_err(|(at, why)| violation((format!("/targets/{index}/celery{at}"), why)))?;
            }
            let Some(wanted) = &target.version else {
                target.digest = None;
                continue;
            };
            let fits = |(digest, version): &&(String, String)| {
                version == wanted || (wanted.len() >= DIGITS_MIN && digest.starts_with(wanted.as_str()))
            };
            let Some((digest, _)) = held.iter().rev().find(fits) else {
                let there: Vec<_> =
                    held.iter().map(|(digest, version)| format!("{version} ({digest:.12})")).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                let detail = format!(
                    "no host holds version {wanted:?} of {job_type:?}: put its .wasm file into the plugin directory \
                     first. There are: {there}"
                );
                return Err(violation((format!("/targets/{index}/version"), detail)));
            };
            target.digest = Some(digest.clone());
        }
        Ok(())
    }

    /// Writes what `make` makes of the route there is; tried again where somebody else was faster.
    async fn change(
        &self,
        job_type: &str,
        who: &str,
        what: &str,
        why: &str,
        make: impl Fn(Option<&Stored>, u64) -> Result<Option<Stored>, Problem>,
    ) -> Result<Option<Stored>, Problem> {
        for _ in 0..TRIES {
            let now_ms = self.store.now_ms().await?;
            let before = self.store.route(job_type).await?;
            let next = make(before.as_ref(), now_ms)?;
            let change = Change {
                at_ms: now_ms,
                who: who.to_owned(),
                what: what.to_owned(),
                why: why.to_owned(),
                revision: next.as_ref().map_or(0, |next| next.revision),
                before: before.clone().map(Box::new),
            };
            if self.store.put_route(job_type, before.as_ref(), next.as_ref(), Some(&change)).await? {
                tracing::info!(job_type, who, what, "route changed");
                return Ok(next);
            }
        }
        Err(Problem::new(
            Code::RouteChanged,
            format!(
                "The route of {job_type:?} was changed by others at the same time: look at it, and try again."
            ),
        ))
    }

    /// Puts a route in the place of the one there is.
    ///
    /// # Errors
    /// `invalid-field`, or the store does not answer.
    pub(crate) async fn put(
        &self,
        job_type: &str,
        mut route: Route,
        who: &str,
        why: &str,
    ) -> Result<Stored, Problem> {
        self.resolve(job_type, &mut route).await?;
        let made = self
            .change(job_type, who, "put", why, |before, now_ms| {
                Ok(Some(Stored::begin(route.clone(), before, now_ms)))
            })
            .await?;
        made.ok_or_else(|| unknown(job_type))
    }

    /// Removes a route: the active version of the plugin runs the type again.
    ///
    /// # Errors
    /// `unknown-route`, or the store does not answer.
    pub(crate) async fn delete(&self, job_type: &str, who: &str, why: &str) -> Result<(), Problem> {
        let gone = |before: Option<&Stored>, _| match before {
            Some(_) => Ok(None),
            None => Err(unknown(job_type)),
        };
        self.change(job_type, who, "delete", why, gone).await.map(drop)
    }

    /// Does what is asked of a route. `None`: an undo removed it.
    ///
    /// # Errors
    /// `unknown-route`, `wrong-standing`, or the store does not answer.
    pub(crate) async fn act(
        &self,
        job_type: &str,
        act: Act,
        who: &str,
        why: &str,
    ) -> Result<Option<Stored>, Problem> {
        let last = if act == Act::Undo { Some(self.last_change(job_type).await?) } else { None };
        self.change(job_type, who, act.name(), why, |now, now_ms| {
            if let Some(last) = &last {
                return Ok(last.before.as_deref().map(|before| Stored::again(before, now, now_ms)));
            }
            let now = now.ok_or_else(|| unknown(job_type))?;
            let next = match act {
                Act::Promote => now.promote(false, now_ms),
                Act::PromoteFully => now.promote(true, now_ms),
                Act::Hold => now.hold(now_ms),
                Act::RollBack | Act::Undo => now.roll_back(now_ms),
            };
            next.map(Some).ok_or_else(|| {
                let standing = now.progress.as_ref().map_or_else(
                    || "there is no canary".to_owned(),
                    |progress| format!("its canary is {}", standing(progress)),
                );
                Problem::new(
                    Code::WrongStanding,
                    format!("{} does not fit the route of {job_type:?}: {standing}.", act.name()),
                )
            })
        })
        .await
    }

    /// The last change of a route; what it was before can still be had.
    async fn last_change(&self, job_type: &str) -> Result<Change, Problem> {
        let last = self.store.route_changes(job_type).await?.into_iter().next();
        let last = last.ok_or_else(|| unknown(job_type))?;
        if let Some(before) = &last.before {
            // Its versions may have gone meanwhile.
            self.resolve(job_type, &mut before.route.clone()).await?;
        }
        Ok(last)
    }

    /// Puts the routes of the configuration, each when the versions that it names are there. One that was put already,
    /// by this host or another, and changed since, stays as it is until the file says something else.
    pub(crate) async fn put_own(self, config: Arc<Config>) {
        let mut left: Vec<_> = config.routes.iter().collect();
        let mut warned = false;
        while !left.is_empty() {
            let mut later = Vec::new();
            for (name, value) in left {
                if let Err(problem) = self.put_from_file(name, value).await {
                    if !warned {
                        let detail = problem.document(None).detail.to_owned();
                        tracing::warn!(job_type = name, detail, "a route of the configuration is put later");
                    }
                    later.push((name, value));
                }
            }
            warned = true;
            left = later;
            if !left.is_empty() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    async fn put_from_file(&self, job_type: &str, value: &Value) -> Result<(), Problem> {
        let print = hex::encode(Sha256::digest(value.to_string().as_bytes()));
        let known = self.store.route(job_type).await?;
        if known.and_then(|known| known.from_file).as_deref() == Some(print.as_str()) {
            return Ok(());
        }
        let mut route = read(value).map_err(violation)?;
        self.resolve(job_type, &mut route).await?;
        let put = |before: Option<&Stored>, now_ms| {
            let mut next = Stored::begin(route.clone(), before, now_ms);
            next.from_file = Some(print.clone());
            Ok(Some(next))
        };
        self.change(job_type, HOST, "put", "the configuration file", put).await.map(drop)
    }
}

/// Where a canary stands, in words.
pub(crate) fn standing(progress: &waymark_job::route::Progress) -> &'static str {
    use waymark_job::route::Standing;
    match progress.standing {
        Standing::Running => "running",
        Standing::Held => "held",
        Standing::Promoted => "promoted",
        Standing::RolledBack => "rolled back",
    }
}

/// A route in the shape of the API.
///
/// # Errors
/// A field is unknown, missing or wrong: a JSON Pointer and why.
pub(crate) fn read(value: &Value) -> Result<Route, (String, String)> {
    let route: Route = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let pointer = if path == "." {
            String::new()
        } else {
            format!("/{}", path.replace(['.', '['], "/").replace(']', "").replace("//", "/"))
        };
        (pointer, error.inner().to_string())
    })?;
    route.check()?;
    Ok(route)
}

/// Looks at canaries for ever, while the host with this id leads.
pub(crate) async fn lead(host: String, store: Store, metrics: Arc<Metrics>, audit_entries: u64) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = look(&host, &store, &metrics, audit_entries).await {
            tracing::warn!(%error, "canaries are looked at later");
        }
    }
}

async fn look(
    host: &str,
    store: &Store,
    metrics: &Metrics,
    audit_entries: u64,
) -> Result<(), waymark_store::Error> {
    if !store.leads(host).await? {
        return Ok(());
    }
    for (job_type, stored) in store.routes().await? {
        if stored.progress.is_none() {
            continue;
        }
        let counts = store.route_counts(&job_type, stored.epoch).await?;
        let now_ms = store.now_ms().await?;
        let (next, what, why) = match stored.look(&counts, now_ms) {
            None => continue,
            Some(Decision::Looked(next)) => {
                store.put_route(&job_type, Some(&stored), Some(&next), None).await?;
                continue;
            }
            Some(Decision::Advance(next, why)) => (next, "advance", why),
            Some(Decision::RollBack(next, finding)) => {
                let why = format!(
                    "guard {}: {}; p = {:.2e}, below {:.2e}",
                    finding.guard, finding.message, finding.p, finding.p_max
                );
                (next, "rollback", why)
            }
        };
        let change = Change {
            at_ms: now_ms,
            who: HOST.to_owned(),
            what: what.to_owned(),
            why: why.clone(),
            before: Some(Box::new(stored.clone())),
            revision: next.revision,
        };
        if store.put_route(&job_type, Some(&stored), Some(&next), Some(&change)).await? {
            tracing::warn!(job_type, what, why, "a canary went on by itself");
            metrics.route_changes.with_label_values(&[job_type.as_str(), what]).inc();
            let entry = audit::Entry::own(HOST, &format!("/api/v1/routes/{job_type}/{what}"), &why);
            let text = serde_json::to_string(&entry).unwrap_or_default();
            store.append_audit(&text, audit_entries).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_field_is_named_by_its_place() {
        let target = json!({"arm": "a", "weight": 100, "version": "1"});
        assert!(read(&json!({"targets": [target]})).is_ok());
        let (at, why) = read(&json!({"targets": [target], "stiky": "/input/a"})).unwrap_err();
        assert!(at.ends_with("stiky") && why.contains("unknown field"), "{at} {why}");
        let (at, _) = read(&json!({"targets": [{"arm": "a", "weight": "x"}]})).unwrap_err();
        assert_eq!(at, "/targets/0/weight");
        let (at, why) = read(&json!({"targets": [{"arm": "a", "weight": 5, "version": "1"}]})).unwrap_err();
        assert_eq!((at.as_str(), why.as_str()), ("/targets", "the weights add up to 5, not 100"));
    }
}
