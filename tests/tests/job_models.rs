//! The job types that may ask a language model: with one, with its recordings, without a grant, and killed while they ask.

use crate::support::{Random, observer};
use serde_json::{Value, json};
use std::{fs, thread, time::Duration};
use waymark_tests::{World, client::Client, endpoint::Endpoint, model::Model, root};

const TYPES: [&str; 5] = [
    "generate_test_attributes",
    "auto_map_pdes",
    "generate_recommendations",
    "generate_profiling_rules",
    "execute_tests",
];
/// Kills of the host under each type, unless `WAYMARK_KILLS` says otherwise.
const KILLS: usize = 1;
/// A kill comes within so long after the host has begun to run jobs, in milliseconds.
const KILL_WITHIN_MS: usize = 300;
/// How long the model thinks.
const THINKS: Duration = Duration::from_millis(40);

fn answers() -> Value {
    let text =
        fs::read_to_string(root().join("plugins/pipeline/answers.json")).expect("the answers are read");
    text.parse().expect("the answers are JSON")
}

fn endpoint(answers: Value, thinks: Duration) -> Endpoint {
    let model = Model::new(answers);
    Endpoint::start(move |asked| {
        thread::sleep(thinks);
        model.reply(asked)
    })
}

/// Files for all types, and with `provider` a language model.
fn config(provider: Option<&str>) -> String {
    let data = root().join("plugins/data");
    let mut text = String::from("[worker]\nlease_ms = 1000\ncrashes_max = 1000\n");
    if let Some(provider) = provider {
        text.push_str(&format!("[llm.main]\n{provider}\nmodels.small = {{}}\n"));
    }
    for name in TYPES {
        text.push_str(&format!(
            "[plugins.{name}]\ncheckpoint = {{ every_steps = 1 }}\ngrants.files = [{{ host = {data:?} }}]\n"
        ));
        if provider.is_some() {
            text.push_str("grants.llm = { provider = \"main\" }\n");
        }
    }
    text
}

/// The input that a type is shipped with, with a model where that is a choice.
fn input(name: &str) -> Value {
    let text =
        fs::read_to_string(root().join(format!("plugins/{name}/input.json"))).expect("the input is read");
    let mut input: Value = text.parse().expect("the input is JSON");
    if name != "generate_test_attributes" {
        input["ask_model"] = json!(true);
    }
    input
}

/// Result and output records of a job that succeeds.
fn run(host: &Client, name: &str, input: &Value) -> (Value, Vec<Value>) {
    let id = host.submit(&json!({"type": name, "input": input}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{name}: {job}");
    (job["result"].clone(), host.outputs(&id))
}

#[test]
fn each_type_asks_what_it_is_to_ask_and_its_recordings_answer_the_same() {
    let endpoint = endpoint(answers(), Duration::ZERO);
    let recordings = tempfile::tempdir().expect("a folder");
    let replay = format!("replay = {:?}", recordings.path().display().to_string());
    let url = format!("url = \"http://{}/v1\"\n{replay}", endpoint.address);
    let asking = World::new(&config(Some(&url)));
    let host = asking.host(&TYPES);
    let mut asked = 0;
    let mut ran = Vec::new();
    for name in TYPES {
        let (result, outputs) = run(&host, name, &input(name));
        let questions = endpoint.asked().len() - asked;
        asked += questions;
        let expected = match name {
            // Its sections, the attributes with candidates, its sections, the attributes with a column, the one letter in which
            // a value has no label.
            "generate_test_attributes" => 5,
            "auto_map_pdes" => 9,
            "generate_recommendations" => 4,
            "generate_profiling_rules" => 4,
            _ => 1,
        };
        assert_eq!(questions, expected, "{name}");
        ran.push((result, outputs));
    }
    let attributes = &ran[0].0;
    assert_eq!(attributes["sections"]["by_model"], 5, "{attributes}");
    assert_eq!(attributes["attributes"].as_array().map(Vec::len), Some(11), "{attributes}");
    assert_eq!(attributes["merged"][0]["also_called"], "Housing expense to income ratios");
    assert_eq!(attributes["unproved"], json!([]));
    assert!(ran[1].0.to_string().contains("a model chose it"));
    assert!(ran[2].0.to_string().contains("leads to this decision"));
    assert!(ran[3].0["proposed"].as_u64() >= Some(1), "{}", ran[3].0);
    assert!(
        ran[3].0["dropped"].to_string().contains("loan_to_value"),
        "what does not evaluate is thrown away"
    );

    let replaying = World::new(&config(Some(&format!("{replay}\ncache_ms = 0"))));
    let host = replaying.host(&TYPES);
    for (name, ran) in TYPES.iter().zip(&ran) {
        assert_eq!(run(&host, name, &input(name)), *ran, "{name}");
    }
    assert_eq!(endpoint.asked().len(), asked, "recordings need no network");
}

#[test]
fn without_a_grant_every_type_runs_and_says_what_would_grant_it() {
    let world = World::new(&config(None));
    let host = world.host(&TYPES);
    for name in TYPES {
        let plugin = host.get(&format!("/api/v1/plugins/{name}")).expect(200);
        let capabilities = plugin["capabilities"].as_array().expect("capabilities");
        let llm = capabilities
            .iter()
            .find(|one| one["import"].as_str().is_some_and(|import| import.contains("llm")));
        let llm = llm.unwrap_or_else(|| panic!("{plugin}"));
        assert_eq!(llm["state"], "optional, not granted");
        let line = format!("`llm = {{ provider = \"...\" }}` under `[plugins.{name}.grants]`");
        assert!(llm["grant"].as_str().is_some_and(|grant| grant.contains(&line)), "{llm}");
        if name == "generate_test_attributes" {
            let id = host.submit(&json!({"type": name, "input": input(name)}));
            let error = host.ended(&id)["error"].clone();
            assert_eq!(error["kind"], "permanent", "{error}");
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains("under [plugins.generate_test_attributes.grants.llm]"), "{message}");
            let mut by_rules = input(name);
            by_rules["fallback"] = json!("rules");
            let (result, _) = run(&host, name, &by_rules);
            assert_eq!(result["sections"]["by_rules"], 5);
            assert_eq!(
                result["attributes"].as_array().map(Vec::len),
                Some(3),
                "the rows of its table: {result}"
            );
        } else {
            let mut unasked = input(name);
            unasked["ask_model"] = json!(false);
            let (asked, unasked) = (run(&host, name, &input(name)), run(&host, name, &unasked));
            assert_eq!(asked, unasked, "{name} does without");
        }
    }
}

/// An input for which a type asks this many questions, over many steps.
fn long(name: &str) -> (Value, usize) {
    let numbers = 0..24;
    let attributes: Vec<_> =
        numbers.clone().map(|n| json!({"name": format!("column {n}"), "mandatory": true})).collect();
    match name {
        "generate_test_attributes" => {
            let text: String =
                numbers.map(|n| format!("# Part {n}\nReport item {n} of the loan.\n")).collect();
            (json!({"report": "R", "text": text, "sections_per_step": 1}), 24)
        }
        "auto_map_pdes" => {
            let catalogue: Vec<_> =
                (0..60).map(|n| json!({"table": "t", "column": format!("column_{n}")})).collect();
            let attributes: Vec<_> = (0..60).map(|n| json!({"name": format!("column {n}")})).collect();
            (json!({"attributes": attributes, "catalogue": catalogue, "ask_model": true}), 60)
        }
        "generate_recommendations" => {
            let sections: Vec<_> = (0..80).map(|n| json!({"name": format!("section {n}")})).collect();
            (json!({"sections": sections, "ask_model": true}), 80)
        }
        "generate_profiling_rules" => {
            let row: serde_json::Map<_, _> = (0..24).map(|n| (format!("column {n}"), json!(n))).collect();
            (json!({"attributes": attributes, "data_set": {"rows": [row]}, "ask_model": true}), 24)
        }
        _ => {
            let keys = 0..80;
            let documents: Vec<_> =
                keys.clone().map(|n| json!({"key": n, "text": format!("letter {n}")})).collect();
            let cases: Vec<_> =
                keys.map(|n| json!({"attribute": "Amount", "key": n, "expected": n})).collect();
            let attributes = json!([{"name": "Amount"}]);
            let evidence = json!({"documents": documents});
            (json!({"attributes": attributes, "cases": cases, "evidence": evidence, "ask_model": true}), 80)
        }
    }
}

/// Questions of one step, at most.
fn questions_per_step(name: &str) -> usize {
    match name {
        "generate_test_attributes" => 1,
        "generate_profiling_rules" => 5,
        _ => 20,
    }
}

#[test]
fn a_killed_host_repeats_no_question_beyond_the_step_in_flight() {
    let kills =
        std::env::var("WAYMARK_KILLS").map_or(KILLS, |text| text.parse().expect("WAYMARK_KILLS is a number"));
    let endpoint = endpoint(json!({}), THINKS);
    let world = World::new(&config(Some(&format!("url = \"http://{}/v1\"", endpoint.address))));
    let observer = observer(&world, &[]);
    let mut host = world.host(&TYPES);
    let mut random = Random::announced();
    let mut hits = 0;
    for name in TYPES {
        let (mut long, questions) = long(name);
        for kill in 0..kills {
            // Other questions each time: what was kept for the run before answers nothing.
            let own = format!("run {kill}");
            match name {
                "generate_test_attributes" => long["report"] = json!(own),
                "execute_tests" => long["attributes"][0]["labels"] = json!([own]),
                "generate_recommendations" => {
                    for section in long["sections"].as_array_mut().expect("sections") {
                        section["attributes"] = json!([own]);
                    }
                }
                _ => {
                    for attribute in long["attributes"].as_array_mut().expect("attributes") {
                        attribute["description"] = json!(own);
                    }
                }
            }
            let before = endpoint.asked().len();
            let id = host.submit(&json!({"type": name, "input": long}));
            thread::sleep(Duration::from_millis(random.below(KILL_WITHIN_MS) as u64));
            host.kill();
            hits += usize::from(observer.job(&id)["ended_at"].is_null());
            host.start();
            let job = observer.ended(&id);
            assert_eq!((&job["status"], &job["run"]), (&json!("succeeded"), &json!(1)), "{job}");
            let asked = endpoint.asked().len() - before;
            let most = questions + questions_per_step(name);
            assert!((questions..=most).contains(&asked), "{name}: {asked} calls for {questions} questions");
            let outputs = observer.outputs(&id);
            // The same once more, undisturbed, costs nothing: every answer was kept.
            let again = host.submit(&json!({"type": name, "input": long}));
            assert_eq!(host.result(&again), job["result"], "the result of {name}");
            assert_eq!(host.outputs(&again), outputs, "the output records of {name}");
            assert_eq!(endpoint.asked().len() - before, asked, "{name} asks again what was answered");
        }
    }
    assert!(hits > 0, "every job had ended before its host was killed");
}
