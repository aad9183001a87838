// A job type that uses every capability, one a step: what came of each is its result.

import { defineJob, done, progress } from "waymark";
import * as config from "waymark/config";
import * as http from "waymark/http";
import * as kv from "waymark/kv";
import * as llm from "waymark/llm";
import * as sql from "waymark/sql";

const VERDICT = {
  type: "object",
  properties: { risky: { type: "boolean" }, reason: { type: "string" } },
  required: ["risky", "reason"],
};

function codeOf(work) {
  try {
    work();
    return "nothing";
  } catch (error) {
    return error.code ?? String(error);
  }
}

const steps = {
  ask_the_web({ input }, context) {
    const headers = { authorization: "Bearer {{secret:token}}", "idempotency-key": context.idempotencyKey() };
    const answer = http.post(`${input.url}/echo?a=b`, { json: { long: "x".repeat(10_000) }, headers });
    const refused = codeOf(() => http.get(input.denied));
    return [answer.status, answer.headers["x-kind"], answer.json().long.length, refused];
  },

  ask_a_model() {
    const verdict = llm.ask(VERDICT, "a section", { system: "Is this a risk?", maxTokens: 50 });
    const contents = llm.completeAll(["one", "two"]).map(({ code, content }) => code ?? content);
    const refused = codeOf(() => llm.complete("three", { model: "unknown" }));
    return [verdict.risky, verdict.reason, contents, refused];
  },

  read_rows({ rows }) {
    const pages = [];
    for (let page = sql.nextPage(rows); page.length > 0; page = sql.nextPage(rows)) {
      pages.push(page);
    }
    const [values] = sql.query("notes", "SELECT $1, $2, $3, $4, $5", null, true, 7, 0.5, "text");
    const cursor = sql.query("notes", "SELECT $1 AS bytes", new Uint8Array([0, 255]));
    const [[blob]] = cursor.next();
    cursor.close();
    return [sql.connections(), pages, values, blob[0] === 0 && blob[1] === 255];
  },

  write_rows() {
    const changed = sql.execute("notes", "UPDATE notes SET note = $1 WHERE id > $2", "changed", 1);
    return [changed, codeOf(() => sql.query("notes", "SELECT nothing FROM nowhere"))];
  },

  keep() {
    const bucket = kv.bucket();
    bucket.set("rate", "1.25");
    const sum = bucket.increment("jobs", 2);
    const none = bucket.get("none") ?? null;
    const kept = [bucket.getText("rate") === "1.25", none, bucket.has("rate"), bucket.names().sort(), sum];
    bucket.delete("rate");
    return [...kept, bucket.has("rate"), config.get("threshold"), config.get("none", "default"), config.all()];
  },
};

export const lifecycle = defineJob({
  name: "capabilities-javascript",
  version: "0.1.0",
  description: "Uses every capability.",
  input: {
    type: "object",
    properties: { url: { type: "string" }, denied: { type: "string" }, fail: { type: "boolean" } },
    required: ["url", "denied"],
    additionalProperties: false,
  },

  start: (input) => ({
    input,
    found: {},
    rows: sql.keyset("notes", "SELECT id, note FROM notes", ["id"], { rowsPerPage: 2 }),
  }),

  step(state, context) {
    if (state.input.fail) {
      // Not caught, it is for the host what it should make of it.
      llm.complete("three", { model: "unknown" });
    }
    const names = Object.keys(steps);
    const at = context.job.committedSteps;
    if (at === names.length) {
      return done(state.found);
    }
    const name = names[at];
    state.found[name] = steps[name](state, context);
    return progress(at + 1, names.length, name);
  },
});
