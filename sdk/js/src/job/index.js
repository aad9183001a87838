// What authors use. The functions of the contract come from `setHost`: inside a component the entry that
// `waymark-build` writes gives those of the host, under test `testing.js` its own.

const NAME = /^[a-z0-9_-]{1,64}$/;
const VERSION = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;
const MIME_TYPE = "application/json";
const ITEMS_PER_STEP = 100;

let host;

export function setHost(functions) {
  host = functions;
}

export const progress = (current, total, message) => ({ tag: "progress", progress: { current, total, message } });
export const done = (output) => ({ tag: "done", output });
export const sleep = (ms) => ({ tag: "sleep", ms });
export const awaitChildren = () => ({ tag: "await-children" });
export const awaitSignal = (name, timeoutMs) => ({ tag: "await-signal", name, timeoutMs });

export class Failure extends Error {
  constructor(kind, message, ms) {
    super(message);
    this.name = "Failure";
    this.kind = kind;
    this.ms = ms;
    // What the bindings of a component look for on an exception: a property of its own.
    const val = kind === "retry-after" ? [whole(ms, "a time"), message] : message;
    Object.defineProperty(this, "payload", { value: { tag: kind, val } });
  }
  static transient(message) {
    return new Failure("transient", message);
  }
  static retryAfter(ms, message) {
    return new Failure("retry-after", message, ms);
  }
  static permanent(message) {
    return new Failure("permanent", message);
  }
  static invalidInput(message) {
    return new Failure("invalid-input", message);
  }
}

// A u64 of the contract.
function whole(number, what) {
  if (!Number.isFinite(number) || number < 0) {
    throw Failure.permanent(`${what} is a number from 0, not ${number}`);
  }
  return BigInt(Math.round(number));
}

const optional = (number, what) => (number === undefined || number === null ? undefined : whole(number, what));

const counted = ({ current, total, message }) => ({
  current: whole(current, "progress"),
  total: optional(total, "a total"),
  message: message ?? undefined,
});

// JSON.stringify drops functions, turns NaN into null and a Map into {}: what comes back would be another state.
function check(value, path) {
  if (value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value)) {
    return;
  }
  if (Array.isArray(value)) {
    value.forEach((item, index) => {
      check(item, `${path}/${index}`);
    });
    return;
  }
  const prototype = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype === Object.prototype || prototype === null) {
    for (const [name, field] of Object.entries(value)) {
      if (field !== undefined) {
        check(field, `${path}/${name}`);
      }
    }
    return;
  }
  const kind = typeof value === "object" ? (value.constructor?.name ?? "object") : String(value);
  throw Failure.permanent(`${path || "/"}: ${kind} cannot be written as JSON: use plain objects, lists and finite numbers`);
}

function write(value) {
  check(value, "");
  return JSON.stringify(value);
}

const context = {
  get job() {
    const { jobId, correlationId, attempt, committedSteps, softLimitMs, metadata } = host.context();
    return {
      id: jobId,
      correlationId,
      attempt,
      committedSteps: Number(committedSteps),
      softLimitMs: softLimitMs === undefined ? undefined : Number(softLimitMs),
      metadata: JSON.parse(metadata),
    };
  },
  shouldYield: () => host.shouldYield(),
  idempotencyKey: () => host.idempotencyKey(),
  emit: (record) => host.emit(write(record)),
  report: (made) => host.report(counted(made)),
  spawn: (jobType, input) => host.spawn(jobType, write(input)),
  children: () =>
    host
      .children()
      .map(([id, { tag, val }]) => (tag === "ok" ? { id, result: JSON.parse(val) } : { id, error: val })),
  signal(name) {
    const payload = host.signal(name);
    return payload === undefined ? undefined : JSON.parse(payload);
  },
  log: (level, message, fields = {}) => host.log(level, message, write(fields)),
};

function outcome(answer) {
  switch (answer?.tag) {
    case "progress":
      return { tag: "progressed", val: counted(answer.progress) };
    case "done":
      return { tag: "completed", val: write(answer.output ?? null) };
    case "sleep":
      return { tag: "sleep", val: whole(answer.ms, "a sleep") };
    case "await-children":
      return { tag: "await-children" };
    case "await-signal":
      return {
        tag: "await-signal",
        val: { name: answer.name, timeoutMs: optional(answer.timeoutMs, "a time-out") },
      };
    default:
      throw Failure.permanent("step answers with progress, done, sleep, awaitChildren or awaitSignal");
  }
}

export function defineJob(definition) {
  const { name, version, description = "", input, result = true } = definition;
  const { stateVersion = 1, oldestStateVersion = stateVersion } = definition;
  const wrong = (message) => {
    throw new TypeError(message);
  };
  NAME.test(name) || wrong(`${name} is no job type: it is named with 1 to 64 of a-z, 0-9, '_' and '-'`);
  VERSION.test(version) || wrong(`${version} is no semantic version, such as 1.0.0`);
  input !== undefined || wrong(`${name} needs a schema of its input`);
  (typeof definition.start === "function" && typeof definition.step === "function") ||
    wrong(`${name} needs start and step`);
  (oldestStateVersion >= 0 && oldestStateVersion <= stateVersion) ||
    wrong("oldestStateVersion is at most stateVersion, and neither is below 0");
  (oldestStateVersion === stateVersion || typeof definition.migrate === "function") ||
    wrong(`${name} reads checkpoints of version ${oldestStateVersion}: it needs migrate`);
  let state;
  return {
    definition,
    describe: () => ({
      name,
      version,
      description,
      inputSchema: JSON.stringify(input),
      resultSchema: JSON.stringify(result),
      stateVersion,
      oldestStateVersion,
    }),
    start(text) {
      state = definition.start(JSON.parse(text), context);
    },
    step: () => outcome(definition.step(state, context)),
    checkpoint: () => ({ mimeType: MIME_TYPE, stateVersion, state: new TextEncoder().encode(write(state)) }),
    restore(snapshot) {
      if (snapshot.mimeType !== MIME_TYPE) {
        throw Failure.permanent(`the checkpoint is ${snapshot.mimeType}; ${name} reads ${MIME_TYPE}`);
      }
      if (snapshot.stateVersion > stateVersion || snapshot.stateVersion < oldestStateVersion) {
        const range = `${oldestStateVersion} to ${stateVersion}`;
        throw Failure.permanent(
          `the checkpoint has state version ${snapshot.stateVersion}; ${name} ${version} reads ${range}`,
        );
      }
      state = JSON.parse(new TextDecoder().decode(snapshot.state));
      for (let from = snapshot.stateVersion; from < stateVersion; from += 1) {
        state = definition.migrate(from, state);
      }
    },
  };
}

export function items(list, perStep = ITEMS_PER_STEP) {
  const all = [...list];
  return { current_index: 0, total_items: all.length, items_per_step: Math.max(1, perStep), items: all };
}

export function each(portion, context, work) {
  for (let count = 0; count < portion.items_per_step && portion.items.length > 0; count += 1) {
    work(portion.items.shift());
    portion.current_index += 1;
    if (context.shouldYield()) {
      break;
    }
  }
  return portion.items.length > 0 ? progress(portion.current_index, portion.total_items) : undefined;
}
