//! What a host tells Prometheus, and what is asked of it: alerts and dashboards.

use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use waymark_tests::{PATIENCE, World, eventually};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Ends with the test.
struct Prometheus {
    process: Child,
    base: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Scrapes `target` every half second and has the alerts that come with Waymark.
    fn start(target: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(deploy().join("prometheus/alerts.yml"), folder.path().join("alerts.yml")).expect("alerts");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{{job_name: waymark, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("a configuration");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is needed: apt-get install prometheus");
        Self { process, base: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    /// What it answers, once it does.
    fn ask(&self, path: &str, pairs: &[(&str, &str)]) -> Option<Value> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}/api/v1/{path}", self.base)).query_pairs(pairs.iter().copied());
        request.call().ok()?.body_mut().read_json().ok()
    }

    fn query(&self, expression: &str) -> Value {
        let answer = self.ask("query", &[("query", expression)]).expect("an answer");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].clone()
    }
}

/// Every query of the dashboards, with all job types and hosts chosen.
fn queries() -> Vec<String> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(deploy().join("grafana")).expect("dashboards") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                let query = target["expr"].as_str().expect("a query");
                queries.push(query.replace("$type", ".*").replace("$instance", ".*"));
            }
        }
    }
    queries
}

/// Names of metrics in a query, without what a histogram adds.
fn metrics_of(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("waymark_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

#[test]
fn prometheus_takes_the_metrics_and_answers_every_query_of_alerts_and_dashboards() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    for _ in 0..5 {
        let id = host.submit(&json!({"type": "counter", "input": {"steps": 3}}));
        assert_eq!(host.result(&id)["sum"], 6);
    }
    let Value::String(metrics) = host.get("/metrics").expect(200) else { panic!("the metrics are text") };
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    check.stdin.take().expect("an input").write_all(metrics.as_bytes()).expect("it reads");
    let checked = check.wait_with_output().expect("it ends");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let manual = fs::read_to_string(deploy().join("../docs/operating.md")).expect("the manual");
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(manual.contains(&format!("`{name}`")) || is_in_capabilities(name), "{name} is in no table");
    }

    let address = host.url.replace("http://", "");
    let prometheus = Prometheus::start(&address);
    eventually("Prometheus has scraped the host twice", PATIENCE, || {
        let up = prometheus.ask("query", &[("query", "count_over_time(up[1m]) >= 2 and up == 1")])?;
        (!up["data"]["result"].as_array()?.is_empty()).then_some(())
    });
    let queries = queries();
    assert!(queries.len() > 30, "only {} queries", queries.len());
    for query in &queries {
        prometheus.query(query);
        for metric in metrics_of(query) {
            assert!(manual.contains(&format!("`{metric}`")), "{metric} of {query} is in no table");
        }
    }
    // These have something to say at once.
    for query in [
        "sum(waymark_slots)",
        "max by (state) (sum by (instance, state) (waymark_jobs))",
        "waymark_jobs_left_total{state=\"succeeded\"}",
        "waymark_job_run_seconds_bucket",
        "waymark_http_requests_total",
    ] {
        assert_ne!(prometheus.query(query), json!([]), "{query}");
    }
    let rules = eventually("the alerts were evaluated", PATIENCE, || {
        let rules = prometheus.ask("rules", &[])?["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    for rule in &rules {
        assert_eq!((&rule["health"], &rule["state"]), (&json!("ok"), &json!("inactive")), "{rule}");
    }
    assert!(rules.len() > 8);
}

/// Metrics of capabilities stand on a page of their own.
fn is_in_capabilities(name: &str) -> bool {
    let page = deploy().join("../docs/capabilities.md");
    fs::read_to_string(page).is_ok_and(|page| page.contains(&format!("`{name}`")))
}
