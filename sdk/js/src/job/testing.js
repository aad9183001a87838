// A host for node's test runner: runs a job type in this process, and crashes it as often as one likes.

import { Failure, defineJob, setHost } from "./index.js";

const STEPS_MAX = 1_000_000;
const ATTEMPTS_MAX = 3;

const plain = ({ current, total, message }) => ({
  current: Number(current),
  ...(total === undefined ? {} : { total: Number(total) }),
  ...(message === undefined ? {} : { message }),
});

export function run(lifecycle, input, settings = {}) {
  const { crash = "never", alwaysYielding = false, signals = {}, children, metadata = {} } = settings;
  const { attemptsMax = ATTEMPTS_MAX, stepsMax = STEPS_MAX } = settings;
  const made = { outputs: [], progress: [], spawned: [], logs: [], steps: 0, attempts: 1 };
  const arrived = {};
  let ended = [];
  // Buffered effects are kept apart until the step is committed.
  const none = () => ({ outputs: [], progress: [], spawned: [] });
  let effects = none();
  setHost({
    context: () => ({
      jobId: "job",
      correlationId: "job",
      attempt: made.attempts,
      committedSteps: BigInt(made.steps),
      softLimitMs: undefined,
      metadata: JSON.stringify(metadata),
    }),
    shouldYield: () => alwaysYielding,
    idempotencyKey: () => `job:1:${made.steps + 1}`,
    log: (level, message, fields) => made.logs.push({ level, message, fields: JSON.parse(fields) }),
    emit: (item) => effects.outputs.push(JSON.parse(item)),
    report: (progress) => effects.progress.push(plain(progress)),
    spawn(jobType, text) {
      effects.spawned.push({ jobType, input: JSON.parse(text) });
      return `child-${made.spawned.length + effects.spawned.length}`;
    },
    children: () => ended,
    signal: (name) => (name in arrived ? JSON.stringify(arrived[name]) : undefined),
  });
  const answered = ({ jobType, input }, index) => {
    if (children === undefined) {
      throw new Error(`a child of type ${jobType} has nobody to answer it: give settings.children`);
    }
    try {
      return [`child-${index + 1}`, { tag: "ok", val: JSON.stringify(children(jobType, input)) }];
    } catch (error) {
      return [`child-${index + 1}`, { tag: "err", val: String(error?.message ?? error) }];
    }
  };
  // Each restore gets an instance of its own, as on a host.
  let instance;
  const fresh = (checkpoint) => {
    effects = none();
    instance = defineJob(lifecycle.definition);
    if (checkpoint === undefined) {
      instance.start(JSON.stringify(input));
    } else {
      instance.restore(checkpoint);
    }
  };
  // Undefined while nothing is committed: then an attempt begins with `start`.
  let checkpoint;
  for (;;) {
    let answer;
    try {
      if (instance === undefined) {
        fresh(checkpoint);
      }
      if (crash === "within steps") {
        const before = instance.checkpoint();
        fresh(before);
        const first = seen([instance.step(), effects]);
        fresh(before);
        answer = instance.step();
        if (seen([answer, effects]) !== first) {
          throw new Error(`step ${made.steps + 1} does not do the same twice`);
        }
      } else {
        answer = instance.step();
      }
    } catch (error) {
      if (!(error instanceof Failure)) {
        throw error;
      }
      if (["transient", "retry-after"].includes(error.kind) && made.attempts < attemptsMax) {
        made.attempts += 1;
        instance = undefined;
        continue;
      }
      made.failure = error;
      return made;
    }
    made.outputs.push(...effects.outputs);
    made.progress.push(...effects.progress);
    made.spawned.push(...effects.spawned);
    effects = none();
    made.steps += 1;
    if (made.steps > stepsMax) {
      throw new Error(`the job did not end within ${stepsMax} steps`);
    }
    switch (answer.tag) {
      case "completed":
        made.result = JSON.parse(answer.val);
        return made;
      case "progressed":
        made.progress.push(plain(answer.val));
        break;
      case "await-children":
        ended = made.spawned.map(answered);
        break;
      case "await-signal":
        if (answer.val.name in signals) {
          arrived[answer.val.name] = signals[answer.val.name];
        } else if (answer.val.timeoutMs === undefined) {
          throw new Error(`the signal ${answer.val.name} never arrives: give it in settings.signals`);
        }
        break;
    }
    try {
      checkpoint = instance.checkpoint();
    } catch (error) {
      if (!(error instanceof Failure)) {
        throw error;
      }
      made.failure = error;
      return made;
    }
    if (crash !== "never") {
      instance = undefined;
    }
  }
}

const seen = (value) => JSON.stringify(value, (_, part) => (typeof part === "bigint" ? String(part) : part));

export function assertSurvivesAnything(lifecycle, input, settings = {}) {
  const observed = ({ result, failure, outputs, progress, spawned, steps }) =>
    seen([result, failure?.kind, failure?.message, outputs, progress, spawned, steps]);
  const undisturbed = run(lifecycle, input, settings);
  for (const crash of ["between steps", "within steps"]) {
    const disturbed = run(lifecycle, input, { ...settings, crash });
    if (observed(disturbed) !== observed(undisturbed)) {
      throw new Error(
        `the job differs with crashes ${crash}:\n  ${observed(disturbed)}\nundisturbed:\n  ${observed(undisturbed)}`,
      );
    }
  }
  return undisturbed;
}
