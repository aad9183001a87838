//! The scripts of language models against a real server: every answer, and nothing booked when they refuse.

mod support;

use support::World;
use waymark_job::llm::{Spent, Take, Taken};

fn take() -> Take {
    Take {
        provider: "p".into(),
        job_id: "j".into(),
        job_type: "t".into(),
        tokens: 100,
        cost_micros: 10,
        ..Take::default()
    }
}

fn spent(tokens: u64, cost_micros: u64, back_off_ms: u64) -> Spent {
    Spent { tokens, cost_micros, back_off_ms }
}

async fn day(world: &World, take: &Take) -> u64 {
    match world.store.llm_take(take).await.unwrap() {
        Taken::Now(day) => day,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_is_kept_until_it_expires() {
    let world = World::new().await;
    assert_eq!(world.store.llm_cached("k").await.unwrap(), None);
    world.store.llm_keep("k", b"answer", 60_000).await.unwrap();
    assert_eq!(world.store.llm_cached("k").await.unwrap().as_deref(), Some(&b"answer"[..]));
    world.store.llm_keep("k", b"answer", 1).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(world.store.llm_cached("k").await.unwrap(), None);
}

#[tokio::test]
async fn one_of_many_asks_until_it_leaves_or_falls_silent() {
    let world = World::new().await;
    let store = &world.store;
    assert!(store.llm_take_off("k", "a", 60_000).await.unwrap());
    let taken = world.dump();
    assert!(!store.llm_take_off("k", "b", 60_000).await.unwrap());
    store.llm_land("k", "b").await.unwrap();
    assert_eq!(taken, world.dump(), "whoever does not hold it changes nothing");
    assert!(store.llm_take_off("k", "a", 60_000).await.unwrap(), "it goes on");
    assert!(store.llm_take_off("other", "b", 60_000).await.unwrap());
    store.llm_land("k", "a").await.unwrap();
    assert!(store.llm_take_off("k", "b", 1).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(store.llm_take_off("k", "c", 60_000).await.unwrap(), "the one before fell silent");
}

#[tokio::test]
async fn rates_are_buckets_that_all_share() {
    let world = World::new().await;
    let requests = Take { requests_per_minute: Some(2), ..take() };
    day(&world, &requests).await;
    let before = world.dump();
    day(&world, &requests).await;
    let Taken::Wait(ms) = world.store.llm_take(&requests).await.unwrap() else { panic!("it waits") };
    assert!((25_000..=30_000).contains(&ms), "{ms}: one of two in a minute");
    assert_ne!(before, world.dump());
    let refused = world.dump();
    assert!(matches!(world.store.llm_take(&requests).await.unwrap(), Taken::Wait(_)));
    assert_eq!(refused, world.dump(), "nothing is booked");

    let tokens = Take { provider: "q".into(), tokens_per_minute: Some(150), ..take() };
    let booked = day(&world, &tokens).await;
    assert!(matches!(world.store.llm_take(&tokens).await.unwrap(), Taken::Wait(_)));
    world.store.llm_settle(&tokens, booked, spent(10, 1, 0)).await.unwrap();
    day(&world, &tokens).await;
    let large = Take { provider: "r".into(), tokens: 1_000, ..tokens };
    day(&world, &large).await;
    let Taken::Wait(ms) = world.store.llm_take(&large).await.unwrap() else { panic!("it waits") };
    assert!((59_000..=60_000).contains(&ms), "{ms}: a large request needs the bucket full");
}

#[tokio::test]
async fn budgets_count_what_was_used_and_not_what_was_feared() {
    let world = World::new().await;
    let of_job = Take { job_tokens: Some(150), ..take() };
    let booked = day(&world, &of_job).await;
    assert_eq!(world.store.llm_take(&of_job).await.unwrap(), Taken::JobBudget);
    world.store.llm_settle(&of_job, booked, spent(50, 5, 0)).await.unwrap();
    day(&world, &of_job).await;
    let other = Take { job_id: "k".into(), ..of_job };
    day(&world, &other).await;
    // 10 of each booking, 5 of the settled one.
    let of_day = Take { day_cost_micros: Some(35), job_id: "l".into(), ..take() };
    day(&world, &of_day).await;
    assert_eq!(world.store.llm_take(&of_day).await.unwrap(), Taken::DayBudget);
    let free = Take { day_cost_micros: None, ..of_day };
    day(&world, &free).await;
}

#[tokio::test]
async fn a_provider_that_is_busy_is_left_alone() {
    let world = World::new().await;
    let booked = day(&world, &take()).await;
    world.store.llm_settle(&take(), booked, spent(0, 0, 5_000)).await.unwrap();
    world.store.llm_settle(&take(), booked, spent(0, 0, 100)).await.unwrap();
    let Taken::Wait(ms) = world.store.llm_take(&take()).await.unwrap() else { panic!("it waits") };
    assert!((4_000..=5_000).contains(&ms), "{ms}: the longest wish holds");
    day(&world, &Take { provider: "other".into(), ..take() }).await;
}
