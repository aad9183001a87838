//! Routes against a real server: a change that is made from an old revision changes nothing, counts add up, and what is
//! kept has its bounds.

mod support;

use serde_json::json;
use support::World;
use waymark_job::{
    JobId,
    route::{
        Change, Route, Stored, Target,
        compare::{Difference, Outcome},
        guard::{Arm, Counts},
    },
};
use waymark_store::{CommitAnswer, MISMATCHES_MAX, Message, Mismatch, NewJob, ROUTE_CHANGES_MAX, Then};

fn stored(now_ms: u64, before: Option<&Stored>) -> Stored {
    let target = Target { arm: "a".into(), weight: 100, version: Some("1".into()), ..Target::default() };
    Stored::begin(Route { targets: vec![target], ..Route::default() }, before, now_ms)
}

fn change(at_ms: u64, before: Option<&Stored>) -> Change {
    Change {
        at_ms,
        who: "me".into(),
        what: "put".into(),
        why: String::new(),
        before: before.cloned().map(Box::new),
        revision: at_ms,
    }
}

#[tokio::test]
async fn a_change_from_an_old_revision_changes_nothing() {
    let world = World::new().await;
    let store = &world.store;
    assert!(store.route("t").await.unwrap().is_none() && store.routes().await.unwrap().is_empty());
    let first = stored(1_790_000_000_123, None);
    assert!(store.put_route("t", None, Some(&first), Some(&change(1, None))).await.unwrap());
    assert_eq!(store.route("t").await.unwrap().as_ref(), Some(&first));
    let second = stored(0, Some(&first));
    assert!(store.put_route("t", Some(&first), Some(&second), Some(&change(2, Some(&first)))).await.unwrap());

    let kept = world.dump();
    for known in [None, Some(&first)] {
        assert!(!store.put_route("t", known, Some(&first), Some(&change(3, None))).await.unwrap());
        assert!(!store.put_route("t", known, None, None).await.unwrap());
    }
    assert_eq!(kept, world.dump(), "nothing is written when it is refused");

    let changes = store.route_changes("t").await.unwrap();
    assert_eq!(changes.iter().map(|one| one.at_ms).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(changes[0].before.as_deref(), Some(&first));
    assert!(store.put_route("t", Some(&second), None, None).await.unwrap());
    assert!(store.route("t").await.unwrap().is_none());
    assert_eq!(store.route_changes("t").await.unwrap().len(), 2, "its history outlives it");
}

#[tokio::test]
async fn a_change_is_announced_and_the_history_is_bounded() {
    let world = World::new().await;
    let mut messages = world.store.subscribe_work();
    assert_eq!(messages.next().await, Message::Reconnected);
    let mut before: Option<Stored> = None;
    for at_ms in 1..=60 {
        let next = stored(1_000, before.as_ref());
        let change = change(at_ms, before.as_ref());
        assert!(world.store.put_route("t", before.as_ref(), Some(&next), Some(&change)).await.unwrap());
        before = Some(next);
    }
    assert_eq!(messages.next().await, Message::Routes);
    let changes = world.store.route_changes("t").await.unwrap();
    assert_eq!((changes.len(), changes[0].at_ms), (ROUTE_CHANGES_MAX, 60));
}

#[tokio::test]
async fn counts_of_workers_add_up_and_go_with_their_epoch() {
    let world = World::new().await;
    let store = &world.store;
    let first = stored(1_000, None);
    store.put_route("t", None, Some(&first), None).await.unwrap();
    let mut arm = Arm::default();
    arm.succeeded(1_000, 10);
    arm.succeeded(9_000, 20);
    arm.failed();
    let counts = Counts { arms: [("a".to_owned(), arm.clone())].into(), compared: 3, mismatched: 1 };
    for _ in 0..2 {
        store.count_route("t", first.epoch, &counts).await.unwrap();
    }
    let found = store.route_counts("t", first.epoch).await.unwrap();
    assert_eq!((found.compared, found.mismatched), (6, 2));
    let both = &found.arms["a"];
    assert_eq!((both.attempts, both.errors, both.ran_us, both.bytes), (6, 2, 20_000, 60));
    assert!(both.times.iter().all(|(bucket, count)| *count == 2 && arm.times[bucket] == 1));

    let second = stored(0, Some(&first));
    store.put_route("t", Some(&first), Some(&second), None).await.unwrap();
    assert_eq!(store.route_counts("t", first.epoch).await.unwrap(), Counts::default());
}

#[tokio::test]
async fn the_newest_pairs_that_differ_are_kept_without_what_is_too_long() {
    let world = World::new().await;
    let id = JobId::generate(1_790_000_000_000, 0).unwrap();
    for at_ms in 0..=MISMATCHES_MAX as u64 {
        let long = json!("x".repeat(100_000));
        let mismatch = Mismatch {
            at_ms,
            job: id,
            shadow: id,
            left: Some(Outcome::Succeeded(json!({"n": 1}))),
            right: Some(Outcome::Succeeded(long.clone())),
            differences: vec![Difference { pointer: String::new(), left: Some(json!(1)), right: Some(long) }],
        };
        world.store.keep_mismatch("t", mismatch).await.unwrap();
    }
    let kept = world.store.mismatches("t").await.unwrap();
    assert_eq!((kept.len(), kept[0].at_ms), (MISMATCHES_MAX, MISMATCHES_MAX as u64));
    assert_eq!(kept[0].left, Some(Outcome::Succeeded(json!({"n": 1}))));
    assert_eq!(kept[0].right, None);
    assert!(kept[0].differences[0].right.as_ref().unwrap().to_string().len() < 100);
}

#[tokio::test]
async fn checkpoints_of_jobs_that_live_are_found() {
    use waymark_job::State;
    let world = World::new().await;
    let ended = world.job_in(State::Succeeded).await;
    // Queued jobs that never ran, and those that have ended, have nothing to try.
    world.queue(3).await;
    let mut wanted = Vec::new();
    for then in [Then::Continue, Then::Paused, Then::Sleep { delay_ms: 60_000 }, Then::AwaitChildren] {
        let id = world.create(NewJob { spec: support::spec(support::TYPE), ..NewJob::default() }).await;
        let claimed = world.claim(10).await;
        let mut held = claimed.into_iter().find(|held| held.id == id).expect("it is claimed");
        let commit = held.step(then);
        assert!(matches!(world.commit(commit).await, CommitAnswer::Done(_)));
        wanted.push(id);
    }
    let found = world.store.live_checkpoints(support::TYPE, 20).await.unwrap();
    let with: Vec<_> = found.iter().map(|(id, _)| *id).collect();
    // A wait for no children is over at once: its job is queued, and has its checkpoint all the same.
    assert!(wanted.iter().all(|id| with.contains(id)) && !with.contains(&ended), "{with:?} {wanted:?}");
    assert!(found.iter().all(|(_, checkpoint)| checkpoint.state.starts_with(b"state")));
    assert_eq!(world.store.live_checkpoints(support::TYPE, 2).await.unwrap().len(), 2);
    assert!(world.store.live_checkpoints(support::TYPE, 0).await.unwrap().is_empty());
    assert!(world.store.live_checkpoints("other", 20).await.unwrap().is_empty());
}
