// What authors write, run in this process.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure, awaitChildren, awaitSignal, defineJob, done, each, items, progress } from "waymark";
import { assertSurvivesAnything, run } from "waymark/testing";

/** @param {any} [more] */
const counter = (more) =>
  defineJob({
    name: "counter",
    version: "1.0.0",
    input: { type: "object" },
    start: (/** @type {any} */ input, context) => {
      context.log("info", "started", { steps: input.steps });
      return { input, at: 0, sum: 0, spawned: false, parked: false };
    },
    step(state, context) {
      if (state.input.children && !state.spawned) {
        state.spawned = true;
        context.spawn("counter", { steps: 2 });
        return awaitChildren();
      }
      if (state.input.signal && !state.parked) {
        state.parked = true;
        return awaitSignal(state.input.signal);
      }
      state.at += 1;
      if (state.at === state.input.fail_at) {
        throw Failure.permanent("asked to fail");
      }
      if (state.at === state.input.transient_at && context.job.attempt === 1) {
        context.emit("never seen");
        throw Failure.transient("asked to fail for now");
      }
      state.sum += state.at;
      context.emit({ step: state.at });
      if (state.at < state.input.steps) {
        return progress(state.at, state.input.steps);
      }
      const children = context.children();
      return done({ sum: state.sum, children, signal: context.signal(state.input.signal) ?? null });
    },
    ...more,
  });

test("a job is the same however often it crashes", () => {
  const made = assertSurvivesAnything(
    counter(),
    { steps: 3, children: true, signal: "go" },
    { signals: { go: { by: "me" } }, children: (_, input) => ({ sum: input.steps }) },
  );
  assert.deepEqual(made.result, { sum: 6, children: [{ id: "child-1", result: { sum: 2 } }], signal: { by: "me" } });
  assert.deepEqual(made.outputs, [{ step: 1 }, { step: 2 }, { step: 3 }]);
  assert.deepEqual(made.progress, [{ current: 1, total: 3 }, { current: 2, total: 3 }]);
});

test("a failure is one for the bindings of a component too", () => {
  // They look for a property of the exception's own; an exception without it is a trap.
  const payload = (/** @type {Failure} */ failure) => Object.getOwnPropertyDescriptor(failure, "payload")?.value;
  assert.deepEqual(payload(Failure.permanent("no")), { tag: "permanent", val: "no" });
  assert.deepEqual(payload(Failure.retryAfter(1_500, "later")), { tag: "retry-after", val: [1_500n, "later"] });
  assert.throws(() => Failure.retryAfter(Number.NaN, "later"), Failure);
});

test("a failed step leaves nothing and is tried again from the last commit", () => {
  const made = run(counter(), { steps: 3, transient_at: 2 });
  assert.deepEqual([made.attempts, made.outputs.length], [2, 3]);
  const failed = run(counter(), { steps: 3, fail_at: 2 });
  assert.deepEqual([failed.failure?.kind, failed.failure?.message, failed.steps], ["permanent", "asked to fail", 1]);
});

test("items are handed out in portions and kept in the checkpoint", () => {
  const mean = defineJob({
    name: "mean",
    version: "0.1.0",
    input: { type: "array", items: { type: "number" } },
    start: (/** @type {number[]} */ numbers) => ({ numbers: items(numbers, 2), sum: 0 }),
    step(state, context) {
      const more = each(state.numbers, context, (number) => {
        state.sum += number;
      });
      return more ?? done(state.sum / state.numbers.total_items);
    },
  });
  const made = assertSurvivesAnything(mean, [1, 2, 6]);
  assert.deepEqual([made.result, made.steps], [3, 2]);
  assert.equal(run(mean, [1, 2, 6], { alwaysYielding: true }).steps, 3);
});

test("what is forgotten, and what JSON does not have, is found", () => {
  let outside = 0;
  const forgets = counter({
    step(/** @type {any} */ state) {
      outside += 1;
      state.at += 1;
      return state.at < 3 ? progress(state.at) : done(outside);
    },
  });
  assert.throws(() => assertSurvivesAnything(forgets, { steps: 3 }), /differs with crashes between steps/);
  for (const value of [NaN, new Map(), new Date(0), 1n, () => 1]) {
    const keeps = counter({ start: () => ({ deep: [value] }), step: () => progress(1) });
    const { failure } = run(keeps, {}, { stepsMax: 2 });
    assert.match(failure?.message ?? "", /^\/deep\/0: .* cannot be written as JSON/);
  }
});

test("an older checkpoint is rewritten and a newer one refused", () => {
  /** @type {any} */
  const job = counter({
    stateVersion: 3,
    oldestStateVersion: 1,
    migrate: (/** @type {number} */ from, /** @type {any} */ state) => ({ ...state, [`from${from}`]: true }),
  });
  const state = new TextEncoder().encode('{"at":1}');
  job.restore({ mimeType: "application/json", stateVersion: 1, state });
  const kept = JSON.parse(new TextDecoder().decode(job.checkpoint().state));
  assert.deepEqual(kept, { at: 1, from1: true, from2: true });
  const newer = { mimeType: "application/json", stateVersion: 4, state };
  assert.throws(() => job.restore(newer), /has state version 4; counter 1.0.0 reads 1 to 3/);
});

test("a definition that is no job type is refused with what is missing", () => {
  const wrong = [
    [{ name: "Upper" }, /1 to 64 of a-z/],
    [{ version: "1" }, /no semantic version/],
    [{ input: undefined }, /schema of its input/],
    [{ step: undefined }, /needs start and step/],
    [{ stateVersion: 2, oldestStateVersion: 1 }, /needs migrate/],
  ];
  for (const [more, complaint] of wrong) {
    assert.throws(() => counter(more), /** @type {RegExp} */ (complaint));
  }
});
