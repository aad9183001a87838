//! Celery's messages, results and the outbox, against a real server: every answer of the scripts, and that a message is a
//! message or a job at every instant.

mod support;

use redis::{Commands as _, Connection};
use std::{num::NonZeroU32, time::Duration};
use support::{TYPE, World, job};
use waymark_job::{Control, Record, SentTask, State, flow};
use waymark_store::{
    CeleryBroker, CeleryOperation as Operation, CelerySent, CeleryTake, CeleryTaken, CeleryWhat,
    CommitAnswer, NewJob, Options, Store, Then,
};

const AT: CeleryBroker = CeleryBroker { broker: 1, results: 2 };

fn database(world: &World, number: i64) -> Connection {
    let mut connection = world.redis.connection();
    redis::cmd("SELECT").arg(number).exec(&mut connection).unwrap();
    connection
}

fn take(list: &str, text: &str, task: &str, what: CeleryWhat) -> CeleryTake {
    CeleryTake {
        list: list.into(),
        text: text.as_bytes().to_vec(),
        task: task.into(),
        context: format!("context of {task}"),
        what,
    }
}

fn to_job(task: &str) -> CeleryWhat {
    let mut new = job(TYPE);
    new.spec.celery = Some(format!("context of {task}"));
    new.spec.correlation_id = Some(task.into());
    CeleryWhat::Job(Box::new(new))
}

fn items(connection: &mut Connection, list: &str) -> Vec<String> {
    connection.lrange(list, 0, -1).unwrap()
}

#[tokio::test]
async fn messages_are_peeked_at_in_the_order_in_which_they_are_served() {
    let world = World::new().await;
    let mut broker = database(&world, 1);
    for (list, text) in [("q", "1"), ("q", "2"), ("q3", "3"), ("q3", "4")] {
        let _: u64 = broker.lpush(list, text).unwrap();
    }
    let lists = ["q".to_owned(), "none".to_owned(), "q3".to_owned()];
    let peek = async |most| {
        let peeked = world.store.celery_peek(AT, &lists, most).await.unwrap();
        peeked.into_iter().map(|one| (one.list, String::from_utf8(one.text).unwrap())).collect::<Vec<_>>()
    };
    let of = |list, text: &str| (list, text.to_owned());
    assert_eq!(peek(10).await, [of(0, "1"), of(0, "2"), of(2, "3"), of(2, "4")]);
    assert_eq!(peek(1).await, [of(0, "1")]);
    assert_eq!(world.store.celery_length(AT, &lists).await.unwrap(), 4);
}

#[tokio::test]
async fn a_message_becomes_a_job_and_is_gone_with_the_same_call() {
    let world = World::new().await;
    let mut broker = database(&world, 1);
    for text in ["1", "2", "3"] {
        let _: u64 = broker.lpush("q", text).unwrap();
    }
    let takes = || vec![take("q", "1", "a", to_job("a")), take("q", "3", "c", to_job("c"))];
    let taken = world.store.celery_take(AT, 10, takes()).await.unwrap();
    assert_eq!(taken, [CeleryTaken::Job, CeleryTaken::Job]);
    assert_eq!(items(&mut broker, "q"), ["2"]);
    assert_eq!(world.claim(10).await.len(), 2);
    // Another host looked at the same time.
    let late = world.store.celery_take(AT, 10, takes()).await.unwrap();
    assert_eq!(late, [CeleryTaken::Missing, CeleryTaken::Missing]);
    // What stands behind the window is left for later.
    for text in ["4", "5"] {
        let _: u64 = broker.lpush("q", text).unwrap();
    }
    let behind = world.store.celery_take(AT, 2, vec![take("q", "5", "e", to_job("e"))]).await.unwrap();
    assert_eq!(behind, [CeleryTaken::Missing]);
    assert_eq!(items(&mut broker, "q"), ["5", "4", "2"]);
    assert_eq!(world.store.counts().await.unwrap(), [(TYPE.to_owned(), State::Running, 2)]);
    world.check_ledger();
}

#[tokio::test]
async fn the_same_text_twice_is_two_messages() {
    let world = World::new().await;
    let mut broker = database(&world, 1);
    for text in ["x", "y", "x"] {
        let _: u64 = broker.lpush("q", text).unwrap();
    }
    let takes = vec![take("q", "x", "a", to_job("a"))];
    assert_eq!(world.store.celery_take(AT, 10, takes).await.unwrap(), [CeleryTaken::Job]);
    assert_eq!(items(&mut broker, "q").len(), 2);
    let takes = vec![take("q", "x", "a", to_job("a")), take("q", "x", "a", to_job("a"))];
    let taken = world.store.celery_take(AT, 10, takes).await.unwrap();
    assert_eq!(taken, [CeleryTaken::Job, CeleryTaken::Missing]);
    assert_eq!(items(&mut broker, "q"), ["y"]);
}

#[tokio::test]
async fn what_cannot_be_a_job_is_dead_elsewhere_or_in_the_outbox() {
    let world = World::new().await;
    let mut broker = database(&world, 1);
    for text in ["dead", "built-in", "other"] {
        let _: u64 = broker.lpush("q", text).unwrap();
    }
    let takes = vec![
        take("q", "dead", "d", CeleryWhat::Dead { why: "malformed", body: "why".into() }),
        take("q", "built-in", "b", CeleryWhat::Entry { letter: 'B', body: "body".into() }),
        take("q", "other", "o", CeleryWhat::Forward { list: "old".into(), text: "moved".into() }),
    ];
    let taken = world.store.celery_take(AT, 10, takes).await.unwrap();
    assert_eq!(taken, [CeleryTaken::Dead, CeleryTaken::Entry, CeleryTaken::Forwarded]);
    assert!(items(&mut broker, "q").is_empty());
    assert_eq!(items(&mut broker, "old"), ["moved"]);
    let outbox = world.store.celery_outbox(0).await.unwrap();
    let seen: Vec<_> =
        outbox.iter().map(|one| (one.letter, one.context.as_str(), one.body.as_str())).collect();
    assert_eq!(seen, [('D', "context of d", "why"), ('B', "context of b", "body")]);
    let (count, newest) = world.store.celery_dead(10).await.unwrap();
    assert_eq!((count, newest[0].why.as_str(), newest[0].list.as_str()), (1, "malformed", "q"));
    assert_eq!(world.store.celery_requeue(AT, 5).await.unwrap(), (1, 0));
    assert_eq!(items(&mut broker, "q"), ["dead"]);
    assert_eq!(world.store.celery_dead(10).await.unwrap().0, 0);
}

#[tokio::test]
async fn a_full_queue_that_rejects_costs_no_message() {
    let world = World::new().await;
    let limits = flow::Limits {
        concurrency: NonZeroU32::new(1),
        when_full: flow::WhenFull::Reject,
        ..flow::Limits::default()
    };
    world.store.set_limits(TYPE, Some(&limits)).await.unwrap();
    let mut broker = database(&world, 1);
    for text in ["1", "2"] {
        let _: u64 = broker.lpush("q", text).unwrap();
    }
    let takes = vec![take("q", "1", "a", to_job("a")), take("q", "2", "b", to_job("b"))];
    let taken = world.store.celery_take(AT, 10, takes).await.unwrap();
    assert_eq!(taken, [CeleryTaken::Job, CeleryTaken::Dead]);
    let (count, newest) = world.store.celery_dead(10).await.unwrap();
    assert_eq!((count, newest[0].message.as_str(), newest[0].why.as_str()), (1, "2", "limit-reached"));
    let outbox = world.store.celery_outbox(0).await.unwrap();
    assert_eq!((outbox[0].letter, outbox[0].context.as_str()), ('L', "context of b"));
    world.check_ledger();
}

#[tokio::test]
async fn a_revoked_task_becomes_no_job_and_a_waiting_one_is_cancelled() {
    let world = World::new().await;
    let mut broker = database(&world, 1);
    assert_eq!(world.store.celery_revoke(&["a".into()], false).await.unwrap(), 0);
    let _: u64 = broker.lpush("q", "1").unwrap();
    let taken = world.store.celery_take(AT, 10, vec![take("q", "1", "a", to_job("a"))]).await.unwrap();
    assert_eq!(taken, [CeleryTaken::Revoked]);
    assert_eq!(world.store.celery_outbox(0).await.unwrap()[0].letter, 'V');
    assert_eq!(world.store.celery_revoked().await.unwrap(), ["a"]);
    assert!(world.store.counts().await.unwrap().is_empty());
    // One that waits, and one that runs: that goes on unless it is terminated.
    for task in ["b", "c"] {
        let _: u64 = broker.lpush("q", task).unwrap();
        let takes = vec![take("q", task, task, to_job(task))];
        assert_eq!(world.store.celery_take(AT, 10, takes).await.unwrap(), [CeleryTaken::Job]);
    }
    let running = world.claim(1).await.pop().unwrap();
    let both = ["b".to_owned(), "c".to_owned()];
    assert_eq!(world.store.celery_revoke(&both, false).await.unwrap(), 1);
    assert_eq!(world.state(&running.id).await, State::Running);
    assert_eq!(world.store.celery_revoke(&both, true).await.unwrap(), 1);
    assert_eq!(world.state(&running.id).await, State::Cancelled);
    let letters: Vec<_> = world.store.celery_outbox(0).await.unwrap().iter().map(|one| one.letter).collect();
    assert_eq!(letters, ['V', 'C', 'C']);
    world.check_ledger();
}

fn celery_job() -> NewJob {
    let mut new = job(TYPE);
    new.spec.celery = Some("context".into());
    new
}

#[tokio::test]
async fn every_end_of_a_job_is_noted_with_it() {
    let world = World::new().await;
    let ends = async || {
        let id = world.create(celery_job()).await;
        (id, world.claim(1).await.pop().unwrap())
    };
    let (_, held) = ends().await;
    world.commit(held.then(Then::Succeeded { result: "[1]".into() })).await;
    let (_, held) = ends().await;
    world.commit(held.then(Then::Failed)).await;
    let (id, _) = ends().await;
    world.store.control(&id, Control::Cancel, None).await.unwrap();
    let (id, _) = ends().await;
    world.store.delete(&id).await.unwrap();
    let id = world.create(celery_job()).await;
    world.store.control(&id, Control::Pause, None).await.unwrap();
    world.store.control(&id, Control::Cancel, None).await.unwrap();
    world.create(celery_job()).await;
    world.store.purge_queue(TYPE).await.unwrap();
    let (_, held) = ends().await;
    world.store.retire(0, "w1", true).await.unwrap();
    drop(held);
    let outbox = world.store.celery_outbox(0).await.unwrap();
    let letters: Vec<_> = outbox.iter().map(|one| one.letter).collect();
    assert_eq!(letters, ['S', 'F', 'C', 'C', 'p', 'C', 'C']);
    assert!(outbox.iter().all(|one| one.context == "context" && one.record.is_some()));
    assert_eq!(outbox[0].body, "[1]");
    world.check_ledger();
}

#[tokio::test]
async fn a_poisonous_job_is_noted_too() {
    let world = World::with(|options: &mut Options| options.crashes_max = 1).await;
    world.create(celery_job()).await;
    world.claim(1).await;
    world.store.retire(0, "w1", true).await.unwrap();
    let outbox = world.store.celery_outbox(0).await.unwrap();
    assert_eq!(outbox[0].letter, 'F');
    assert_eq!(outbox[0].record.as_ref().unwrap().error.as_ref().unwrap().kind, "poisonous");
}

#[tokio::test]
async fn an_entry_is_settled_wholly_and_once() {
    let world = World::new().await;
    world.create(celery_job()).await;
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
    let entry = world.store.celery_outbox(0).await.unwrap().remove(0);
    let result = |text: &str| Operation::Result { key: "meta-a".into(), text: text.into(), expires_s: 60 };
    let push = || Operation::Push { list: "next".into(), message: "m".into() };
    let plan = |text: &str, unless: Option<&str>| {
        (entry.id.clone(), unless.map(str::to_owned), vec![result(text), push()])
    };
    let success = r#"{"status": "SUCCESS", "result": 1}"#;
    let settle = async |plan| world.store.celery_settle(AT, 0, &[plan]).await.unwrap();
    assert_eq!(settle(plan(success, None)).await, [true]);
    assert_eq!(settle(plan("again", None)).await, [false]);
    let (mut broker, mut results) = (database(&world, 1), database(&world, 2));
    assert_eq!(items(&mut broker, "next"), ["m"]);
    assert_eq!(results.get::<_, String>("meta-a").unwrap(), success);
    assert!((1..=60).contains(&results.ttl::<_, i64>("meta-a").unwrap()));
    assert_eq!(world.store.celery_read(AT, "meta-a").await.unwrap().as_deref(), Some(success));
    assert!(world.store.celery_outbox(0).await.unwrap().is_empty());
    // A success is never overwritten; whoever asks is stopped by it altogether.
    for unless in [None, Some("meta-a")] {
        world.create(celery_job()).await;
        let held = world.claim(1).await.pop().unwrap();
        world.commit(held.then(Then::Failed)).await;
        let id = world.store.celery_outbox(0).await.unwrap().remove(0).id;
        let plan = (id, unless.map(str::to_owned), vec![result("late"), push()]);
        world.store.celery_settle(AT, 0, &[plan]).await.unwrap();
        assert_eq!(results.get::<_, String>("meta-a").unwrap(), success);
    }
    assert_eq!(items(&mut broker, "next").len(), 2);
}

#[tokio::test]
async fn the_last_part_of_a_chord_starts_its_body_once() {
    let world = World::new().await;
    let mut results = database(&world, 2);
    let part = |member: &str, index, task: &str| Operation::Part {
        group: "g".into(),
        member: member.into(),
        index,
        task: task.into(),
        expires_s: 60,
        context: "join".into(),
    };
    let bring = async |operation: Operation| {
        world.create(celery_job()).await;
        let held = world.claim(1).await.pop().unwrap();
        world.commit(held.then(Then::Succeeded { result: "1".into() })).await;
        let outbox = world.store.celery_outbox(0).await.unwrap();
        let id = outbox.iter().find(|one| one.letter == 'S').unwrap().id.clone();
        world.store.celery_settle(AT, 0, &[(id, None, vec![operation])]).await.unwrap();
        world.store.celery_outbox(0).await.unwrap()
    };
    assert!(bring(part("second", 1, "b")).await.is_empty());
    // The size is not known yet, and the same part does not count twice.
    let _: () = results.set("g.s", 2).unwrap();
    assert!(bring(part("second again", 1, "b")).await.is_empty());
    let joined = bring(part("first", 0, "a")).await;
    assert_eq!((joined.len(), joined[0].letter, joined[0].context.as_str()), (1, 'J', "join"));
    assert_eq!(world.store.celery_parts(AT, "g").await.unwrap(), ["first", "second"]);
    assert_eq!(bring(part("third", 2, "c")).await.len(), 1);
    // As tasks that were added say.
    let _: () = results.set("h.s", 1).unwrap();
    let _: () = results.set("h.t", 1).unwrap();
    let of_other = |member: &str, index, task: &str| match part(member, index, task) {
        Operation::Part { member, index, task, expires_s, context, .. } => {
            Operation::Part { group: "h".into(), member, index, task, expires_s, context }
        }
        other => other,
    };
    assert_eq!(bring(of_other("x", 0, "x")).await.len(), 1);
    assert_eq!(bring(of_other("y", 1, "y")).await.len(), 2);
}

#[tokio::test]
async fn messages_are_pushed_and_entries_follow_each_other() {
    let world = World::new().await;
    world.store.celery_push(AT, "old", "message").await.unwrap();
    assert_eq!(items(&mut database(&world, 1), "old"), ["message"]);
    world.create(celery_job()).await;
    let held = world.claim(1).await.pop().unwrap();
    world.commit(held.then(Then::Failed)).await;
    let id = world.store.celery_outbox(0).await.unwrap().remove(0).id;
    let operations = vec![
        Operation::Entry { letter: 'B', context: "c".into(), body: "b".into() },
        Operation::Set { key: "s".into(), text: "v".into(), expires_s: 9 },
        Operation::Delete { key: "s".into() },
        Operation::Dead { list: "q".into(), why: "w".into(), text: "t".into() },
    ];
    world.store.celery_settle(AT, 0, &[(id, None, operations)]).await.unwrap();
    let outbox = world.store.celery_outbox(0).await.unwrap();
    assert_eq!((outbox.len(), outbox[0].letter, outbox[0].body.as_str()), (1, 'B', "b"));
    assert_eq!(world.store.celery_read(AT, "s").await.unwrap(), None);
    assert_eq!(world.store.celery_dead(1).await.unwrap().1[0].message, "t");
}

fn sends(record: &Record, task: &str) -> Record {
    let sent = SentTask {
        id: task.into(),
        since_ms: 1_790_000_000_123,
        channel: "/1.pidbox".into(),
        revoke: format!("drop {task}"),
    };
    Record { sent: Some(Box::new(sent)), ..record.clone() }
}

#[tokio::test]
async fn a_task_is_sent_once_and_the_record_says_so() {
    let world = World::new().await;
    let held = world.running().await;
    let mut broker = database(&world, 1);
    let send = async |token: &str, record: &Record, message: &str| {
        world.store.celery_send(AT, &held.id, token, record, "old", message).await
    };
    let first = sends(&held.record, "a");
    assert_eq!(send(held.token.as_str(), &first, "1").await.unwrap(), CelerySent::Sent);
    assert_eq!(world.store.get(&held.id).await.unwrap().unwrap().record.sent, first.sent);
    let kept = world.dump();
    assert_eq!(send(held.token.as_str(), &first, "1").await.unwrap(), CelerySent::Before);
    assert_eq!(
        send("0".repeat(32).as_str(), &sends(&held.record, "b"), "2").await.unwrap(),
        CelerySent::Lost
    );
    assert_eq!((world.dump(), items(&mut broker, "old")), (kept, vec!["1".to_owned()]));
    // The worker dies: whoever takes the job next knows of the task.
    world.store.retire(0, "w1", false).await.unwrap();
    assert_eq!(send(held.token.as_str(), &sends(&held.record, "b"), "2").await.unwrap(), CelerySent::Lost);
    world.store.register(0, "w2", support::LEASE_MS).await.unwrap();
    let again = world.claim_as("w2", 1).await.pop().unwrap();
    assert_eq!(again.record.sent, first.sent);
    let sent = world.store.celery_send(AT, &again.id, &again.token, &again.record, "old", "1").await.unwrap();
    assert_eq!(sent, CelerySent::Before);
    // A later attempt is another task.
    let next = sends(&again.record, "b");
    let sent = world.store.celery_send(AT, &again.id, &again.token, &next, "old", "2").await.unwrap();
    assert_eq!((sent, items(&mut broker, "old")), (CelerySent::Sent, vec!["2".to_owned(), "1".to_owned()]));
    world.check_ledger();
}

#[tokio::test]
async fn a_task_that_cannot_be_pushed_is_not_noted() {
    let world = World::new().await;
    let held = world.running().await;
    let mut broker = database(&world, 1);
    let _: () = broker.set("old", "no list").unwrap();
    let kept = world.dump();
    let record = sends(&held.record, "a");
    assert!(world.store.celery_send(AT, &held.id, &held.token, &record, "old", "1").await.is_err());
    assert!(
        world.store.celery_send(AT, &held.id, &held.token, &held.record, "new", "1").await.is_err(),
        "no task"
    );
    assert_eq!((world.dump(), items(&mut broker, "new").len()), (kept, 0));
}

#[tokio::test]
async fn whoever_ends_a_job_before_its_task_revokes_that_and_its_end_is_seen_before_others_begin() {
    let world = World::with(|options: &mut Options| options.crashes_max = 1).await;
    let mut listener = world.redis.connection();
    let mut heard = listener.as_pubsub();
    heard.subscribe("/1.pidbox").unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let sent = async |task: &str| {
        let held = world.running().await;
        let record = sends(&held.record, task);
        world.store.celery_send(AT, &held.id, &held.token, &record, "old", task).await.unwrap();
        (held, record)
    };
    let (held, _) = sent("cancelled").await;
    world.store.control(&held.id, Control::Cancel, None).await.unwrap();
    assert_eq!(world.store.get(&held.id).await.unwrap().unwrap().record.sent, None);
    let (held, _) = sent("deleted").await;
    world.store.delete(&held.id).await.unwrap();
    let (held, record) = sent("restarted").await;
    let mut commit = held.then(Then::Paused);
    commit.record = record;
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Paused));
    world.store.control(&held.id, Control::Restart, None).await.unwrap();
    let again = world.claim(1).await.pop().unwrap();
    assert_eq!((again.record.run, &again.record.sent), (2, &None));
    world.commit(again.then(Then::Succeeded { result: "1".into() })).await;
    let (held, record) = sent("asleep").await;
    let mut commit = held.then(Then::Sleep { delay_ms: 0 });
    commit.record = record;
    world.commit(commit).await;
    world.queue(3).await;
    assert_eq!(world.claim(1).await[0].id, held.id, "it goes before those that have not begun");
    world.store.retire(0, "w1", true).await.unwrap();
    assert_eq!(world.state(&held.id).await, State::Failed);
    for task in ["cancelled", "deleted", "restarted", "asleep"] {
        let told: String = heard.get_message().unwrap().get_payload().unwrap();
        assert_eq!(told, format!("drop {task}"));
    }
    world.check_ledger();
}

#[tokio::test]
async fn the_end_of_a_task_wakes_the_job_that_sleeps_for_it_and_no_other() {
    let world = World::new().await;
    let sent = async |task: &str| {
        let held = world.running().await;
        let record = sends(&held.record, task);
        world.store.celery_note(task, &held.id, 60_000).await.unwrap();
        world.store.celery_send(AT, &held.id, &held.token, &record, "old", task).await.unwrap();
        (held, record)
    };
    let asleep = async |task: &str| {
        let (held, record) = sent(task).await;
        let mut commit = held.then(Then::Sleep { delay_ms: 3_600_000 });
        commit.record.sent = record.sent;
        assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Scheduled));
        held.id
    };
    let woken = asleep("asleep").await;
    let paused = asleep("paused").await;
    world.store.control(&paused, Control::Pause, None).await.unwrap();
    let later = asleep("later").await;
    world.store.celery_note("earlier", &later, 60_000).await.unwrap();
    let (cancelled, _) = sent("cancelled").await;
    world.store.control(&cancelled.id, Control::Cancel, None).await.unwrap();
    let (looks, _) = sent("looks").await;
    world.queue(2).await;
    // Twice the same, and one of somebody else.
    let tasks = ["asleep", "paused", "earlier", "cancelled", "looks", "asleep", "other"].map(str::to_owned);
    let answered = world.store.celery_wake(&tasks).await.unwrap();
    assert_eq!(answered, tasks.map(|task| task == "looks"));
    for (id, state) in [
        (&woken, State::Queued),
        (&paused, State::Paused),
        (&later, State::Scheduled),
        (&cancelled.id, State::Cancelled),
        (&looks.id, State::Running),
    ] {
        assert_eq!(world.state(id).await, state);
    }
    let next = world.claim(1).await.pop().unwrap();
    assert_eq!(
        (next.id, next.record.not_before_ms),
        (woken, None),
        "it goes before those that have not begun"
    );
    // Nothing was written for the others.
    world.store.control(&paused, Control::Resume, None).await.unwrap();
    assert_eq!(world.state(&paused).await, State::Scheduled);
    assert!(world.store.celery_wake(&[]).await.unwrap().is_empty());
    world.check_ledger();
}

#[tokio::test]
async fn what_is_noted_of_a_task_is_forgotten_by_itself() {
    let world = World::new().await;
    let id = world.queue(1).await[0];
    world.store.celery_note("a", &id, 60_000).await.unwrap();
    let mut connection = world.redis.connection();
    let kept_ms: i64 = connection.pttl("{wm}:task:a").unwrap();
    assert!((1..=60_000).contains(&kept_ms), "{kept_ms}");
}

#[tokio::test]
async fn results_are_heard_by_a_pattern_as_soon_as_the_user_of_redis_may_listen() {
    let world = World::new().await;
    let mut connection = world.redis.connection();
    let mut allow = |rule: &str| {
        redis::cmd("ACL").arg(&["SETUSER", "few", rule]).exec(&mut connection).unwrap();
    };
    for rule in ["on", ">secret", "+@all", "~*", "resetchannels"] {
        allow(rule);
    }
    let few = Options::at(&format!("redis://few:secret@127.0.0.1:{}", world.redis.port));
    let few = Store::connect(few).await.unwrap();
    let mut listener = few.celery_listen_to_all("app:meta-*".into());
    let soon = tokio::time::timeout(Duration::from_millis(300), listener.next()).await;
    assert!(soon.is_err(), "it waits: {soon:?}");
    allow("&app:meta-*");
    assert_eq!(listener.next().await, None);
    for (channel, text) in [("app:other", "no"), ("app:meta-a", "yes")] {
        world.store.celery_publish(channel, text).await.unwrap();
    }
    assert_eq!(listener.next().await.as_deref(), Some(&b"yes"[..]));
}
