//! `waymark:llm` against a small endpoint that speaks OpenAI's chat completions and counts.

use serde_json::{Value, json};
use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};
use waymark_tests::{
    World,
    client::Client,
    endpoint::{Asked, Endpoint, Reply},
    eventually,
};

const KEY: &str = "sk-only-the-host-knows";

/// A provider and a grant; more keys of either may follow.
fn config(endpoint: &Endpoint, provider: &str, grant: &str) -> String {
    format!(
        "[defaults]\ncheckpoint = {{ every_steps = 1 }}\n\
         retry = {{ max_attempts = 1 }}\n\
         [secrets]\nopenai = {{ file = \"key\" }}\n\
         [llm.main]\nurl = \"http://{}/v1\"\nkey = \"openai\"\n\
         models.small = {{ input_per_million = 1.0, output_per_million = 2.0 }}\n{provider}\n\
         [plugins.asker.grants.llm]\nprovider = \"main\"\nmax_tokens = 100\n{grant}\n",
        endpoint.address
    )
}

/// A world whose hosts find the key.
fn world(config: &str) -> World {
    let key = tempfile::NamedTempFile::new().expect("a file");
    fs::write(key.path(), format!("{KEY}\n")).expect("the key");
    // The file lives as long as the process: hosts read it again when they start.
    let (_, path) = key.keep().expect("a file");
    World::new(&config.replace("\"key\"", &format!("{:?}", path.display().to_string())))
}

fn completion(content: &str) -> Reply {
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    });
    Reply::new(200, body.to_string())
}

fn question(asked: &Asked) -> String {
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    body["messages"][0]["content"].as_str().expect("a question").to_owned()
}

/// Answers every question with itself, in capitals, after a while.
fn echo(after: Duration) -> Endpoint {
    Endpoint::start(move |asked| {
        thread::sleep(after);
        completion(&question(asked).to_uppercase())
    })
}

fn ask(host: &Client, input: &Value) -> Value {
    let id = host.submit(&json!({"type": "asker", "input": input}));
    let job = host.ended(&id);
    json!({"status": job["status"], "error": job["error"], "outputs": host.outputs(&id)})
}

#[test]
fn questions_are_asked_at_once_paid_once_and_kept_for_equal_ones() {
    let endpoint = echo(Duration::from_millis(200));
    let world = world(&config(&endpoint, "", ""));
    let (first, second) = (world.host(&["asker"]), world.host(&["asker"]));
    let input = json!({"questions": ["a", "b", "c", "d"], "batch": 4});
    let answered = ask(&first, &input);
    let paid = json!({
        "content": "A", "tokens": 15, "cost_micros": 20, "cached": false, "repaired": false,
    });
    assert_eq!(answered["outputs"][0], paid, "{answered}");
    assert!(endpoint.most_at_once() > 1, "they are asked in parallel");
    let asked = endpoint.asked();
    assert_eq!(asked[0].line, "POST /v1/chat/completions");
    assert_eq!(asked[0].header("authorization"), format!("Bearer {KEY}"));
    let again = ask(&second, &input);
    let kept = json!({"content": "D", "tokens": 0, "cost_micros": 0, "cached": true, "repaired": false});
    assert_eq!(again["outputs"][3], kept, "{again}");
    assert_eq!(endpoint.asked().len(), 4, "another host's answers are as good");
    eventually("the metrics count", Duration::from_secs(5), || {
        // Either host may have run either job.
        let count = |name: &str| first.metric(name) + second.metric(name);
        let tokens = count("waymark_llm_tokens_total{kind=\"prompt\",provider=\"main\",type=\"asker\"");
        let cost = count("waymark_llm_cost_micros_total{provider=\"main\",type=\"asker\"");
        let hits = count("waymark_llm_calls_total{outcome=\"cached\",type=\"asker\"");
        ((tokens, cost, hits) == (40.0, 80.0, 4.0)).then_some(())
    });
    let log = first.log() + &second.log();
    assert!(!log.contains(KEY), "the key is in a log");
}

#[test]
fn an_answer_that_does_not_fit_its_schema_is_asked_for_once_more() {
    let endpoint = Endpoint::start(|asked| {
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let said = body["messages"].as_array().expect("messages");
        assert_eq!(body["response_format"]["json_schema"]["schema"]["type"], "object");
        match (said[0]["content"].as_str(), said.last().and_then(|last| last["content"].as_str())) {
            (Some("hopeless"), _) => completion("{\"n\": \"x\"}"),
            (Some("mended"), Some(last)) if last.contains("/n: ") => completion("```json\n{\"n\": 7}\n```"),
            _ => completion("{\"n\": 7.5}"),
        }
    });
    let world = world(&config(&endpoint, "", ""));
    let host = world.host(&["asker"]);
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let answered = ask(&host, &json!({"questions": ["mended", "hopeless"], "schema": schema}));
    let outputs = &answered["outputs"];
    assert_eq!((&outputs[0]["content"], &outputs[0]["repaired"]), (&json!("{\"n\":7}"), &json!(true)));
    assert_eq!(outputs[0]["tokens"], 30, "both rounds are paid for");
    let error = outputs[1]["error"].as_str().expect("an error");
    assert!(error.contains("asked twice"), "{error}");
    assert_eq!(endpoint.asked().len(), 4);
    let refused = ask(&host, &json!({"questions": ["x"], "schema": {"type": "colour"}}));
    assert!(refused["outputs"][0]["error"].as_str().is_some_and(|text| text.contains("schema")), "{refused}");
    let wrong = ask(&host, &json!({"questions": ["x"], "model": "large"}));
    assert!(wrong["outputs"][0]["error"].as_str().is_some_and(|text| text.contains("small")), "{wrong}");
}

#[test]
fn a_busy_provider_is_left_alone_by_all_hosts() {
    let calls = AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |_| match calls.fetch_add(1, SeqCst) {
        0 => Reply { headers: vec![("retry-after", "2".to_owned())], ..Reply::new(429, "{}") },
        1 => Reply::new(500, "{\"error\": {\"message\": \"oops\"}}"),
        _ => completion("ok"),
    });
    let world = world(&config(&endpoint, "", ""));
    let (first, second) = (world.host(&["asker"]), world.host(&["asker"]));
    let began = Instant::now();
    let id = first.submit(&json!({"type": "asker", "input": {"questions": ["one"]}}));
    eventually("it is told to wait", Duration::from_secs(5), || (endpoint.asked().len() == 1).then_some(()));
    for host in [&first, &second] {
        let other = ask(host, &json!({"questions": ["two"]}));
        assert_eq!(other["outputs"][0]["content"], "ok", "{other}");
        assert!(began.elapsed() >= Duration::from_secs(2), "nobody asks before");
    }
    let _ = first.ended(&id);
    assert_eq!(first.outputs(&id)[0]["content"], "ok", "it was tried again");
}

#[test]
fn budgets_of_a_job_and_of_a_day_hold() {
    let endpoint = echo(Duration::ZERO);
    // A question is estimated at about 120 tokens, and costs 15.
    let world = world(&config(&endpoint, "cache_ms = 0", "job_tokens = 150\nday_cost = 0.000300"));
    let host = world.host(&["asker"]);
    let questions: Vec<_> = (0..6).map(|number| number.to_string()).collect();
    let answered = ask(&host, &json!({"questions": questions}));
    let outputs = answered["outputs"].as_array().expect("outputs");
    let refused: Vec<_> = outputs.iter().filter(|output| output["error"].is_string()).collect();
    assert!(outputs[0]["content"].is_string() && !refused.is_empty() && refused.len() < 6, "{answered}");
    assert!(refused[0]["error"].as_str().is_some_and(|error| error.contains("the job has used up")));
    let first = endpoint.asked().len();
    let end = (0..20)
        .map(|_| ask(&host, &json!({"questions": ["x"], "fail": true})))
        .find(|answered| answered["status"] == "failed");
    let error = end.expect("the day's budget ends")["error"].clone();
    assert_eq!(error["kind"], "permanent");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("of today")), "{error}");
    assert!(endpoint.asked().len() < first + 20);
}

#[test]
fn without_a_provider_a_job_type_loads_and_falls_back() {
    let refusing = World::new("");
    let mut host = refusing.empty_host();
    waymark_tests::guest::copy("asker", &host.plugins);
    host.start();
    let plugin =
        host.plugin("asker", "it is refused", Duration::from_secs(10), |plugin| plugin["error"].is_object());
    assert_eq!(plugin["error"]["code"], "import-not-granted");
    let message = plugin["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`llm = { provider = \"...\" }` under `[plugins.asker.grants]`"), "{message}");

    let world = World::new("[plugins.asker.grants]\nllm = {}\n");
    let host = world.host(&["asker"]);
    let answered = ask(&host, &json!({"questions": ["a"]}));
    assert_eq!(answered["outputs"][0]["absent"], true, "{answered}");
    assert_eq!(answered["status"], "succeeded");
    let failed = ask(&host, &json!({"questions": ["a"], "fail": true}));
    assert_eq!(failed["error"]["kind"], "permanent", "{failed}");
}

#[test]
fn recordings_answer_without_a_network() {
    let endpoint = echo(Duration::ZERO);
    let recordings = tempfile::tempdir().expect("a folder");
    let replay = format!("cache_ms = 0\nreplay = {:?}", recordings.path().display().to_string());
    let input = json!({"questions": ["a", "b"]});
    let recording = world(&config(&endpoint, &replay, ""));
    let answered = ask(&recording.host(&["asker"]), &input);
    assert_eq!(endpoint.asked().len(), 2);
    let replaying = World::new(&format!(
        "[llm.main]\n{replay}\nmodels.small = {{}}\n\
         [plugins.asker.grants.llm]\nprovider = \"main\"\nmax_tokens = 100\n"
    ));
    let host = replaying.host(&["asker"]);
    let again = ask(&host, &input);
    for index in 0..2 {
        assert_eq!(again["outputs"][index]["content"], answered["outputs"][index]["content"]);
    }
    let unknown = ask(&host, &json!({"questions": ["c"]}));
    let error = unknown["outputs"][0]["error"].as_str().expect("an error");
    assert!(error.contains("no recording"), "{error}");
    assert_eq!(endpoint.asked().len(), 2);
}

#[test]
fn a_killed_host_repeats_no_call_beyond_the_step_in_flight() {
    let endpoint = echo(Duration::from_millis(20));
    let world = world(&format!("{}[worker]\nlease_ms = 500\n", config(&endpoint, "", "")));
    let (mut first, second) = (world.host(&["asker"]), world.host(&["asker"]));
    let questions: Vec<_> = (0..60).map(|number| format!("question {number}")).collect();
    let id = first.submit(&json!({"type": "asker", "input": {"questions": questions, "batch": 2}}));
    eventually("it is under way", Duration::from_secs(10), || (endpoint.asked().len() > 10).then_some(()));
    first.kill();
    let _ = second.ended(&id);
    let outputs = second.outputs(&id);
    assert_eq!(outputs.len(), 60);
    assert!(outputs.iter().all(|output| output["content"].is_string()));
    let asked = endpoint.asked().len();
    assert!((60..=62).contains(&asked), "{asked} calls for 60 questions, two a step");
}

#[test]
fn equal_questions_in_flight_are_paid_once_on_all_hosts() {
    let endpoint = echo(Duration::from_millis(700));
    let world = world(&config(&endpoint, "", ""));
    let hosts = [world.host(&["asker"]), world.host(&["asker"])];
    // Twice in one call, and in jobs of two hosts.
    let input = json!({"questions": ["same", "same", "own"], "batch": 3});
    let ids: Vec<_> =
        (0..6).map(|n| hosts[n % 2].submit(&json!({"type": "asker", "input": input}))).collect();
    for id in &ids {
        let job = hosts[0].ended(id);
        assert_eq!(job["status"], "succeeded", "{job}");
        let outputs = hosts[0].outputs(id);
        assert!(outputs.iter().all(|output| output["content"].is_string()), "{outputs:?}");
    }
    assert_eq!(endpoint.asked().len(), 2, "each of two questions is paid once");
}

#[test]
fn a_slow_model_is_an_error_and_never_a_trap() {
    let endpoint = echo(Duration::from_secs(3));
    let text = config(&endpoint, "", "").replace("[defaults]\n", "[defaults]\nstep_limit_ms = 1000\n");
    let world = world(&text);
    let host = world.host(&["asker"]);
    let began = Instant::now();
    let answered = ask(&host, &json!({"questions": ["a"]}));
    assert_eq!(answered["status"], "succeeded", "{answered}");
    let error = answered["outputs"][0]["error"].as_str().expect("an error");
    assert!(error.contains("within this step"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(2), "the slot is free within the limit of the step");
    let id = host.submit(&json!({"type": "asker", "input": {"questions": ["b"]}}));
    eventually("it waits", Duration::from_secs(5), || (endpoint.asked().len() == 2).then_some(()));
    let began = Instant::now();
    host.control(&id, "cancel").expect(202);
    host.reaches(&id, "cancelled");
    assert!(began.elapsed() < Duration::from_millis(700), "a call does not hold up a cancel");
}
