import type { Failure, Json, Level, Lifecycle, Progress } from "./index.js";

/** All that a run left behind. */
export interface Run<Output> {
  /** Undefined where the job failed. */
  result?: Output;
  /** What ended the job, where it failed. */
  failure?: Failure;
  /** Output records in order, as committed. */
  outputs: Json[];
  progress: Progress[];
  spawned: { jobType: string; input: Json }[];
  /** Lines of a step that ran twice are here twice. */
  logs: { level: Level; message: string; fields: { [name: string]: Json } }[];
  steps: number;
  attempts: number;
}

export interface Settings {
  /** How often the job loses its instance: never, after each step, or within each step, which so runs twice. */
  crash?: "never" | "between steps" | "within steps";
  /** `shouldYield` answers true, as while somebody waits for a pause. */
  alwaysYielding?: boolean;
  /** Payloads that arrive when they are waited for. */
  signals?: { [name: string]: Json };
  /** Answers a child from its type and input; what it throws is why the child failed. */
  children?: (jobType: string, input: any) => Json;
  metadata?: { [name: string]: Json };
  /** Attempts at what fails for now [default: 3]. Nothing is waited for. */
  attemptsMax?: number;
  /** Steps after which an error is thrown [default: 1,000,000]. */
  stepsMax?: number;
}

/** Runs one job to its end, in this process. */
export function run<Input, Output>(lifecycle: Lifecycle<Input, any, Output>, input: unknown, settings?: Settings): Run<Output>;

/**
 * Runs a job undisturbed, then restored from its checkpoint after every step, then with every step run twice.
 *
 * @throws {Error} where result, output records, progress, children or steps are not the same each time
 */
export function assertSurvivesAnything<Input, Output>(
  lifecycle: Lifecycle<Input, any, Output>,
  input: unknown,
  settings?: Settings,
): Run<Output>;
