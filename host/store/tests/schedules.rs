//! The scripts of schedules against a real server: every answer, and nothing changed when they refuse.

mod support;

use support::{TYPE, World, now_ms, spec};
use waymark_job::{
    Control, JobId, Schedule, Spec, State,
    flow::{Limits, WhenFull},
    schedule::{Action, CatchUp, Overlap, Timing, Work},
};
use waymark_store::{Error, FireRequest, NewJob, Outcome, PutAnswer, StoredSchedule, Then};

fn seconds(overlap: Overlap) -> Schedule {
    Schedule {
        name: "s".into(),
        timing: Timing::Every { every_ms: 1_000, anchor_ms: 0 },
        overlap,
        catch_up: CatchUp::Last,
        work: Work::Job(Box::new(spec(TYPE))),
        ..Action::ExpireKeys.schedule()
    }
}

fn once(at_ms: u64) -> Schedule {
    Schedule { timing: Timing::At(at_ms), ..seconds(Overlap::Skip) }
}

async fn stored(world: &World) -> StoredSchedule {
    world.store.schedule("s").await.unwrap().unwrap()
}

/// Fires when the next `times` planned times are due.
async fn fire(world: &World, times: u64) -> Option<Vec<Outcome>> {
    let stored = stored(world).await;
    let now = stored.state.next_ms.unwrap() + (times - 1) * 1_000;
    fire_request(world, &stored.firing(now), now).await
}

async fn fire_request(world: &World, request: &FireRequest, now: u64) -> Option<Vec<Outcome>> {
    world.store.fire(0, std::slice::from_ref(request), now).await.unwrap().pop().unwrap()
}

fn job(outcome: Outcome) -> JobId {
    match outcome {
        Outcome::Job(id) => id,
        other => panic!("no job was made: {other:?}"),
    }
}

/// One planned time, which makes a job.
async fn one_job(world: &World) -> JobId {
    let next_ms = stored(world).await.state.next_ms.unwrap();
    let request = stored(world).await.firing(next_ms);
    job(fire_request(world, &request, next_ms).await.unwrap()[0])
}

#[tokio::test]
async fn a_schedule_is_created_replaced_and_found_the_same() {
    let world = World::new().await;
    let first = seconds(Overlap::Skip);
    assert_eq!(world.store.put_schedule(&first, None).await.unwrap(), PutAnswer::Created);
    let before = world.dump();
    assert_eq!(world.store.put_schedule(&first, None).await.unwrap(), PutAnswer::Same);
    assert_eq!(world.dump(), before);
    let next_ms = stored(&world).await.state.next_ms;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    // Another overlap policy is no other time: what is due stays due.
    assert_eq!(world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap(), PutAnswer::Replaced);
    assert_eq!(stored(&world).await.state.next_ms, next_ms);
    let later = Schedule { jitter_ms: 5, ..seconds(Overlap::Allow) };
    assert_eq!(world.store.put_schedule(&later, None).await.unwrap(), PutAnswer::Replaced);
    assert!(stored(&world).await.state.next_ms > next_ms);
}

#[tokio::test]
async fn what_a_file_holds_only_a_file_replaces() {
    let world = World::new().await;
    let own = Schedule { from_file: true, ..seconds(Overlap::Skip) };
    assert_eq!(world.store.put_schedule(&own, None).await.unwrap(), PutAnswer::Created);
    let before = world.dump();
    assert_eq!(world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap(), PutAnswer::FromFile);
    assert_eq!(world.dump(), before);
    let own = Schedule { overlap: Overlap::Allow, ..own };
    assert_eq!(world.store.put_schedule(&own, None).await.unwrap(), PutAnswer::Replaced);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_followed_is_refused_by_field() {
    let world = World::new().await;
    let bad = Schedule { timezone: "Nowhere".into(), ..seconds(Overlap::Skip) };
    match world.store.put_schedule(&bad, None).await {
        Err(Error::Schedule(invalid)) => assert_eq!(invalid.field, "timezone"),
        other => panic!("{other:?}"),
    }
    assert!(world.store.schedules(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_planned_time_fires_once_whoever_asks() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap();
    let next_ms = stored(&world).await.state.next_ms.unwrap();
    let requests: Vec<_> = {
        let stored = stored(&world).await;
        (0..8).map(|_| stored.clone().firing(next_ms)).collect()
    };
    let asked = requests.iter().map(|request| fire_request(&world, request, next_ms));
    let answers = futures_util::future::join_all(asked).await;
    assert_eq!(answers.iter().flatten().count(), 1);
    let id = job(answers.into_iter().flatten().next().unwrap()[0]);
    let view = world.store.get(&id).await.unwrap().unwrap();
    assert_eq!(view.spec.tags, ["schedule:s"]);
    assert_eq!(view.spec.schedule.unwrap().planned_ms, next_ms);
    let state = stored(&world).await.state;
    assert_eq!((state.next_ms, state.fired, state.job), (Some(next_ms + 1_000), 1, Some(id)));
    let history = world.store.schedule_history("s").await.unwrap();
    assert_eq!((history.len(), history[0].planned_ms, history[0].job), (1, next_ms, Some(id)));
    // The same request again, as after a lost answer.
    let before = world.dump();
    assert_eq!(fire_request(&world, &requests[0], next_ms).await, None);
    assert_eq!(world.dump(), before);
    world.check_ledger();
}

#[tokio::test]
async fn a_schedule_changed_paused_or_deleted_meanwhile_does_not_fire() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap();
    let next_ms = stored(&world).await.state.next_ms.unwrap();
    let request = stored(&world).await.firing(next_ms);
    world.store.put_schedule(&seconds(Overlap::Skip), None).await.unwrap();
    assert_eq!(fire_request(&world, &request, next_ms).await, None);
    let request = stored(&world).await.firing(next_ms);
    assert!(world.store.pause_schedule("s").await.unwrap());
    assert_eq!(fire_request(&world, &request, next_ms).await, None);
    assert_eq!(world.store.next_schedule_ms(0).await.unwrap(), None);
    assert!(world.store.resume_schedule("s").await.unwrap());
    let request = stored(&world).await.firing(u64::MAX / 2);
    assert!(world.store.delete_schedule("s").await.unwrap());
    assert_eq!(fire_request(&world, &request, next_ms).await, None);
    assert!(world.store.counts().await.unwrap().is_empty());
    let left: Vec<_> = world.dump().into_keys().filter(|key| key.contains("sched")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_switch_survives_a_replacement_and_what_passes_meanwhile_is_not_missed() {
    let world = World::new().await;
    assert!(!world.store.pause_schedule("s").await.unwrap());
    assert!(!world.store.delete_schedule("s").await.unwrap());
    assert!(!world.store.resume_schedule("s").await.unwrap());
    world.store.put_schedule(&seconds(Overlap::Allow), Some(true)).await.unwrap();
    world.store.put_schedule(&seconds(Overlap::Skip), None).await.unwrap();
    let paused = stored(&world).await.state;
    assert!(paused.paused && world.store.next_schedule_ms(0).await.unwrap().is_none());
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert!(world.store.resume_schedule("s").await.unwrap());
    let before = world.dump();
    assert!(world.store.resume_schedule("s").await.unwrap());
    assert_eq!(world.dump(), before);
    let state = stored(&world).await.state;
    assert!(!state.paused && state.missed == 0 && state.next_ms > paused.next_ms);
    assert_eq!(world.store.next_schedule_ms(0).await.unwrap(), state.next_ms);
    world.store.put_schedule(&seconds(Overlap::Skip), Some(true)).await.unwrap();
    assert!(stored(&world).await.state.paused);
}

#[tokio::test]
async fn skip_leaves_a_time_out_while_the_job_made_last_has_not_ended() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::Skip), None).await.unwrap();
    let first = one_job(&world).await;
    assert_eq!(fire(&world, 1).await.unwrap()[0], Outcome::Overlap);
    assert_eq!(stored(&world).await.state.job, Some(first));
    let held = world.claim(1).await.pop().unwrap();
    assert_eq!(fire(&world, 1).await.unwrap()[0], Outcome::Overlap);
    world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
    let second = job(fire(&world, 1).await.unwrap()[0]);
    assert_ne!(first, second);
    let notes: Vec<_> =
        world.store.schedule_history("s").await.unwrap().into_iter().map(|fired| fired.note).collect();
    assert_eq!(notes, [None, Some("overlap".into()), Some("overlap".into()), None]);
    // A job that was deleted stands in nobody's way.
    world.store.delete(&second).await.unwrap();
    job(fire(&world, 1).await.unwrap()[0]);
    world.check_ledger();
}

#[tokio::test]
async fn queue_one_holds_one_time_until_the_job_made_last_has_ended() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::QueueOne), None).await.unwrap();
    one_job(&world).await;
    let held = world.claim(1).await.pop().unwrap();
    assert_eq!(fire(&world, 1).await.unwrap()[0], Outcome::Waits);
    let waiting_ms = stored(&world).await.state.waiting_ms;
    assert!(waiting_ms.is_some());
    // It is looked at again soon, and the next time is left out.
    let due_ms = world.store.next_schedule_ms(0).await.unwrap().unwrap();
    assert!(due_ms <= now_ms() + 500, "{due_ms}");
    assert_eq!(fire(&world, 1).await.unwrap()[..2], [Outcome::Waits, Outcome::Overlap]);
    world.commit(held.then(Then::Failed)).await;
    let request = stored(&world).await.firing(0);
    let next = job(fire_request(&world, &request, now_ms()).await.unwrap()[0]);
    let spec = world.store.get(&next).await.unwrap().unwrap().spec;
    assert_eq!(spec.schedule.map(|firing| firing.planned_ms), waiting_ms);
    let state = stored(&world).await.state;
    assert_eq!((state.waiting_ms, state.fired), (None, 2));
    assert_eq!(world.store.next_schedule_ms(0).await.unwrap(), state.next_ms);
    world.check_ledger();
}

#[tokio::test]
async fn cancel_running_cancels_the_job_made_last_in_any_state() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::CancelRunning), None).await.unwrap();
    let queued = one_job(&world).await;
    let running = job(fire(&world, 1).await.unwrap()[0]);
    assert_eq!(world.state(&queued).await, State::Cancelled);
    let held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.id, running);
    let third = job(fire(&world, 1).await.unwrap()[0]);
    assert_eq!(world.state(&running).await, State::Cancelled);
    assert_eq!(
        world.commit(held.then(Then::Succeeded { result: "1".into() })).await,
        waymark_store::CommitAnswer::Lost
    );
    world.store.control(&third, Control::Pause, None).await.unwrap();
    // Several in one call: each cancels the one before.
    let made = fire(&world, 5).await.unwrap();
    assert_eq!(made.len(), 5);
    let states = |ids: Vec<Outcome>| async {
        let mut states = Vec::new();
        for id in ids {
            states.push(world.state(&job(id)).await);
        }
        states
    };
    let states = states(made).await;
    assert!(states.iter().rev().skip(1).all(|state| *state == State::Cancelled), "{states:?}");
    assert_eq!(states.last(), Some(&State::Queued));
    world.check_ledger();
}

#[tokio::test]
async fn allow_makes_a_job_for_every_time() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap();
    let made = fire(&world, 5).await.unwrap();
    assert_eq!(made.len(), 5);
    assert_eq!(world.claim(10).await.len(), made.len());
    world.check_ledger();
}

#[tokio::test]
async fn a_schedule_ends_after_its_last_run() {
    let world = World::new().await;
    let two = Schedule { max_runs: Some(2), ..seconds(Overlap::Allow) };
    world.store.put_schedule(&two, None).await.unwrap();
    let outcomes = fire(&world, 5).await.unwrap();
    assert!(matches!(outcomes[..3], [Outcome::Job(_), Outcome::Job(_), Outcome::Ended]), "{outcomes:?}");
    let state = stored(&world).await.state;
    assert_eq!((state.fired, state.next_ms), (2, None));
    assert_eq!(world.store.next_schedule_ms(0).await.unwrap(), None);
    let (outcome, _) = world.store.run_schedule("s").await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Ended);
    world.check_ledger();
}

#[tokio::test]
async fn missed_times_are_counted_and_the_newest_fires() {
    let world = World::new().await;
    world.store.put_schedule(&seconds(Overlap::Skip), None).await.unwrap();
    assert_eq!(fire(&world, 61).await.unwrap().len(), 1);
    let state = stored(&world).await.state;
    assert_eq!(state.missed, 60);
    let history = world.store.schedule_history("s").await.unwrap();
    assert_eq!(history[0].times, Some(state.missed));
}

#[tokio::test]
async fn a_one_off_in_the_past_fires_once_and_again_only_if_its_time_changes() {
    let world = World::new().await;
    world.store.put_schedule(&once(5_000), None).await.unwrap();
    one_job(&world).await;
    assert_eq!(stored(&world).await.state.next_ms, None);
    assert_eq!(world.store.put_schedule(&once(5_000), None).await.unwrap(), PutAnswer::Same);
    assert_eq!(stored(&world).await.state.next_ms, None);
    world.store.put_schedule(&once(6_000), None).await.unwrap();
    assert_eq!(stored(&world).await.state.next_ms, Some(6_000));
}

#[tokio::test]
async fn running_now_leaves_the_planned_times_and_keeps_to_the_overlap_policy() {
    let world = World::new().await;
    assert!(world.store.run_schedule("s").await.unwrap().is_none());
    world.store.put_schedule(&once(now_ms() + 3_600_000), Some(true)).await.unwrap();
    let before = stored(&world).await.state;
    let (outcome, _) = world.store.run_schedule("s").await.unwrap().unwrap();
    job(outcome);
    let after = stored(&world).await.state;
    assert_eq!((after.next_ms, after.paused, after.fired), (before.next_ms, true, 1));
    assert_eq!(world.store.next_schedule_ms(0).await.unwrap(), None);
    assert_eq!(world.store.run_schedule("s").await.unwrap().unwrap().0, Outcome::Overlap);
    world.check_ledger();
}

#[tokio::test]
async fn an_action_makes_no_job_and_notes_what_it_did() {
    let world = World::new().await;
    let name = Action::ExpireResults.schedule().name;
    world.store.put_schedule(&Action::ExpireResults.schedule(), None).await.unwrap();
    let (outcome, request) = world.store.run_schedule(&name).await.unwrap().unwrap();
    assert_eq!((outcome, request.times().len()), (Outcome::Action, 1));
    world.store.schedule_ran(&name, request.times()[0], 7, Ok("3 jobs removed")).await.unwrap();
    let state = world.store.schedule(&name).await.unwrap().unwrap().state;
    assert_eq!((state.took_ms, state.did.as_deref(), state.error), (Some(7), Some("3 jobs removed"), None));
    world.store.schedule_ran(&name, 1, 7, Err("no")).await.unwrap();
    let state = world.store.schedule(&name).await.unwrap().unwrap().state;
    assert_eq!(state.error.as_deref(), Some("no"));
    let before = world.dump();
    world.store.schedule_ran("none", 1, 7, Ok("")).await.unwrap();
    assert_eq!(world.dump(), before);
    assert!(world.store.counts().await.unwrap().is_empty());
}

#[tokio::test]
async fn schedules_are_listed_by_name_over_all_partitions() {
    let world = World::with(|options| options.partitions = 4).await;
    for number in (0..25).rev() {
        let schedule = Schedule { name: format!("n{number:02}"), ..seconds(Overlap::Skip) };
        world.store.put_schedule(&schedule, None).await.unwrap();
    }
    let names = |page: &[StoredSchedule]| -> Vec<_> {
        page.iter().map(|stored| stored.schedule.name.clone()).collect()
    };
    let first = names(&world.store.schedules(None, 10).await.unwrap());
    let rest = names(&world.store.schedules(first.last().map(String::as_str), 100).await.unwrap());
    assert_eq!([first, rest].concat(), (0..25).map(|number| format!("n{number:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_host_leads_until_it_gives_up_or_its_time_is_over() {
    let world = World::new().await;
    let store = &world.store;
    assert_eq!(store.leader().await.unwrap(), None);
    assert_eq!(store.lead("a", 60_000).await.unwrap(), "a");
    assert_eq!(store.lead("b", 60_000).await.unwrap(), "a");
    assert_eq!(store.lead("b", 0).await.unwrap(), "a");
    assert_eq!(store.lead("a", 0).await.unwrap(), "");
    assert_eq!(store.lead("b", 100).await.unwrap(), "b");
    assert_eq!(store.leader().await.unwrap().as_deref(), Some("b"));
    support::until("the lease runs out", || async { store.lead("a", 60_000).await.unwrap() == "a" }).await;
}

#[tokio::test]
async fn a_queue_or_type_that_holds_nothing_is_forgotten_at_the_second_look() {
    let world = World::new().await;
    let mut other = support::job(TYPE);
    other.spec.queue = "side".into();
    let ids = [world.create(other).await, world.queue(1).await[0]];
    for id in &ids {
        world.store.delete(id).await.unwrap();
    }
    let kept = world.create(support::job("busy")).await;
    let mut idle = std::collections::HashSet::new();
    assert_eq!(world.store.expire_keys(&mut idle).await.unwrap(), 0);
    assert_eq!(world.store.queues().await.unwrap().len(), 3);
    // Two queues and a type.
    assert_eq!(world.store.expire_keys(&mut idle).await.unwrap(), 3);
    let names: Vec<_> = world.store.queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, ["busy"]);
    assert!(world.store.get(&kept).await.unwrap().is_some());
    world.check_ledger();
}

#[tokio::test]
async fn damaged_indexes_and_counts_are_mended() {
    use redis::Commands as _;
    let world = World::new().await;
    for state in
        [State::Running, State::Waiting, State::Paused, State::Succeeded, State::Failed, State::Queued]
    {
        world.job_in(state).await;
    }
    let scheduled = world.job_in(State::Scheduled).await;
    let mut tagged = support::job(TYPE);
    (tagged.spec.tags, tagged.spec.correlation_id) = (vec!["t".into()], Some("c".into()));
    let tagged = world.create(tagged).await;
    assert_eq!(world.store.reconcile().await.unwrap(), 0);
    let mut connection = world.redis.connection();
    let _: () = connection.zrem(format!("{{wm0}}:x:o:{TYPE}"), tagged.as_str()).unwrap();
    let _: () = connection.zadd(format!("{{wm0}}:x:S:{TYPE}"), tagged.as_str(), 0).unwrap();
    let _: () = connection.zadd(format!("{{wm0}}:x:F:{TYPE}"), "01ARZ3NDEKTSV4RRFFQ69G5F00", 0).unwrap();
    let _: () = connection.del(&["{wm0}:tag:t", "{wm0}:corr:c"]).unwrap();
    let _: () = connection.zrem("{wm0}:due", scheduled.as_str()).unwrap();
    let _: () = connection.hset("{wm0}:counts", format!("{TYPE}|q"), 77).unwrap();
    let _: () = connection.hset("{wm0}:counts", format!("{TYPE}|r"), -3).unwrap();
    let mut keyed = support::job(TYPE);
    (keyed.spec.queue, keyed.spec.key) = ("night".into(), Some("tenant".into()));
    world.create(keyed).await;
    let _: () = connection.hset("{wm0}:depth", TYPE, 77).unwrap();
    let _: () = connection.hset("{wm0}:depth", "night", -1).unwrap();
    let _: () = connection.hset("{wm0}:depth", "nobody", 5).unwrap();
    let _: () = connection.hset("{wm0}:lanes", "night/tenant", 9).unwrap();
    let _: () = connection.hset("{wm0}:busy", "nobody", 5).unwrap();
    assert!(world.store.reconcile().await.unwrap() >= 13);
    assert!(!connection.exists::<_, bool>("{wm0}:busy").unwrap());
    world.check_ledger();
    assert_eq!(world.store.reconcile().await.unwrap(), 0);
}

/// A world of four partitions, and a unique key that belongs to another one than the schedule.
async fn wide() -> (World, String) {
    let world = World::with(|options| options.partitions = 4).await;
    let home = world.store.partition_of_key("s");
    let mut keys = (0..).map(|number| format!("key {number}"));
    let key = keys.find(|key| world.store.partition_of_key(key) != home).unwrap();
    (world, key)
}

fn unique(overlap: Overlap, key: &str) -> Schedule {
    let spec = Spec { unique_key: Some(key.to_owned()), ..spec(TYPE) };
    Schedule { work: Work::Job(Box::new(spec)), ..seconds(overlap) }
}

/// The same as [`fire`], where the schedule is.
async fn fire_there(world: &World) -> Outcome {
    let partition = world.store.partition_of_key("s");
    let stored = stored(world).await;
    let now = stored.state.waiting_ms.or(stored.state.next_ms).unwrap();
    let answers = world.store.fire(partition, &[stored.firing(now)], now).await.unwrap();
    answers[0].as_ref().unwrap()[0]
}

async fn notes(world: &World) -> Vec<(Option<JobId>, Option<String>)> {
    let history = world.store.schedule_history("s").await.unwrap();
    history.into_iter().map(|fired| (fired.job, fired.note)).collect()
}

#[tokio::test]
async fn a_unique_key_decides_where_the_job_of_a_schedule_lies_and_stands_for_one_job() {
    let (world, key) = wide().await;
    let home = world.store.partition_of_key("s");
    world.store.put_schedule(&unique(Overlap::Allow, &key), None).await.unwrap();
    let stored_before = stored(&world).await;
    let next_ms = stored_before.state.next_ms.unwrap();
    let request = [stored_before.firing(next_ms)];
    let answers =
        futures_util::future::join_all((0..8).map(|_| world.store.fire(home, &request, next_ms))).await;
    let fired: Vec<_> = answers.into_iter().filter_map(|answer| answer.unwrap().pop().unwrap()).collect();
    assert_eq!(fired.len(), 1);
    let first = job(fired[0][0]);
    assert_eq!(first.partition(), world.store.partition_of_key(&key));
    let view = world.store.get(&first).await.unwrap().unwrap();
    assert_eq!((view.spec.unique_key.as_deref(), view.state), (Some(key.as_str()), State::Queued));
    assert_eq!(view.spec.schedule.unwrap().planned_ms, next_ms);

    // It stands for those that a caller asks for, and for later times.
    let asked = NewJob { spec: Spec { unique_key: Some(key), ..spec(TYPE) }, ..NewJob::default() };
    let created = world.store.create(vec![asked.clone()]).await.unwrap().pop().unwrap();
    assert_eq!((created.id, created.existing), (first, true));
    assert_eq!(fire_there(&world).await, Outcome::Unique(first));
    assert_eq!(notes(&world).await, [(Some(first), Some("unique".into())), (Some(first), None)]);
    let state = stored(&world).await.state;
    assert_eq!((state.job, state.fired), (Some(first), 2));

    // A caller's job stands for those of the schedule, which goes on to name its own as the one made last.
    world.store.control(&first, Control::Cancel, None).await.unwrap();
    let callers = world.store.create(vec![asked]).await.unwrap().pop().unwrap();
    assert!(!callers.existing);
    assert_eq!(fire_there(&world).await, Outcome::Unique(callers.id));
    assert_eq!(stored(&world).await.state.job, Some(first));
    world.store.control(&callers.id, Control::Cancel, None).await.unwrap();
    let second = job(fire_there(&world).await);
    assert_ne!(second, first);
    assert_eq!(stored(&world).await.state.job, Some(second));
    world.check_ledger();
}

#[tokio::test]
async fn a_job_that_could_not_be_made_is_owed_and_made_once_by_whoever_finds_it() {
    let (world, key) = wide().await;
    let home = world.store.partition_of_key("s");
    world.store.put_schedule(&unique(Overlap::Skip, &key), None).await.unwrap();
    // The partition of the key takes no jobs.
    let jobs = format!("{{wm{}}}:jobs", world.store.partition_of_key(&key));
    let mut connection = world.redis.connection();
    redis::cmd("SET").arg(&jobs).arg("in the way").exec(&mut connection).unwrap();
    let owed = job(fire_there(&world).await);
    assert!(world.store.schedules_owe(home).await.unwrap());
    assert!(notes(&world).await.is_empty());
    // It counts as one that has not ended.
    assert_eq!(fire_there(&world).await, Outcome::Overlap);
    redis::cmd("DEL").arg(&jobs).exec(&mut connection).unwrap();
    let settled = futures_util::future::join_all((0..4).map(|_| world.store.settle_schedules(home))).await;
    assert!(settled.iter().any(|settled| settled.as_ref().unwrap().get(&owed) == Some(&Outcome::Job(owed))));
    assert!(!world.store.schedules_owe(home).await.unwrap());
    assert_eq!(world.state(&owed).await, State::Queued);
    let all = world.store.list(&waymark_store::Filter::default(), 10, None).await.unwrap().jobs;
    assert_eq!(all.iter().map(|view| view.id).collect::<Vec<_>>(), [owed]);
    assert_eq!(notes(&world).await, [(Some(owed), None), (None, Some("overlap".into()))]);
    world.check_ledger();
}

#[tokio::test]
async fn overlap_is_kept_to_where_the_job_made_last_lies_in_another_partition() {
    let (world, key) = wide().await;
    world.store.put_schedule(&unique(Overlap::Skip, &key), None).await.unwrap();
    let first = job(fire_there(&world).await);
    assert_eq!(fire_there(&world).await, Outcome::Overlap);
    world.store.control(&first, Control::Cancel, None).await.unwrap();
    let second = job(fire_there(&world).await);

    world.store.put_schedule(&unique(Overlap::QueueOne, &key), None).await.unwrap();
    assert_eq!(fire_there(&world).await, Outcome::Waits);
    assert_eq!(fire_there(&world).await, Outcome::Waits);
    world.store.control(&second, Control::Cancel, None).await.unwrap();
    let third = job(fire_there(&world).await);

    world.store.put_schedule(&unique(Overlap::CancelRunning, &key), None).await.unwrap();
    let fourth = job(fire_there(&world).await);
    assert_eq!(world.state(&third).await, State::Cancelled);
    assert_eq!(world.state(&fourth).await, State::Queued);
    // What was computed before somebody else made a job does not fire.
    let home = world.store.partition_of_key("s");
    let before = stored(&world).await;
    let now = before.state.next_ms.unwrap();
    let ran = world.store.run_schedule("s").await.unwrap().unwrap().0;
    assert_eq!(stored(&world).await.state.job, Some(job(ran)));
    assert_eq!(world.store.fire(home, &[before.firing(now)], now).await.unwrap(), [None]);
    assert_eq!(world.state(&fourth).await, State::Cancelled);
    world.check_ledger();
}

#[tokio::test]
async fn jobs_of_a_schedule_keep_to_what_their_queue_does_when_it_is_full() {
    let (world, _) = wide().await;
    let limits: Limits =
        serde_json::from_value(serde_json::json!({"concurrency": 1, "when_full": "reject"})).unwrap();
    world.store.set_limits(TYPE, Some(&limits)).await.unwrap();
    world.store.put_schedule(&seconds(Overlap::Allow), None).await.unwrap();
    let first = job(fire_there(&world).await);
    assert_eq!(first.partition(), world.store.partition_of_key(TYPE), "where the limit counts");
    assert_eq!(fire_there(&world).await, Outcome::Refused);
    assert_eq!(notes(&world).await, [(None, Some("limit".into())), (Some(first), None)]);
    assert_eq!(stored(&world).await.state.job, Some(first));
    let limits = Limits { when_full: WhenFull::Replace, ..limits };
    world.store.set_limits(TYPE, Some(&limits)).await.unwrap();
    let second = job(fire_there(&world).await);
    let third = job(fire_there(&world).await);
    assert_eq!(world.state(&second).await, State::Cancelled, "the newest that waits makes room");
    assert_eq!(world.state(&third).await, State::Queued);
    world.check_ledger();
}

#[tokio::test]
async fn a_schedule_replaces_the_input_of_the_job_that_has_its_key_and_waits() {
    let (world, key) = wide().await;
    let mut schedule = Schedule { replace_input: true, ..unique(Overlap::Allow, &key) };
    world.store.put_schedule(&schedule, None).await.unwrap();
    let first = job(fire_there(&world).await);
    if let Work::Job(spec) = &mut schedule.work {
        spec.input = r#"{"newer":true}"#.into();
    }
    world.store.put_schedule(&schedule, None).await.unwrap();
    assert_eq!(fire_there(&world).await, Outcome::Unique(first));
    assert_eq!(world.store.get(&first).await.unwrap().unwrap().spec.input, r#"{"newer":true}"#);
    world.check_ledger();
}
