//! A second server for long values and logs.

mod support;

use redis::Commands as _;
use std::time::{Duration, Instant};
use support::{Held, Redis, World, job};
use waymark_job::{Control, JobId, State};
use waymark_store::{CommitAnswer, Error, Options, ResultsOptions, Store, Then};

/// A world with a second server that keeps what it was given when it is killed.
async fn two() -> (World, Redis) {
    let second = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let results = ResultsOptions { url: second.url(), above_bytes: 1_000 };
    (World::with(|options| options.results = Some(results)).await, second)
}

/// A JSON text that does not get shorter.
fn long(bytes: usize) -> String {
    let mut random = vec![0; bytes / 2];
    getrandom::fill(&mut random).unwrap();
    format!("\"{}\"", hex::encode(random))
}

/// Ends a job, as a worker does.
async fn end(world: &World, held: &Held, result: &str) {
    let mut commit = held.then(Then::Succeeded { result: result.to_owned() });
    commit.outputs = vec![result.to_owned()];
    commit.record.outputs = 1;
    world.store.spill(&mut commit).await;
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Succeeded));
}

async fn log(world: &World, id: JobId, text: &str) -> Result<(), waymark_store::Unwritten> {
    world.store.append_logs(vec![(id, format!("{{\"message\":\"{text}\"}}"))]).await
}

fn keys(server: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = server.connection().keys("*").unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn long_values_and_logs_lie_on_the_second_server_as_long_as_their_job() {
    let (world, second) = two().await;
    let (held, short) = (world.running().await, world.running().await);
    let text = long(2_000);
    log(&world, held.id, "one").await.unwrap();
    log(&world, held.id, "two").await.unwrap();
    end(&world, &held, &text).await;
    end(&world, &short, "7").await;
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.result.as_deref(), view.result_error), (Some(text.as_str()), None));
    assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap(), std::slice::from_ref(&text));
    let page = world.store.logs(&held.id, 1, 10).await.unwrap();
    assert_eq!((page.first, page.lines), (1, vec!["{\"message\":\"two\"}".to_owned()]));
    assert_eq!(world.store.logs(&short.id, 0, 10).await.unwrap().lines.len(), 0, "it logged nothing");
    let head = format!("{{wm0}}:object:{}/", held.id);
    let kept = keys(&second);
    assert_eq!(kept.iter().filter(|key| key.starts_with(&head)).count(), 2, "{kept:?}");
    assert_eq!(kept.len(), 4, "two objects, a log and its length: {kept:?}");
    let mut connection = world.redis.connection();
    let stored: Vec<u8> = connection.hget("{wm0}:res", held.id.as_str()).unwrap();
    assert!(stored.len() < 300 && stored.first() == Some(&1), "the first server has a reference");
    assert!(!connection.exists::<_, bool>(format!("{{wm0}}:log:{}", held.id)).unwrap());

    // A job that does not exist leaves nothing anywhere.
    log(&world, JobId::generate(support::now_ms(), 0).unwrap(), "nobody").await.unwrap();
    assert_eq!(keys(&second).len(), 4);

    // A restart keeps the log; results and records are waste.
    let restarted = world.store.control(&held.id, Control::Restart, None).await.unwrap();
    assert_eq!(restarted, waymark_store::ControlAnswer::Done(State::Queued));
    assert_eq!(world.store.sweep_objects().await.unwrap(), 2);
    assert_eq!(world.store.logs(&held.id, 0, 10).await.unwrap().lines.len(), 2);
    assert!(world.store.delete(&held.id).await.unwrap());
    assert!(world.store.delete(&short.id).await.unwrap());
    assert_eq!(world.store.sweep_objects().await.unwrap(), 1, "the log");
    assert_eq!(keys(&second), Vec::<String>::new());
    assert!(!world.dump().keys().any(|key| key.contains("logged") || key.contains("waste")));
    world.check_ledger();
}

#[tokio::test]
async fn old_lines_are_dropped_and_counted_on_the_second_server() {
    let second = Redis::start(&[]);
    let results = ResultsOptions { url: second.url(), above_bytes: 1_000 };
    let world = World::with(|options| {
        options.results = Some(results);
        options.log_lines_max = 3;
    })
    .await;
    let id = world.queue(1).await[0];
    for number in 0..5 {
        log(&world, id, &number.to_string()).await.unwrap();
    }
    let page = world.store.logs(&id, 0, 10).await.unwrap();
    assert_eq!((page.first, page.lines.len()), (2, 3));
    assert!(world.store.delete(&id).await.unwrap());
    assert_eq!(world.store.sweep_objects().await.unwrap(), 1);
    assert_eq!(keys(&second), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_held_up_or_lost_while_the_second_server_is_away() {
    let (world, mut second) = two().await;
    let (before, during) = (world.running().await, world.running().await);
    let text = long(2_000);
    log(&world, before.id, "before").await.unwrap();
    end(&world, &before, &text).await;
    second.stop();
    assert!(world.store.ping_results().await.unwrap().is_err());

    // Jobs are made, claimed and ended; what cannot go there stays.
    let began = Instant::now();
    end(&world, &during, &text).await;
    world.queue(20).await;
    for held in world.claim(20).await {
        end(&world, &held, &text).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let view = world.store.get(&during.id).await.unwrap().unwrap();
    assert_eq!(view.result.as_deref(), Some(text.as_str()));
    let view = world.store.get(&before.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.result), (State::Succeeded, None));
    assert!(view.result_error.unwrap().contains("the Redis for results"));
    assert!(matches!(world.store.outputs(&before.id, 0, 9).await, Err(Error::Storage(_))));
    assert!(matches!(world.store.logs(&before.id, 0, 9).await, Err(Error::Storage(_))));
    let unwritten = log(&world, before.id, "during").await.unwrap_err();
    assert!(matches!(unwritten.error, Error::Storage(_)), "{unwritten}");
    assert_eq!(unwritten.lines.len(), 1, "whoever writes them has them still");
    // A host starts without it.
    let options = Options {
        results: Some(ResultsOptions { url: second.url(), above_bytes: 1_000 }),
        ..Options::at(&world.redis.url())
    };
    let other = Store::connect(options).await.unwrap();
    assert!(other.ping_results().await.unwrap().is_err());

    second.start_again();
    world.store.append_logs(unwritten.lines).await.unwrap();
    assert_eq!(world.store.logs(&before.id, 0, 9).await.unwrap().lines.len(), 2);
    let view = world.store.get(&before.id).await.unwrap().unwrap();
    assert_eq!(view.result.as_deref(), Some(text.as_str()));
    assert!(other.ping_results().await.unwrap().is_ok());
    // After a moment long values go there again.
    support::until("a long value goes to the second server", || async {
        let held = world.running().await;
        end(&world, &held, &text).await;
        let mut connection = world.redis.connection();
        let stored: Vec<u8> = connection.hget("{wm0}:res", held.id.as_str()).unwrap();
        stored.first() == Some(&1)
    })
    .await;

    // What the second server lost is named.
    let _: () = redis::cmd("FLUSHALL").query(&mut second.connection()).unwrap();
    let view = world.store.get(&before.id).await.unwrap().unwrap();
    assert!(view.result_error.unwrap().contains("it is not there"));
    assert_eq!(world.store.logs(&before.id, 0, 9).await.unwrap().lines.len(), 0);
    assert!(world.store.delete(&before.id).await.unwrap());
    assert_eq!(world.store.sweep_objects().await.unwrap(), 3);
    world.check_ledger();
}

#[tokio::test]
async fn partitions_stay_apart_on_the_second_server_and_one_that_evicts_is_refused() {
    let second = Redis::start(&[]);
    let results = ResultsOptions { url: second.url(), above_bytes: 1_000 };
    let world = World::with(|options| {
        options.partitions = 3;
        options.results = Some(results.clone());
    })
    .await;
    let jobs = (0..6).map(|_| job(support::TYPE)).collect();
    let ids: Vec<_> = world.store.create(jobs).await.unwrap().into_iter().map(|made| made.id).collect();
    world.store.append_logs(ids.iter().map(|id| (*id, "{}".to_owned())).collect()).await.unwrap();
    for id in &ids {
        let key = format!("{{wm{}}}:log:{id}", id.partition());
        assert!(keys(&second).contains(&key), "{key}");
        assert_eq!(world.store.logs(id, 0, 9).await.unwrap().lines.len(), 1);
    }
    let evicting = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let results = Some(ResultsOptions { url: evicting.url(), above_bytes: 1_000 });
    let refused = Store::connect(Options { results, ..Options::at(&world.redis.url()) }).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("the Redis for results evicts") && refused.contains("noeviction"), "{refused}");
}
