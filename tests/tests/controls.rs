//! What an operator can ask of a job: every control on every state, a hundred controls at once, and how soon a
//! pause happens.

use crate::support::done;
use serde_json::{Value, json};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use waymark_tests::{
    World, at_once, binary,
    client::{Answer, Client, is_ended},
    eventually,
    host::Host,
};

const EVERY_STEP: &str = "[plugins.counter]\ncheckpoint = { every_steps = 1 }\n";

/// Every control on every state: the status of the answer, and then the state that the job comes to, or the code of
/// the refusal, which changes nothing. `older` restarts from the checkpoint of step 2, `none` from one that is not
/// kept.
///
/// The line of every job is held, so that a job that is queued again is found there.
const TABLE: &str = "
state     | pause           | resume          | restart         | older             | none              | cancel           | delete
queued    | 202 paused      | 202 queued      | 409 wrong-state | 409 wrong-state   | 409 wrong-state   | 202 cancelled    | 204 gone
running   | 202 paused      | 202 running     | 409 wrong-state | 409 wrong-state   | 409 wrong-state   | 202 cancelled    | 204 gone
scheduled | 202 paused      | 202 scheduled   | 409 wrong-state | 409 wrong-state   | 409 wrong-state   | 202 cancelled    | 204 gone
waiting   | 202 paused      | 202 waiting     | 409 wrong-state | 409 wrong-state   | 409 wrong-state   | 202 cancelled    | 204 gone
children  | 202 paused      | 202 waiting     | 409 wrong-state | 409 wrong-state   | 409 wrong-state   | 202 cancelled    | 204 gone
paused    | 202 paused      | 202 waiting     | 202 queued      | 202 queued        | 404 no-checkpoint | 202 cancelled    | 204 gone
succeeded | 409 wrong-state | 409 wrong-state | 202 queued      | 202 queued        | 404 no-checkpoint | 409 wrong-state  | 204 gone
failed    | 409 wrong-state | 409 wrong-state | 202 queued      | 202 queued        | 404 no-checkpoint | 409 wrong-state  | 204 gone
cancelled | 409 wrong-state | 409 wrong-state | 202 queued      | 202 queued        | 404 no-checkpoint | 202 cancelled    | 204 gone
";

fn queue(host: &Client, name: &str, verb: &str) {
    host.post(&format!("/api/v1/queues/{name}/{verb}"), &Value::Null).expect(202);
}

/// A job in this state, whose line is then held.
fn job_in(host: &Client, state: &str, line: &str) -> String {
    let submit = |input: Value| host.submit(&json!({"type": "counter", "queue": line, "input": input}));
    let id = match state {
        "queued" => {
            queue(host, line, "pause");
            submit(json!({"steps": 8}))
        }
        "running" => submit(json!({"steps": 100_000, "work_us": 4_000, "emit": true})),
        "scheduled" => host
            .submit(&json!({"type": "counter", "queue": line, "delay_ms": 3_600_000, "input": {"steps": 8}})),
        "children" => submit(json!({"steps": 8, "children": 2})),
        "succeeded" => submit(json!({"steps": 5, "emit": true})),
        "failed" => submit(json!({"steps": 5, "fail_at": 4, "emit": true})),
        // Its checkpoints are those of steps 1 to 4, and that of the wait.
        _ => submit(json!({"steps": 8, "emit": true, "await_signal": "go"})),
    };
    let first = match state {
        "children" | "paused" | "cancelled" => "waiting",
        state => state,
    };
    host.reaches(&id, first);
    if first == "running" {
        let _ = host.until(&id, "under way", |job| job["outputs"].as_u64() > Some(2));
    }
    match state {
        "paused" => drop(host.control(&id, "pause").expect(202)),
        "cancelled" => drop(host.control(&id, "cancel").expect(202)),
        _ => {}
    }
    if state != "children" {
        host.reaches(&id, state);
    }
    queue(host, line, "pause");
    id
}

fn ask(host: &Client, id: &str, control: &str) -> Answer {
    match control {
        "delete" => host.delete(id),
        "older" => host.control(id, "restart?from=2"),
        "none" => host.control(id, "restart?from=999"),
        verb => host.control(id, verb),
    }
}

/// What must be as it was after a refusal. A running job goes on meanwhile.
fn place(job: &Value) -> Value {
    let mut place = job.clone();
    if job["status"] == "running" {
        for field in ["progress", "step", "outputs"] {
            place[field] = Value::Null;
        }
    }
    place
}

fn one_control(host: &Client, state: &str, control: &str, expected: &str, line: &str) {
    let what = format!("{control} on a job that is {state}");
    let (status, then) = expected.split_once(' ').expect("a status and what comes then");
    let status: u16 = status.parse().expect("a status");
    let id = job_in(host, state, line);
    let before = host.job(&id);
    let met = before["status"].clone();
    let answer = ask(host, &id, control);
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    match status {
        202 => {
            assert_eq!(answer.body["id"], json!(id), "{what}");
            let after = host.until(&id, &format!("{then}, after {what}"), |job| job["status"] == then);
            assert!(after["pause_pending"].is_null(), "{what}: {after}");
            match control {
                "restart" => assert_eq!(
                    [&after["run"], &after["step"], &after["outputs"], &after["attempt"]],
                    [&json!(2), &json!(0), &json!(0), &json!(0)],
                    "{what}: {after}"
                ),
                "older" => {
                    assert_eq!(
                        [&after["run"], &after["step"], &after["outputs"]],
                        [2, 2, 2],
                        "{what}: {after}"
                    );
                    assert_eq!(after["progress"]["current"], 2, "{what}: {after}");
                    assert_eq!(host.outputs(&id).len(), 2, "{what}");
                }
                _ => {
                    assert_eq!(after["run"], 1, "{what}: {after}");
                    assert!(
                        after["step"].as_u64() >= before["step"].as_u64(),
                        "{what} loses nothing: {after}"
                    );
                    // Asking for what is the case already is no error and changes nothing.
                    ask(host, &id, control).expect(202);
                    assert_eq!(place(&host.job(&id)), place(&after), "{what}, twice");
                }
            }
            assert_eq!(after["ended_at"].is_string(), is_ended(&after), "{what}: {after}");
        }
        204 => {
            for path in ["", "/output", "/logs", "/checkpoints", "/events"] {
                let answer = host.get(&format!("/api/v1/jobs/{id}{path}"));
                assert_eq!((answer.status, answer.code()), (404, "unknown-job"), "{what}: {path}");
            }
            assert_eq!(ask(host, &id, control).status, 404, "{what}, twice");
            let listed = host.get(&format!("/api/v1/jobs?queue={line}")).expect(200);
            assert_eq!(listed["jobs"], json!([]), "{what}");
        }
        _ => {
            assert_eq!(answer.code(), then, "{what}: {}", answer.body);
            if then == "wrong-state" {
                assert_eq!(answer.body["job_status"], met, "{what}: it says which state it met");
            }
            assert_eq!(place(&host.job(&id)), place(&before), "{what}: a refusal changes nothing");
        }
    }
    if status != 204 {
        host.delete(&id).expect(204);
    }
}

#[test]
fn every_control_on_every_state_does_what_the_table_says() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows: Vec<_> = rows.collect();
    let mut cells = Vec::new();
    for (number, row) in rows.iter().enumerate().skip(1) {
        for (column, expected) in row.iter().enumerate().skip(1) {
            cells.push((row[0], rows[0][column], *expected, format!("line-{number}-{column}")));
        }
    }
    assert_eq!(cells.len(), 63);
    // Children of the jobs that wait for them go to the queue of the type, where they stay.
    queue(&host, "counter", "pause");
    at_once(&cells, 8, |(state, control, expected, line)| one_control(&host, state, control, expected, line));
    for control in ["pause", "resume", "restart", "older", "none", "cancel", "delete"] {
        let unknown = ask(&host, "01K0Q5Z3V6T4S8W2R9YBXNCMDE", control);
        assert_eq!((unknown.status, unknown.code()), (404, "unknown-job"), "{control}");
    }
    queue(&host, "counter", "resume");
    assert_sound(&host);
}

/// The host's books agree with its jobs, and it works.
#[track_caller]
fn assert_sound(host: &Client) {
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 5}}));
    assert_eq!(host.result(&id)["sum"], 15, "the host works");
    let mut seen = Value::Null;
    eventually("counts, queues and jobs agree", Duration::from_secs(10), || {
        let listed = host.get("/api/v1/jobs?limit=1000").expect(200);
        let jobs = listed["jobs"].as_array().expect("jobs").clone();
        let counts = host.get("/api/v1/counts").expect(200)["counts"].as_array().expect("counts").clone();
        let queues = host.get("/api/v1/queues").expect(200)["queues"].as_array().expect("queues").clone();
        seen = json!({"jobs": jobs, "counts": counts, "queues": queues});
        let like = |count: &Value| {
            let alike = |job: &&Value| job["status"] == count["status"] && job["type"] == count["type"];
            jobs.iter().filter(alike).count() as u64
        };
        let counted: u64 = counts.iter().map(|count| count["jobs"].as_u64().expect("a count")).sum();
        let agree = counted == jobs.len() as u64
            && counts.iter().all(|count| count["jobs"].as_u64() == Some(like(count)))
            && queues.iter().all(|queue| {
                let waiting = |job: &&Value| job["queue"] == queue["name"] && job["status"] == "queued";
                queue["depth"].as_u64() == Some(jobs.iter().filter(waiting).count() as u64)
            });
        (agree || jobs.len() == 1000).then_some(())
    });
    assert!(seen["jobs"].as_array().expect("jobs").len() < 1000, "too many jobs to compare");
}

#[test]
fn a_job_that_sleeps_or_waits_does_so_again_when_it_is_resumed() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let counter = |input: Value| host.submit(&json!({"type": "counter", "input": input}));
    let signal =
        |id: &str, payload: Value| host.post(&format!("/api/v1/jobs/{id}/signals/go"), &payload).expect(202);
    let paused = |id: &str| {
        host.control(id, "pause").expect(202);
        host.reaches(id, "paused")
    };
    let waits = counter(json!({"steps": 6, "await_signal": "go"}));
    let before = host.reaches(&waits, "waiting");
    paused(&waits);
    let page = host.get(&format!("/jobs/{waits}"));
    let shown = page.body.as_str().expect("a page");
    assert!(shown.contains("when resumed: waiting for go"), "{shown}");
    let mut resume = Command::new(binary());
    let said = done(resume.args(["job", "resume", &waits, "--url", &host.url])).expect("it resumes");
    assert!(said.contains("is waiting"), "{said}");
    let after = host.job(&waits);
    assert_eq!((&after["status"], &after["step"]), (&json!("waiting"), &before["step"]), "{after}");
    signal(&waits, json!("late"));
    let result = host.result(&waits);
    assert_eq!((&result["sum"], &result["signal"]), (&json!(21), &json!("late")));

    // What comes while it is paused is not lost, and nothing is waited for then.
    let heard = counter(json!({"steps": 6, "await_signal": "go"}));
    host.reaches(&heard, "waiting");
    paused(&heard);
    signal(&heard, json!("meanwhile"));
    assert_eq!(host.job(&heard)["status"], "paused");
    let resumed = host.control(&heard, "resume").expect(202);
    assert!(resumed["status"] == "queued" || resumed["status"] == "running", "{resumed}");
    assert_eq!(host.result(&heard)["signal"], "meanwhile");

    let delayed = json!({"type": "counter", "delay_ms": 3_600_000, "input": {"steps": 2}});
    let sleeps = host.submit(&delayed);
    let due = host.job(&sleeps)["not_before"].clone();
    paused(&sleeps);
    let resumed = host.control(&sleeps, "resume").expect(202);
    assert_eq!((&resumed["status"], &resumed["not_before"]), (&json!("scheduled"), &due), "{resumed}");
}

fn steps(outputs: &[Value]) -> Vec<u64> {
    outputs.iter().map(|record| record["step"].as_u64().expect("a step")).collect()
}

#[test]
fn a_restart_from_an_older_checkpoint_ends_like_an_undisturbed_run() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 9, "emit": true}}));
    let undisturbed = (host.result(&id), host.outputs(&id));
    assert_eq!(steps(&undisturbed.1), (1..=9).collect::<Vec<_>>());
    let created = host.job(&id)["created_at"].clone();
    // Each restart leaves the checkpoints that are not younger than the one it began from.
    for (run, from) in [(2, 8), (3, 6), (4, 4), (5, 5)] {
        let kept: Vec<_> = host.checkpoints(&id).iter().map(|one| one["step"].clone()).collect();
        assert!(kept.contains(&json!(from)), "run {run} finds its checkpoint: {kept:?}");
        host.control(&id, &format!("restart?from={from}")).expect(202);
        assert_eq!((host.result(&id), host.outputs(&id)), undisturbed, "from step {from}");
        let job = host.job(&id);
        assert_eq!((&job["run"], &job["attempt"], &job["created_at"]), (&json!(run), &json!(1), &created));
    }
    host.control(&id, "restart").expect(202);
    assert_eq!((host.result(&id), host.outputs(&id)), undisturbed, "from the beginning");
    assert_eq!(host.job(&id)["run"], 6);
}

#[test]
fn a_paused_job_resumes_on_another_host_and_loses_nothing() {
    let world = World::new("");
    let mut first = world.host(&["counter"]);
    let input = json!({"steps": 60, "work_us": 10_000, "emit": true, "log": true});
    let id = first.submit(&json!({"type": "counter", "input": input}));
    let _ = first.until(&id, "under way", |job| job["status"] == "running");
    first.control(&id, "pause").expect(202);
    let paused = first.reaches(&id, "paused");
    let done = paused["progress"]["current"].as_u64().expect("a number");
    assert!(done < 60, "{paused}");
    assert_eq!(paused["outputs"], done, "what was done is committed");
    let checkpoint = first.get(&format!("/api/v1/jobs/{id}/checkpoint"));
    if done > 0 {
        assert_eq!(checkpoint.expect(200)["checkpoint_data"]["current_index"], done);
    }
    let second = world.host(&["counter"]);
    first.kill();
    second.control(&id, "resume").expect(202);
    assert_eq!(second.result(&id)["sum"], 60 * 61 / 2);
    assert_eq!(second.job(&id)["attempt"], 1, "a pause costs no attempt");
    assert_eq!(steps(&second.outputs(&id)), (1..=60).collect::<Vec<_>>());
    let lines = || second.log_messages(&id).iter().filter(|line| *line == "counted").count();
    eventually("the lines are there", Duration::from_secs(2), || (lines() == 60).then_some(()));
}

#[test]
fn a_pause_is_not_lost_between_two_steps_or_two_states() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    // Asked for at once after the submission: some meet the job queued, some claimed, some in a step.
    let turns: Vec<u64> = (0..60).collect();
    let ids = at_once(&turns, 6, |turn| {
        let id =
            host.submit(&json!({"type": "counter", "input": {"steps": 100, "work_us": 1_000, "emit": true}}));
        let from = Instant::now();
        while from.elapsed() < Duration::from_millis(turn % 12) {
            std::hint::spin_loop();
        }
        host.control(&id, "pause").expect(202);
        id
    });
    for id in &ids {
        let job = at_rest(&host, id);
        assert_eq!(job["status"], "paused", "a pause was accepted: {job}");
    }
    at_once(&ids, 6, |id| host.control(id, "resume").expect(202));
    for id in &ids {
        assert_eq!(host.result(id)["sum"], 100 * 101 / 2);
        assert_eq!(host.outputs(id).len(), 100);
    }
}

/// Numbers that look random and are the same in every run of a test with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // The generator of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) % limit as u64) as usize
    }
}

/// A hundred controls, drawn from a mix.
fn hundred(seed: u64, mix: &[&'static str]) -> Vec<&'static str> {
    let mut dice = Dice(seed);
    (0..100).map(|_| mix[dice.below(mix.len())]).collect()
}

/// The state in which a job that nobody asks anything of any more comes to rest; the jobs here take less than a
/// second. A claim that nobody works on is found and given back only after ten seconds.
fn at_rest(host: &Client, id: &str) -> Value {
    let mut last = Value::Null;
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(8) {
        last = host.get(&format!("/api/v1/jobs/{id}?wait_ms=20")).expect(200);
        if last["pause_pending"].is_null() && (last["status"] == "paused" || is_ended(&last)) {
            return last;
        }
    }
    panic!("the job does not come to rest: {last}");
}

/// Brings a job to its end, whatever state it is in.
fn bring_to_success(host: &Client, id: &str) -> Value {
    loop {
        let job = at_rest(host, id);
        match job["status"].as_str() {
            Some("paused") => drop(host.control(id, "resume").expect(202)),
            Some("cancelled" | "failed") => drop(host.control(id, "restart").expect(202)),
            _ => return job,
        }
    }
}

#[test]
fn a_hundred_controls_at_once_on_one_job_end_in_one_legal_state() {
    let world = World::new("");
    let (first, second) = (world.host(&["counter"]), world.host(&["counter"]));
    let mixes: [(&str, &[&'static str]); 3] = [
        ("pause and resume", &["pause", "resume"]),
        ("all controls", &["pause", "resume", "restart", "cancel"]),
        (
            "restarts from anywhere",
            &["pause", "resume", "restart", "restart?from=40", "restart?from=1", "cancel"],
        ),
    ];
    for seed in 0..18 {
        let (what, mix) = mixes[seed % mixes.len()];
        let what = format!("{what}, seed {seed}");
        let input = json!({"steps": 120, "work_us": 1_500, "emit": true});
        let id = first.submit(&json!({"type": "counter", "input": input}));
        let _ = first.until(&id, "under way", |job| job["status"] != "queued");
        let controls = hundred(seed as u64, mix);
        let turns: Vec<_> = controls.iter().enumerate().collect();
        let answers = at_once(&turns, 25, |(turn, control)| {
            let host: &Host = if turn % 2 == 0 { &first } else { &second };
            host.control(&id, control)
        });
        for (control, answer) in controls.iter().zip(&answers) {
            let legal = matches!(
                (answer.status, answer.code()),
                (202, _) | (409, "wrong-state") | (404, "no-checkpoint")
            );
            assert!(legal, "{what}: {control}: {} {}", answer.status, answer.body);
        }
        let rest = at_rest(&first, &id);
        let restarts = controls.iter().zip(&answers);
        let restarts =
            restarts.filter(|(control, answer)| control.starts_with("restart") && answer.status == 202);
        assert_eq!(
            rest["run"],
            json!(1 + restarts.count()),
            "{what}: every accepted restart is a run: {rest}"
        );
        assert_eq!(second.job(&id), rest, "{what}: one state, whoever is asked");
        let ended = bring_to_success(&second, &id);
        assert_eq!(ended["result"]["sum"], 120 * 121 / 2, "{what}: {ended}");
        assert_eq!(steps(&first.outputs(&id)), (1..=120).collect::<Vec<_>>(), "{what}");
    }
    assert_sound(&first);
    assert_sound(&second);
}

#[test]
fn word_of_a_cancelled_run_does_not_reach_the_next_one() {
    let world = World::new("");
    let (first, second) = (world.host(&["counter"]), world.host(&["counter"]));
    let input = json!({"steps": 40, "work_us": 1_000, "emit": true});
    for _ in 0..15 {
        let id = first.submit(&json!({"type": "counter", "input": input}));
        host_reaches_work(&first, &id);
        // What one caller stops another one starts again, as fast as they can.
        let callers: Vec<_> = (0..16).map(|caller| ["cancel", "restart"][caller % 2]).collect();
        at_once(&callers, callers.len(), |verb| {
            for turn in 0..4 {
                let host: &Host = if turn % 2 == 0 { &first } else { &second };
                let answer = host.control(&id, verb);
                assert!(matches!(answer.status, 202 | 409), "{verb}: {} {}", answer.status, answer.body);
            }
        });
        let ended = bring_to_success(&first, &id);
        assert_eq!(ended["result"]["sum"], 40 * 41 / 2, "{ended}");
        assert_eq!(steps(&first.outputs(&id)), (1..=40).collect::<Vec<_>>());
    }
}

fn host_reaches_work(host: &Client, id: &str) {
    let _ = host.until(id, "taken up", |job| job["status"] != "queued");
}

#[test]
fn a_pause_that_is_taken_back_does_not_stop_the_job() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    // So many that they outlast the controls on a slow machine.
    const STEPS: u64 = 4_000;
    let input = json!({"steps": STEPS, "work_us": 1_000, "emit": true});
    let ids = host.submit_all(&vec![json!({"type": "counter", "input": input}); 2]);
    at_once(&ids, 2, |id| {
        host_reaches_work(&host, id);
        for _ in 0..100 {
            host.control(id, "pause").expect(202);
            host.control(id, "resume").expect(202);
            for _ in 0..4 {
                let job = host.job(id);
                assert_ne!(job["status"], "paused", "nobody asked for that after the resume: {job}");
            }
        }
    });
    for id in &ids {
        assert_eq!(host.result(id)["sum"], STEPS * (STEPS + 1) / 2);
        assert_eq!(steps(&host.outputs(id)), (1..=STEPS).collect::<Vec<_>>());
    }
}

#[test]
fn a_deletion_among_a_hundred_controls_leaves_nothing_behind() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let keys_before = host_keys(&world);
    for seed in 0..4 {
        let input = json!({"steps": 5_000, "work_us": 1_000, "emit": true, "log": true});
        let id = host
            .submit(&json!({"type": "counter", "tags": ["doomed"], "unique_key": "doomed", "input": input}));
        host.reaches(&id, "running");
        let mut controls = hundred(seed, &["pause", "resume", "restart", "cancel"]);
        controls[50] = "delete";
        let answers = at_once(&controls, 25, |control| ask(&host, &id, control));
        for (control, answer) in controls.iter().zip(&answers) {
            assert!(
                matches!(answer.status, 202 | 204 | 404 | 409),
                "{control}: {} {}",
                answer.status,
                answer.body
            );
        }
        assert_eq!(answers[50].status, 204);
        let gone = host.get(&format!("/api/v1/jobs/{id}"));
        assert_eq!((gone.status, gone.code()), (404, "unknown-job"));
        eventually("the worker lets go of it", Duration::from_secs(10), || {
            let hosts = host.get("/api/v1/hosts").expect(200);
            (hosts["hosts"][0]["used"] == 0).then_some(())
        });
        assert_eq!(host.get("/api/v1/jobs?tag=doomed").expect(200)["jobs"], json!([]));
    }
    assert_sound(&host);
    let after = host_keys(&world);
    // The job of the last check, and what every first job of a type leaves.
    assert!(after <= keys_before + 12, "{after} keys in the store, {keys_before} before");
}

/// Keys in the store but for the tokens of claims, which expire.
fn host_keys(world: &World) -> u64 {
    let script = "local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do \
                  if not string.find(k, ':token:', 1, true) then n = n + 1 end end return n";
    let answer = world.redis.command(&["EVAL", script, "0"]);
    answer.trim_start_matches(':').parse().expect("a number")
}

#[test]
fn a_job_with_steps_of_50_ms_is_paused_within_150_ms() {
    let world = World::alone("");
    let host = world.host(&["counter"]);
    let job = |steps: u64, work_us: u64| {
        host.submit(&json!({"type": "counter", "input": {"steps": steps, "work_us": work_us, "emit": true}}))
    };
    // How long is a unit of work here?
    let from = Instant::now();
    let id = job(20, 20_000);
    assert_eq!(host.result(&id)["sum"], 210);
    let unit = from.elapsed().as_secs_f64() / 20.0 / 20_000.0;
    let work_us = (0.05 / unit) as u64;
    let id = job(10_000, work_us);
    host.reaches(&id, "running");
    let mut took = Vec::new();
    for round in 0..15_u64 {
        let before = host.job(&id)["host"].clone();
        // Not always at the same place within a step.
        let wait = Instant::now();
        while wait.elapsed() < Duration::from_millis(60 + 17 * round % 50) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let from = Instant::now();
        let answer = host.control(&id, "pause").expect(202);
        assert!(answer["status"] == "paused" || answer["pause_pending"] == true, "{answer}");
        loop {
            if host.job(&id)["status"] == "paused" {
                break;
            }
            assert!(from.elapsed() < Duration::from_secs(10), "not paused, last on {before}");
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(from.elapsed());
        host.control(&id, "resume").expect(202);
        host.reaches(&id, "running");
    }
    let done = host.job(&id)["progress"]["current"].as_u64().expect("a number");
    host.delete(&id).expect(204);
    took.sort();
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "steps of {:.0} ms: asked to paused, median {median:?}, longest {longest:?} of {}",
        unit * work_us as f64 * 1e3,
        took.len()
    );
    assert!(done >= 15, "the job was under way each time");
    assert!(median <= Duration::from_millis(150), "{took:?}");
    assert!(longest <= Duration::from_millis(400), "{took:?}");
}
