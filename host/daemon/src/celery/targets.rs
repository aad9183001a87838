//! Targets of routes that are queues of Celery: what the operator left out, and what cannot be.

use super::{config::Celery, mapping};
use waymark_job::route;

/// Checks a target of a route of `job_type`, and writes into it what `[celery.tasks]` knows: the task, and how its arguments
/// become the job's input. `reaches`: the store's scripts can reach Celery's keys.
///
/// # Errors
/// The member that is wrong, and why.
pub(crate) fn complete(
    settings: &Celery,
    reaches: bool,
    job_type: &str,
    target: &mut route::Celery,
) -> Result<(), (&'static str, String)> {
    if !reaches {
        return Err((
            "",
            "a task and its job are written by one call, which a Redis Cluster has not: use redis:// or redis-sentinel:// \
             for redis.url, or an `http` target"
                .to_owned(),
        ));
    }
    if settings.enabled && settings.queues.contains(&target.queue) {
        return Err((
            "/queue",
            format!(
                "this host itself takes what comes to {:?} (celery.queues): name a queue that only workers of Celery serve",
                target.queue
            ),
        ));
    }
    let mapped = |task: &str| settings.tasks.get(task).filter(|mapping| mapping.job_type == job_type);
    let task = match &target.task {
        Some(task) => task.clone(),
        None => {
            let mut tasks = settings.tasks.keys().filter(|task| mapped(task).is_some());
            match (tasks.next(), tasks.next()) {
                (Some(task), None) => task.clone(),
                (None, _) => {
                    return Err((
                        "/task",
                        format!(
                            "is needed: no task under [celery.tasks] of this host has the type {job_type:?}"
                        ),
                    ));
                }
                (Some(one), Some(other)) => {
                    return Err((
                        "/task",
                        format!(
                            "is needed: {one:?} and {other:?} under [celery.tasks] both have the type {job_type:?}"
                        ),
                    ));
                }
            }
        }
    };
    if target.input.is_none() {
        target.input = mapped(&task).and_then(|mapping| mapping.input.clone());
    }
    if let Some(input) = &target.input {
        mapping::check_arguments(input).map_err(|why| ("/input", why))?;
    }
    target.task = Some(task);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::TaskMapping;
    use serde_json::{Value, json};

    fn settings(tasks: &[(&str, &str, Option<Value>)]) -> Celery {
        let mapping = |job_type: &str, input: &Option<Value>| TaskMapping {
            job_type: job_type.to_owned(),
            input: input.clone(),
            queue: None,
            priority: None,
            max_attempts: None,
        };
        let tasks = tasks
            .iter()
            .map(|(task, job_type, input)| ((*task).to_owned(), mapping(job_type, input)))
            .collect();
        Celery { enabled: true, tasks, ..Celery::default() }
    }

    fn target(queue: &str, task: Option<&str>) -> route::Celery {
        route::Celery { queue: queue.into(), task: task.map(str::to_owned), input: None }
    }

    #[test]
    fn the_mapping_says_what_the_target_does_not() {
        let template = json!({"n": "$/args/0"});
        let settings = settings(&[("a.add", "adder", Some(template.clone())), ("a.other", "other", None)]);
        let mut plain = target("old", None);
        complete(&settings, true, "adder", &mut plain).unwrap();
        assert_eq!((plain.task.as_deref(), plain.input.as_ref()), (Some("a.add"), Some(&template)));
        // What is said holds, and completing twice changes nothing.
        let mut named = target("old", Some("b.sum"));
        complete(&settings, true, "adder", &mut named).unwrap();
        assert_eq!((named.task.as_deref(), named.input.as_ref()), (Some("b.sum"), None));
        let before = plain.clone();
        complete(&settings, true, "adder", &mut plain).unwrap();
        assert_eq!(plain, before);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let settings = settings(&[
            ("a.add", "adder", None),
            ("a.sum", "adder", None),
            ("a.deep", "deep", Some(json!("$/args/0/x"))),
        ]);
        let refused = |reaches, job_type: &str, mut target: route::Celery| {
            complete(&settings, reaches, job_type, &mut target).unwrap_err()
        };
        assert!(refused(false, "adder", target("old", Some("a.add"))).1.contains("Cluster"));
        assert_eq!(refused(true, "adder", target("celery", Some("a.add"))).0, "/queue");
        let (at, why) = refused(true, "adder", target("old", None));
        assert!(at == "/task" && why.contains("a.add") && why.contains("a.sum"), "{why}");
        assert_eq!(refused(true, "none", target("old", None)).0, "/task");
        assert_eq!(refused(true, "deep", target("old", None)).0, "/input");
    }
}
