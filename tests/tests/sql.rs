//! `waymark:sql` against a real PostgreSQL and SQLite files.

use serde_json::{Value, json};
use std::{process::Command, time::Duration};
use waymark_tests::{World, client::Client, eventually, postgres::Postgres};

/// 2,500 rows, and one of every type that is read.
const TABLES: &str = "
CREATE TABLE numbers (id bigint PRIMARY KEY, name text NOT NULL);
INSERT INTO numbers SELECT n, 'row ' || n FROM generate_series(1, 2500) AS n;
CREATE TABLE written (id int PRIMARY KEY, what text);
CREATE ROLE reader LOGIN;
GRANT ALL ON ALL TABLES IN SCHEMA public TO reader;
CREATE TYPE mood AS ENUM ('good', 'bad');
";

fn config(postgres: &Postgres, grant: &str) -> String {
    format!(
        "[sql.main]\nurl = {:?}\npool = 3\n[plugins.querier.grants.sql]\nmain = {{ {grant} }}\n",
        postgres.url("reader")
    )
}

/// What came of each statement.
fn run(host: &Client, statements: &Value) -> Vec<Value> {
    let id = host.submit(&json!({"type": "querier", "input": statements}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    host.outputs(&id)
}

fn error(output: &Value) -> &str {
    output["error"].as_str().unwrap_or_else(|| panic!("no error: {output}"))
}

/// Each statement on the connection `main`, without parameters.
fn all(host: &Client, statements: &[&str], write: bool) -> Vec<Value> {
    let one = |statement: &&str| json!({"connection": "main", "statement": statement, "write": write});
    let outputs = run(host, &json!(statements.iter().map(one).collect::<Vec<_>>()));
    assert_eq!(outputs.len(), statements.len());
    outputs
}

#[test]
fn rows_of_postgresql_are_read_in_batches_and_every_type_is_a_value() {
    let postgres = Postgres::start();
    let _ = postgres.run(TABLES);
    let world = World::new(&config(&postgres, ""));
    let host = world.host(&["querier"]);
    let types = "SELECT true, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 'a'::text, 'b'::varchar, \
                 12345678901234567890.0120::numeric, '2026-02-03'::date, '2026-02-03 04:05:06.7'::timestamp, \
                 '2026-02-03 04:05:06Z'::timestamptz, '04:05:06'::time, \
                 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{\"a\": 1}'::jsonb, '\\x00ff'::bytea, \
                 NULL::text, 'good'::mood";
    let outputs = run(
        &host,
        &json!([
            {"connection": "main", "statement": "SELECT id, name FROM numbers ORDER BY id"},
            {"connection": "main", "statement": types, "rows": true},
            {"connection": "main", "rows": true, "parameters": [2499, "row %", 0.5, true, null],
             "statement": "SELECT id FROM numbers WHERE id >= $1 AND name LIKE $2 AND $3 < 0.6 AND $4 \
                           AND $5::text IS NULL ORDER BY id"},
            {"connection": "main", "rows": true, "parameters": ["'; DROP TABLE numbers; --"],
             "statement": "SELECT $1::text AS said"},
            {"connection": "main", "statement": "SELECT '[1,2)'::int4range AS span"},
            {"connection": "other", "statement": "SELECT 1"},
        ]),
    );
    assert_eq!(outputs[0]["number"], 2500);
    let row = json!([
        true,
        1,
        2,
        3,
        1.5,
        2.5,
        "a",
        "b",
        "12345678901234567890.0120",
        "2026-02-03",
        "2026-02-03T04:05:06.700000",
        "2026-02-03T04:05:06Z",
        "04:05:06.000000",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "{\"a\": 1}",
        [0, 255],
        null,
        "good",
    ]);
    assert_eq!(outputs[1]["rows"][0], row);
    assert_eq!(outputs[2]["rows"], json!([[2499], [2500]]), "{outputs:?}");
    assert_eq!(outputs[3], json!({"columns": ["said"], "rows": [["'; DROP TABLE numbers; --"]]}));
    assert!(error(&outputs[4]).contains("cast it to text"), "{outputs:?}");
    assert!(error(&outputs[5]).contains("`sql.other = {}` under [plugins.querier.grants]"), "{outputs:?}");
    eventually("the metrics count", Duration::from_secs(5), || {
        (host.metric("waymark_sql_rows_total{type=\"querier\"") >= 2504.0).then_some(())
    });
}

#[test]
fn a_grant_for_reading_writes_nothing_whatever_the_statement() {
    let postgres = Postgres::start();
    let _ = postgres.run(TABLES);
    let world = World::new(&config(&postgres, ""));
    let host = world.host(&["querier"]);
    let statements = [
        "SELECT 1; INSERT INTO written VALUES (1, 'stacked')",
        "INSERT INTO written VALUES (2, 'plain') RETURNING id",
        "WITH w AS (INSERT INTO written VALUES (3, 'within') RETURNING id) SELECT id FROM w",
        "UPDATE numbers SET name = 'x'",
        "DELETE FROM numbers",
        "CREATE TABLE made (id int)",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SET TRANSACTION READ WRITE",
        "DO $$ BEGIN INSERT INTO written VALUES (4, 'do'); END $$",
        "COPY numbers TO STDOUT",
        "SELECT nextval('x')",
        "SELECT * INTO made FROM numbers",
        "EXPLAIN ANALYZE INSERT INTO written VALUES (5, 'explained')",
    ];
    for (statement, output) in statements.iter().zip(all(&host, &statements, false)) {
        assert!(output["error"].is_string(), "{statement}: {output}");
    }
    // These end nothing but their own transaction.
    let _ = all(&host, &["COMMIT", "ROLLBACK AND CHAIN", "SET default_transaction_read_only = off"], false);
    let after = all(&host, &["INSERT INTO written VALUES (6, 'after') RETURNING id"], false);
    assert!(error(&after[0]).contains("granted for reading"), "{after:?}");
    let refused = all(&host, &["INSERT INTO written VALUES (7, 'x')"], true);
    assert!(error(&refused[0]).contains("`sql.main.write = true`"), "{refused:?}");
    assert_eq!(postgres.run("SELECT count(*) FROM written"), "0");
    assert_eq!(postgres.run("SELECT count(*) FROM numbers"), "2500");

    let world = World::new(&config(&postgres, "write = true"));
    let host = world.host(&["querier"]);
    let outputs = all(
        &host,
        &["INSERT INTO written VALUES (8, 'granted'), (9, 'too')", "INSERT INTO written VALUES (8, 'again')"],
        true,
    );
    assert_eq!(outputs[0]["changed"], 2);
    assert!(error(&outputs[1]).contains("23505"), "{outputs:?}");
    let stacked = all(&host, &["DELETE FROM written; DELETE FROM numbers"], true);
    assert!(stacked[0]["error"].is_string(), "{stacked:?}");
    let read = all(&host, &["DELETE FROM written RETURNING id"], false);
    assert!(error(&read[0]).contains("granted for reading"), "what reads never writes: {read:?}");
    assert_eq!(postgres.run("SELECT count(*) FROM written"), "2");
}

#[test]
fn endless_results_slow_statements_and_too_many_cursors_meet_their_limits() {
    let postgres = Postgres::start();
    let _ = postgres.run(TABLES);
    let limits = "rows_max = 5000, bytes_max = 1000000, statement_ms = 700, cursors_max = 2";
    let world = World::new(&config(&postgres, limits));
    let host = world.host(&["querier"]);
    let outputs = run(
        &host,
        &json!([
            {"connection": "main", "batch": 1000,
             "statement": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"},
            {"connection": "main", "statement": "SELECT repeat('x', 100000) FROM generate_series(1, 100)"},
            {"connection": "main", "statement": "SELECT pg_sleep(30)::text"},
            {"connection": "main", "statement": "SELECT 1", "held": 1},
            {"connection": "main", "statement": "SELECT 1", "held": 2},
            {"connection": "main", "statement": "SELECT id FROM numbers"},
        ]),
    );
    assert!(error(&outputs[0]).contains("rows_max"), "{outputs:?}");
    assert!(error(&outputs[1]).contains("bytes_max"), "{outputs:?}");
    assert!(error(&outputs[2]).contains("statement_ms"), "{outputs:?}");
    assert_eq!(outputs[3]["number"], 1);
    assert!(error(&outputs[4]).contains("at most 2 cursors"), "{outputs:?}");
    assert_eq!(outputs[5]["number"], 2500, "the connections are of use again");
    eventually("nothing runs on", Duration::from_secs(5), || {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state <> 'idle'";
        (postgres.run(running) == "0").then_some(())
    });
}

#[test]
fn pages_go_on_behind_the_last_row_after_a_crash() {
    let postgres = Postgres::start();
    let _ = postgres.run(TABLES);
    let text = format!(
        "[defaults]\ncheckpoint = {{ every_steps = 1 }}\n[worker]\nlease_ms = 500\n{}",
        config(&postgres, "")
    );
    let world = World::new(&text);
    let (mut first, second) = (world.host(&["querier"]), world.host(&["querier"]));
    let input = json!([{"connection": "main", "statement": "SELECT id, name FROM numbers", "key": "id", "batch": 20}]);
    let id = first.submit(&json!({"type": "querier", "input": input}));
    eventually("it is under way", Duration::from_secs(10), || {
        (second.job(&id)["progress"]["current"].as_u64() > Some(100)).then_some(())
    });
    first.kill();
    assert_eq!(second.result(&id), 2500);
    let rows: Vec<_> = second.outputs(&id).iter().filter_map(Value::as_u64).collect();
    assert!(rows.iter().copied().eq(1..=2500), "every row once, in order");
}

/// A file with one table of three rows.
fn sqlite() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "import sqlite3, sys\n\
                  c = sqlite3.connect(sys.argv[1])\n\
                  c.executescript('create table t (id integer primary key, x); \
                  insert into t values (1, 1.5), (2, null), (3, x\\'00ff\\');')\n";
    let made = Command::new("python3").args(["-c", script]).arg(folder.path().join("a.db")).status();
    assert!(made.expect("python3 runs").success());
    folder
}

#[test]
fn sqlite_reads_and_writes_as_granted_and_reaches_nothing_else() {
    let folder = sqlite();
    let file = folder.path().join("a.db").display().to_string();
    let config = |grant: &str| {
        format!("[sql.main]\nurl = \"sqlite:{file}\"\n[plugins.querier.grants.sql]\nmain = {{ {grant} }}\n")
    };
    let world = World::new(&config("statement_ms = 700, rows_max = 5000"));
    let host = world.host(&["querier"]);
    let read = run(
        &host,
        &json!([
            {"connection": "main", "statement": "SELECT id, x FROM t WHERE id >= $1 ORDER BY id", "rows": true,
             "parameters": [1], "batch": 2},
            {"connection": "main", "statement": "SELECT $2 - $1 AS n", "rows": true, "parameters": [1, 10]},
            {"connection": "main", "batch": 1000,
             "statement": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"},
            {"connection": "main",
             "statement": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"},
        ]),
    );
    assert_eq!(read[0], json!({"columns": ["id", "x"], "rows": [[1, 1.5], [2, null], [3, [0, 255]]]}));
    assert_eq!(read[1]["rows"], json!([[9]]), "parameters go by their number");
    assert!(error(&read[2]).contains("rows_max"), "{read:?}");
    assert!(error(&read[3]).contains("statement_ms"), "{read:?}");
    let attached = format!("ATTACH '{file}2' AS other");
    let refused = [
        "SELECT 1; DELETE FROM t",
        "DELETE FROM t RETURNING id",
        "INSERT INTO t VALUES (4, 4)",
        "DROP TABLE t",
        "CREATE TEMP TABLE u (a)",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "VACUUM INTO '/tmp/waymark-vacuum.db'",
        &attached,
    ];
    for (statement, output) in refused.iter().zip(all(&host, &refused, false)) {
        assert!(output["error"].is_string(), "{statement}: {output}");
    }
    let world = World::new(&config("write = true"));
    let host = world.host(&["querier"]);
    let written = all(
        &host,
        &["INSERT INTO t VALUES (4, 4)", "DROP TABLE t", &attached, "DELETE FROM t; SELECT 1"],
        true,
    );
    assert_eq!(written[0]["changed"], 1);
    for output in &written[1..] {
        assert!(output["error"].is_string(), "{output}");
    }
    assert_eq!(all(&host, &["SELECT id FROM t"], false)[0]["number"], 4);
}
