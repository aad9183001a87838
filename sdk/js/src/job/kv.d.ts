// Values that a job type keeps beyond its jobs, for as long as the operator says: a cache that all hosts share. Writes take effect at
// once, whether or not the step is committed: a place for what can be had again, not for results.

import { CapabilityError } from "./capability.js";

/** Why a bucket does not serve. Only `other` may pass: it is full, or the store does not answer. */
export class KvError extends CapabilityError<"access-denied" | "no-such-store" | "other"> {
  constructor(code: KvError["code"], message: string);
}

/** A bucket of values. Names have at most 1 KiB. Every call is immediate, and may throw a `KvError`. */
export interface Bucket {
  /** A value, if it is there and has not expired. */
  get(key: string): Uint8Array | undefined;
  getText(key: string): string | undefined;
  /** Writes a value, which expires when the operator says. */
  set(key: string, value: string | Uint8Array): void;
  delete(key: string): void;
  has(key: string): boolean;
  /** Adds to a number, which begins at 0, and answers the sum: a step that runs again adds again. */
  increment(key: string, delta?: number): number;
  /** All names, in no order. */
  names(): string[];
}

/** Opens a bucket [default: `default`]; the operator says which there are. @throws {KvError} */
export function bucket(name?: string): Bucket;

/** For tests: while `work` runs, there are buckets of these names, which are empty. */
export function keeping<Made>(buckets: string[], work: () => Made): Made;
