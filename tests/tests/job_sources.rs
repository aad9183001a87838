//! The job types that read tables, over connections: PostgreSQL and SQLite give the same as the file, whatever happens meanwhile.

use crate::support::{done, observer};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Command, time::Duration};
use waymark_tests::{World, client::Client, eventually, postgres::Postgres, root};

const TYPES: [&str; 4] =
    ["intelligent_sampling", "execute_profiling_rules", "execute_tests", "auto_map_pdes"];

fn file() -> PathBuf {
    root().join("plugins/data/hmda_boston_1990.csv")
}

/// The mortgages in a table of each database, and a role that may read.
fn databases(folder: &std::path::Path) -> Postgres {
    let csv = file();
    let header = fs::read_to_string(&csv).expect("the data are read");
    let columns: Vec<_> = header.lines().next().expect("a header").split(',').skip(1).collect();
    let columns: String = columns.iter().map(|column| format!(", {column} text")).collect();
    let postgres = Postgres::start();
    let _ = postgres.run(&format!(
        "CREATE TABLE hmda (rownames bigint PRIMARY KEY{columns}); CREATE ROLE reader LOGIN; \
         GRANT SELECT ON hmda TO reader"
    ));
    let _ = postgres.run(&format!("\\copy hmda FROM '{}' CSV HEADER", csv.display()));
    let script = format!(
        "CREATE TABLE hmda (rownames integer PRIMARY KEY{columns});\n.mode csv\n.import --skip 1 {} hmda\n",
        csv.display()
    );
    let commands = folder.join("commands");
    fs::write(&commands, script).expect("a file");
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg(folder.join("hmda.db")).stdin(fs::File::open(&commands).expect("a file"));
    done(&mut sqlite).unwrap_or_else(|error| panic!("{error}"));
    postgres
}

fn config(postgres: &Postgres, folder: &std::path::Path) -> String {
    let mut text = format!(
        "[worker]\nlease_ms = 1000\n[sql.warehouse]\nurl = {:?}\n[sql.notes]\nurl = \"sqlite:{}\"\n",
        postgres.url("reader"),
        folder.join("hmda.db").display()
    );
    for name in TYPES {
        text.push_str(&format!(
            "[plugins.{name}]\ncheckpoint = {{ every_steps = 1 }}\ngrants.files = [{{ host = {:?} }}]\n\
             grants.sql = {{ warehouse = {{}}, notes = {{}} }}\n",
            root().join("plugins/data")
        ));
    }
    text
}

fn input(name: &str) -> Value {
    let text =
        fs::read_to_string(root().join(format!("plugins/{name}/input.json"))).expect("the input is read");
    text.parse().expect("the input is JSON")
}

/// The table as a statement. Columns are named, for their order is the file's then.
fn statement(connection: &str) -> Value {
    json!({"sql": {"connection": connection, "select": "SELECT * FROM hmda", "key": "rownames", "rows_per_page": 500}})
}

fn run(host: &Client, name: &str, input: &Value) -> (Value, Vec<Value>) {
    let id = host.submit(&json!({"type": name, "input": input}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{name}: {job}");
    (job["result"].clone(), host.outputs(&id))
}

#[test]
fn a_statement_is_a_table_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = databases(folder.path());
    let world = World::new(&config(&postgres, folder.path()));
    let host = world.host(&TYPES);
    for name in ["intelligent_sampling", "execute_profiling_rules"] {
        let mut input = input(name);
        let of_file = run(&host, name, &input);
        for connection in ["warehouse", "notes"] {
            input["data_set"] = statement(connection);
            assert_eq!(run(&host, name, &input), of_file, "{name} over {connection}");
        }
    }
    let mut tests = input("execute_tests");
    let of_file = run(&host, "execute_tests", &tests);
    tests["source"]["data_set"] = statement("warehouse");
    assert_eq!(run(&host, "execute_tests", &tests), of_file);
    // The source against itself over another connection: everything passes.
    tests["evidence"] = json!({"data_set": statement("notes"), "key": "rownames"});
    for attribute in tests["attributes"].as_array_mut().expect("attributes") {
        attribute.as_object_mut().expect("an attribute").remove("evidence_column");
    }
    let (result, _) = run(&host, "execute_tests", &tests);
    assert_eq!(result["pass_rate"], 1.0, "{result}");
    assert_eq!(result["counts"]["passed"], 20);

    let mut mapping = input("auto_map_pdes");
    for pde in mapping["catalogue"].as_array_mut().expect("a catalogue") {
        pde.as_object_mut().expect("an element").remove("samples");
    }
    let (without, _) = run(&host, "auto_map_pdes", &mapping);
    mapping["connection"] = json!("warehouse");
    let (with, outputs) = run(&host, "auto_map_pdes", &mapping);
    let denied = |result: &Value| result["mappings"][0]["confidence"].as_f64().expect("a number");
    assert_eq!(with["mappings"][0]["column"], "deny");
    assert!(denied(&with) > denied(&without), "values show that it is yes or no: {with}");
    assert!(outputs.iter().all(|record| record["record"] != "not read"), "{outputs:?}");
}

#[test]
fn what_is_wrong_with_a_statement_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = databases(folder.path());
    let world = World::new(&config(&postgres, folder.path()));
    let host = world.host(&["execute_profiling_rules"]);
    let ask = |sql: Value| {
        let input = json!({"data_set": {"sql": sql}, "rules": []});
        let id = host.submit(&json!({"type": "execute_profiling_rules", "input": input}));
        host.ended(&id)["error"].clone()
    };
    for (sql, kind, says) in [
        (json!({"connection": "other", "select": "SELECT 1", "key": "a"}), "permanent", "`sql.other = {}`"),
        (json!({"connection": "warehouse", "select": "SELECT x", "key": "a"}), "invalid-input", "\"x\""),
        (
            json!({"connection": "warehouse", "select": "SELECT deny FROM hmda", "key": "id"}),
            "invalid-input",
            "there is no column \"id\"; there are: deny",
        ),
        (
            json!({"connection": "warehouse", "select": "SELECT * FROM hmda WHERE rownames > $1", "key": "rownames", "parameters": [[1]]}),
            "invalid-input",
            "`sql.parameters`",
        ),
        (
            json!({"connection": "notes", "select": "DELETE FROM hmda RETURNING *", "key": "rownames"}),
            "invalid-input",
            "syntax error",
        ),
    ] {
        let error = ask(sql.clone());
        assert_eq!(error["kind"], kind, "{sql}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(says)), "{sql}: {error}");
    }
    assert_eq!(postgres.run("SELECT count(*) FROM hmda"), "2380");
}

#[test]
fn a_killed_host_goes_on_behind_the_last_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = databases(folder.path());
    let world = World::new(&config(&postgres, folder.path()));
    let observer = observer(&world, &[]);
    let mut host = world.host(&["execute_profiling_rules"]);
    let mut input = input("execute_profiling_rules");
    let of_file = run(&host, "execute_profiling_rules", &input);
    input["data_set"] = statement("warehouse");
    input["pace"] = json!({"rows_per_step": 50, "rest_ms": 5});
    let id = host.submit(&json!({"type": "execute_profiling_rules", "input": input}));
    for percent in [10.0, 50.0] {
        eventually("it is under way", Duration::from_secs(20), || {
            let job = observer.job(&id);
            assert!(job["ended_at"].is_null(), "it ended before its host was killed: {job}");
            (job["progress"]["percent"].as_f64() > Some(percent)).then_some(())
        });
        host.kill();
        host.start();
    }
    let job = observer.ended(&id);
    assert_eq!((&job["status"], &job["run"]), (&json!("succeeded"), &json!(1)), "{job}");
    assert_eq!((job["result"].clone(), observer.outputs(&id)), of_file);
}
