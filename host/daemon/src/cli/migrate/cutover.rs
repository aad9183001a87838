//! `waymark migrate celery cutover` and `back`: a job type whose route has a queue of Celery moves to its plugin, and back.
//!
//! Both read the route, change it and put it like anybody else: what they do is in the route's history and in the audit log,
//! and `waymark route undo` takes it back.

use crate::cli::{
    Client, Remote,
    client::{Refusal, pretty, read, segment},
    table::say,
};
use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use waymark_job::route::{Canary, Celery, Route, Step, Stored, Target};

/// Shortest time of a step, seconds, where nothing else is said.
const STEP_S: u64 = 300;

/// To the plugin.
#[derive(Args, Debug)]
pub struct Cutover {
    /// Which host.
    #[command(flatten)]
    remote: Remote,
    /// Job type.
    job_type: String,
    /// Version of the plugin: what it says of itself, or its SHA-256 [default: that of the route, else the active one].
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Step by step, with guards that go back by themselves, instead of at once.
    #[arg(long)]
    canary: bool,
    /// Its steps, per cent [default: 10,25,50,100].
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', requires = "canary")]
    steps: Vec<u8>,
    /// Shortest time of each step, seconds [default: 300].
    #[arg(long, value_name = "SECONDS", requires = "canary")]
    step_seconds: Option<u64>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// To Celery's workers.
#[derive(Args, Debug)]
pub struct Back {
    /// Which host.
    #[command(flatten)]
    remote: Remote,
    /// Job type.
    job_type: String,
    /// Their queue, for a type whose route names none yet.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Name of the task [default: the one that `[celery.tasks]` of the host maps to the type].
    #[arg(long, value_name = "TASK", requires = "queue")]
    task: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Sends the jobs of a type to its plugin.
///
/// # Errors
/// The type has no queue of Celery to leave or no plugin, or the host refuses.
pub(super) async fn cutover(arguments: &Cutover) -> anyhow::Result<()> {
    let Cutover { remote, job_type, version, canary, steps, step_seconds, dry_run } = arguments;
    let client = Client::new(remote)?;
    let known = current(&client, job_type).await?;
    let Some(Known { route, standing, .. }) = &known else {
        bail!(
            "{job_type} has no route, so its plugin runs its jobs already. To send them to workers of Celery: \
             waymark migrate celery back {job_type} --queue QUEUE"
        );
    };
    let chosen = match version {
        Some(version) => Some(version.clone()),
        None if route.targets.iter().any(|target| target.version.is_some()) => None,
        None => Some(active(&client, job_type).await?),
    };
    if *canary && matches!(standing.as_deref(), Some("running" | "held")) {
        bail!(
            "a canary of {job_type} is under way: waymark route promote {job_type} takes it on, waymark migrate celery back \
             {job_type} ends it"
        );
    }
    let steps = canary.then(|| {
        let min_ms = step_seconds.unwrap_or(STEP_S).saturating_mul(1_000);
        let percents: &[u8] = if steps.is_empty() { &[10, 25, 50, 100] } else { steps };
        percents.iter().map(|percent| Step { percent: *percent, min_ms }).collect()
    });
    let next = to_plugin(route, chosen.as_deref(), steps)?;
    put(&client, job_type, known, next, *dry_run).await
}

/// Sends the jobs of a type to workers of Celery.
///
/// # Errors
/// It is not known to which queue, or the host refuses.
pub(super) async fn back(arguments: &Back) -> anyhow::Result<()> {
    let Back { remote, job_type, queue, task, dry_run } = arguments;
    let client = Client::new(remote)?;
    let known = current(&client, job_type).await?;
    let celery = queue.as_ref().map(|queue| Celery { queue: queue.clone(), task: task.clone(), input: None });
    let next = to_workers(job_type, known.as_ref().map(|known| &known.route), celery)?;
    put(&client, job_type, known, next, *dry_run).await
}

/// A route as it is.
struct Known {
    route: Route,
    revision: u64,
    /// Where its canary stands.
    standing: Option<String>,
}

fn path(job_type: &str) -> String {
    format!("/api/v1/routes/{}", segment(job_type))
}

fn is_refused(error: &anyhow::Error, code: &str) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == code)
}

async fn current(client: &Client, job_type: &str) -> anyhow::Result<Option<Known>> {
    let answer: Value = match client.get(&path(job_type), &[]).await {
        Ok(answer) => answer,
        Err(error) if is_refused(&error, "unknown-route") => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Known {
        route: serde_json::from_value(answer["route"].clone())?,
        revision: answer["revision"].as_u64().unwrap_or(0),
        standing: answer["canary"]["standing"].as_str().map(str::to_owned),
    }))
}

/// The digest of a type's active version.
async fn active(client: &Client, job_type: &str) -> anyhow::Result<String> {
    let path = format!("/api/v1/plugins/{}", segment(job_type));
    let answer: anyhow::Result<Value> = client.get(&path, &[]).await;
    let digest = match answer {
        Ok(plugin) if plugin["state"] == "loaded" => plugin["digest"].as_str().map(str::to_owned),
        Ok(_) => None,
        Err(error) if is_refused(&error, "unknown-plugin") => None,
        Err(error) => return Err(error),
    };
    let Some(digest) = digest else {
        bail!("this host has no plugin {job_type} in service: waymark plugin install FILE puts one there");
    };
    Ok(digest)
}

/// The route with all weight on the plugin, or with a canary that moves it there.
fn to_plugin(route: &Route, version: Option<&str>, steps: Option<Vec<Step>>) -> anyhow::Result<Route> {
    let mut next = route.clone();
    let old = next.targets.iter().filter(|target| target.celery.is_some()).max_by_key(|target| target.weight);
    let Some(old) = old.map(|target| target.arm.clone()) else {
        bail!("the route names no queue of Celery: waymark route show says where its jobs go");
    };
    let is_wanted = |target: &Target| match (&target.version, version) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(own), Some(wanted)) => {
            own == wanted || target.digest.as_deref().is_some_and(|digest| digest.starts_with(wanted))
        }
    };
    let found: Vec<_> =
        next.targets.iter().filter(|target| is_wanted(target)).map(|target| target.arm.clone()).collect();
    let new = match (found.as_slice(), version) {
        ([arm], _) => arm.clone(),
        ([], Some(version)) => {
            let arm = free_arm(&next, "plugin");
            next.targets.push(Target {
                arm: arm.clone(),
                version: Some(version.to_owned()),
                ..Target::default()
            });
            arm
        }
        (several, _) => {
            let names = several.join(", ");
            bail!("the route has several versions ({names}): name one with --version");
        }
    };
    if steps.is_some() && next.arm(&new).is_some_and(|(_, target)| target.weight == 100) {
        // A canary would take back what it has.
        return Ok(route.clone());
    }
    let first = if steps.is_some() { &old } else { &new };
    weigh(&mut next, first);
    next.canary = match steps {
        None => None,
        // What is not said is as for any canary.
        Some(steps) => {
            let canary = serde_json::from_value(json!({"arm": new, "baseline": old}))?;
            Some(Canary { steps, ..canary })
        }
    };
    // Copies of jobs that the same version ran would only cost.
    if next.canary.is_none() && next.shadow.as_ref().is_some_and(|shadow| shadow.arm == new) {
        next.shadow = None;
    }
    Ok(next)
}

/// The route with all weight on Celery's workers.
fn to_workers(job_type: &str, route: Option<&Route>, celery: Option<Celery>) -> anyhow::Result<Route> {
    let mut next = route.cloned().unwrap_or_default();
    let fits = |target: &&Target| match (&target.celery, &celery) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(own), Some(wanted)) => {
            own.queue == wanted.queue && (wanted.task.is_none() || own.task == wanted.task)
        }
    };
    let found: Vec<_> = next.targets.iter().filter(fits).map(|target| target.arm.clone()).collect();
    let old = match (found.as_slice(), celery) {
        ([arm], _) => arm.clone(),
        ([], Some(celery)) => {
            let arm = free_arm(&next, "celery");
            next.targets.push(Target { arm: arm.clone(), celery: Some(celery), ..Target::default() });
            arm
        }
        ([], None) => {
            bail!(
                "the route of {job_type} names no queue of Celery: name it with --queue, and its task with --task"
            )
        }
        (several, _) => {
            let names = several.join(", ");
            bail!("the route of {job_type} has several queues of Celery ({names}): name one with --queue");
        }
    };
    weigh(&mut next, &old);
    next.canary = None;
    Ok(next)
}

fn free_arm(route: &Route, wanted: &str) -> String {
    let mut names =
        std::iter::once(wanted.to_owned()).chain((2..).map(|number| format!("{wanted}-{number}")));
    names.find(|name| route.arm(name).is_none()).unwrap_or_default()
}

fn weigh(route: &mut Route, arm: &str) {
    for target in &mut route.targets {
        target.weight = if target.arm == arm { 100 } else { 0 };
    }
}

fn weights(route: &Route) -> String {
    let each = route.targets.iter().map(|target| format!("{} {} %", target.arm, target.weight));
    each.collect::<Vec<_>>().join(", ")
}

async fn put(
    client: &Client,
    job_type: &str,
    known: Option<Known>,
    next: Route,
    dry_run: bool,
) -> anyhow::Result<()> {
    let before = known.as_ref().map(|known| &known.route);
    let changed = before != Some(&next);
    // With the weights of a canary's first step.
    let mut after = json!({"type": job_type, "route": Stored::begin(next.clone(), None, 0).route});
    if changed && !dry_run {
        let request = client.request(Method::PUT, &path(job_type)).json(&next);
        after = read(client.send(request).await?).await?;
        let expected = known.as_ref().map(|known| known.revision + 1);
        if expected.is_some_and(|expected| after["revision"].as_u64() != Some(expected)) {
            eprintln!(
                "somebody else changed the route of {job_type} at the same time: waymark route show {job_type}"
            );
        }
    }
    if client.json {
        say!(
            "{}",
            pretty(&json!({"changed": changed, "dry_run": dry_run, "before": before, "after": after}))
        );
        return Ok(());
    }
    let now: Route = serde_json::from_value(after["route"].clone())?;
    let was = before.map_or_else(|| "no route".to_owned(), weights);
    if !changed {
        say!("{job_type}: {was}; nothing to do");
        return Ok(());
    }
    say!("{job_type}: {was} {} {}", if dry_run { "would become" } else { "became" }, weights(&now));
    if let Some(canary) = &now.canary {
        let steps: Vec<_> = canary.steps.iter().map(|step| format!("{} %", step.percent)).collect();
        say!("canary of {}: {}; guards go back by themselves", canary.arm, steps.join(", "));
    }
    if before.is_some_and(|before| before.shadow.is_some()) && now.shadow.is_none() {
        say!("the shadow ends: it would copy what the same version ran");
    }
    for flag in &now.flags {
        say!("{} keys stay with {}, because a flag says so", flag.values.len(), flag.arm);
    }
    if !dry_run {
        say!("back to what it was: waymark route undo {job_type}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(value: Value) -> Route {
        let route: Route = serde_json::from_value(value).unwrap();
        route.check().unwrap();
        route
    }

    fn old() -> Value {
        json!({"arm": "old", "weight": 100, "celery": {"queue": "q", "task": "a.b"}})
    }

    fn plugin(arm: &str, version: &str) -> Value {
        json!({"arm": arm, "weight": 0, "version": version, "digest": version.repeat(8)})
    }

    #[test]
    fn a_cutover_gives_all_weight_to_the_plugin_and_back_takes_it() {
        let before = route(json!({"targets": [old()], "sticky": "/input/a"}));
        let moved = to_plugin(&before, Some("1.0.0"), None).unwrap();
        moved.check().unwrap();
        assert_eq!(weights(&moved), "old 0 %, plugin 100 %");
        assert_eq!((&moved.targets[1].version, &moved.sticky), (&Some("1.0.0".into()), &before.sticky));
        let again = to_plugin(&moved, None, None).unwrap();
        assert_eq!(again, moved, "nothing is left to do");
        let returned = to_workers("t", Some(&moved), None).unwrap();
        returned.check().unwrap();
        assert_eq!(weights(&returned), "old 100 %, plugin 0 %");
        assert_eq!(to_workers("t", Some(&returned), None).unwrap(), returned);
    }

    #[test]
    fn a_canary_begins_with_the_old_workers() {
        let shadow = json!({"arm": "new", "percent": 5});
        let before = route(json!({"targets": [old(), plugin("new", "1.0.0")], "shadow": shadow}));
        let steps = vec![Step { percent: 20, min_ms: 1_000 }, Step { percent: 100, min_ms: 1_000 }];
        let moved = to_plugin(&before, None, Some(steps.clone())).unwrap();
        moved.check().unwrap();
        let canary = moved.canary.clone().unwrap();
        assert_eq!((canary.arm.as_str(), canary.baseline.as_deref()), ("new", Some("old")));
        assert_eq!((&canary.steps, moved.shadow.is_some()), (&steps, true));
        assert_eq!(weights(&moved), "old 100 %, new 0 %");
        let ended = to_plugin(&moved, None, None).unwrap();
        assert!(ended.canary.is_none() && ended.shadow.is_none());
        assert_eq!(to_plugin(&ended, None, Some(canary.steps)).unwrap(), ended, "there is nothing to move");
        assert_eq!(to_workers("t", Some(&moved), None).unwrap().shadow, before.shadow);
    }

    #[test]
    fn what_is_not_clear_is_asked() {
        let two = route(json!({"targets": [old(), plugin("a", "1.0.0"), plugin("b", "2.0.0")]}));
        let why = to_plugin(&two, None, None).unwrap_err().to_string();
        assert!(why.contains("a, b") && why.contains("--version"), "{why}");
        assert_eq!(weights(&to_plugin(&two, Some("2.0.0"), None).unwrap()), "old 0 %, a 0 %, b 100 %");
        let none = route(json!({"targets": [{"arm": "plugin", "weight": 100, "version": "1"}]}));
        assert!(to_plugin(&none, None, None).is_err());
        assert!(to_workers("t", Some(&none), None).unwrap_err().to_string().contains("--queue"));
        let celery = |queue: &str| Celery { queue: queue.into(), task: None, input: None };
        let added = to_workers("t", Some(&none), Some(celery("q"))).unwrap();
        assert_eq!(weights(&added), "plugin 0 %, celery 100 %");
        assert_eq!(weights(&to_workers("t", None, Some(celery("q"))).unwrap()), "celery 100 %");
        let other = to_workers("t", Some(&added), Some(celery("r"))).unwrap();
        assert_eq!(weights(&other), "plugin 0 %, celery 0 %, celery-2 100 %");
        assert!(to_workers("t", Some(&other), None).unwrap_err().to_string().contains("several"));
        assert_eq!(
            weights(&to_workers("t", Some(&other), Some(celery("q"))).unwrap()),
            "plugin 0 %, celery 100 %, celery-2 0 %"
        );
    }
}
