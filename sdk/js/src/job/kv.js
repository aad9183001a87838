// Values that a job type keeps beyond its jobs: `wasi:keyvalue`.

import { CapabilityError, asked, during } from "./capability.js";

let store;
let atomics;
let kept;

export function connect(interfaces) {
  store = interfaces["wasi:keyvalue/store@0.2.0-draft"];
  atomics = interfaces["wasi:keyvalue/atomics@0.2.0-draft"];
}

export class KvError extends CapabilityError {
  constructor(code, message) {
    // A bucket that is full, or a store that does not answer, may do better later.
    super("bucket", "access-denied", code, message, { kind: code === "other" ? "transient" : "permanent" });
    this.name = "KvError";
  }
}

export const keeping = (buckets, work) =>
  during(
    (value) => {
      kept = value;
    },
    new Map(buckets.map((name) => [name, new Map()])),
    kept,
    work,
  );

const MESSAGES = {
  "access-denied": "`keyvalue` is not granted to this job type",
  "no-such-store": "there is none of this name in grants.keyvalue.buckets",
};
const told = ({ tag, val }) => new KvError(tag, MESSAGES[tag] ?? val);
const bytes = (value) => (typeof value === "string" ? new TextEncoder().encode(value) : value);

export function bucket(name = "default") {
  if (store === undefined) {
    return standIn(name);
  }
  const inner = asked(() => store.open(name), told);
  return {
    get: (key) => asked(() => inner.get(key), told),
    getText(key) {
      const value = this.get(key);
      return value === undefined ? undefined : new TextDecoder().decode(value);
    },
    set: (key, value) => asked(() => inner.set(key, bytes(value)), told),
    delete: (key) => asked(() => inner.delete(key), told),
    has: (key) => asked(() => inner.exists(key), told),
    increment: (key, delta = 1) => Number(asked(() => atomics.increment(inner, key, BigInt(delta)), told)),
    names() {
      const names = [];
      let cursor;
      do {
        const page = asked(() => inner.listKeys(cursor), told);
        names.push(...page.keys);
        cursor = page.cursor;
      } while (cursor !== undefined);
      return names;
    },
  };
}

function standIn(name) {
  if (kept === undefined) {
    throw new KvError("access-denied", "there are none: give some to keeping of waymark/kv");
  }
  const values = kept.get(name);
  if (values === undefined) {
    throw new KvError("no-such-store", `there is no bucket ${name}`);
  }
  const text = (key) => (values.has(key) ? new TextDecoder().decode(values.get(key)) : undefined);
  return {
    get: (key) => values.get(key),
    getText: text,
    set: (key, value) => void values.set(key, bytes(value)),
    delete: (key) => void values.delete(key),
    has: (key) => values.has(key),
    increment(key, delta = 1) {
      const sum = Number(text(key) ?? 0) + delta;
      values.set(key, bytes(String(sum)));
      return sum;
    },
    names: () => [...values.keys()],
  };
}
