// Capabilities with somebody who stands in for the host.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure, defineJob, done, progress } from "waymark";
import * as config from "waymark/config";
import * as http from "waymark/http";
import * as kv from "waymark/kv";
import * as llm from "waymark/llm";
import * as sql from "waymark/sql";
import { assertSurvivesAnything, run } from "waymark/testing";

/** @param {() => unknown} work @returns {any} */
const thrown = (work) => {
  try {
    work();
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
};

test("a typed question carries its schema and reads its answer", () => {
  /** @type {any[]} */
  const asked = [];
  llm.answering(
    (request) => {
      asked.push(request);
      return /** @type {llm.Message} */ (request.messages.at(-1)).content;
    },
    () => {
      assert.deepEqual(llm.ask({ type: "object" }, '{"risky": true}', { system: "A risk?", maxTokens: 9 }), { risky: true });
      const [one, two] = llm.askAll({ type: "boolean" }, ["true", "not JSON"]);
      assert.equal(one, true);
      assert.equal(two.code, "bad-answer");
      assert.deepEqual([llm.complete("?").content, llm.complete("?").cached], ["?", false]);
    },
  );
  assert.deepEqual(asked[0].schema, { type: "object" });
  assert.deepEqual([asked[0].messages.map((/** @type {any} */ one) => one.role), asked[0].maxTokens], [["system", "user"], 9]);
  assert.equal(thrown(() => llm.complete("?")).code, "not-configured", "the model is gone with the block");
});

test("an error is for the host what it should make of it", () => {
  const limited = new llm.LlmError("limited", "later", 1_500);
  assert.ok(limited instanceof Failure && limited instanceof Error);
  // The bindings of a component look for a property of the exception's own.
  assert.deepEqual(Object.getOwnPropertyDescriptor(limited, "payload")?.value, {
    tag: "retry-after",
    val: [1_500n, "language model: later"],
  });
  const kinds = [
    new llm.LlmError("unavailable", ""),
    new sql.SqlError("unavailable", ""),
    new http.HttpError("unavailable", ""),
    new kv.KvError("other", ""),
    new kv.KvError("no-such-store", ""),
    new http.HttpError("denied", ""),
  ].map((error) => error.kind);
  assert.deepEqual(kinds, ["transient", "transient", "transient", "transient", "permanent", "permanent"]);
});

test("without a grant every capability says so", () => {
  const errors = [
    () => llm.complete("?"),
    () => http.get("https://a.example/"),
    () => sql.query("notes", "SELECT 1"),
    () => kv.bucket(),
  ].map(thrown);
  assert.deepEqual(
    errors.map((error) => [error.isAbsent, error.kind]),
    errors.map(() => [true, "permanent"]),
  );
  assert.deepEqual([sql.connections(), config.all(), config.get("a"), config.get("a", "b")], [[], {}, undefined, "b"]);
});

test("requests and answers are bytes, texts or JSON", () => {
  http.answering(
    ({ method, headers, body }) => ({ status: 201, headers: { ...headers, "x-method": method }, body }),
    () => {
      const answer = http.post("https://a.example/", { json: { a: "ö" }, headers: { accept: "*/*" } });
      assert.deepEqual([answer.status, answer.json(), answer.headers["x-method"]], [201, { a: "ö" }, "POST"]);
      assert.equal(answer.headers["content-type"], "application/json");
      assert.equal(http.request("PUT", "https://a.example/", { body: "ö" }).text, "ö");
      assert.equal(http.get("https://a.example/").body.length, 0);
    },
  );
});

const notes = [1, 2, 3, 4, 5].map((id) => [id, `note ${id}`]);

/** Answers the statements of a keyset. @type {Parameters<typeof sql.answering>[0]} */
const table = (connection, statement, [limit, after]) => {
  assert.equal(connection, "notes");
  const [, rows] = /LIMIT (\d+)$/.exec(statement) ?? [];
  assert.equal(statement.includes('WHERE ("id") > ($2)'), after !== undefined);
  const behind = notes.filter(([id]) => Number(id) > Number(after ?? 0) && Number(id) <= Number(limit));
  return { columns: ["id", "note"], rows: behind.slice(0, Number(rows)) };
};

const reader = defineJob({
  name: "reader",
  version: "1.0.0",
  input: { type: "integer" },
  start: (/** @type {number} */ limit) => ({
    pages: sql.keyset("notes", "SELECT id, note FROM notes WHERE id <= $1", ["id"], { parameters: [limit], rowsPerPage: 2 }),
  }),
  step({ pages }, context) {
    const page = sql.nextPage(pages);
    for (const [, note] of page) {
      context.emit(note);
    }
    return page.length > 0 ? progress(pages.rows) : done(pages.rows);
  },
});

test("a job reads every row once however often it crashes", () => {
  const made = sql.answering(table, () => assertSurvivesAnything(reader, 5));
  assert.deepEqual([made.result, made.outputs], [5, notes.map(([, note]) => note)]);
  const lost = run(reader, 5);
  assert.ok(lost.failure instanceof sql.SqlError);
  assert.equal(lost.failure.code, "not-granted");
  sql.answering(
    () => ({ columns: ["other"], rows: [[1]], changed: 3 }),
    () => {
      assert.equal(thrown(() => sql.nextPage(sql.keyset("notes", "SELECT 1", ["id"]))).code, "bad-statement");
      assert.equal(sql.execute("notes", "DELETE FROM notes"), 3);
      const cursor = sql.query("notes", "SELECT 1");
      assert.deepEqual([cursor.columns, [...cursor], cursor.next()], [["other"], [[1]], []]);
    },
  );
});

test("buckets and settings are those that a test gives", () => {
  kv.keeping(["default"], () => {
    const bucket = kv.bucket();
    assert.deepEqual([bucket.get("rate"), bucket.has("rate")], [undefined, false]);
    bucket.set("rate", "1.25");
    assert.deepEqual([bucket.getText("rate"), bucket.increment("jobs"), bucket.increment("jobs", 2)], ["1.25", 1, 3]);
    bucket.delete("rate");
    assert.deepEqual(kv.bucket("default").names(), ["jobs"]);
    assert.equal(thrown(() => kv.bucket("other")).code, "no-such-store");
  });
  config.telling({ threshold: "0.5" }, () => {
    assert.deepEqual([config.get("threshold", "1"), config.all()], ["0.5", { threshold: "0.5" }]);
  });
});
