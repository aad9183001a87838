// The client against a real host with the job type `counter` at $WAYMARK_URL.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import net from "node:net";
import { after, before, test } from "node:test";
import { Client, JobFailed, Refused, Unreachable, WaitTimeout } from "waymark/client";

const url = process.env.WAYMARK_URL ?? assert.fail("WAYMARK_URL names no host: see the README");
const client = new Client({ url });
const retry = { attempts: 4, baseMs: 10, longestMs: 50 };
const timeoutMs = 30_000;

test("a job is made and its result waited for", async () => {
  /** @type {{sum: number}} */
  const result = await client.run("counter", { steps: 4 }, { timeoutMs });
  assert.equal(result.sum, 10);
  const job = await client.submit("counter", { steps: 3, emit: true }, { priority: 7, tags: ["js"] });
  const ended = await client.wait(job.id, { timeoutMs });
  assert.deepEqual([ended.status, ended.priority], ["succeeded", 7]);
  assert.deepEqual(await client.output(job.id, 2), [{ step: 3, sum: 6 }]);
});

test("a failed job, one that takes long, and a refusal throw", async () => {
  await assert.rejects(
    client.run("counter", { steps: 3, fail_at: 2 }, { timeoutMs }),
    (error) => error instanceof JobFailed && /asked to fail at step 2 \(permanent\)/.test(error.message),
  );
  const waits = await client.submit("counter", { steps: 2, await_signal: "go" });
  await assert.rejects(client.wait(waits.id, { timeoutMs: 50 }), WaitTimeout);
  await assert.rejects(client.wait(waits.id, { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  await client.cancelJob(waits.id);
  await assert.rejects(
    client.submit("counter", { steps: "three" }),
    (error) => error instanceof Refused && error.status === 422 && error.code === "invalid-input",
  );
  await assert.rejects(new Client({ url: "http://127.0.0.1:9", retry }).listHosts(), Unreachable);
});

test("pages are turned", async () => {
  const tag = randomUUID();
  const made = [];
  for (let count = 0; count < 5; count += 1) {
    made.unshift((await client.submit("counter", { steps: 1 }, { tags: [tag] })).id);
  }
  const found = [];
  for await (const job of client.jobs({ tag, limit: 2 })) {
    found.push(job.id);
  }
  assert.deepEqual(found, made);
});

test("a job is followed to its end", async () => {
  const job = await client.submit("counter", { steps: 3, emit: true, await_signal: "go" });
  /** @type {number[]} */
  const seen = [];
  const followed = client.follow(job.id, (made) => seen.push(made.current));
  for await (const event of client.events(job.id)) {
    if (event.kind === "state" && event.data.status === "waiting") {
      await client.signalJob(job.id, "go", null);
    }
  }
  assert.equal(/** @type {{sum: number}} */ (await followed).sum, 6);
  assert.deepEqual(seen, [...seen].sort((left, right) => left - right));
});

/** Answers that are still to be lost. */
let lost = 0;
/** @type {net.Server} */
let proxy;
/** @type {Client} */
let far;

before(async () => {
  const host = new URL(url);
  proxy = net.createServer((caller) => {
    const behind = net.connect(Number(host.port), host.hostname);
    caller.pipe(behind);
    caller.on("error", () => behind.destroy());
    behind.on("error", () => caller.destroy());
    behind.on("data", (data) => {
      if (lost > 0) {
        // The host has done it; nobody hears of it.
        lost -= 1;
        caller.destroy();
        behind.destroy();
      } else {
        caller.write(data);
      }
    });
    behind.on("end", () => caller.end());
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {net.AddressInfo} */ (proxy.address());
  far = new Client({ url: `http://127.0.0.1:${port}`, retry });
});

after(() => proxy.close());

test("a lost answer makes no second job, and what may not be repeated is not", async () => {
  const tags = [randomUUID()];
  lost = 2;
  const made = await far.submit("counter", { steps: 1 }, { tags });
  const { jobs } = await client.listJobs({ tag: /** @type {string} */ (tags[0]) });
  assert.deepEqual(jobs.map(({ id }) => id), [made.id]);
  lost = 1;
  await assert.rejects(far.createJobs({ jobs: [{ type: "counter", input: { steps: 1 }, tags }] }), Unreachable);
  assert.equal((await client.listJobs({ tag: /** @type {string} */ (tags[0]) })).jobs.length, 2);
});

test("a stream goes on where it broke", async () => {
  const job = await client.submit("counter", { steps: 20, emit: true });
  await client.wait(job.id, { timeoutMs });
  lost = 1;
  const steps = [];
  for await (const event of far.events(job.id)) {
    if (event.kind === "output") {
      steps.push(/** @type {{step: number}} */ (event.data).step);
    }
  }
  assert.deepEqual(steps, Array.from({ length: 20 }, (_, index) => index + 1));
});
