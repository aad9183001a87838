import assert from "node:assert/strict";
import { test } from "node:test";
import { assertSurvivesAnything } from "waymark/testing";
import { lifecycle } from "./job.js";

test("the sum is right however often the job is interrupted", () => {
  const run = assertSurvivesAnything(lifecycle, { numbers: [1, 2, 6] });
  assert.deepEqual(run.result, { sum: 9 });
});
