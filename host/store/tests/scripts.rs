//! Every script against a real server: every answer it can give, and nothing changed when it refuses.

mod support;

use support::{LEASE_MS, TYPE, World, job, now_ms, request, spec, until};
use waymark_job::{Control, JobId, State, Webhook};
use waymark_store::{
    ChildOutcome, ClaimRequest, CommitAnswer, ControlAnswer, Error, ErrorOrder, Filter, NewJob,
    ObjectOptions, Retention, SignalAnswer, Span, Then, WebhookRule,
};

#[tokio::test]
async fn a_job_goes_from_created_to_succeeded() {
    let world = World::new().await;
    let created = world.store.create(vec![job(TYPE)]).await.unwrap();
    assert!(!created[0].existing && created[0].state == State::Queued);
    let held = world.claim(10).await.pop().unwrap();
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.record.host.as_deref()), (State::Running, Some("w1")));
    let answer = world.commit(held.then(Then::Succeeded { result: "42".into() })).await;
    assert_eq!(answer, CommitAnswer::Done(State::Succeeded));
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.result.as_deref()), (State::Succeeded, Some("42")));
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn a_thousand_jobs_are_created_claimed_in_order_and_finished() {
    let world = World::new().await;
    let ids = world.queue(1_000).await;
    let held = world.claim(1_000).await;
    assert_eq!(held.iter().map(|held| held.id).collect::<Vec<_>>(), ids);
    world.check_ledger();
    let mut commits: Vec<_> =
        held.iter().map(|held| held.then(Then::Succeeded { result: "null".into() })).collect();
    let answers = world.store.commit(0, &mut commits).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == CommitAnswer::Done(State::Succeeded)));
    assert_eq!(world.store.counts().await.unwrap(), [(TYPE.to_owned(), State::Succeeded, 1_000)]);
    world.check_ledger();
}

#[tokio::test]
async fn creating_the_same_id_again_changes_nothing() {
    let world = World::new().await;
    let id = JobId::generate(now_ms(), 0).unwrap();
    let new = NewJob { id: Some(id), ..job(TYPE) };
    let twice = world.store.create(vec![new.clone(), new.clone()]).await.unwrap();
    assert_eq!((twice[0].existing, twice[1].existing), (false, true));
    let before = world.dump();
    assert!(world.store.create(vec![new]).await.unwrap()[0].existing);
    assert_eq!(world.dump(), before);
    world.check_ledger();
}

#[tokio::test]
async fn an_idempotency_key_names_the_same_job_until_that_is_deleted() {
    let world = World::new().await;
    let new = || NewJob { idempotency_key: Some("k".into()), ..job(TYPE) };
    let first = world.store.create(vec![new(), new()]).await.unwrap();
    assert_eq!(first[0].id, first[1].id);
    let again = world.store.create(vec![new()]).await.unwrap();
    assert_eq!((again[0].id, again[0].existing), (first[0].id, true));
    assert!(world.store.delete(&first[0].id).await.unwrap());
    assert!(!world.store.create(vec![new()]).await.unwrap()[0].existing);
    world.check_ledger();
}

#[tokio::test]
async fn a_unique_key_holds_until_its_job_ends() {
    let world = World::new().await;
    let new = || {
        let mut new = job(TYPE);
        new.spec.unique_key = Some("u".into());
        new
    };
    let first = world.create(new()).await;
    for _ in 0..2 {
        let again = world.store.create(vec![new()]).await.unwrap();
        assert_eq!((again[0].id, again[0].existing), (first, true));
        world.check_ledger();
    }
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Failed)).await;
    world.check_ledger();
    let second = world.create(new()).await;
    assert_ne!(second, first);
    // The first cannot come back while the second holds the key.
    let before = world.dump();
    let answer = world.store.control(&first, Control::Restart, None).await.unwrap();
    assert_eq!(answer, ControlAnswer::KeyTaken(second));
    assert_eq!(world.dump(), before);
    assert!(world.store.delete(&second).await.unwrap());
    let answer = world.store.control(&first, Control::Restart, None).await.unwrap();
    assert_eq!(answer, ControlAnswer::Done(State::Queued));
    world.check_ledger();
}

#[tokio::test]
async fn every_control_in_every_state_answers_as_the_domain_says() {
    let world = World::new().await;
    for state in State::ALL {
        for control in [Control::Pause, Control::Resume, Control::Restart, Control::Retry, Control::Cancel] {
            let id = world.job_in(state).await;
            assert_eq!(world.state(&id).await, state);
            let before = world.dump();
            let answer = world.store.control(&id, control, None).await.unwrap();
            let outcome = control.outcome(state);
            match (outcome, control, state) {
                (None, ..) => {
                    assert_eq!(answer, ControlAnswer::Refused(state), "{control:?} on {state:?}");
                    assert_eq!(world.dump(), before, "{control:?} on {state:?} changed something");
                }
                (Some(_), Control::Pause, State::Running) => {
                    assert_eq!(answer, ControlAnswer::Pending);
                    assert!(world.store.get(&id).await.unwrap().unwrap().pause_pending);
                }
                (Some(next), ..) => {
                    assert_eq!(answer, ControlAnswer::Done(next), "{control:?} on {state:?}");
                    assert_eq!(world.state(&id).await, next, "{control:?} on {state:?}");
                }
            }
            world.check_ledger();
            // Asked again, nothing changes any more, except that a job which goes on has not ended any more.
            if !matches!(control, Control::Restart | Control::Retry) {
                let before = world.dump();
                world.store.control(&id, control, None).await.unwrap();
                assert_eq!(world.dump(), before, "{control:?} on {state:?} is not idempotent");
            }
            assert!(world.store.delete(&id).await.unwrap());
            assert!(!world.store.delete(&id).await.unwrap());
            assert_eq!(world.store.control(&id, control, None).await.unwrap(), ControlAnswer::Missing);
            assert!(world.store.get(&id).await.unwrap().is_none());
            world.check_ledger();
        }
    }
}

#[tokio::test]
async fn deleting_leaves_nothing_behind() {
    let world = World::new().await;
    let clean = |world: &World| {
        let mut dump = world.dump();
        // Counters at 0, names ever seen, the worker, spent tokens, lines with entries that are skipped, and groups of
        // failures, which outlive their jobs, and what happened of late.
        dump.retain(|key, _| {
            ![
                "error",
                "changes",
                "counts",
                "depth",
                "types",
                "workers",
                "token",
                "line",
                "ready",
                "partitions",
            ]
            .iter()
            .any(|name| key.contains(&format!(":{name}")))
        });
        dump
    };
    for state in State::ALL {
        let mut new = job(TYPE);
        new.spec.queue = "other".into();
        new.spec.tags = vec!["a".into(), "b".into()];
        new.spec.correlation_id = Some("c".into());
        new.spec.unique_key = Some("u".into());
        new.delay_ms = (state == State::Scheduled).then_some(3_600_000);
        let id = world.create(new).await;
        world.store.append_logs(vec![(id, "{}".into())]).await.unwrap();
        world.store.signal(&id, "other", "1").await.unwrap();
        if !matches!(state, State::Scheduled | State::Queued) {
            let mut held = world.claim(1).await.pop().unwrap();
            world.commit(held.step(Then::Continue)).await;
            let then = match state {
                State::Waiting => Some(Then::AwaitSignal { name: "go".into(), timeout_ms: Some(9_000_000) }),
                State::Paused => Some(Then::Paused),
                State::Succeeded => Some(Then::Succeeded { result: "1".into() }),
                State::Failed => Some(Then::Failed),
                _ => None,
            };
            if let Some(then) = then {
                world.commit(held.step(then)).await;
            } else if state == State::Cancelled {
                world.store.control(&id, Control::Cancel, None).await.unwrap();
            }
        }
        assert_eq!(world.state(&id).await, state);
        world.check_ledger();
        assert!(world.store.delete(&id).await.unwrap());
        assert_eq!(clean(&world), Default::default(), "after deleting a job that was {state:?}");
        world.check_ledger();
    }
}

#[tokio::test]
async fn a_pending_pause_is_honoured_by_every_commit_that_does_not_end_the_job() {
    let world = World::new().await;
    let ways = [
        (Then::Continue, State::Paused),
        (Then::Retry { delay_ms: 1_000 }, State::Paused),
        (Then::Sleep { delay_ms: 1_000 }, State::Paused),
        (Then::AwaitChildren, State::Paused),
        (Then::AwaitSignal { name: "go".into(), timeout_ms: Some(5) }, State::Paused),
        (Then::Release { pin: None }, State::Paused),
        (Then::Paused, State::Paused),
        (Then::PausedAsAsked, State::Paused),
        (Then::Succeeded { result: "1".into() }, State::Succeeded),
        (Then::Failed, State::Failed),
    ];
    for (then, state) in ways {
        let mut held = world.running().await;
        assert_eq!(
            world.store.control(&held.id, Control::Pause, None).await.unwrap(),
            ControlAnswer::Pending
        );
        assert_eq!(world.store.renew(0, "w1", LEASE_MS).await.unwrap().pauses, [held.id]);
        let commit = held.step(then.clone());
        let mut again = held.then(then.clone());
        assert_eq!(world.commit(commit).await, CommitAnswer::Done(state), "{then:?}");
        again.outputs = vec!["{}".into()];
        assert_eq!(world.commit(again).await, CommitAnswer::Already, "{then:?}");
        let view = world.store.get(&held.id).await.unwrap().unwrap();
        assert_eq!((view.state, view.pause_pending), (state, false));
        // What it would have slept or waited for, it does when it is resumed.
        let (parked, is_due) = match &then {
            Then::Retry { .. } | Then::Sleep { .. } => (Some('s'), true),
            Then::AwaitSignal { .. } => (Some('w'), true),
            Then::AwaitChildren => (Some('w'), false),
            _ => (None, false),
        };
        assert_eq!((view.record.parked, view.record.not_before_ms.is_some()), (parked, is_due), "{then:?}");
        assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap().len(), 1);
        assert!(world.store.renew(0, "w1", LEASE_MS).await.unwrap().pauses.is_empty());
        world.check_ledger();
    }
}

#[tokio::test]
async fn what_was_in_a_jobs_life_is_kept_with_who_asked_for_it() {
    let world = World::new().await;
    let past = async |id: &JobId| world.store.get(id).await.unwrap().unwrap().record.past;
    let ask = async |id: &JobId, control, who| world.store.control_by(id, control, None, who).await.unwrap();
    let told = |past: &[waymark_job::Past]| {
        let one = |one: &waymark_job::Past| {
            (one.run, one.what.clone(), one.by.clone().unwrap_or_default(), one.since_ms.is_some())
        };
        past.iter().map(one).collect::<Vec<_>>()
    };
    let asked = |run, what: &str, who: &str| (run, what.to_owned(), who.to_owned(), false);
    let stayed = |run, what: &str, worker: &str| (run, what.to_owned(), worker.to_owned(), true);

    // While it waits: at once.
    let id = world.queue(1).await[0];
    ask(&id, Control::Pause, "anna").await;
    ask(&id, Control::Pause, "bert").await;
    ask(&id, Control::Resume, "").await;
    let mut expected = vec![asked(1, "pause", "anna"), asked(1, "resume", "")];
    assert_eq!(told(&past(&id).await), expected);

    // While it runs: when its step ends, wherever the worker believed it to go.
    let mut held = world.claim(1).await.pop().unwrap();
    ask(&id, Control::Pause, "bert").await;
    assert_eq!(world.commit(held.step(Then::Continue)).await, CommitAnswer::Done(State::Paused));
    ask(&id, Control::Resume, "bert").await;
    expected.extend([stayed(1, "paused", "w1"), asked(1, "pause", "bert"), asked(1, "resume", "bert")]);
    assert_eq!(told(&past(&id).await), expected);

    // A worker that died under it, while a pause was wanted.
    world.store.register(0, "w2", LEASE_MS).await.unwrap();
    assert_eq!(world.claim_as("w2", 1).await.len(), 1);
    ask(&id, Control::Pause, "").await;
    assert_eq!(world.store.retire(0, "w2", true).await.unwrap(), 1);
    expected.extend([stayed(1, "lost", "w2"), asked(1, "pause", "")]);
    assert_eq!(told(&past(&id).await), expected);

    // The next run, and its end while it runs.
    ask(&id, Control::Restart, "anna").await;
    assert_eq!(world.claim(1).await.len(), 1);
    ask(&id, Control::Cancel, "anna").await;
    expected.extend([asked(2, "restart", "anna"), asked(2, "cancel", "anna"), stayed(2, "cancelled", "w1")]);
    assert_eq!(told(&past(&id).await), expected);
    for one in past(&id).await {
        assert!(one.at_ms >= one.since_ms.unwrap_or(id.created_ms()), "{one:?}");
    }

    // Nothing is written for a job that succeeds at once, until it runs again.
    let mut held = world.running().await;
    held.record.started_ms = Some(now_ms());
    let id = held.id;
    world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
    assert!(past(&id).await.is_empty());
    ask(&id, Control::Restart, "anna").await;
    assert_eq!(told(&past(&id).await)[1], asked(2, "restart", "anna"));
    assert_eq!(past(&id).await[0].what, "succeeded");

    // The last ones are kept.
    for _ in 0..15 {
        ask(&id, Control::Pause, "").await;
        ask(&id, Control::Resume, "").await;
    }
    let kept = past(&id).await;
    assert_eq!((kept.len(), kept[19].what.as_str()), (waymark_job::record::PAST_MAX, "resume"));
    world.check_ledger();
}

#[tokio::test]
async fn a_pause_that_is_taken_back_does_not_happen() {
    let world = World::new().await;
    let mut held = world.running().await;
    world.store.control(&held.id, Control::Pause, None).await.unwrap();
    let answer = world.store.control(&held.id, Control::Resume, None).await.unwrap();
    assert_eq!(answer, ControlAnswer::Done(State::Running));
    assert_eq!(world.commit(held.step(Then::Continue)).await, CommitAnswer::Done(State::Running));
    world.check_ledger();
}

#[tokio::test]
async fn a_pause_that_was_taken_back_sends_the_job_back_to_its_line() {
    let world = World::new().await;
    let mut held = world.running().await;
    let id = held.id;
    for control in [Control::Pause, Control::Resume] {
        world.store.control(&id, control, None).await.unwrap();
    }
    assert_eq!(world.commit(held.step(Then::PausedAsAsked)).await, CommitAnswer::Done(State::Queued));
    world.check_ledger();
    assert_eq!(world.claim(1).await[0].id, id);
}

#[tokio::test]
async fn a_commit_onto_one_that_the_server_lost_is_refused_and_the_job_goes_on_from_what_is_kept() {
    let world = World::new().await;
    let mut held = world.running().await;
    assert_eq!(world.commit(held.step(Then::Continue)).await, CommitAnswer::Done(State::Running));
    // Steps 2 and 3 are done, but nobody kept step 2.
    let _lost = held.step(Then::Continue);
    assert_eq!(world.commit(held.step(Then::Continue)).await, CommitAnswer::Lost);
    world.check_ledger();
    let again = world.claim(1).await.pop().unwrap();
    assert_eq!((again.id, again.record.step, again.record.crashes), (held.id, 1, 0));
    // The same in the first commit after a claim.
    let mut again = again;
    again.record.step = 5;
    assert_eq!(world.commit(again.step(Then::Continue)).await, CommitAnswer::Lost);
    world.check_ledger();
    assert_eq!(world.store.outputs(&held.id, 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn jobs_that_a_worker_does_not_hold_are_given_back_unless_they_are_claimed_anew() {
    let world = World::new().await;
    world.queue(2).await;
    let held = world.claim(2).await;
    let mut known = world.store.held(0, "w1").await.unwrap();
    known.sort();
    let mut expected: Vec<_> = held.iter().map(|one| (one.id, one.token.clone())).collect();
    expected.sort();
    assert_eq!(known, expected);
    assert!(world.store.held(0, "another").await.unwrap().is_empty());
    let other = (held[1].id, "0".repeat(32));
    assert_eq!(world.store.give_back(0, &[known[0].clone(), other]).await.unwrap(), 1);
    world.check_ledger();
    assert_eq!(world.state(&known[0].0).await, State::Queued);
    assert_eq!(world.state(&known[1].0).await, State::Running);
}

#[tokio::test]
async fn a_repeated_commit_is_answered_already_and_changes_nothing() {
    let world = World::new().await;
    let mut held = world.running().await;
    let steps = [Then::Continue, Then::Succeeded { result: "1".into() }];
    for then in steps {
        let commit = held.step(then.clone());
        let mut again = held.then(then);
        again.outputs = commit.outputs.clone();
        assert!(matches!(world.commit(commit).await, CommitAnswer::Done(_)));
        let before = world.dump();
        assert_eq!(world.commit(again).await, CommitAnswer::Already);
        assert_eq!(world.dump(), before);
    }
    assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap().len(), 2);
    world.check_ledger();
}

#[tokio::test]
async fn a_lost_claim_writes_nothing() {
    let world = World::new().await;
    let mut old = world.running().await;
    assert_eq!(world.store.retire(0, "w1", false).await.unwrap(), 1);
    let before = world.dump();
    assert_eq!(world.commit(old.step(Then::Continue)).await, CommitAnswer::Lost);
    assert_eq!(world.dump(), before);
    world.store.register(0, "w2", LEASE_MS).await.unwrap();
    let mut new = world.claim_as("w2", 1).await.pop().unwrap();
    assert_eq!(new.id, old.id);
    let before = world.dump();
    for then in [Then::Continue, Then::Succeeded { result: "0".into() }, Then::Release { pin: None }] {
        assert_eq!(world.commit(old.step(then)).await, CommitAnswer::Lost);
    }
    assert_eq!(world.dump(), before);
    assert_eq!(world.commit(new.step(Then::Continue)).await, CommitAnswer::Done(State::Running));
    for gone in [Control::Cancel] {
        world.store.control(&new.id, gone, None).await.unwrap();
        assert_eq!(world.commit(new.step(Then::Continue)).await, CommitAnswer::Lost);
    }
    world.store.delete(&new.id).await.unwrap();
    assert_eq!(world.commit(new.step(Then::Continue)).await, CommitAnswer::Lost);
    world.check_ledger();
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one() {
    let world = World::new().await;
    world.queue(4).await;
    let held = world.claim(4).await;
    world.store.control(&held[1].id, Control::Cancel, None).await.unwrap();
    let mut commits = vec![
        held[0].then(Then::Succeeded { result: "null".into() }),
        held[1].then(Then::Succeeded { result: "null".into() }),
        held[2].then(Then::Release { pin: None }),
        held[3].then(Then::Sleep { delay_ms: 100_000 }),
    ];
    let answers = world.store.commit(0, &mut commits).await.unwrap();
    let done = CommitAnswer::Done;
    assert_eq!(
        answers,
        [done(State::Succeeded), CommitAnswer::Lost, done(State::Queued), done(State::Scheduled)]
    );
    world.check_ledger();
}

#[tokio::test]
async fn an_unregistered_worker_and_a_spent_token_claim_nothing() {
    let world = World::new().await;
    world.queue(3).await;
    let before = world.dump();
    let answer = world.store.claim(0, &request("stranger", &[TYPE], 1)).await;
    assert!(matches!(answer, Err(Error::Unregistered)));
    assert_eq!(world.dump(), before);
    let once = request("w1", &[TYPE], 1);
    assert_eq!(world.store.claim(0, &once).await.unwrap().jobs.len(), 1);
    let before = world.dump();
    assert!(world.store.claim(0, &once).await.is_err());
    assert_eq!(world.dump(), before);
    world.check_ledger();
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_undone_and_cannot_come_late() {
    let world = World::new().await;
    let ids = world.queue(3).await;
    let lost = request("w1", &[TYPE], 2);
    world.store.claim(0, &lost).await.unwrap();
    let kept = world.claim(1).await;
    assert_eq!(world.store.recover(0, "w1", &lost.token).await.unwrap(), 2);
    assert_eq!(world.store.recover(0, "w1", &lost.token).await.unwrap(), 0);
    assert_eq!(world.state(&kept[0].id).await, State::Running);
    let again = world.claim(3).await;
    let found: std::collections::BTreeSet<_> = again.iter().map(|held| held.id).collect();
    assert_eq!(found, ids[..2].iter().copied().collect());
    assert!(again.iter().all(|held| held.record.crashes == 0));
    // Given up before it arrived at the server.
    let late = request("w1", &[TYPE], 1);
    world.store.recover(0, "w1", &late.token).await.unwrap();
    world.queue(1).await;
    assert!(world.store.claim(0, &late).await.is_err());
    world.check_ledger();
}

#[tokio::test]
async fn jobs_of_a_worker_whose_lease_ran_out_go_to_the_front_and_are_poisonous_after_three_crashes() {
    let world = World::new().await;
    let id = world.queue(1).await[0];
    for crash in 1..=3 {
        let worker = format!("doomed{crash}");
        world.store.register(0, &worker, 1).await.unwrap();
        // A lease of 1 ms may be over before the claim: then take the job in the worker's name earlier.
        world.store.renew(0, &worker, 10_000).await.unwrap();
        let held = world.claim_as(&worker, 1).await.pop().unwrap();
        assert_eq!((held.id, held.record.crashes), (id, crash - 1));
        world.store.renew(0, &worker, 1).await.unwrap();
        let store = &world.store;
        until("the job is taken back", || async {
            store.renew(0, "w1", LEASE_MS).await.unwrap().reaped == 1
        })
        .await;
        assert!(!store.renew(0, &worker, LEASE_MS).await.unwrap().alive);
        world.check_ledger();
    }
    let view = world.store.get(&id).await.unwrap().unwrap();
    assert_eq!(view.state, State::Failed);
    assert_eq!(view.record.error.unwrap().kind, "poisonous");
    assert!(world.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_worker_whose_jobs_were_taken_is_known_again_when_all_are_taken() {
    let world = World::new().await;
    let ids = world.queue(250).await;
    world.store.register(0, "late", LEASE_MS).await.unwrap();
    assert_eq!(world.claim_as("late", 250).await.len(), 250);
    // Somebody has begun to take its jobs.
    let mut connection = world.redis.connection();
    let _: u64 = redis::cmd("ZADD").arg("{wm0}:workers").arg(0).arg("late").query(&mut connection).unwrap();
    world.store.register(0, "late", LEASE_MS).await.unwrap();
    assert!(world.store.renew(0, "late", LEASE_MS).await.unwrap().alive);
    assert!(world.store.held(0, "late").await.unwrap().is_empty(), "none of its old claims is left");
    let again = world.claim_as("late", 250).await;
    assert_eq!(again.len(), ids.len());
    assert!(again.iter().all(|held| held.record.crashes == 1));
    assert_eq!(world.store.renew(0, "w1", LEASE_MS).await.unwrap().reaped, 0);
    world.check_ledger();
}

#[tokio::test]
async fn a_commit_sets_the_crashes_back() {
    let world = World::new().await;
    let id = world.queue(1).await[0];
    for _ in 0..5 {
        let mut held = world.claim(1).await.pop().unwrap();
        assert_eq!(held.record.crashes, if held.record.step == 0 { 0 } else { 1 });
        world.commit(held.step(Then::Continue)).await;
        assert_eq!(world.store.retire(0, "w1", true).await.unwrap(), 1);
        world.store.register(0, "w1", LEASE_MS).await.unwrap();
    }
    assert_eq!(world.state(&id).await, State::Queued);
    world.check_ledger();
}

#[tokio::test]
async fn an_orderly_leave_counts_no_crash_and_honours_a_pause() {
    let world = World::new().await;
    world.queue(2).await;
    let held = world.claim(2).await;
    world.store.control(&held[0].id, Control::Pause, None).await.unwrap();
    assert_eq!(world.store.retire(0, "w1", false).await.unwrap(), 2);
    assert_eq!(world.state(&held[0].id).await, State::Paused);
    let view = world.store.get(&held[1].id).await.unwrap().unwrap();
    assert_eq!((view.state, view.record.crashes), (State::Queued, 0));
    assert!(matches!(world.store.claim(0, &request("w1", &[TYPE], 1)).await, Err(Error::Unregistered)));
    world.check_ledger();
}

#[tokio::test]
async fn jobs_that_are_due_are_queued_by_the_next_claim() {
    let world = World::new().await;
    let soon = world.create(NewJob { delay_ms: Some(50), ..job(TYPE) }).await;
    let later = world.create(NewJob { not_before_ms: Some(now_ms() + 3_600_000), ..job(TYPE) }).await;
    let past = world.create(NewJob { not_before_ms: Some(5), ..job(TYPE) }).await;
    assert_eq!(world.state(&soon).await, State::Scheduled);
    assert!(world.store.get(&soon).await.unwrap().unwrap().record.not_before_ms.is_some());
    assert_eq!(world.state(&past).await, State::Queued);
    world.check_ledger();
    let store = &world.store;
    let (found, next) = (std::cell::RefCell::new(Vec::new()), std::cell::Cell::new(None));
    until("the job is due", || async {
        let claimed = store.claim(0, &request("w1", &[TYPE], 5)).await.unwrap();
        next.set(claimed.next_due_ms);
        found.borrow_mut().extend(claimed.jobs.iter().map(|job| job.id));
        found.borrow().contains(&soon)
    })
    .await;
    assert!(next.get().is_some_and(|due| due > now_ms() + 3_000_000), "the next one is an hour away");
    assert_eq!(found.into_inner(), [past, soon]);
    assert_eq!(world.state(&later).await, State::Scheduled);
    world.check_ledger();
}

#[tokio::test]
async fn retry_and_sleep_wait_and_go_on_from_the_record() {
    let world = World::new().await;
    for then in [Then::Retry { delay_ms: 30 }, Then::Sleep { delay_ms: 30 }] {
        let mut held = world.running().await;
        let mut commit = held.step(then);
        commit.record.committed_ms = Some(now_ms());
        assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Scheduled));
        world.check_ledger();
        let again = std::cell::RefCell::new(Vec::new());
        until("the job goes on", || async {
            *again.borrow_mut() = world.claim(1).await;
            again.borrow().len() == 1
        })
        .await;
        let again = again.into_inner().pop().unwrap();
        assert_eq!((again.id, again.record.step), (held.id, 1));
        let resume = world.store.load(&again.id, &again.record).await.unwrap();
        assert_eq!(resume.checkpoint.unwrap().state, b"state 1");
        world.commit(again.then(Then::Succeeded { result: "1".into() })).await;
        world.check_ledger();
    }
}

#[tokio::test]
async fn a_signal_wakes_waits_or_is_refused() {
    let world = World::new().await;
    let await_signal = |timeout_ms| Then::AwaitSignal { name: "go".into(), timeout_ms };
    let held = world.running().await;
    world.commit(held.then(await_signal(None))).await;
    let id = held.id;
    assert_eq!(world.store.signal(&id, "other", "0").await.unwrap(), SignalAnswer::Stored);
    assert_eq!(world.store.signal(&id, "go", "{\"a\":1}").await.unwrap(), SignalAnswer::Delivered);
    world.check_ledger();
    let again = world.claim(1).await.pop().unwrap();
    let resume = world.store.load(&id, &again.record).await.unwrap();
    assert!(resume.signals.iter().any(|one| one.name == "go" && one.payload == "{\"a\":1}"));
    // It is there already: nothing to wait for.
    assert_eq!(world.commit(again.then(await_signal(Some(1_000)))).await, CommitAnswer::Done(State::Queued));
    world.check_ledger();
    let again = world.claim(1).await.pop().unwrap();
    world.commit(again.then(Then::Failed)).await;
    let before = world.dump();
    assert_eq!(world.store.signal(&id, "go", "1").await.unwrap(), SignalAnswer::Ended(State::Failed));
    assert_eq!(world.dump(), before);
    world.store.delete(&id).await.unwrap();
    assert_eq!(world.store.signal(&id, "go", "1").await.unwrap(), SignalAnswer::Missing);

    let held = world.running().await;
    let mut commit = held.then(await_signal(Some(20)));
    commit.record.committed_ms = Some(now_ms());
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Waiting));
    world.check_ledger();
    until("the wait is over", || async { !world.claim(1).await.is_empty() }).await;
    world.check_ledger();
}

fn child_of(parent: &support::Held, index: u32) -> NewJob {
    let id = JobId::child(&parent.id, parent.record.run, parent.record.step, index, now_ms());
    let mut child = NewJob { id: Some(id), ..job(TYPE) };
    child.spec.parent = Some(parent.id);
    child
}

#[tokio::test]
async fn a_parent_waits_for_its_children_and_learns_how_they_ended() {
    let world = World::new().await;
    let mut parent = world.running().await;
    let children: Vec<_> = (0..4).map(|index| child_of(&parent, index)).collect();
    parent.record.children = children.iter().filter_map(|child| child.id).collect();
    let mut commit = parent.then(Then::AwaitChildren);
    commit.children = children;
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Waiting));
    world.check_ledger();
    let held = world.claim(10).await;
    assert_eq!(held.len(), 4);
    world.commit(held[0].then(Then::Succeeded { result: "7".into() })).await;
    world.commit(held[1].then(Then::Failed)).await;
    world.store.control(&held[2].id, Control::Cancel, None).await.unwrap();
    assert_eq!(world.state(&parent.id).await, State::Waiting);
    world.store.delete(&held[3].id).await.unwrap();
    assert_eq!(world.state(&parent.id).await, State::Queued);
    world.check_ledger();
    let again = world.claim(1).await.pop().unwrap();
    let resume = world.store.load(&again.id, &again.record).await.unwrap();
    let outcomes: Vec<_> = resume.children.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes[0], ChildOutcome::Succeeded("7".into()));
    assert!(outcomes[1..].iter().all(|outcome| matches!(outcome, ChildOutcome::Failed(_))));
    // All have ended: waiting for them again is over at once.
    assert_eq!(world.commit(again.then(Then::AwaitChildren)).await, CommitAnswer::Done(State::Queued));
    world.check_ledger();
}

#[tokio::test]
async fn a_parent_and_its_last_child_in_one_call_meet() {
    for parent_first in [true, false] {
        let world = World::new().await;
        let mut parent = world.running().await;
        let child = child_of(&parent, 0);
        parent.record.children = child.id.into_iter().collect();
        let mut commit = parent.step(Then::Continue);
        commit.children = vec![child];
        world.commit(commit).await;
        let child = world.claim(1).await.pop().unwrap();
        let mut commits =
            vec![parent.step(Then::AwaitChildren), child.then(Then::Succeeded { result: "1".into() })];
        if !parent_first {
            commits.reverse();
        }
        world.store.commit(0, &mut commits).await.unwrap();
        assert_eq!(world.state(&parent.id).await, State::Queued);
        world.check_ledger();
    }
}

#[tokio::test]
async fn a_restart_begins_a_new_run_from_the_start() {
    let world = World::new().await;
    let mut held = world.running().await;
    for _ in 0..3 {
        world.commit(held.step(Then::Continue)).await;
    }
    world.commit(held.step(Then::Succeeded { result: "1".into() })).await;
    let answer = world.store.control(&held.id, Control::Restart, None).await.unwrap();
    assert_eq!(answer, ControlAnswer::Done(State::Queued));
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.record.run, view.record.step, view.record.outputs, view.result), (2, 0, 0, None));
    assert!(world.store.outputs(&held.id, 0, 9).await.unwrap().is_empty());
    world.check_ledger();
    let mut again = world.claim(1).await.pop().unwrap();
    assert_eq!(again.record.run, 2);
    assert!(world.store.load(&again.id, &again.record).await.unwrap().checkpoint.is_none());
    assert_eq!(world.commit(again.step(Then::Continue)).await, CommitAnswer::Done(State::Running));
    world.check_ledger();
}

#[tokio::test]
async fn a_restart_from_a_checkpoint_takes_back_what_came_after_it() {
    let world = World::new().await;
    let mut held = world.running().await;
    for _ in 0..7 {
        world.commit(held.step(Then::Continue)).await;
    }
    world.commit(held.then(Then::Failed)).await;
    let kept: Vec<_> = world.store.checkpoints(&held.id).await.unwrap();
    assert_eq!(kept.iter().map(|one| one.step).collect::<Vec<_>>(), [7, 6, 5, 4, 3]);
    assert!(kept[0].expires_ms.unwrap() > now_ms() + 86_000_000);
    let before = world.dump();
    for step in [0, 2, 8] {
        let answer = world.store.control(&held.id, Control::Restart, Some(step)).await.unwrap();
        assert_eq!(answer, ControlAnswer::NoCheckpoint);
    }
    assert_eq!(world.dump(), before);
    let answer = world.store.control(&held.id, Control::Restart, Some(5)).await.unwrap();
    assert_eq!(answer, ControlAnswer::Done(State::Queued));
    assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap().len(), 5);
    let again = world.claim(1).await.pop().unwrap();
    assert_eq!((again.record.run, again.record.step, again.record.outputs), (2, 5, 5));
    let checkpoint = world.store.load(&again.id, &again.record).await.unwrap().checkpoint.unwrap();
    assert_eq!((checkpoint.state.as_slice(), checkpoint.run), (b"state 5".as_slice(), 2));
    let steps: Vec<_> = world.store.checkpoints(&held.id).await.unwrap().iter().map(|one| one.step).collect();
    assert_eq!(steps, [5, 4, 3], "nothing after it can be gone back to");
    world.check_ledger();
}

#[tokio::test]
async fn a_release_with_a_pin_goes_to_workers_with_that_version_only() {
    let world = World::new().await;
    let held = world.running().await;
    let pinned = Then::Release { pin: Some("d1".into()) };
    assert_eq!(world.commit(held.then(pinned)).await, CommitAnswer::Done(State::Queued));
    assert!(world.claim(1).await.is_empty());
    let other = world.store.claim(0, &request("w1", &["count@d2", TYPE], 1)).await.unwrap();
    assert!(other.jobs.is_empty());
    world.check_ledger();
    let own = world.store.claim(0, &request("w1", &[TYPE, "count@d1"], 1)).await.unwrap();
    assert_eq!(own.jobs[0].id, held.id);
    world.check_ledger();
}

#[tokio::test]
async fn a_released_job_is_first_in_its_line() {
    let world = World::new().await;
    let ids = world.queue(5).await;
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Release { pin: None })).await;
    assert_eq!(world.claim(5).await.iter().map(|held| held.id).collect::<Vec<_>>(), ids);
    world.check_ledger();
}

#[tokio::test]
async fn entries_of_jobs_that_left_their_line_are_skipped() {
    let world = World::new().await;
    let ids = world.queue(6).await;
    world.store.control(&ids[0], Control::Cancel, None).await.unwrap();
    world.store.control(&ids[1], Control::Pause, None).await.unwrap();
    world.store.delete(&ids[2]).await.unwrap();
    // Twice in the line now.
    world.store.control(&ids[3], Control::Pause, None).await.unwrap();
    world.store.control(&ids[3], Control::Resume, None).await.unwrap();
    world.check_ledger();
    let held = world.claim(10).await;
    assert_eq!(held.iter().map(|held| held.id).collect::<Vec<_>>(), ids[3..]);
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn a_chosen_queue_is_not_starved_by_five_thousand_in_front_of_it() {
    let world = World::new().await;
    let in_queue = |queue: String, priority| {
        let mut new = job(TYPE);
        new.spec.queue = queue;
        new.spec.priority = priority;
        new
    };
    for chunk in (0..5_000).collect::<Vec<_>>().chunks(500) {
        let jobs = chunk.iter().map(|number| in_queue(format!("other-{number}"), 9)).collect();
        world.store.create(jobs).await.unwrap();
    }
    let wanted = world.store.create(vec![in_queue("chosen".into(), 0)]).await.unwrap()[0].id;
    let mut request = request("w1", &[TYPE], 10);
    request.queues = Some(vec!["chosen".into(), "empty".into()]);
    let claimed = world.store.claim(0, &request).await.unwrap();
    assert_eq!(claimed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [wanted]);
    world.check_ledger();
}

#[tokio::test]
async fn the_highest_priority_is_served_first_and_the_lowest_in_a_fair_claim() {
    let world = World::new().await;
    let mut by_priority = Vec::new();
    for priority in [3, 9, 0, 5] {
        let mut new = job(TYPE);
        new.spec.priority = priority;
        by_priority.push((priority, world.create(new).await));
    }
    let one = |fair| {
        let mut request = request("w1", &[TYPE], 1);
        request.fair = fair;
        request
    };
    let mut order = Vec::new();
    for fair in [0, 1, 0, 0] {
        let claimed = world.store.claim(0, &one(fair)).await.unwrap();
        let id = claimed.jobs[0].id;
        order.push(by_priority.iter().find(|(_, known)| *known == id).unwrap().0);
    }
    assert_eq!(order, [9, 0, 5, 3]);
    world.check_ledger();
}

#[tokio::test]
async fn fair_claims_give_every_priority_its_turn() {
    let world = World::new().await;
    for priority in [9, 5, 0].into_iter().cycle().take(30) {
        let mut new = job(TYPE);
        new.spec.priority = priority;
        world.create(new).await;
    }
    let mut order = Vec::new();
    for turn in 1..=4 {
        let mut request = request("w1", &[TYPE], 1);
        request.fair = turn;
        order.push(world.store.claim(0, &request).await.unwrap().jobs[0].spec.priority);
    }
    assert_eq!(order, [0, 5, 0, 5]);
    world.check_ledger();
}

#[tokio::test]
async fn priorities_hold_across_types() {
    let world = World::new().await;
    let mut urgent = job("other");
    urgent.spec.priority = 7;
    world.queue(3).await;
    let urgent = world.create(urgent).await;
    let claimed = world.store.claim(0, &request("w1", &[TYPE, "other"], 2)).await.unwrap();
    assert_eq!(claimed.jobs[0].id, urgent);
    assert_eq!(claimed.jobs.len(), 2);
    world.check_ledger();
}

#[tokio::test]
async fn queues_of_one_priority_take_turns() {
    let world = World::new().await;
    for queue in ["a", "b", "c"] {
        let mut new = job(TYPE);
        new.spec.queue = queue.into();
        world.store.create(vec![new; 20]).await.unwrap();
    }
    let mut served: std::collections::BTreeMap<String, usize> = Default::default();
    for _ in 0..15 {
        for job in world.store.claim(0, &request("w1", &[TYPE], 1)).await.unwrap().jobs {
            *served.entry(job.spec.queue().to_owned()).or_default() += 1;
        }
    }
    assert!(served.values().all(|number| *number == 5), "{served:?}");
    let batch = world.store.claim(0, &request("w1", &[TYPE], 30)).await.unwrap();
    for queue in ["a", "b", "c"] {
        assert_eq!(batch.jobs.iter().filter(|job| job.spec.queue() == queue).count(), 10, "{queue}");
    }
    let mut rest = request("w1", &[TYPE], 100);
    rest.queues = Some(vec!["b".into()]);
    let rest = world.store.claim(0, &rest).await.unwrap();
    assert!(rest.jobs.len() == 5 && rest.jobs.iter().all(|job| job.spec.queue() == "b"));
    world.check_ledger();
}

#[tokio::test]
async fn a_paused_queue_is_left_alone_and_a_purged_one_is_empty() {
    let world = World::new().await;
    let ids = world.queue(3).await;
    world.store.pause_queue(TYPE).await.unwrap();
    world.store.pause_queue(TYPE).await.unwrap();
    world.queue(1).await;
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
    let queues = world.store.queues().await.unwrap();
    assert_eq!((queues[0].name.as_str(), queues[0].depth, queues[0].paused), (TYPE, 4, true));
    assert_eq!(queues[0].oldest_ms, Some(ids[0].created_ms()));
    world.store.resume_queue(TYPE).await.unwrap();
    world.store.resume_queue(TYPE).await.unwrap();
    assert_eq!(world.claim(1).await.len(), 1);
    world.queue(1_200).await;
    assert_eq!(world.store.purge_queue(TYPE).await.unwrap(), 1_203);
    assert_eq!(world.store.purge_queue(TYPE).await.unwrap(), 0);
    assert_eq!(world.state(&ids[0]).await, State::Running);
    assert_eq!(world.state(&ids[1]).await, State::Cancelled);
    assert!(world.claim(10).await.is_empty());
    world.check_ledger();
    world.queue(1).await;
    assert_eq!(world.claim(10).await.len(), 1);
    world.check_ledger();
}

#[tokio::test]
async fn retention_forgets_what_ended_long_ago_and_nothing_else() {
    let world = World::new().await;
    let kept =
        |ms| move |_: &str| Retention { succeeded_ms: ms, failed_ms: ms, cancelled_ms: ms, results_ms: None };
    let mut ids = Vec::new();
    // Backwards, so that no queued job stands before those that are claimed.
    for state in State::ALL.into_iter().rev() {
        ids.push((state, world.job_in(state).await));
    }
    assert_eq!(world.store.sweep(kept(3_600_000), 10_000).await.unwrap(), 0);
    world.check_ledger();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(world.store.sweep(kept(5), 10_000).await.unwrap(), 3);
    for (state, id) in ids {
        assert_eq!(world.store.get(&id).await.unwrap().is_some(), !state.is_ended(), "{state:?}");
    }
    world.check_ledger();
}

#[tokio::test]
async fn results_are_forgotten_before_their_jobs_where_a_type_asks_for_it() {
    let world = World::new().await;
    let mut held = world.running().await;
    world.commit(held.step(Then::Succeeded { result: "\"kept\"".into() })).await;
    let other = world.create(job("other")).await;
    let request = request("w1", &["other"], 1);
    let claimed = world.store.claim(0, &request).await.unwrap();
    let other_held = support::held(&world.store, claimed, &request).await.pop().unwrap();
    world.commit(other_held.then(Then::Succeeded { result: "7".into() })).await;
    let kept = |job_type: &str| Retention {
        succeeded_ms: 3_600_000,
        failed_ms: 3_600_000,
        cancelled_ms: 3_600_000,
        results_ms: (job_type == TYPE).then_some(5),
    };
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for _ in 0..2 {
        assert_eq!(world.store.sweep(kept, 10_000).await.unwrap(), 0);
        let view = world.store.get(&held.id).await.unwrap().unwrap();
        assert_eq!((view.state, view.result, view.record.expired), (State::Succeeded, None, true));
        assert!(world.store.outputs(&held.id, 0, 9).await.unwrap().is_empty());
    }
    let other = world.store.get(&other).await.unwrap().unwrap();
    assert_eq!((other.result.as_deref(), other.record.expired), (Some("7"), false));
    world.check_ledger();
}

/// A JSON text of about so many bytes, as compressible as results are.
fn long(bytes: usize) -> String {
    let rows: Vec<_> = (0..bytes / 60)
        .map(|row| {
            format!(
                r#"{{"row":{row},"name":"item {}","score":{:.4},"ok":{}}}"#,
                row * 7919 % 997,
                row as f64 / 7.0,
                row % 3 == 0
            )
        })
        .collect();
    format!("[{}]", rows.join(","))
}

#[tokio::test]
async fn long_values_are_compressed_and_read_as_they_were_written() {
    let world = World::new().await;
    let mut parent = world.running().await;
    let mut child = job(TYPE);
    let id = JobId::child(&parent.id, 1, 1, 0, parent.id.created_ms());
    (child.id, child.spec.parent) = (Some(id), Some(parent.id));
    let mut waits = parent.step(Then::AwaitChildren);
    waits.record.children = vec![id];
    waits.children = vec![child];
    world.commit(waits).await;
    let mut held = world.claim(1).await.pop().unwrap();
    let text = long(10 << 10);
    let mut commit = held.step(Then::Succeeded { result: text.clone() });
    commit.outputs = vec![text.clone(), "1".into()];
    world.commit(commit).await;
    assert_eq!(world.store.get(&id).await.unwrap().unwrap().result, Some(text.clone()));
    assert_eq!(world.store.outputs(&id, 0, 9).await.unwrap(), [text.clone(), "1".into()]);
    let parent = world.claim(1).await.pop().unwrap();
    let resume = world.store.load(&parent.id, &parent.record).await.unwrap();
    assert_eq!(resume.children, [(id, ChildOutcome::Succeeded(text.clone()))]);
    let stored: Vec<u8> =
        redis::cmd("HGET").arg("{wm0}:res").arg(id.as_str()).query(&mut world.redis.connection()).unwrap();
    println!("a result of {} bytes is stored in {}", text.len(), stored.len());
    assert!(stored.len() < text.len() / 2, "{} of {} bytes", stored.len(), text.len());
    world.check_ledger();
}

/// A world whose long values lie in a directory.
async fn with_objects() -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let objects = ObjectOptions { url, above_bytes: 1_024, settings: Default::default() };
    (World::with(|options| options.objects = Some(objects)).await, folder)
}

fn files(folder: &std::path::Path) -> usize {
    let mut number = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        number += if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 };
    }
    number
}

#[tokio::test]
async fn very_long_values_lie_in_the_object_storage_as_long_as_their_job() {
    let (world, folder) = with_objects().await;
    let mut held = world.running().await;
    let text = long(5_000);
    let mut first = held.step(Then::Continue);
    first.outputs = vec![text.clone()];
    world.store.spill(&mut first).await;
    assert_eq!(world.commit(first).await, CommitAnswer::Done(State::Running));
    let mut last = held.step(Then::Succeeded { result: text.clone() });
    last.outputs = vec![text.clone(), "2".into()];
    world.store.spill(&mut last).await;
    world.store.spill(&mut last).await;
    assert_eq!(world.commit(last).await, CommitAnswer::Done(State::Succeeded));
    assert_eq!(files(folder.path()), 3);
    assert_eq!(world.store.get(&held.id).await.unwrap().unwrap().result, Some(text.clone()));
    assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap(), [text.clone(), text.clone(), "2".into()]);
    assert_eq!(world.store.sweep_objects().await.unwrap(), 0);

    // Back to the first step: its record stays, the rest is waste.
    let restarted = world.store.control(&held.id, Control::Restart, Some(1)).await.unwrap();
    assert_eq!(restarted, ControlAnswer::Done(State::Queued));
    assert_eq!(world.store.sweep_objects().await.unwrap(), 2);
    assert_eq!(world.store.outputs(&held.id, 0, 9).await.unwrap(), [text]);
    assert!(world.store.delete(&held.id).await.unwrap());
    assert_eq!(world.store.sweep_objects().await.unwrap(), 1);
    assert_eq!(files(folder.path()), 0);
    assert!(!world.dump().keys().any(|key| key.contains("waste") || key.contains("obj:")));
    world.check_ledger();
}

#[tokio::test]
async fn a_commit_whose_object_was_swept_is_refused_and_its_job_runs_again() {
    let (world, folder) = with_objects().await;
    let held = world.running().await;
    let mut commit = held.then(Then::Succeeded { result: long(5_000) });
    world.store.spill(&mut commit).await;
    let mut connection = world.redis.connection();
    let waste: Vec<String> =
        redis::cmd("ZRANGE").arg("{wm0}:waste").arg(0).arg(-1).query(&mut connection).unwrap();
    let _: u64 = redis::cmd("ZADD").arg("{wm0}:waste").arg(1).arg(&waste[0]).query(&mut connection).unwrap();
    assert_eq!(world.store.sweep_objects().await.unwrap(), 1);
    assert_eq!(world.commit(commit).await, CommitAnswer::Lost);
    assert_eq!(world.state(&held.id).await, State::Queued);
    assert_eq!(files(folder.path()), 0);
    world.check_ledger();
}

#[tokio::test]
async fn an_object_that_is_missing_or_damaged_is_named() {
    let (world, folder) = with_objects().await;
    let mut held = world.running().await;
    let mut commit = held.step(Then::Succeeded { result: long(5_000) });
    commit.outputs = vec![long(5_000)];
    world.store.spill(&mut commit).await;
    world.commit(commit).await;
    let of_job = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    for file in std::fs::read_dir(of_job).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with("result") {
            std::fs::remove_file(path).unwrap();
        } else {
            std::fs::write(path, "other").unwrap();
        }
    }
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.result), (State::Succeeded, None));
    assert!(view.result_error.unwrap().contains("it is not there"));
    let error = world.store.outputs(&held.id, 0, 9).await.unwrap_err();
    assert!(matches!(&error, Error::Object { why, .. } if why.contains("digest")), "{error}");
    world.check_ledger();
}

#[tokio::test]
async fn forgotten_scripts_are_given_to_the_server_again() {
    let world = World::new().await;
    for _ in 0..2 {
        let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut world.redis.connection()).unwrap();
        let held = world.running().await;
        let () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut world.redis.connection()).unwrap();
        let answer = world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
        assert_eq!(answer, CommitAnswer::Done(State::Succeeded));
    }
    world.check_ledger();
}

#[tokio::test]
async fn log_lines_are_kept_up_to_their_limit() {
    let world = World::with(|options| options.log_lines_max = 10).await;
    let id = world.queue(1).await[0];
    let lines = (0..25).map(|number| (id, format!("{{\"n\":{number}}}"))).collect();
    world.store.append_logs(lines).await.unwrap();
    let kept = world.store.logs(&id, 0, 100).await.unwrap();
    assert_eq!((kept.first, kept.lines.len(), kept.lines[0].as_str()), (15, 10, "{\"n\":15}"));
    let page = world.store.logs(&id, 23, 1).await.unwrap();
    assert_eq!((page.first, page.lines), (23, vec!["{\"n\":23}".to_owned()]));
    let page = world.store.logs(&id, 25, 10).await.unwrap();
    assert_eq!((page.first, page.lines.len()), (25, 0));
    // Long lines are fewer: 1 MiB is kept.
    let long = format!("\"{}\"", "x".repeat(400_000));
    world.store.append_logs((0..4).map(|_| (id, long.clone())).collect()).await.unwrap();
    let page = world.store.logs(&id, 0, 100).await.unwrap();
    assert_eq!((page.first, page.lines.len()), (27, 2));
    world.store.append_logs(vec![(id, "{}".into())]).await.unwrap();
    let page = world.store.logs(&id, 0, 100).await.unwrap();
    assert_eq!((page.first, page.lines.len()), (27, 3));
    world.check_ledger();
}

#[tokio::test]
async fn hosts_and_types_are_told_and_forgotten() {
    let world = World::new().await;
    world.store.put_host("h1", "{\"a\":1}", 60_000).await.unwrap();
    world.store.put_host("h2", "{}", 1).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(world.store.hosts().await.unwrap(), [("h1".to_owned(), "{\"a\":1}".to_owned())]);
    world.store.remove_host("h1").await.unwrap();
    assert!(world.store.hosts().await.unwrap().is_empty());
    world.store.put_type("t", "{}").await.unwrap();
    assert_eq!(world.store.types().await.unwrap(), [("t".to_owned(), "{}".to_owned())]);
}

#[tokio::test]
async fn a_large_checkpoint_and_a_spec_with_everything_survive() {
    let world = World::new().await;
    let mut spec = spec(TYPE);
    spec.metadata = Some("{\"k\":\"ü\"}".into());
    spec.tags = vec!["x y".into(), "ü".into()];
    spec.max_attempts = Some(7);
    spec.hard_limit_ms = Some(u64::from(u32::MAX) * 1_000);
    spec.input = format!("\"{}\"", "x".repeat(200_000));
    let id = world.create(NewJob { spec: spec.clone(), ..NewJob::default() }).await;
    assert_eq!(world.store.get(&id).await.unwrap().unwrap().spec, spec);
    let mut held = world.claim(1).await.pop().unwrap();
    let mut commit = held.step(Then::Continue);
    let state: Vec<u8> = (0..4_000_000_u32).map(|number| (number * number % 251) as u8).collect();
    commit.checkpoint.as_mut().unwrap().state = state.clone();
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Running));
    let resume = world.store.load(&id, &held.record).await.unwrap();
    assert_eq!(resume.checkpoint.unwrap().state, state);
    world.check_ledger();
}

fn failing(held: &support::Held, message: &str, then: Then) -> waymark_store::Commit {
    let mut commit = held.then(then);
    commit.record.version = Some("1.0.0".into());
    commit.record.error =
        Some(waymark_job::JobError { kind: "transient".into(), message: message.into(), trace: None });
    commit
}

#[tokio::test]
async fn failures_that_differ_only_in_what_differs_from_job_to_job_are_one_group() {
    let world = World::new().await;
    let (first, second, other) = (world.running().await, world.running().await, world.running().await);
    world.commit(failing(&first, "row 1 is bad", Then::Retry { delay_ms: 1_000_000 })).await;
    let again = failing(&second, "row 2 is bad", Then::Failed);
    world.commit(failing(&second, "row 2 is bad", Then::Failed)).await;
    assert_eq!(world.commit(again).await, CommitAnswer::Already, "a repeated commit counts once");
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    world.commit(failing(&other, "no such file", Then::Failed)).await;
    let mut slept = failing(&world.running().await, "row 3 is bad", Then::Sleep { delay_ms: 1_000_000 });
    slept.record.attempt = 1;
    world.commit(slept).await;

    let groups = world.store.error_groups(None, 0, ErrorOrder::Attempts).await.unwrap();
    assert_eq!(groups.len(), 2, "{groups:?}");
    let group = &groups[0];
    assert_eq!((group.attempts, group.failed, group.pattern.as_str()), (2, 1, "row <number> is bad"));
    assert_eq!((group.job_type.as_str(), group.message.as_str()), (TYPE, "row 2 is bad"));
    assert_eq!(group.jobs, [second.id, first.id]);
    assert_eq!(group.versions, [("1.0.0".to_owned(), 2)]);
    assert!(group.first_ms > 0 && group.first_ms <= group.last_ms);
    let recent = world.store.error_groups(Some(TYPE), 0, ErrorOrder::LastSeen).await.unwrap();
    assert_eq!(recent[0].fingerprint, groups[1].fingerprint);
    let later =
        world.store.error_groups(Some(TYPE), now_ms() + 1_000_000, ErrorOrder::LastSeen).await.unwrap();
    assert_eq!(later, []);

    assert!(world.store.forget_error_group(&group.fingerprint).await.unwrap());
    assert!(!world.store.forget_error_group(&group.fingerprint).await.unwrap());
    assert_eq!(world.store.error_group(&group.fingerprint).await.unwrap(), None);
    assert_eq!(world.store.sweep_error_groups(1_000_000).await.unwrap(), 0);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(world.store.sweep_error_groups(1).await.unwrap(), 1);
    assert_eq!(world.store.error_groups(None, 0, ErrorOrder::LastSeen).await.unwrap(), []);
    world.check_ledger();
}

#[tokio::test]
async fn a_poisonous_job_is_in_a_group_too() {
    let world = World::with(|options| options.crashes_max = 1).await;
    let held = world.running().await;
    world.store.retire(0, "w1", true).await.unwrap();
    let groups = world.store.error_groups(None, 0, ErrorOrder::LastSeen).await.unwrap();
    assert_eq!((groups.len(), groups[0].kind.as_str(), groups[0].failed), (1, "poisonous", 1));
    assert_eq!(groups[0].jobs, [held.id]);
}

#[tokio::test]
async fn the_oldest_group_makes_room_for_a_new_one() {
    let world = World::new().await;
    world.queue(101).await;
    for (number, held) in world.claim(101).await.iter().enumerate() {
        let word: String = (0..=number).map(|_| 'x').collect();
        world.commit(failing(held, &word, Then::Failed)).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let groups = world.store.error_groups(None, 0, ErrorOrder::LastSeen).await.unwrap();
    assert_eq!(groups.len(), 100);
    assert!(groups.iter().all(|group| group.message != "x"));
    let kept = world.dump().keys().filter(|key| key.contains("error:")).count();
    assert_eq!(kept, 100);
}

#[tokio::test]
async fn a_moved_job_waits_in_its_new_line_and_nowhere_else() {
    let world = World::new().await;
    let ids = world.queue(3).await;
    let moved = world.store.move_jobs(&[ids[0]], Some("night"), Some(7)).await.unwrap();
    assert_eq!(moved, [ControlAnswer::Done(State::Queued)]);
    world.check_ledger();
    let night = ClaimRequest { queues: Some(vec!["night".into()]), ..support::request("w1", &[TYPE], 10) };
    let day = ClaimRequest { queues: Some(vec![TYPE.into()]), ..support::request("w1", &[TYPE], 10) };
    let claimed = world.store.claim(0, &day).await.unwrap();
    assert_eq!(claimed.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids[1..]);
    let claimed = support::held(&world.store, world.store.claim(0, &night).await.unwrap(), &night).await;
    assert_eq!((claimed.len(), claimed[0].id, claimed[0].spec.priority), (1, ids[0], 7));
    world.check_ledger();
    // Given back after it was moved again while it ran.
    assert_eq!(
        world.store.move_jobs(&[ids[0]], Some(TYPE), Some(0)).await.unwrap(),
        [ControlAnswer::Done(State::Running)]
    );
    let released = world.commit(claimed[0].then(Then::Release { pin: None })).await;
    assert_eq!(released, CommitAnswer::Done(State::Queued));
    world.check_ledger();
    let day = ClaimRequest { token: support::token(), ..day };
    assert_eq!(world.store.claim(0, &day).await.unwrap().jobs[0].id, ids[0]);
    world.check_ledger();
}

#[tokio::test]
async fn a_move_says_what_it_met_and_changes_nothing_of_ended_jobs() {
    let world = World::new().await;
    for state in [State::Scheduled, State::Queued, State::Running, State::Waiting, State::Paused] {
        let id = world.job_in(state).await;
        for _ in 0..2 {
            let answer = world.store.move_jobs(&[id], Some("x"), None).await.unwrap();
            assert_eq!(answer, [ControlAnswer::Done(state)]);
        }
        assert_eq!(world.store.get(&id).await.unwrap().unwrap().spec.queue(), "x");
        world.check_ledger();
        assert!(world.store.delete(&id).await.unwrap());
        world.check_ledger();
    }
    for state in [State::Succeeded, State::Failed, State::Cancelled] {
        let id = world.job_in(state).await;
        let before = world.dump();
        let answer = world.store.move_jobs(&[id], Some("x"), Some(9)).await.unwrap();
        assert_eq!((answer.as_slice(), world.dump() == before), (&[ControlAnswer::Refused(state)][..], true));
    }
    let unknown = JobId::generate(now_ms(), 0).unwrap();
    assert_eq!(world.store.move_jobs(&[unknown], None, Some(1)).await.unwrap(), [ControlAnswer::Missing]);
}

#[tokio::test]
async fn a_purge_leaves_jobs_that_were_moved_away() {
    let world = World::new().await;
    let ids = world.queue(2).await;
    let _ = world.store.move_jobs(&ids[..1], Some("x"), None).await.unwrap();
    assert_eq!(world.store.purge_queue(TYPE).await.unwrap(), 1);
    assert_eq!((world.state(&ids[0]).await, world.state(&ids[1]).await), (State::Queued, State::Cancelled));
    world.check_ledger();
}

#[tokio::test]
async fn a_retry_goes_on_from_the_newest_checkpoint_of_a_failed_job() {
    let world = World::new().await;
    // Without one it begins again.
    let bare = world.job_in(State::Failed).await;
    let answer = world.store.control(&bare, Control::Retry, None).await.unwrap();
    assert_eq!(answer, ControlAnswer::Done(State::Queued));
    assert_eq!(world.store.get(&bare).await.unwrap().unwrap().record.step, 0);
    assert!(world.store.delete(&bare).await.unwrap());
    let mut held = world.running().await;
    for _ in 0..2 {
        let commit = held.step(Then::Continue);
        assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Running));
    }
    assert_eq!(
        world.store.control(&held.id, Control::Retry, None).await.unwrap(),
        ControlAnswer::Refused(State::Running)
    );
    assert_eq!(world.commit(held.then(Then::Failed)).await, CommitAnswer::Done(State::Failed));
    assert_eq!(
        world.store.control(&held.id, Control::Retry, None).await.unwrap(),
        ControlAnswer::Done(State::Queued)
    );
    let view = world.store.get(&held.id).await.unwrap().unwrap();
    assert_eq!((view.record.run, view.record.step, view.record.outputs), (2, 2, 2));
    world.check_ledger();
}

#[tokio::test]
async fn the_last_ten_replays_are_noted_in_the_record_of_an_ended_job() {
    let world = World::new().await;
    let old = world.job_in(State::Failed).await;
    let new: Vec<_> = (0..12).map(|_| JobId::generate(now_ms(), 0).unwrap()).collect();
    for id in &new {
        for _ in 0..2 {
            world.store.replayed(&old, id).await.unwrap();
        }
    }
    assert_eq!(world.store.get(&old).await.unwrap().unwrap().record.replays, new[2..]);
    let running = world.running().await;
    let before = world.dump();
    world.store.replayed(&running.id, &new[0]).await.unwrap();
    world.store.replayed(&new[0], &new[1]).await.unwrap();
    assert!(world.dump() == before);
}

#[tokio::test]
async fn a_listing_takes_spans_of_time_and_kinds_of_failures() {
    let world = World::new().await;
    let failed = world.job_in(State::Failed).await;
    let mut ids = Vec::new();
    for at_ms in [1_000, 2_000, 3_000] {
        let id = Some(JobId::generate(at_ms, 0).unwrap());
        ids.push(world.create(NewJob { id, ..support::job(TYPE) }).await);
    }
    let list = async |filter: Filter| {
        let page = world.store.list(&filter, 100, None).await.unwrap();
        page.jobs.iter().map(|view| view.id).collect::<Vec<_>>()
    };
    let span = |from_ms, to_ms| Span { from_ms, to_ms };
    let created = |created| Filter { created, ..Filter::default() };
    assert_eq!(list(created(span(Some(2_000), Some(3_000)))).await, [ids[1]]);
    assert_eq!(list(created(span(None, Some(2_001)))).await, [ids[1], ids[0]]);
    assert_eq!(list(created(span(Some(2_001), None))).await, [failed, ids[2]]);
    let ended = |ended| Filter { ended, ..Filter::default() };
    let ended_ms = world.store.get(&failed).await.unwrap().unwrap().record.ended_ms;
    assert_eq!(list(ended(span(Some(0), None))).await, [failed]);
    assert_eq!(list(ended(span(ended_ms, ended_ms.map(|at| at + 1)))).await, [failed]);
    assert!(list(ended(span(None, ended_ms))).await.is_empty());
    let kind = |kind: &str| Filter { error_kind: Some(kind.into()), ..Filter::default() };
    assert_eq!(list(kind("permanent")).await, [failed]);
    assert!(list(kind("transient")).await.is_empty());
}

#[tokio::test]
async fn every_end_of_a_job_makes_one_job_that_tells_of_it() {
    let rule = WebhookRule { name: "ops".into(), on: "FC".into(), types: vec![TYPE.into()] };
    let world = World::with(|options| {
        options.webhooks = vec![rule];
        options.crashes_max = 1;
    })
    .await;
    let told = async |of: JobId| -> Vec<serde_json::Value> {
        let filter = Filter { correlation_id: Some(of.to_string()), ..Filter::default() };
        let page = world.store.list(&filter, 10, None).await.unwrap();
        assert!(page.jobs.iter().all(|view| view.spec.job_type == Webhook::JOB_TYPE));
        page.jobs.iter().map(|view| serde_json::from_str(&view.spec.input).unwrap()).collect()
    };
    let create = async |on: &str| {
        let mut new = job(TYPE);
        let (url, on) = (Some("https://example.com/".to_owned()), on.to_owned());
        new.spec.webhooks = vec![Webhook { url, endpoint: None, on }];
        world.create(new).await
    };
    // Only the caller wants to know of a success.
    let id = create("S").await;
    let held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.spec.webhooks.len(), 2);
    world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
    world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
    let found = told(id).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["status"], &found[0]["run"]), (&"succeeded".into(), &1.into()));
    assert_eq!((&found[0]["job"], &found[0]["url"]), (&id.as_str().into(), &"https://example.com/".into()));
    world.check_ledger();
    // Another run ends another time.
    world.store.control(&id, Control::Restart, None).await.unwrap();
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Failed)).await;
    assert_eq!(told(id).await.len(), 2);

    let failed = create("SF").await;
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Failed)).await;
    assert_eq!(told(failed).await.len(), 2, "the caller and the endpoint");
    let cancelled = create("C").await;
    for _ in 0..2 {
        world.store.control(&cancelled, Control::Cancel, None).await.unwrap();
    }
    assert_eq!(told(cancelled).await.len(), 2);
    let purged = create("S").await;
    world.store.purge_queue(TYPE).await.unwrap();
    let found = told(purged).await;
    assert_eq!((found.len(), &found[0]["endpoint"]), (1, &"ops".into()));
    let poisonous = create("F").await;
    world.claim(1).await.pop().unwrap();
    world.store.retire(0, "w1", true).await.unwrap();
    assert_eq!(world.state(&poisonous).await, State::Failed);
    assert_eq!(told(poisonous).await.len(), 2);
    world.check_ledger();

    // They can be claimed, and their own ends are told to nobody.
    world.store.register(0, "w2", LEASE_MS).await.unwrap();
    let request = request("w2", &[Webhook::JOB_TYPE], 100);
    let hooks = support::held(&world.store, world.store.claim(0, &request).await.unwrap(), &request).await;
    assert_eq!(hooks.len(), 9);
    assert_eq!(hooks.iter().map(|hook| hook.id).collect::<std::collections::BTreeSet<_>>().len(), 9);
    for hook in &hooks {
        world.commit(hook.then(Then::Failed)).await;
    }
    let left = world.store.claim(0, &ClaimRequest { token: support::token(), ..request }).await.unwrap();
    assert!(left.jobs.is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn a_quiet_subscription_stays_and_one_whose_server_says_nothing_is_made_anew() {
    let world = World::new().await;
    let mut messages = world.store.subscribe_work();
    assert_eq!(messages.next().await, waymark_store::Message::Reconnected);
    // Longer than it is quiet before it asks.
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(3_500), messages.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    world.queue(1).await;
    assert_eq!(messages.next().await, waymark_store::Message::Wake { partition: 0 });
    // The server keeps the connection and answers nothing.
    let mut connection = world.redis.connection();
    redis::cmd("CLIENT").arg("PAUSE").arg(4_000).arg("ALL").exec(&mut connection).unwrap();
    let next = tokio::time::timeout(std::time::Duration::from_secs(15), messages.next()).await;
    assert_eq!(next.unwrap(), waymark_store::Message::Reconnected);
}
