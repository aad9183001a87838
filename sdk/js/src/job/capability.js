// What capabilities have in common: their errors, and who answers them: inside a component the interfaces that the entry
// of `waymark-build` gives, under test what an author gives in their place.

import { Failure } from "./index.js";

const WHEN = { limited: "retry-after", unavailable: "transient" };

export class CapabilityError extends Failure {
  constructor(about, absent, code, message, { kind = WHEN[code] ?? "permanent", ms } = {}) {
    super(kind, `${about}: ${message}`, ms);
    this.name = "CapabilityError";
    this.code = code;
    this.isAbsent = code === absent;
  }
}

// Calls the host. Its errors are variants of the contract, which `told` turns into what an author catches.
export function asked(call, told) {
  try {
    return call();
  } catch (error) {
    throw error?.payload?.tag === undefined ? error : told(error.payload);
  }
}

// Sets a variable for as long as `work` runs.
export function during(set, value, before, work) {
  set(value);
  try {
    return work();
  } finally {
    set(before);
  }
}

export function drop(resource) {
  resource[Symbol.dispose]?.();
}
