// Job types for Waymark in JavaScript and TypeScript.

/** What JSON can say; `undefined` fields are left out. */
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json | undefined };

/** A JSON Schema (draft 2020-12). */
export type Schema = boolean | { [word: string]: unknown };

export type Level = "trace" | "debug" | "info" | "warn" | "error";

/** How far a job is. `current` is 0 or more, and never goes back within one run. */
export interface Progress {
  current: number;
  total?: number | undefined;
  /** One line for a person. */
  message?: string | undefined;
}

/** What a step answers: made by the functions below. */
export type Step<Output> =
  | { tag: "progress"; progress: Progress }
  | { tag: "done"; output: Output }
  | { tag: "sleep"; ms: number }
  | { tag: "await-children" }
  | { tag: "await-signal"; name: string; timeoutMs?: number | undefined };

/** More work remains. */
export function progress(current: number, total?: number, message?: string): Step<never>;
/** The job is done; its result is one JSON document of at most 1 MiB. */
export function done<Output>(output: Output): Step<Output>;
/** Go on after so many milliseconds. A sleeping job holds no slot and no memory. */
export function sleep(ms: number): Step<never>;
/** Go on when every child has ended. */
export function awaitChildren(): Step<never>;
/** Go on when the signal has arrived, or the time is over; without one, wait for ever. */
export function awaitSignal(name: string, timeoutMs?: number): Step<never>;

/** Why a job cannot go on. Any other exception is a trap: its trace is in the job's log. */
export class Failure extends Error {
  readonly kind: "transient" | "retry-after" | "permanent" | "invalid-input";
  /** May succeed later: tried again from the last commit, after a growing wait. */
  static transient(message: string): Failure;
  /** The other side said when to come back. */
  static retryAfter(ms: number, message: string): Failure;
  /** Never going to succeed: the job fails now. */
  static permanent(message: string): Failure;
  /** The input does not fit this job type: the job fails now, and the caller is told why. */
  static invalidInput(message: string): Failure;
}

/** The job that runs. */
export interface JobInfo {
  id: string;
  correlationId: string;
  /** From 1. */
  attempt: number;
  /** Commits so far; the number of the running step is one more. */
  committedSteps: number;
  /** Milliseconds left before the soft limit; at zero, return from `step` as soon as possible. */
  softLimitMs?: number | undefined;
  metadata: { [name: string]: Json };
}

/** A child that has ended: with a result, or with the reason why it has none. */
export type Child<Result = Json> = { id: string; result: Result } | { id: string; error: string };

/**
 * What a job may ask of its host. Pure functions have no effect. Buffered ones take effect exactly once, with the
 * commit of the step. Immediate ones take effect at once, and again if the step runs again after a crash.
 */
export interface Context {
  /** Pure: the job that runs. */
  readonly job: JobInfo;
  /** Pure: true when the job should return from `step` soon (pause, cancel, drain or soft limit). */
  shouldYield(): boolean;
  /** Pure: the same whenever the same step of the same job runs again, so a receiver can drop repeats. */
  idempotencyKey(): string;
  /** Buffered: appends one record to the job's output. */
  emit(record: unknown): void;
  /** Buffered: progress within a long step. */
  report(progress: Progress): void;
  /** Buffered: starts a child job; answers its id, which is the same when the step runs again. */
  spawn(jobType: string, input: unknown): string;
  /** Pure: the children in the order they were spawned, once all have ended; until then none. */
  children<Result = Json>(): Child<Result>[];
  /** Pure: the payload of the awaited signal, or undefined if it has not arrived. */
  signal<Payload = Json>(name: string): Payload | undefined;
  /** Immediate: one line of the job's log, at most 8 KiB and 200 lines a second. */
  log(level: Level, message: string, fields?: { [name: string]: unknown }): void;
}

/** What an author writes. `State` is the checkpoint: plain objects, lists, texts, finite numbers, booleans and null. */
export interface Job<Input, State, Output> {
  /** The job type: 1 to 64 of a-z, 0-9, '_' and '-'. */
  name: string;
  /** Semantic version of the plugin, such as "1.2.0". */
  version: string;
  /** One or two sentences for a person. */
  description?: string;
  /** Schema of the input; the host refuses others before a job is made. */
  input: Schema;
  /** Schema of the result. */
  result?: Schema;
  /** Version of the state's shape [default: 1]; raise it when an older checkpoint no longer fits. */
  stateVersion?: number;
  /** The oldest that `migrate` reads [default: only the present one]. */
  oldestStateVersion?: number;
  /** Begins a job. Long work belongs into `step`. */
  start(input: Input, context: Context): State;
  /** Does some 10 to 500 ms of work, and changes the state. Does the same when it is run again from the same state. */
  step(state: State, context: Context): Step<Output>;
  /** Rewrites the state of an older checkpoint from version `from` to `from + 1`. */
  migrate?(from: number, state: any): any;
}

/** A job type as the contract exports it: `export const lifecycle = defineJob({...})`. */
export interface Lifecycle<Input = any, State = any, Output = any> {
  readonly definition: Job<Input, State, Output>;
}

/**
 * Makes a job type. The module exports it as `lifecycle`.
 *
 * @throws {TypeError} where the definition is none
 */
export function defineJob<Input, State, Output>(job: Job<Input, State, Output>): Lifecycle<Input, State, Output>;

/** A list of which each step handles some items: part of a state. Holds only those still to do. */
export interface Items<T> {
  current_index: number;
  total_items: number;
  items_per_step: number;
  items: T[];
}

/** All `list`, at most `perStep` (100) in each step. */
export function items<T>(list: Iterable<T>, perStep?: number): Items<T>;

/**
 * Hands the next items to `work`, until a step's share is done or the host asks to yield; at least one. Answers
 * undefined once all are done: time for the result.
 */
export function each<T>(items: Items<T>, context: Context, work: (item: T) => void): Step<never> | undefined;
