//! A guest for the system tests: runs SQL statements, one a step, and emits what came of each; or reads a table in
//! pages.

#![expect(missing_docs, reason = "a test guest; its fields are described where they are read")]

use waymark_sdk::prelude::*;
use waymark_sdk::sql::{self, Keyset};

#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    connection: String,
    statement: String,
    #[serde(default)]
    #[schemars(with = "Vec<Value>")]
    parameters: Vec<sql::Value>,
    /// Run it as one that writes.
    #[serde(default)]
    write: bool,
    /// Rows of a batch.
    #[serde(default = "hundred")]
    batch: u32,
    /// Emit the rows, not their number.
    #[serde(default)]
    rows: bool,
    /// Cursors of the same statement that are held meanwhile.
    #[serde(default)]
    held: usize,
    /// Read it in pages of `batch` rows in the order of this key, a page a step.
    key: Option<String>,
}

fn hundred() -> u32 {
    100
}

#[derive(Deserialize, Serialize)]
pub struct Querier {
    statements: Items<Statement>,
    pages: Option<Keyset>,
}

impl Job for Querier {
    type Input = Vec<Statement>;
    type Output = u64;
    const NAME: &str = "querier";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Runs SQL statements.";

    fn start(input: Vec<Statement>, _: &mut Context) -> Result<Self, Failure> {
        let pages = input.iter().find_map(|one| {
            let key = one.key.clone()?;
            let pages = Keyset::new(one.connection.as_str(), one.statement.as_str(), [key]);
            Some(pages.rows_per_page(one.batch))
        });
        Ok(Self { statements: Items::new(input).per_step(1), pages })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<u64>, Failure> {
        if let Some(pages) = &mut self.pages {
            let page = pages.next_page()?;
            for row in &page {
                context.emit(&row[0])?;
            }
            let rows = pages.rows();
            return Ok(if page.is_empty() { Step::Done(rows) } else { Step::progress(rows, None) });
        }
        let more = self.statements.each(context, |one: Statement, context| {
            context.emit(&run(&one).unwrap_or_else(|error| json!({"error": error.to_string()})))
        })?;
        Ok(more.unwrap_or(Step::Done(0)))
    }
}

fn run(one: &Statement) -> Result<Value, sql::Error> {
    let Statement { parameters, .. } = one;
    if one.write {
        return Ok(json!({"changed": sql::execute(&one.connection, &one.statement, parameters)?}));
    }
    let held: Result<Vec<_>, _> =
        (0..one.held).map(|_| sql::query(&one.connection, &one.statement, parameters)).collect();
    let mut cursor = sql::query(&one.connection, &one.statement, parameters)?;
    drop(held?);
    let (mut number, mut all) = (0, Vec::new());
    loop {
        let batch = cursor.next(one.batch)?;
        if batch.is_empty() {
            break;
        }
        number += batch.len();
        if one.rows {
            all.extend(batch);
        }
    }
    Ok(if one.rows { json!({"columns": cursor.columns(), "rows": all}) } else { json!({"number": number}) })
}

waymark_sdk::export!(Querier);
