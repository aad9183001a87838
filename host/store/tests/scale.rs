//! Many jobs and many queues: what calls take, what memory they need, and that no script holds the server for long.
//!
//! `WAYMARK_SCALE` is the size in percent: at 100 there are 1,000,000 queued jobs, 5,000 queues and 100,000 delayed jobs
//! that are due in the same second. By default 2.

mod support;

use std::time::{Duration, Instant};
use support::{LEASE_MS, Redis, TYPE, World, job, request};
use waymark_store::{Filter, NewJob, Then};

/// Longest time of one call of a script, as the server counts it.
const SCRIPT_MAX: Duration = Duration::from_millis(10);
/// Calls of each kind that are measured.
const CALLS: usize = 200;
/// Jobs created at once.
const PIECE: usize = 500;

fn percent() -> usize {
    std::env::var("WAYMARK_SCALE").map_or(2, |text| text.parse().expect("WAYMARK_SCALE is a number"))
}

fn memory_mib(redis: &Redis) -> f64 {
    let info: String = redis::cmd("INFO").arg("memory").query(&mut redis.connection()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse::<f64>().unwrap() / f64::from(1 << 20)
}

/// Calls again and again; prints the median, the 99th percentile and the longest.
async fn measure<F: Future<Output = ()>>(what: &str, calls: usize, mut call: impl FnMut() -> F) {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let began = Instant::now();
        call().await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:.2?}, p99 {:.2?}, longest {:.2?}", at(0.5), at(0.99), at(1.0));
}

async fn claims(world: &World, what: &str, limit: usize) {
    measure(&format!("{what}, claim of {limit}"), CALLS, || async {
        let request = request("w1", &[TYPE], limit);
        world.store.claim(0, &request).await.unwrap();
    })
    .await;
}

async fn lists(world: &World, what: &str) {
    let store = &world.store;
    let all = &Filter { job_type: Some(TYPE.into()), ..Filter::default() };
    for limit in [50, 1_000] {
        measure(&format!("{what}, list of {limit}"), 20, || async move {
            assert_eq!(store.list(all, limit, None).await.unwrap().jobs.len(), limit);
        })
        .await;
    }
    measure(&format!("{what}, list of queues"), 5, || async move {
        store.queues().await.unwrap();
    })
    .await;
}

async fn create(world: &World, number: usize, change: impl Fn(usize, &mut NewJob)) {
    for from in (0..number).step_by(PIECE) {
        let new = (from..number.min(from + PIECE)).map(|index| {
            let mut new = job(TYPE);
            new.spec.input = format!("{{\"text\":\"{}\"}}", "x".repeat(89));
            change(index, &mut new);
            new
        });
        world.store.create(new.collect()).await.unwrap();
    }
}

/// What the server noted as slow, and how many scripts it ran.
fn slow(redis: &Redis) -> (Vec<Duration>, u64) {
    let mut connection = redis.connection();
    let log: Vec<redis::Value> = redis::cmd("SLOWLOG").arg("GET").arg(10_000).query(&mut connection).unwrap();
    let entry = |entry: &redis::Value| match entry {
        redis::Value::Array(parts) => {
            let micros: u64 = redis::from_redis_value_ref(&parts[2]).unwrap();
            // Some of them are packed.
            let words: Vec<Vec<u8>> = redis::from_redis_value_ref(&parts[3]).unwrap();
            let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            let text: String = words.join(" ").chars().take(100).collect();
            println!("slow: {micros} µs, {text:?}");
            words[0].starts_with("EVAL").then(|| Duration::from_micros(micros))
        }
        other => panic!("{other:?}"),
    };
    let slow = log.iter().filter_map(entry).collect();
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    (slow, line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn no_script_is_slow_however_many_jobs_and_queues_there_are() {
    let (queued, queues, delayed) = (10_000 * percent(), 50 * percent(), 1_000 * percent());
    let world = World::new().await;
    let mut connection = world.redis.connection();
    for (name, value) in [("slowlog-log-slower-than", SCRIPT_MAX.as_micros()), ("slowlog-max-len", 10_000)] {
        let mut command = redis::cmd("CONFIG");
        let () = command.arg("SET").arg(name).arg(value.to_string()).query(&mut connection).unwrap();
    }
    println!("before: {:.0} MiB", memory_mib(&world.redis));
    create(&world, 1_000, |_, _| ()).await;
    claims(&world, "1,000 jobs", 1).await;
    lists(&world, "1,000 jobs").await;

    create(&world, queued, |_, _| ()).await;
    let what = format!("{queued} queued jobs");
    println!("{what}: {:.0} MiB", memory_mib(&world.redis));
    claims(&world, &what, 1).await;
    claims(&world, &what, 50).await;
    lists(&world, &what).await;

    create(&world, queues * 4, |index, new| new.spec.queue = format!("q{}", index % queues)).await;
    let what = format!("{} more in {queues} queues", queues * 4);
    println!("{what}: {:.0} MiB", memory_mib(&world.redis));
    claims(&world, &what, 1).await;
    claims(&world, &what, 50).await;
    lists(&world, &what).await;
    measure("pause and resume of a queue", 20, || async {
        world.store.pause_queue(TYPE).await.unwrap();
        world.store.resume_queue(TYPE).await.unwrap();
    })
    .await;
    world.store.register(0, "w2", LEASE_MS).await.unwrap();
    let lost = world.claim_as("w2", 1_000).await.len() as u64;
    let mut command = redis::cmd("ZADD");
    let () = command.arg("{wm0}:workers").arg(1).arg("w2").query(&mut connection).unwrap();
    let (began, mut reaped) = (Instant::now(), 0);
    while reaped < lost {
        reaped += world.store.renew(0, "w1", LEASE_MS).await.unwrap().reaped;
    }
    println!("{reaped} jobs taken back from a dead worker: {:.1?}", began.elapsed());
    let began = Instant::now();
    let purged = world.store.purge_queue(TYPE).await.unwrap();
    println!("purge of {purged} jobs: {:.1?}", began.elapsed());

    // Nothing else is left to claim.
    for index in 0..queues {
        world.store.purge_queue(&format!("q{index}")).await.unwrap();
    }
    let due_ms = world.store.now_ms().await.unwrap() + 2_000 + delayed as u64 / 25;
    create(&world, delayed, |index, new| new.not_before_ms = Some(due_ms + index as u64 % 1_000)).await;
    println!("{delayed} delayed jobs: {:.0} MiB", memory_mib(&world.redis));
    lists(&world, "delayed jobs").await;
    while world.store.now_ms().await.unwrap() < due_ms + 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (began, mut taken, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while taken < delayed {
        let from = Instant::now();
        let held = world.claim(200).await;
        longest = longest.max(from.elapsed());
        assert!(!held.is_empty(), "{taken} of {delayed}");
        taken += held.len();
        let mut commits: Vec<_> =
            held.iter().map(|held| held.then(Then::Succeeded { result: "null".into() })).collect();
        world.store.commit(0, &mut commits).await.unwrap();
    }
    println!(
        "{delayed} jobs due at once: claimed and finished in {:.1?}, longest claim {longest:.2?}",
        began.elapsed()
    );

    let (slow, calls) = slow(&world.redis);
    println!("{} of {calls} calls of scripts took longer than {SCRIPT_MAX:?}: {slow:?}", slow.len());
    // The server's clock runs on while it waits for a processor.
    assert!(slow.len() as u64 <= calls / 500, "{} of {calls}", slow.len());
}
