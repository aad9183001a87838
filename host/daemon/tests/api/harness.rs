//! A host's API on a real listener, with a Redis of its own, and a worker that does what the test says.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use waymark::{
    api,
    config::{self, Config},
    directory,
    host::Readiness,
    metrics::Metrics,
    scheduler::Maintenance,
};
use waymark_job::{JobId, Record};
use waymark_store::{ClaimRequest, ClaimedJob, Commit, Options, Store, Then};

/// The job type that the store knows and this host does not: nothing validates its input.
pub(crate) const TYPE: &str = "elsewhere";
const WORKER: &str = "test-worker";

pub(crate) struct Host {
    pub(crate) base: String,
    pub(crate) store: Store,
    pub(crate) http: reqwest::Client,
    pub(crate) drained: mpsc::Receiver<()>,
    pub(crate) ready: watch::Sender<Readiness>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) folder: TempDir,
    redis: Redis,
}

/// Ends with the test.
struct Redis(Child);

impl Redis {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn redis(folder: &TempDir) -> (Redis, String) {
    let socket: PathBuf = folder.path().join("redis.sock");
    let started = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: apt-get install redis-server");
    let redis = Redis(started);
    for _ in 0..500 {
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            return (redis, format!("redis+unix://{}", socket.display()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("redis-server did not start");
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut config::Api)) -> Self {
        Self::with_config(|config| change(&mut config.api)).await
    }

    pub(crate) async fn with_config(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (redis, url) = redis(&folder).await;
        let mut config = Config {
            data: folder.path().join("data"),
            plugins_dir: folder.path().join("plugins"),
            ..Config::default()
        };
        std::fs::create_dir_all(&config.plugins_dir).unwrap();
        change(&mut config);
        let config = Arc::new(config);
        let store = Store::connect(Options { url, ..config.store("").unwrap() }).await.unwrap();
        store.put_type(TYPE, r#"{"name":"elsewhere","version":"1.0.0"}"#).await.unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let executable = PathBuf::from(env!("CARGO_BIN_EXE_waymark"));
        let (directory, _published) =
            directory::start(config.clone(), metrics.clone(), executable, store.clone()).await.unwrap();
        let (ready, readiness) = watch::channel(Readiness { ready: true, reason: "ready".into() });
        let (drain, drained) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let context = api::Context {
            store: store.clone(),
            sharing: waymark::sharing::Handle::new(store.clone(), directory.clone(), &config),
            directory,
            host: api::HostInfo {
                id: "host-1".into(),
                version: "0.1.0".into(),
                started_ms: 1_790_000_000_000,
            },
            api: config.api.clone(),
            celery: Arc::new(config.celery.clone()),
            metrics,
            ready: readiness,
            drain,
            maintenance: Arc::new(Maintenance::new(store.clone(), config.clone())),
            tracer: waymark::traces::Tracer::default(),
            redaction: config.redaction().unwrap(),
        };
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(api::serve(context, listener, stopped));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, store, http, drained, ready, stop, folder, redis }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(Method::POST, path).body(body)).await
    }

    /// Makes a job and answers its id.
    pub(crate) async fn submit(&self, more: &str) -> JobId {
        let answer =
            self.post("/api/v1/jobs", format!(r#"{{"type":"{TYPE}","input":{{"n":1}}{more}}}"#)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// Ends Redis.
    pub(crate) fn kill_redis(&mut self) {
        self.redis.kill();
    }

    /// Claims the next job as a worker would.
    pub(crate) async fn claim(&self) -> Claim {
        self.store.register(0, WORKER, 60_000).await.unwrap();
        let mut random = [0; 16];
        getrandom::fill(&mut random).unwrap();
        let request = ClaimRequest {
            worker: WORKER.into(),
            token: hex::encode(random),
            selectors: vec![TYPE.into()],
            queues: None,
            limit: 1,
            fair: 0,
        };
        let claimed = self.store.claim(0, &request).await.unwrap();
        let job = claimed.jobs.into_iter().next().expect("a job to claim");
        let record = Record {
            started_ms: Some(claimed.now_ms),
            host: Some(WORKER.into()),
            version: Some("1.2.3".into()),
            ..job.record.clone()
        };
        Claim { job, token: request.token, record }
    }

    /// Commits as a worker would.
    pub(crate) async fn commit(&self, claim: &mut Claim, then: Then, change: impl FnOnce(&mut Commit)) {
        claim.record.step += 1;
        let mut commit = Commit {
            id: claim.job.id,
            token: claim.token.clone(),
            step: claim.record.step,
            base_step: claim.record.step - 1,
            spec: Arc::new(claim.job.spec.clone()),
            record: claim.record.clone(),
            then,
            checkpoint: None,
            outputs: Vec::new(),
            children: Vec::new(),
            took: None,
            trace: None,
        };
        if matches!(commit.then, Then::Succeeded { .. } | Then::Failed) {
            commit.record.ended_ms = Some(self.store.now_ms().await.unwrap());
        }
        change(&mut commit);
        commit.record.outputs += commit.outputs.len() as u64;
        claim.record = commit.record.clone();
        self.store.commit(0, &mut [commit]).await.unwrap();
    }
}

pub(crate) struct Claim {
    pub(crate) job: ClaimedJob,
    pub(crate) token: String,
    pub(crate) record: Record,
}
