//! The two shipped job types on real tables: figures equal to those of an independent computation, in 64 MiB, and
//! the same whatever happens to the host meanwhile.

use crate::support::{self, Random, done, not_run, observer, scratch};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Duration,
};
use waymark_tests::{World, eventually, host::Host, root};

/// Longest wait for a job on a whole table, on a busy machine.
const JOB_MAX: Duration = Duration::from_secs(240);
/// Kills of the host under each job.
const KILLS: usize = 3;

static SETTING_UP: Mutex<()> = Mutex::new(());

/// Python with pandas, and a folder with this table below it. `None` where they cannot be had.
fn set_up(table: &str) -> Option<(PathBuf, PathBuf)> {
    let _alone = SETTING_UP.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The same that the plugins' own tests use.
    let folder = scratch("independent");
    let independent = root().join("tests/independent");
    let data = folder.join("real_data");
    let laid = support::python(&folder, &independent.join("requirements.txt")).and_then(|python| {
        fs::create_dir_all(&data).map_err(|error| error.to_string())?;
        if table == "flights_nyc_2013.csv" {
            done(Command::new(&python).arg(independent.join("flights.py")).arg(&data))?;
        } else {
            fs::copy(root().join("plugins/data").join(table), data.join(table))
                .map_err(|error| error.to_string())?;
        }
        Ok(python)
    });
    match laid {
        Ok(python) => Some((python, data)),
        Err(error) => {
            not_run(&format!(
                "{table} against pandas: it needs python3 with venv, and pandas from PyPI: {error}"
            ));
            None
        }
    }
}

/// Runs the job undisturbed, compares it with pandas, and runs it again while its host is killed.
fn is_right_and_stays_right(table: &str, jobs: [(&str, &str); 2], rows_per_step: u64) {
    let Some((python, data)) = set_up(table) else { return };
    let policy = |name: &str| {
        format!(
            "[plugins.{name}]\nmemory_bytes = {}\ncheckpoint = {{ every_steps = 1 }}\n\
             grants.files = [{{ host = {data:?} }}]\n",
            64 << 20
        )
    };
    let policies: String = jobs.iter().map(|(name, _)| policy(name)).collect();
    let world = World::new(&format!("[worker]\nlease_ms = 1000\n{policies}"));
    let observer = observer(&world, &[]);
    let mut host = world.host(&jobs.map(|(name, _)| name));
    let mut random = Random::announced();
    for (name, input_file) in jobs {
        let input_file = root().join(format!("plugins/{name}/tests/inputs/{input_file}"));
        let mut input: Value =
            fs::read_to_string(&input_file).expect("the input is read").parse().expect("the input is JSON");
        let undisturbed = host.submit(&json!({"type": name, "input": input}));
        let job = ended(&observer, &undisturbed);
        let outputs = observer.outputs(&undisturbed);
        let ran = world.folder().join(format!("{name}.json"));
        fs::write(&ran, json!({"result": job["result"], "outputs": outputs}).to_string()).expect("a file");
        println!("{name} on {table}: {} steps, {} records", job["step"], outputs.len());
        agrees_with_pandas(&python, &data, &input_file, &ran);

        input["pace"] = json!({"rows_per_step": rows_per_step});
        let killed = host.submit(&json!({"type": name, "input": input}));
        let mut parts: Vec<_> = (0..KILLS).map(|_| random.below(900)).collect();
        parts.sort_unstable();
        let mut hits = 0;
        for part in parts {
            let job = reaches(&observer, &killed, part);
            host.kill();
            let now = observer.job(&killed);
            println!("killed at step {} of {}, state {}", now["step"], job["progress"], now["status"]);
            hits += usize::from(now["status"] == "running");
            host.start();
        }
        assert!(hits > 0, "the job had ended before its host was killed");
        let again = ended(&observer, &killed);
        assert_eq!(again["run"], 1, "{again}");
        assert_eq!(again["result"], job["result"], "the result of {name} on {table}");
        assert_eq!(observer.outputs(&killed), outputs, "the output records of {name} on {table}");
    }
}

/// Waits until so many thousandths of the work are done and committed.
fn reaches(client: &Host, id: &str, part: usize) -> Value {
    eventually(&format!("{part} thousandths of the job are done"), JOB_MAX, || {
        let job = client.job(id);
        let (current, total) = (job["progress"]["current"].as_f64(), job["progress"]["total"].as_f64());
        let done = current.zip(total).is_some_and(|(current, total)| current * 1000.0 >= total * part as f64);
        (done || job["ended_at"].is_string()).then_some(job)
    })
}

/// Waits for the end, which must be a success.
fn ended(client: &Host, id: &str) -> Value {
    let job = eventually("the job ends", JOB_MAX, || {
        let job = client.job(id);
        job["ended_at"].is_string().then_some(job)
    });
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    job
}

fn agrees_with_pandas(python: &Path, data: &Path, input: &Path, ran: &Path) {
    let check = root().join("tests/independent/check.py");
    match done(Command::new(python).arg(check).arg(data).arg(input).arg(ran)) {
        Ok(says) => println!("{says}"),
        Err(says) => panic!("{says}"),
    }
}

#[test]
fn figures_on_the_mortgages_are_those_of_pandas_in_64_mib_and_after_kills() {
    let jobs =
        [("intelligent_sampling", "hmda_strata_equal.json"), ("execute_profiling_rules", "hmda_rules.json")];
    is_right_and_stays_right("hmda_boston_1990.csv", jobs, 4);
}

#[test]
fn figures_on_the_flights_are_those_of_pandas_in_64_mib_and_after_kills() {
    let jobs =
        [("intelligent_sampling", "flights_strata.json"), ("execute_profiling_rules", "flights_rules.json")];
    is_right_and_stays_right("flights_nyc_2013.csv", jobs, 5_000);
}
