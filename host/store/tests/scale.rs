//! Many jobs and many queues: what calls take, what memory they need, and that no script holds the server for long.
//!
//! `WAYMARK_SCALE` is the size in percent: at 100 there are 1,000,000 queued jobs, 5,000 queues and 100,000 delayed jobs
//! that are due in the same second. By default 2.

mod support;

use std::time::{Duration, Instant};
use support::{LEASE_MS, Redis, TYPE, World, job, request};
use waymark_store::{Filter, NewJob, Then};

/// Longest time of one call of a script, on average over its calls: the counter has the grain of the scheduler.
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

/// Processor time of the server's main thread; other load on the machine does not count.
fn cpu(connection: &mut redis::Connection) -> Duration {
    let info: String = redis::cmd("INFO").arg("cpu").query(connection).unwrap();
    let seconds = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<f64>().unwrap()
    };
    Duration::from_secs_f64(seconds("used_cpu_user_main_thread:") + seconds("used_cpu_sys_main_thread:"))
}

/// Scripts that the server ran.
fn scripts(connection: &mut redis::Connection) -> u32 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}

/// What the scripts of one kind cost the server.
struct Cost {
    what: &'static str,
    calls: u32,
    all: Duration,
    /// Of all that one call of the store needed.
    longest: Duration,
    from: (Duration, u32),
}

impl Cost {
    fn of(what: &'static str) -> Self {
        Self { what, calls: 0, all: Duration::ZERO, longest: Duration::ZERO, from: (Duration::ZERO, 0) }
    }

    fn begin(&mut self, connection: &mut redis::Connection) {
        self.from = (cpu(connection), scripts(connection));
    }

    fn end(&mut self, connection: &mut redis::Connection) {
        let took = cpu(connection).saturating_sub(self.from.0);
        self.calls += scripts(connection) - self.from.1;
        self.all += took;
        self.longest = self.longest.max(took);
    }

    fn mean(&self) -> Duration {
        let mean = self.all / self.calls.max(1);
        println!(
            "{}: {mean:.2?} of the server, longest {:.2?}, {} scripts",
            self.what, self.longest, self.calls
        );
        mean
    }

    fn check(&self) {
        assert!(self.mean() < SCRIPT_MAX, "{} takes too long", self.what);
    }
}

#[tokio::test]
async fn no_script_is_slow_however_many_jobs_and_queues_there_are() {
    let (queued, queues, delayed) = (10_000 * percent(), 50 * percent(), 1_000 * percent());
    let world = World::new().await;
    let mut connection = world.redis.connection();
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
    measure(&format!("{what}, what waits"), 5, || async {
        let found = world.store.waiting(&std::collections::BTreeSet::new(), |_| true).await.unwrap();
        assert_eq!(found.len(), queues + 1, "each queue of its own, and the type's");
    })
    .await;
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
    let (mut reaping, mut reaped) = (Cost::of("taking back the jobs of a dead worker"), 0);
    while reaped < lost {
        reaping.begin(&mut connection);
        reaped += world.store.renew(0, "w1", LEASE_MS).await.unwrap().reaped;
        reaping.end(&mut connection);
    }
    reaping.check();
    let mut purging = Cost::of("purge of 200 jobs");
    purging.begin(&mut connection);
    world.store.purge_queue(TYPE).await.unwrap();
    purging.end(&mut connection);
    purging.check();

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
    let (mut claiming, mut finishing) = (Cost::of("claim of 200 due jobs"), Cost::of("finish of 200 jobs"));
    let (began, mut taken) = (Instant::now(), 0);
    while taken < delayed {
        claiming.begin(&mut connection);
        let held = world.claim(200).await;
        claiming.end(&mut connection);
        assert!(!held.is_empty(), "{taken} of {delayed}");
        taken += held.len();
        let mut commits: Vec<_> =
            held.iter().map(|held| held.then(Then::Succeeded { result: "null".into() })).collect();
        finishing.begin(&mut connection);
        world.store.commit(0, &mut commits).await.unwrap();
        finishing.end(&mut connection);
    }
    println!("{delayed} jobs due at once: claimed and finished in {:.1?}", began.elapsed());
    claiming.check();
    finishing.check();
}
