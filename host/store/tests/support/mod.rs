//! A real `redis-server` per test, and short ways to do what workers do.
//!
//! The ledger check holds the promise that every job stands in exactly one index and that all counts agree; every
//! test calls it at its end.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod proxy;

use redis::{Commands as _, Connection};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use waymark_job::{JobId, Record, Spec, State};
use waymark_store::{
    ClaimRequest, Claimed, ClaimedJob, Commit, CommitAnswer, NewCheckpoint, NewJob, Options, Store, Then,
};

/// A server of its own on a free port of the loopback, ended by its process id.
pub(crate) struct Redis {
    child: Child,
    arguments: Vec<String>,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
}

pub(crate) fn free_port() -> u16 {
    // A Cluster's server also takes the port 10,000 above its own.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Redis {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_at(free_port(), arguments)
    }

    pub(crate) fn start_at(port: u16, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let child = Self::launch(port, directory.path(), &arguments);
        let server = Self { child, arguments, port, directory };
        server.connection();
        server
    }

    fn launch(port: u16, directory: &std::path::Path, arguments: &[String]) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(directory)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    /// Starts it where it was stopped, with the data that it kept.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::launch(self.port, self.directory.path(), &self.arguments);
        self.connection();
    }

    /// A file in the server's own directory.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection, as soon as the server answers.
    pub(crate) fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let began = Instant::now();
        loop {
            if let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_millis(500))
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return connection;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server and a store on it, with one registered worker.
pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) store: Store,
}

/// Longer than any test on any machine, and shorter than the day by which the model's clock jumps.
pub(crate) const LEASE_MS: u64 = 43_200_000;
pub(crate) const TYPE: &str = "count";

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let redis = Redis::start(&[]);
        let mut options = Options::at(&redis.url());
        change(&mut options);
        let store = Store::connect(options).await.unwrap();
        for partition in 0..store.partitions() {
            store.register(partition, "w1", LEASE_MS).await.unwrap();
        }
        Self { redis, store }
    }

    pub(crate) async fn create(&self, job: NewJob) -> JobId {
        self.store.create(vec![job]).await.unwrap()[0].id
    }

    pub(crate) async fn queue(&self, number: usize) -> Vec<JobId> {
        let jobs = (0..number).map(|_| job(TYPE)).collect();
        self.store.create(jobs).await.unwrap().into_iter().map(|created| created.id).collect()
    }

    pub(crate) async fn claim(&self, limit: usize) -> Vec<Held> {
        self.claim_as("w1", limit).await
    }

    pub(crate) async fn claim_as(&self, worker: &str, limit: usize) -> Vec<Held> {
        let request = request(worker, &[TYPE], limit);
        let claimed = self.store.claim(0, &request).await.unwrap();
        held(&self.store, claimed, &request).await
    }

    /// A new job, claimed.
    pub(crate) async fn running(&self) -> Held {
        let id = self.queue(1).await[0];
        let held = self.claim(1).await.pop().unwrap();
        assert_eq!(held.id, id);
        held
    }

    pub(crate) async fn commit(&self, commit: Commit) -> CommitAnswer {
        self.store.commit(commit.id.partition(), &mut [commit]).await.unwrap().pop().unwrap()
    }

    pub(crate) async fn state(&self, id: &JobId) -> State {
        self.store.get(id).await.unwrap().unwrap().state
    }

    /// A new job in the state asked for.
    pub(crate) async fn job_in(&self, state: State) -> JobId {
        if state == State::Scheduled {
            return self.create(NewJob { delay_ms: Some(3_600_000), ..job(TYPE) }).await;
        }
        if state == State::Queued {
            return self.queue(1).await[0];
        }
        let held = self.running().await;
        let then = match state {
            State::Running => return held.id,
            State::Waiting => Then::AwaitSignal { name: "go".into(), timeout_ms: None },
            State::Paused => Then::Paused,
            State::Succeeded => Then::Succeeded { result: "1".into() },
            State::Failed => Then::Failed,
            State::Scheduled | State::Queued | State::Cancelled => {
                let cancelled =
                    self.store.control(&held.id, waymark_job::Control::Cancel, None).await.unwrap();
                assert_eq!(cancelled, waymark_store::ControlAnswer::Done(State::Cancelled));
                return held.id;
            }
        };
        assert_eq!(self.commit(held.then(then)).await, CommitAnswer::Done(state));
        held.id
    }

    /// Everything stored, except what moves by itself.
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let mut connection = self.redis.connection();
        let keys: Vec<String> = connection.keys("*").unwrap();
        keys.into_iter()
            .map(|key| {
                let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
                let text = format!("{dump:?}");
                (key, text)
            })
            .collect()
    }

    /// Every job stands in exactly the indexes it must, and all counts agree.
    pub(crate) fn check_ledger(&self) {
        check_ledger(&mut self.redis.connection(), "wm", self.store.partitions());
    }
}

/// A claimed job and the right to write it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) id: JobId,
    pub(crate) token: String,
    pub(crate) spec: Arc<Spec>,
    pub(crate) record: Record,
    /// When the signal that woke it arrived.
    pub(crate) heard_us: u64,
}

impl Held {
    pub(crate) fn then(&self, then: Then) -> Commit {
        let mut record = self.record.clone();
        record.crashes = 0;
        record.committed_ms = Some(self.id.created_ms());
        if let Then::AwaitSignal { name, .. } = &then {
            record.signal = Some(name.clone());
        }
        if matches!(then, Then::Succeeded { .. } | Then::Failed) {
            record.ended_ms = Some(now_ms());
        }
        if then == Then::Failed {
            record.error =
                Some(waymark_job::JobError { kind: "permanent".into(), message: "no".into(), trace: None });
        }
        Commit {
            id: self.id,
            token: self.token.clone(),
            step: record.step,
            base_step: record.step,
            spec: self.spec.clone(),
            record,
            then,
            checkpoint: None,
            outputs: Vec::new(),
            children: Vec::new(),
            took: None,
            trace: None,
        }
    }

    /// The commit of one more step, with a checkpoint and an output record.
    pub(crate) fn step(&mut self, then: Then) -> Commit {
        self.record.step += 1;
        self.record.outputs += 1;
        let step = self.record.step;
        let took = self.record.heard.take();
        let mut commit = self.then(then);
        commit.took = took.map(|name| (name, self.heard_us));
        commit.base_step = step - 1;
        commit.outputs = vec![format!("{{\"step\":{step}}}")];
        commit.checkpoint = Some(NewCheckpoint {
            mime_type: "application/json".into(),
            state_version: 1,
            state: format!("state {step}").into_bytes(),
            plugin_version: "1.0.0".into(),
            plugin_digest: "abc".into(),
        });
        commit
    }
}

pub(crate) async fn held(store: &Store, claimed: Claimed, request: &ClaimRequest) -> Vec<Held> {
    let mut all = Vec::new();
    for ClaimedJob { id, spec, record } in claimed.jobs {
        let mut heard_us = 0;
        if let Some(name) = &record.heard {
            let signals = store.load(&id, &record).await.unwrap().signals;
            heard_us = signals.iter().find(|one| one.name == *name).map_or(0, |one| one.arrived_us);
        }
        all.push(Held { id, token: request.token.clone(), spec: Arc::new(spec), record, heard_us });
    }
    all
}

pub(crate) fn job(job_type: &str) -> NewJob {
    NewJob { spec: spec(job_type), ..NewJob::default() }
}

pub(crate) fn spec(job_type: &str) -> Spec {
    Spec { job_type: job_type.into(), input: "{}".into(), ..Spec::default() }
}

pub(crate) fn request(worker: &str, selectors: &[&str], limit: usize) -> ClaimRequest {
    ClaimRequest {
        worker: worker.into(),
        token: token(),
        selectors: selectors.iter().map(ToString::to_string).collect(),
        queues: None,
        limit,
        fair: 0,
    }
}

/// 32 hexadecimal digits that no other call gets.
pub(crate) fn token() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    hex::encode(random)
}

pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Waits for something that another process or the clock brings.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn check_ledger(connection: &mut Connection, prefix: &str, partitions: u16) {
    for partition in 0..partitions {
        let head = format!("{{{prefix}{partition}}}:");
        let bodies: BTreeMap<String, Vec<u8>> = connection.hgetall(format!("{head}jobs")).unwrap();
        let states: BTreeMap<String, Vec<u8>> = connection.hgetall(format!("{head}st")).unwrap();
        let claims: BTreeMap<String, String> = connection.hgetall(format!("{head}claims")).unwrap();
        let due: BTreeSet<String> = connection.zrange(format!("{head}due"), 0, -1).unwrap();
        let controls: BTreeSet<String> = connection.hkeys(format!("{head}ctl")).unwrap();
        let uniques: BTreeMap<String, String> = connection.hgetall(format!("{head}uniq")).unwrap();
        let paused: BTreeSet<String> = connection.smembers(format!("{head}paused")).unwrap();
        for id in states.keys().chain(claims.keys()).chain(&due).chain(uniques.values()) {
            assert!(bodies.contains_key(id), "{id} is kept somewhere but does not exist");
        }
        assert!(controls.iter().all(|id| claims.contains_key(id)), "a control of a job that does not run");

        let (mut counts, mut depths) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, i64>::new());
        let mut lanes = BTreeMap::<String, i64>::new();
        let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut queued = Vec::new();
        for (id, body) in &bodies {
            let spec: Spec = rmp_serde::from_slice(body).unwrap();
            let stored = states.get(id).map_or('q', |state| char::from(state[0]));
            let letter = if claims.contains_key(id) { 'r' } else { stored };
            assert!(letter != 'r' || stored == 'q', "{id} runs but its record says {stored}");
            assert!(State::from_letter(letter).is_some(), "{id} is {letter}");
            *counts.entry(format!("{}|{letter}", spec.job_type)).or_default() += 1;
            if letter == 'q' {
                *depths.entry(spec.queue().to_owned()).or_default() += 1;
                if spec.key.is_some() {
                    *lanes.entry(spec.lane().into_owned()).or_default() += 1;
                }
                queued.push((id.clone(), spec.clone()));
            }
            let class = if matches!(letter, 'q' | 'r') { 'o' } else { letter };
            let mut indexes = vec![format!("x:{class}:{}", spec.job_type)];
            if spec.queue() != spec.job_type {
                indexes.push(format!("xq:{}", spec.queue()));
            }
            indexes.extend(spec.correlation_id.iter().map(|id| format!("corr:{id}")));
            indexes.extend(spec.tags.iter().map(|tag| format!("tag:{tag}")));
            for index in indexes {
                expected.entry(index).or_default().insert(id.clone());
            }
            assert!(letter != 's' || due.contains(id), "{id} is scheduled for never");
            assert!(!due.contains(id) || matches!(letter, 's' | 'w'), "{id} is due but {letter}");
            if let Some(key) = spec.unique_key.as_ref().filter(|_| spec.unique_for_ms.is_none()) {
                if spec.unique_until.is_some() {
                    assert!(uniques.get(key) != Some(id) || letter != 'r', "{id} runs with its unique key");
                    continue;
                }
                let ended = matches!(letter, 'S' | 'F' | 'C');
                assert_eq!(uniques.get(key) == Some(id), !ended, "unique key of {id}, which is {letter}");
            }
        }
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pattern in ["x:*", "xq:*", "corr:*", "tag:*"] {
            let keys: Vec<String> = connection.keys(format!("{head}{pattern}")).unwrap();
            for key in keys {
                let members: BTreeSet<String> = connection.zrange(&key, 0, -1).unwrap();
                found.insert(key[head.len()..].to_owned(), members);
            }
        }
        assert_eq!(found, expected, "indexes of partition {partition}");
        // What limits count is what runs and was claimed under them.
        let mut busy = BTreeMap::<String, i64>::new();
        for (_, place) in claims.values().filter_map(|claim| claim.split_once('|')) {
            let (weight, lane) = place.trim_start_matches('*').split_once('|').unwrap();
            let weight: i64 = weight.parse().unwrap();
            let queue = lane.split('/').next().unwrap();
            *busy.entry(queue.to_owned()).or_default() += weight;
            if lane != queue {
                *busy.entry(lane.to_owned()).or_default() += weight;
            }
        }
        let blocked: BTreeMap<String, String> = connection.hgetall(format!("{head}blocked")).unwrap();
        let keys: Vec<String> = connection.keys(format!("{head}blocked:*")).unwrap();
        let mut behind = BTreeMap::new();
        for key in keys {
            let members: Vec<String> = connection.zrange(&key, 0, -1).unwrap();
            behind.extend(members.into_iter().map(|line| (line, key[head.len() + 8..].to_owned())));
        }
        assert_eq!(behind, blocked, "lines behind limits");
        for (name, expected) in [("counts", counts), ("depth", depths), ("lanes", lanes), ("busy", busy)] {
            let mut kept: BTreeMap<String, i64> = connection.hgetall(format!("{head}{name}")).unwrap();
            kept.retain(|_, number| *number != 0);
            assert_eq!(kept, expected, "{name} of partition {partition}");
        }
        // Every queued job can be reached: it stands in a line that is registered and, unless paused, served.
        let mut in_lines = BTreeSet::new();
        let keys: Vec<String> = connection.keys(format!("{head}line:*")).unwrap();
        for key in keys {
            let name = &key[head.len() + 5..];
            let (lane, rest) = name.split_once('|').unwrap();
            let (selector, priority) = rest.rsplit_once('|').unwrap();
            let queue = lane.split('/').next().unwrap();
            let registered: bool = connection.sismember(format!("{head}lines:{queue}"), name).unwrap();
            assert!(registered, "line {name} is not registered");
            let score: Option<f64> =
                connection.zscore(format!("{head}ready:{selector}"), format!("{priority}|{lane}")).unwrap();
            let is_served = !paused.contains(queue) && !blocked.contains_key(name);
            assert_eq!(score.is_some(), is_served, "line {name} is served");
            let ids: Vec<String> = connection.lrange(&key, 0, -1).unwrap();
            in_lines.extend(ids);
        }
        for (id, _) in queued {
            assert!(in_lines.contains(&id), "{id} is queued but stands in no line");
        }
    }
}
