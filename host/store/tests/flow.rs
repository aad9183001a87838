//! Limits of queues and flow keys, and unique keys of every kind, against a real server.

mod support;

use std::{collections::BTreeMap, time::Duration};
use support::{Held, TYPE, World, held, job, request};
use waymark_job::{Control, JobId, State, flow::Limits, record::UniqueUntil};
use waymark_store::{ControlAnswer, NewJob, Then};

async fn limit(world: &World, queue: &str, limits: &str) {
    let limits: Limits = serde_json::from_str(limits).unwrap();
    limits.check().unwrap();
    world.store.set_limits(queue, Some(&limits)).await.unwrap();
}

fn keyed(key: &str) -> NewJob {
    let mut new = job(TYPE);
    new.spec.input = format!("{{\"tenant\":\"{key}\"}}");
    new
}

async fn finish(world: &World, held: &Held) {
    world.commit(held.then(Then::Succeeded { result: "null".into() })).await;
}

/// Keys of the jobs, as their lanes name them.
fn keys(jobs: &[Held]) -> Vec<&str> {
    jobs.iter().map(|held| held.spec.key.as_deref().unwrap_or("-")).collect()
}

#[tokio::test]
async fn no_more_jobs_run_than_the_queue_allows() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":3}"#).await;
    world.queue(10).await;
    let first = world.claim(10).await;
    assert_eq!(first.len(), 3);
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
    finish(&world, &first[0]).await;
    world.check_ledger();
    let next = world.claim(10).await;
    assert_eq!(next.len(), 1);
    // However a job leaves, its place is free again.
    world.store.control(&first[1].id, Control::Cancel, None).await.unwrap();
    assert!(world.store.delete(&first[2].id).await.unwrap());
    assert_eq!(world.claim(10).await.len(), 2);
    assert_eq!(world.store.retire(0, "w1", false).await.unwrap(), 3);
    world.check_ledger();
    world.store.register(0, "w2", support::LEASE_MS).await.unwrap();
    assert_eq!(world.claim_as("w2", 10).await.len(), 3);
    assert!(world.claim_as("w2", 10).await.is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn keys_take_turns_and_have_limits_of_their_own() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":5,"key":"/input/tenant","per_key":{"concurrency":2}}"#).await;
    let many: Vec<_> = (0..500).map(|_| keyed("big/one")).collect();
    world.store.create(many).await.unwrap();
    world.create(keyed("small")).await;
    let first = world.claim(10).await;
    let mut found = keys(&first);
    found.sort_unstable();
    assert_eq!(found, ["big%2Fone", "big%2Fone", "small"]);
    world.check_ledger();
    let flow = world.store.flow(TYPE).await.unwrap();
    assert_eq!(flow.running, 3);
    assert_eq!(flow.keys, [("big/one".into(), 498, 2), ("small".into(), 0, 1)]);
    // A job without the key counts for the queue alone.
    world.create(job(TYPE)).await;
    world.create(keyed("third")).await;
    world.create(keyed("fourth")).await;
    let more = world.claim(10).await;
    assert_eq!(more.len(), 2);
    world.check_ledger();
    for held in first.iter().chain(&more) {
        finish(&world, held).await;
    }
    world.check_ledger();
    assert_eq!(world.claim(10).await.len(), 3);
}

#[tokio::test]
async fn one_job_of_a_small_key_is_served_before_the_many_of_a_big_one() {
    let world = World::new().await;
    let mut big = job(TYPE);
    big.spec.key = Some("big".into());
    world.store.create(vec![big; 500]).await.unwrap();
    let mut small = job(TYPE);
    small.spec.key = Some("small".into());
    let id = world.create(small).await;
    let claimed = world.claim(10).await;
    assert!(claimed.iter().any(|held| held.id == id), "{:?}", keys(&claimed));
    world.check_ledger();
}

/// What waits: queues with jobs that could be claimed now.
async fn waiting(world: &World) -> Vec<(String, u64)> {
    let found = world.store.waiting(&std::collections::BTreeSet::new(), |_| true).await.unwrap();
    found.into_iter().map(|one| (one.queue, one.jobs)).collect()
}

#[tokio::test]
async fn only_jobs_that_could_be_claimed_now_are_said_to_wait() {
    let world = World::new().await;
    let in_queue = |queue: &str| {
        let mut new = job(TYPE);
        new.spec.queue = queue.into();
        new
    };
    let of = |queue: &str, jobs| (queue.to_owned(), jobs);
    world.store.create(vec![in_queue("plain"); 7]).await.unwrap();
    world.store.create(vec![in_queue("held"); 5]).await.unwrap();
    world.store.pause_queue("held").await.unwrap();
    world.create(NewJob { delay_ms: Some(60_000), ..in_queue("later") }).await;
    assert_eq!(waiting(&world).await, [of("plain", 7)]);
    let chosen = world.store.waiting(&std::collections::BTreeSet::new(), |queue| queue == "other").await;
    assert_eq!(chosen.unwrap(), []);
    // Jobs that left their line are still in it.
    for id in world.store.create(vec![in_queue("plain"); 2]).await.unwrap().iter().map(|made| made.id) {
        world.store.control(&id, Control::Cancel, None).await.unwrap();
    }
    assert_eq!(waiting(&world).await, [of("plain", 7)]);

    // A limit says before any claim how many it would let run.
    limit(&world, TYPE, r#"{"concurrency":10,"key":"/input/tenant","per_key":{"concurrency":4}}"#).await;
    let keys = (0..100).map(|number| keyed(if number < 50 { "one" } else { "two" })).collect();
    world.store.create(keys).await.unwrap();
    assert_eq!(waiting(&world).await, [of(TYPE, 8), of("plain", 7)]);
    world.create(keyed("three")).await;
    world.store.create(vec![job(TYPE); 5]).await.unwrap();
    assert_eq!(waiting(&world).await, [of(TYPE, 10), of("plain", 7)], "the queue's own limit");
    let running = world.claim(100).await;
    let running: Vec<_> = running.iter().filter(|held| held.spec.queue() == TYPE).collect();
    assert_eq!(running.len(), 10);
    assert!(!waiting(&world).await.iter().any(|(queue, _)| queue == TYPE), "its limit is met");
    world.store.set_limits(TYPE, None).await.unwrap();
    assert_eq!(waiting(&world).await, [of(TYPE, 96)]);
    world.check_ledger();
}

#[tokio::test]
async fn a_large_claim_serves_sixteen_keys_and_a_few_of_them_serve_all() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":10000,"key":"/input/tenant","per_key":{"concurrency":1000}}"#)
        .await;
    let jobs: Vec<_> = (0..5_000).map(|number| keyed(&format!("k{}", number % 100))).collect();
    world.store.create(jobs).await.unwrap();
    // Created last, behind all others of its priority.
    world.create(keyed("single")).await;
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    for claim in 1..=7 {
        let claimed = world.claim(200).await;
        assert_eq!(claimed.len(), 200);
        let mut own: BTreeMap<String, usize> = BTreeMap::new();
        for held in &claimed {
            *own.entry(held.spec.key.clone().unwrap()).or_default() += 1;
        }
        assert!(own.len() >= 16, "{} keys in claim {claim}", own.len());
        let many: Vec<_> = own.values().filter(|jobs| **jobs >= 8).collect();
        assert!(many.len() >= 15, "{own:?}");
        for (key, jobs) in own {
            *served.entry(key).or_default() += jobs;
        }
    }
    assert_eq!(served.len(), 101, "all keys had their turn: {:?}", served.keys());
    // A small claim takes one of each.
    let few = world.claim(10).await;
    let mut found = keys(&few);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 10);
    world.check_ledger();
}

#[tokio::test]
async fn no_span_of_time_has_more_starts_than_a_sliding_window_allows() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"rate":{"count":5,"per_ms":300}}"#).await;
    world.queue(20).await;
    let mut starts = Vec::new();
    while starts.len() < 20 {
        let request = support::request("w1", &[TYPE], 100);
        let claimed = world.store.claim(0, &request).await.unwrap();
        starts.extend(std::iter::repeat_n(claimed.now_ms, claimed.jobs.len()));
        for one in support::held(&world.store, claimed, &request).await {
            finish(&world, &one).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.check_ledger();
    for (at, start) in starts.iter().enumerate().skip(5) {
        assert!(start - starts[at - 5] >= 300, "{starts:?}");
    }
}

#[tokio::test]
async fn a_token_bucket_lets_a_burst_pass_and_then_its_rate() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"rate":{"count":10,"per_ms":1000,"burst":4}}"#).await;
    world.queue(7).await;
    let request = request("w1", &[TYPE], 100);
    let claimed = world.store.claim(0, &request).await.unwrap();
    assert_eq!(claimed.jobs.len(), 4);
    // The worker is told when it is worth to ask again.
    let next = claimed.next_due_ms.unwrap();
    assert!((claimed.now_ms + 50..claimed.now_ms + 101).contains(&next), "{next} {}", claimed.now_ms);
    assert!(world.claim(100).await.is_empty());
    tokio::time::sleep(Duration::from_millis(220)).await;
    assert!((2..=3).contains(&world.claim(100).await.len()));
    world.check_ledger();
}

#[tokio::test]
async fn a_heavy_job_takes_the_place_of_several() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":4}"#).await;
    let weighing = |weight| {
        let mut new = job(TYPE);
        new.spec.weight = Some(weight);
        new
    };
    world.create(weighing(3)).await;
    let heavy = world.create(weighing(2)).await;
    let light = world.create(weighing(1)).await;
    let giant = world.create(weighing(9)).await;
    let first = world.claim(10).await;
    assert_eq!(first.len(), 1);
    world.check_ledger();
    // Nothing overtakes the job that does not fit yet.
    finish(&world, &first[0]).await;
    let next = world.claim(10).await;
    assert_eq!(next.iter().map(|held| held.id).collect::<Vec<_>>(), [heavy, light]);
    for held in &next {
        finish(&world, held).await;
    }
    // One that is heavier than the whole limit runs alone.
    let last = world.claim(10).await;
    assert_eq!(last[0].id, giant);
    world.queue(1).await;
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn a_full_queue_rejects_replaces_or_cancels_as_it_is_told() {
    let world = World::new().await;
    let create = async || world.store.create(vec![job(TYPE)]).await.unwrap().remove(0);
    limit(&world, TYPE, r#"{"concurrency":2,"when_full":"reject"}"#).await;
    let batch = world.store.create(vec![job(TYPE), job(TYPE), job(TYPE)]).await.unwrap();
    assert_eq!(batch.iter().map(|one| one.refused).collect::<Vec<_>>(), [false, false, true]);
    let running = world.claim(10).await;
    let before = world.dump();
    assert!(create().await.refused);
    assert_eq!(world.dump(), before);

    limit(&world, TYPE, r#"{"concurrency":2,"when_full":"replace"}"#).await;
    let waiting = create().await.id;
    let newer = create().await.id;
    assert_eq!(world.state(&waiting).await, State::Cancelled);
    let error = world.store.get(&waiting).await.unwrap().unwrap().record.error.unwrap();
    assert_eq!(error.kind, "replaced");
    assert_eq!(world.state(&newer).await, State::Queued);
    world.check_ledger();
    finish(&world, &running[0]).await;
    assert_eq!(world.claim(10).await[0].id, newer);
    let both = world.store.create(vec![job(TYPE), job(TYPE)]).await.unwrap();
    assert_eq!(world.state(&both[0].id).await, State::Cancelled);
    assert_eq!(world.state(&both[1].id).await, State::Queued);
    assert_eq!(world.store.purge_queue(TYPE).await.unwrap(), 1);
    finish(&world, &running[1]).await;
    world.store.control(&newer, Control::Cancel, None).await.unwrap();

    limit(&world, TYPE, r#"{"concurrency":1,"when_full":"cancel_running"}"#).await;
    create().await;
    let old = world.claim(10).await.remove(0);
    let new = create().await.id;
    assert_eq!(world.state(&old.id).await, State::Cancelled);
    world.check_ledger();
    assert_eq!(world.claim(10).await[0].id, new);
    world.check_ledger();
}

#[tokio::test]
async fn lines_behind_a_limit_come_back_when_it_is_changed_or_gone() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":1}"#).await;
    world.queue(10).await;
    assert_eq!(world.claim(10).await.len(), 1);
    assert!(world.claim(10).await.is_empty());
    limit(&world, TYPE, r#"{"concurrency":3}"#).await;
    assert_eq!(world.claim(10).await.len(), 2);
    assert!(world.claim(10).await.is_empty());
    assert_eq!(world.store.all_limits().await.unwrap().len(), 1);
    world.store.set_limits(TYPE, None).await.unwrap();
    assert!(world.store.all_limits().await.unwrap().is_empty());
    assert_eq!(world.claim(10).await.len(), 7);
    world.check_ledger();
}

#[tokio::test]
async fn a_paused_queue_stays_paused_whatever_a_limit_does() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":1}"#).await;
    world.queue(3).await;
    let first = world.claim(10).await.remove(0);
    assert!(world.claim(10).await.is_empty());
    world.store.pause_queue(TYPE).await.unwrap();
    finish(&world, &first).await;
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
    world.store.resume_queue(TYPE).await.unwrap();
    assert_eq!(world.claim(10).await.len(), 1);
    world.check_ledger();
}

#[tokio::test]
async fn a_place_is_not_lost_when_the_line_it_was_opened_for_has_nothing() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":1,"key":"/input/tenant"}"#).await;
    let first = world.create(keyed("a")).await;
    let empty = world.create(keyed("b")).await;
    world.create(keyed("c")).await;
    let running = world.claim(10).await.remove(0);
    assert_eq!(running.id, first);
    assert!(world.claim(10).await.is_empty());
    // Its entry stays in the line; nothing else does.
    world.store.control(&empty, Control::Pause, None).await.unwrap();
    finish(&world, &running).await;
    let request = request("w1", &[TYPE], 10);
    let claimed = world.store.claim(0, &request).await.unwrap();
    let mut claimed = held(&world.store, claimed, &request).await;
    if claimed.is_empty() {
        claimed = world.claim(10).await;
    }
    assert_eq!(keys(&claimed), ["c"]);
    world.check_ledger();
}

#[tokio::test]
async fn a_key_until_started_is_free_with_the_first_claim() {
    let world = World::new().await;
    let new = || {
        let mut new = job(TYPE);
        new.spec.unique_key = Some("u".into());
        new.spec.unique_until = Some(UniqueUntil::Started);
        new
    };
    let first = world.create(new()).await;
    assert!(world.store.create(vec![new()]).await.unwrap()[0].existing);
    let held = world.claim(10).await.remove(0);
    assert_eq!(held.id, first);
    world.check_ledger();
    let second = world.create(new()).await;
    assert_ne!(first, second);
    finish(&world, &held).await;
    assert!(world.store.create(vec![new()]).await.unwrap()[0].existing);
    // The first one may run again beside the second: it takes nothing from it.
    assert_eq!(
        world.store.control(&first, Control::Restart, None).await.unwrap(),
        ControlAnswer::KeyTaken(second)
    );
    world.check_ledger();
}

#[tokio::test]
async fn a_key_for_a_time_outlives_its_job() {
    let world = World::new().await;
    let new = || {
        let mut new = job(TYPE);
        new.spec.unique_key = Some("u".into());
        new.spec.unique_for_ms = Some(400);
        new
    };
    let first = world.create(new()).await;
    finish(&world, &world.claim(10).await[0]).await;
    let again = world.store.create(vec![new(), new()]).await.unwrap();
    assert!(again.iter().all(|one| one.existing && one.id == first && one.state == State::Succeeded));
    tokio::time::sleep(Duration::from_millis(450)).await;
    let later = world.store.create(vec![new(), new()]).await.unwrap();
    assert_eq!((later[0].existing, later[1].existing), (false, true));
    assert_eq!(later[0].id, later[1].id);
    world.check_ledger();
}

#[tokio::test]
async fn the_newest_input_replaces_that_of_the_job_which_waits() {
    let world = World::new().await;
    let new = |input: &str, delay_ms| {
        let mut new = NewJob { delay_ms, replaces_input: true, ..job(TYPE) };
        new.spec.input = input.into();
        new.spec.tags = vec!["t".into()];
        new.spec.unique_key = Some("u".into());
        new.spec.soft_limit_ms = Some(5);
        new
    };
    let both = world.store.create(vec![new("1", Some(60_000)), new("2", Some(90_000))]).await.unwrap();
    assert_eq!((both[0].updated, both[1].updated, both[0].id == both[1].id), (false, true, true));
    let view = async |id: &JobId| world.store.get(id).await.unwrap().unwrap();
    let first = view(&both[0].id).await;
    assert_eq!((first.spec.input.as_str(), first.state), ("2", State::Scheduled));
    let again = world.store.create(vec![new("3", Some(120_000))]).await.unwrap().remove(0);
    let second = view(&again.id).await;
    assert!(again.updated && again.existing && again.id == first.id);
    assert_eq!((second.spec.input.as_str(), &second.spec.tags), ("3", &first.spec.tags));
    assert_eq!(second.spec.soft_limit_ms, Some(5));
    // The wait begins anew.
    assert!(second.record.not_before_ms > first.record.not_before_ms);
    world.check_ledger();
    world.store.control(&first.id, Control::Pause, None).await.unwrap();
    let resumed = world.store.control(&first.id, Control::Resume, None).await.unwrap();
    assert_eq!(resumed, ControlAnswer::Done(State::Scheduled));
    assert!(world.store.create(vec![new("4", Some(1))]).await.unwrap()[0].updated);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let held = world.claim(10).await.remove(0);
    assert_eq!((held.id, held.spec.input.as_str()), (first.id, "4"));
    // What runs keeps its input.
    let late = world.store.create(vec![new("5", None)]).await.unwrap().remove(0);
    assert!(late.existing && !late.updated);
    assert_eq!(view(&first.id).await.spec.input, "4");
    world.check_ledger();
}

#[tokio::test]
async fn five_thousand_keys_behind_one_limit_each_get_their_turn() {
    let world = World::new().await;
    limit(&world, TYPE, r#"{"concurrency":50,"key":"/input/tenant","per_key":{"concurrency":1}}"#).await;
    let jobs: Vec<_> = (0..10_000).map(|number| keyed(&format!("k{}", number % 5_000))).collect();
    world.store.create(jobs).await.unwrap();
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    let (mut claims, mut all) = (0, 0);
    while all < 10_000 {
        let claimed = world.claim(200).await;
        claims += 1;
        assert!(claims < 5_000, "{all} of 10,000 after {claims} claims");
        assert!(claimed.len() <= 50, "{}", claimed.len());
        let mut commits: Vec<_> =
            claimed.iter().map(|held| held.then(Then::Succeeded { result: "null".into() })).collect();
        world.store.commit(0, &mut commits).await.unwrap();
        for held in &claimed {
            let turns = done.entry(held.spec.key.clone().unwrap()).or_default();
            *turns += 1;
            // Nobody has a second turn before everybody had a first, but for those at the seam.
            assert!(*turns == 1 || all > 4_800, "{} after {all}", held.spec.key.as_ref().unwrap());
        }
        all += claimed.len();
    }
    println!("10,000 jobs of 5,000 keys in {claims} claims");
    world.check_ledger();
}
