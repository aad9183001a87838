//! Encryption: nothing that callers and plugins put into the store can be read there, keys are rotated, and a key that is
//! missing costs no job.

mod support;

use redis::Commands as _;
use support::{TYPE, World, job};
use waymark_job::{JobId, State};
use waymark_store::{
    ChildOutcome, CommitAnswer, Error, Keyring, NewJob, NodeResult, ObjectOptions, Options, Resealed, Store,
    Then,
};

/// Stands in every value of the test.
const SECRET: &str = "hunter22";

fn ring(names: &[&str], active: &str) -> Keyring {
    let keys = names.iter().map(|name| ((*name).to_owned(), name.bytes().cycle().take(32).collect()));
    Keyring::new(keys.collect(), Some(active.to_owned())).unwrap()
}

/// Everything in the server, as clients read it.
fn values(world: &World) -> Vec<u8> {
    let mut connection = world.redis.connection();
    let keys: Vec<String> = connection.keys("*").unwrap();
    let mut all = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        let command: &[&str] = match kind.as_str() {
            "string" => &["GET"],
            "hash" => &["HGETALL"],
            "list" => &["LRANGE", "0", "-1"],
            "set" => &["SMEMBERS"],
            "zset" => &["ZRANGE", "0", "-1"],
            "stream" => &["XRANGE", "-", "+"],
            other => panic!("{key} is a {other}"),
        };
        let mut ask = redis::cmd(command[0]);
        ask.arg(&key).arg(&command[1..]);
        let value: redis::Value = ask.query(&mut connection).unwrap();
        collect(&value, &mut all);
        all.extend_from_slice(key.as_bytes());
    }
    all
}

fn collect(value: &redis::Value, all: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(bytes) => all.extend_from_slice(bytes),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().for_each(|value| collect(value, all));
        }
        redis::Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            collect(name, all);
            collect(value, all);
        }),
        _ => {}
    }
}

fn holds(all: &[u8], text: &str) -> bool {
    all.windows(text.len()).any(|part| part == text.as_bytes())
}

fn said(what: &str) -> String {
    format!("{{\"{what}\":\"{SECRET}\"}}")
}

/// Two jobs that say the secret wherever they can: a parent that waits for its child and a signal, and the child.
async fn tell(world: &World) -> (JobId, JobId) {
    let mut new = job(TYPE);
    new.spec.input = said("input");
    new.spec.metadata = Some(said("metadata"));
    let parent = world.create(new).await;
    let mut held = world.claim(1).await.pop().unwrap();
    assert_eq!((held.id, held.spec.input.as_str()), (parent, said("input").as_str()));
    let child = JobId::child(&parent, 1, 1, 0, parent.created_ms());
    held.record.children.push(child);
    let mut commit = held.step(Then::AwaitChildren);
    commit.outputs = vec![said("output")];
    commit.checkpoint.as_mut().unwrap().state = said("state").into_bytes();
    let mut spec = support::spec(TYPE);
    (spec.input, spec.parent) = (said("child"), Some(parent));
    commit.children = vec![NewJob { id: Some(child), spec, ..NewJob::default() }];
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Waiting));
    world.store.signal(&parent, "go", &said("signal")).await.unwrap();
    world.store.append_logs(vec![(parent, said("log"))]).await.unwrap();
    world.store.put_graph(&parent, said("graph").as_bytes()).await.unwrap();
    world.store.llm_keep("question", said("answer").as_bytes(), 60_000).await.unwrap();
    let mut held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.id, child);
    let commit = held.step(Then::Succeeded { result: said("result") });
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Succeeded));
    (parent, child)
}

async fn hear(store: &Store, parent: &JobId, child: &JobId) {
    let view = store.get(parent).await.unwrap().unwrap();
    assert_eq!((view.spec.input, view.spec.metadata), (said("input"), Some(said("metadata"))));
    assert_eq!(store.get(child).await.unwrap().unwrap().result, Some(said("result")));
    let resume = store.load(parent, &view.record).await.unwrap();
    assert_eq!(resume.children, vec![(*child, ChildOutcome::Succeeded(said("result")))]);
    let signals: Vec<_> = resume.signals.into_iter().map(|one| (one.name, one.payload)).collect();
    assert_eq!(signals, vec![("go".to_owned(), said("signal"))]);
    let checkpoint = resume.checkpoint.unwrap();
    assert_eq!(checkpoint.state, said("state").into_bytes());
    assert_eq!(checkpoint.digest.len(), 64);
    assert_eq!(store.outputs(parent, 0, 10).await.unwrap(), vec![said("output")]);
    assert_eq!(store.logs(parent, 0, 10).await.unwrap().lines, vec![said("log")]);
    assert_eq!(store.graph(parent, 1_000).await.unwrap(), Some(said("graph").into_bytes()));
    assert_eq!(store.llm_cached("question").await.unwrap(), Some(said("answer").into_bytes()));
    assert_eq!(store.results(&[*child]).await.unwrap(), vec![NodeResult::Is(said("result"))]);
}

#[tokio::test]
async fn nothing_that_is_kept_can_be_read_without_the_key() {
    let world = World::with(|options| options.encryption = ring(&["k1"], "k1")).await;
    let (parent, child) = tell(&world).await;
    hear(&world.store, &parent, &child).await;
    let all = values(&world);
    assert!(holds(&all, parent.as_str()), "the test looks at what is kept");
    assert!(!holds(&all, SECRET));
    world.check_ledger();

    let plain = World::new().await;
    let (parent, child) = tell(&plain).await;
    hear(&plain.store, &parent, &child).await;
    assert!(holds(&values(&plain), SECRET), "the test would see it");
}

#[tokio::test]
async fn keys_are_rotated_and_a_missing_one_costs_no_job() {
    let world = World::with(|options| options.encryption = ring(&["k1"], "k1")).await;
    let with = async |encryption: Keyring| {
        Store::connect(Options { encryption, ..Options::at(&world.redis.url()) }).await.unwrap()
    };
    let (parent, child) = tell(&world).await;
    let both = with(ring(&["k1", "k2"], "k2")).await;
    hear(&both, &parent, &child).await;
    let mut new = job(TYPE);
    new.spec.input = said("second");
    let second = both.create(vec![new]).await.unwrap()[0].id;
    assert!(!holds(&values(&world), SECRET));

    // Whoever has the old key only sees that there is a job, and which key it takes.
    let view = world.store.get(&second).await.unwrap().unwrap();
    assert_eq!((view.sealed.as_deref(), view.spec.input.as_str()), (Some("k2"), "null"));
    let listed = world.store.list(&Default::default(), 10, None).await.unwrap();
    assert_eq!(listed.jobs.len(), 3);
    // The parent was woken by the end of its child; of the two the worker gets the one that it can read.
    let claimed: Vec<_> = world.claim(10).await.into_iter().map(|held| held.id).collect();
    assert_eq!(claimed, vec![parent]);
    let new = with(ring(&["k2"], "k2")).await;
    for error in [
        new.outputs(&parent, 0, 1).await.unwrap_err(),
        new.logs(&parent, 0, 1).await.unwrap_err(),
        new.checkpoints(&parent).await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::KeyMissing(key) if key == "k1"), "{error}");
        assert!(error.to_string().contains("add that key to [encryption]"), "{error}");
    }
    assert!(new.get(&child).await.unwrap().unwrap().result_error.is_some_and(|why| why.contains("k1")));
    assert_eq!(new.llm_cached("question").await.unwrap(), None);

    // What the worker cannot read goes back, and to one that can.
    let held = world.store.held(0, "w1").await.unwrap();
    let unread: Vec<_> = held.into_iter().filter(|(id, _)| *id == second).collect();
    assert_eq!(world.store.give_back(0, &unread).await.unwrap(), 1);
    let request = support::request("w1", &[TYPE], 10);
    let claimed = support::held(&both, both.claim(0, &request).await.unwrap(), &request).await;
    assert_eq!((claimed[0].id, claimed[0].spec.input.as_str()), (second, said("second").as_str()));
    world.check_ledger();
}

/// A whole pass.
async fn pass(store: &Store, dry_run: bool) -> Resealed {
    let mut sum = store.reseal(None, dry_run).await.unwrap();
    while let Some(cursor) = sum.cursor.take() {
        sum += store.reseal(Some(&cursor), dry_run).await.unwrap();
    }
    sum
}

fn found(sum: &Resealed, key: &str) -> u64 {
    sum.found.get(key).copied().unwrap_or_default()
}

#[tokio::test]
async fn what_an_old_key_sealed_is_sealed_by_the_new_one_and_the_old_one_can_go() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let objects = ObjectOptions { url, above_bytes: 1_024, settings: std::collections::BTreeMap::default() };
    let world = World::with(|options| {
        (options.encryption, options.objects) = (ring(&["k1"], "k1"), Some(objects.clone()));
    })
    .await;
    let with = async |encryption: Keyring| {
        let objects = Some(objects.clone());
        Store::connect(Options { encryption, objects, ..Options::at(&world.redis.url()) }).await.unwrap()
    };
    let (parent, child) = tell(&world).await;
    // What is long lies as an object.
    let long = format!("[\"{SECRET}\",{}0]", "1,".repeat(1_000));
    world.store.create(vec![job("long")]).await.unwrap();
    let request = support::request("w1", &["long"], 1);
    let claimed = world.store.claim(0, &request).await.unwrap();
    let mut held = support::held(&world.store, claimed, &request).await.remove(0);
    let big = held.id;
    let mut commit = held.step(Then::Succeeded { result: long.clone() });
    commit.outputs = vec![long.clone(), "1".into()];
    world.store.spill(&mut commit).await;
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Succeeded));

    // Nothing is written without the keys that it takes, or in a dry run.
    let new = with(ring(&["k2"], "k2")).await;
    let both = with(ring(&["k1", "k2"], "k2")).await;
    let counted = pass(&both, true).await;
    let values = found(&counted, "k1");
    assert!(values >= 14 && found(&counted, "k2") == 0, "{counted:?}");
    assert_eq!((counted.jobs, counted.resealed, counted.left), (3, 0, values));
    assert_eq!(pass(&new, false).await, counted);
    assert!(matches!(world.store.reseal(Some("7-0"), true).await, Err(Error::BadCursor)));
    let none = with(Keyring::default()).await;
    assert!(matches!(none.reseal(None, false).await, Err(Error::Setup(_))));
    hear(&world.store, &parent, &child).await;

    // Two at once: each value is sealed again by one of them, and stays what it is.
    let (first, second) = tokio::join!(pass(&both, false), pass(&both, false));
    assert_eq!(first.resealed + second.resealed, values, "{first:?} {second:?}");
    let after = pass(&both, false).await;
    assert_eq!((found(&after, "k1"), found(&after, "k2")), (0, values), "{after:?}");
    assert_eq!((after.resealed, after.left), (0, 0));
    assert!(!holds(&self::values(&world), SECRET));

    // The old key is not needed any more. Answers of models are asked for again.
    assert_eq!(new.llm_cached("question").await.unwrap(), None);
    new.llm_keep("question", said("answer").as_bytes(), 60_000).await.unwrap();
    hear(&new, &parent, &child).await;
    assert_eq!(new.get(&big).await.unwrap().unwrap().result, Some(long.clone()));
    assert_eq!(new.outputs(&big, 0, 9).await.unwrap(), [long, "1".into()]);
    // What the old references named is waste, after a moment; what the new ones name goes with the job.
    assert_eq!(new.sweep_objects().await.unwrap(), 0);
    let mut connection = world.redis.connection();
    let kept: u64 = connection.scard(format!("{{wm0}}:obj:{big}")).unwrap();
    let waste: u64 = connection.zcard("{wm0}:waste").unwrap();
    assert!(kept == 2 && waste >= 2, "{kept} objects are kept, {waste} go");
    world.check_ledger();
}

#[tokio::test]
async fn the_newest_input_of_a_unique_key_opens_for_the_job_that_stands() {
    let world = World::with(|options| options.encryption = ring(&["k1"], "k1")).await;
    let new = |input: &str| {
        let mut new = job(TYPE);
        (new.spec.input, new.spec.unique_key, new.replaces_input) = (said(input), Some("one".into()), true);
        new
    };
    let id = world.create(new("first")).await;
    let again = world.store.create(vec![new("second")]).await.unwrap().remove(0);
    assert!(again.updated && again.id == id);
    assert_eq!(world.store.get(&id).await.unwrap().unwrap().spec.input, said("second"));
    world.check_ledger();
}
