// Hosts of Waymark over HTTP, for programs that make jobs and wait for them. Runs wherever there is `fetch`.

import { Calls, type Sent } from "./calls.js";
import type * as models from "./models.js";

export type * as models from "./models.js";

const DEFAULT_URL = "http://127.0.0.1:7420";
/** Longest wait of one request, ms; the client asks again until its own time is over. */
const WAIT_MS = 30_000;
/** Longest wait that a host's `Retry-After` is heard with, ms. */
const RETRY_AFTER_MS_MAX = 60_000;
/** Statuses that say: not now. */
const BUSY = new Set([429, 502, 503, 504]);
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** Whatever goes wrong between this program and a host. */
export class WaymarkError extends Error {
  override name = "WaymarkError";
}

/** No host answered, or the connection broke before the answer was there. */
export class Unreachable extends WaymarkError {
  override name = "Unreachable";
}

/** A host refused the request. */
export class Refused extends WaymarkError {
  override name = "Refused";
  /** Stable code, with a page in the documentation; `unknown` where something else than a host answered. */
  readonly code: string;
  constructor(
    /** HTTP status. */
    readonly status: number,
    /** The whole document (RFC 9457). */
    readonly problem: Partial<models.Problem>,
  ) {
    const code = problem.code ?? "unknown";
    super(`${problem.detail ?? `the answer was ${status}: is it a Waymark host?`} (${code})`);
    this.code = code;
  }
}

/** A job ended without a result: it failed, or was cancelled. */
export class JobFailed extends WaymarkError {
  override name = "JobFailed";
  constructor(readonly job: models.Job) {
    const reason = job.error ? `${job.error.message} (${job.error.kind})` : job.status;
    super(`the job ${job.id} of type ${job.type} ${job.status}: ${reason}`);
  }
}

/** A job did not end in time. It goes on. */
export class WaitTimeout extends WaymarkError {
  override name = "WaitTimeout";
  constructor(readonly job: models.Job) {
    super(`the job ${job.id} is still ${job.status}`);
  }
}

/** When a request is sent again. */
export interface Retry {
  /** Requests in all, 1 or more [default: 5]. */
  attempts?: number;
  /** What the first wait is at most, ms [default: 200]; each is drawn below twice the bound of the one before. */
  baseMs?: number;
  /** What no wait exceeds, ms, but for a host's own `Retry-After` [default: 5,000]. */
  longestMs?: number;
}

export interface Options {
  /** Address of a host [default: http://127.0.0.1:7420]. */
  url?: string;
  /** Token, where the host asks for one. */
  token?: string;
  /** Time for an answer, ms, beyond what a request asks the host to wait [default: 30,000]. */
  timeoutMs?: number;
  retry?: Retry;
  /** How requests travel [default: the global `fetch`]. */
  fetch?: typeof fetch;
}

/** Something that happened to a job. */
export type Event =
  | { kind: "state"; data: models.Job; id: string }
  | { kind: "progress"; data: models.Progress; id: string }
  | { kind: "log"; data: models.LogLine; id: string }
  | { kind: "output"; data: unknown; id: string }
  | { kind: "reset"; data: { run: number }; id: string };

/** Fields of a job to be made, beyond type and input. */
export type Submission = Omit<models.Submission, "type" | "input"> & { idempotencyKey?: string };

export interface Waiting {
  /** Longest wait, ms [default: for ever]. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * A host, or what stands before several. One method for each call of the API, named as in its document, and those that
 * people want. What may be repeated is repeated: a request that no host answered is sent again after a random, growing
 * wait, with the same idempotency key where it makes a job, so that one call makes one job.
 */
export class Client extends Calls {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #timeoutMs: number;
  readonly #retry: Required<Retry>;
  readonly #fetch: typeof fetch;

  constructor(options: Options = {}) {
    super();
    this.#url = (options.url ?? DEFAULT_URL).replace(/\/+$/, "");
    this.#headers = options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` };
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#retry = { attempts: 5, baseMs: 200, longestMs: 5_000, ...options.retry };
    this.#fetch = options.fetch ?? fetch.bind(globalThis);
  }

  protected override async call<T>(method: string, path: string, sent: Sent): Promise<T> {
    const headers: Record<string, string> = { ...this.#headers, ...defined(sent.headers ?? {}) };
    const repeatable = sent.repeatable === true || sent.keyed === true;
    if (sent.keyed === true) {
      headers["Idempotency-Key"] ??= crypto.randomUUID();
    }
    let body: BodyInit | null = null;
    if (sent.content !== undefined) {
      headers["Content-Type"] = "application/wasm";
      body = sent.content as BodyInit;
    } else if (sent.json !== undefined) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(sent.json);
    }
    const query = new URLSearchParams(Object.entries(defined(sent.query ?? {})).map(([name, value]) => [name, String(value)]));
    const url = `${this.#url}${path}${query.size > 0 ? `?${query}` : ""}`;
    const timeoutMs = this.#timeoutMs + Number(sent.query?.["wait_ms"] ?? 0);
    for (let attempt = 1; ; attempt += 1) {
      const last = attempt >= this.#retry.attempts;
      let response: Response;
      try {
        const limits = [AbortSignal.timeout(timeoutMs), ...(sent.signal ? [sent.signal] : [])];
        response = await this.#fetch(url, { method, headers, body, signal: AbortSignal.any(limits) });
        if (last || !(response.status === 429 || (repeatable && BUSY.has(response.status)))) {
          return await read<T>(response, sent, method, attempt);
        }
        await response.body?.cancel();
      } catch (error) {
        sent.signal?.throwIfAborted();
        if (error instanceof Refused) {
          throw error;
        }
        if (last || !(repeatable || neverSent(error))) {
          throw new Unreachable(`${method} ${url}: ${said(error)}`, { cause: error });
        }
        await pause(this.#wait(attempt), sent.signal);
        continue;
      }
      await pause(this.#wait(attempt, response), sent.signal);
    }
  }

  #wait(attempt: number, response?: Response): number {
    const asked = response?.headers.get("retry-after");
    if (asked && Number.isFinite(Number(asked))) {
      return Math.min(Math.max(Number(asked) * 1000, 0), RETRY_AFTER_MS_MAX);
    }
    return Math.random() * Math.min(this.#retry.longestMs, this.#retry.baseMs * 2 ** (attempt - 1));
  }

  /** Makes a job. */
  submit(jobType: string, input: unknown, { idempotencyKey, ...more }: Submission = {}): Promise<models.Job> {
    const options = idempotencyKey === undefined ? {} : { idempotencyKey };
    return this.createJob({ type: jobType, input, ...more }, options);
  }

  /** Makes a job, waits for its end, and answers its result. Throws JobFailed where it has none, or WaitTimeout. */
  async run<Result = unknown>(jobType: string, input: unknown, options: Submission & Waiting = {}): Promise<Result> {
    const { timeoutMs, signal, ...more } = options;
    const job = await this.submit(jobType, input, more);
    return this.result<Result>(job.id, waiting(timeoutMs, signal));
  }

  /** Waits for the end of a job, and answers its result. Throws as `run` does. */
  async result<Result = unknown>(id: string, options: Waiting = {}): Promise<Result> {
    const job = await this.wait(id, options);
    if (job.status !== "succeeded") {
      throw new JobFailed(job);
    }
    return job.result as Result;
  }

  /** Waits until a job has ended, however it ended. Throws WaitTimeout. */
  async wait(id: string, { timeoutMs = Infinity, signal }: Waiting = {}): Promise<models.Job> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const left = Math.max(0, Math.min(WAIT_MS, Math.floor(end - performance.now())));
      const job = await this.showJob(id, { wait_ms: left, ...(signal ? { signal } : {}) });
      if (ENDED.has(job.status)) {
        return job;
      }
      if (performance.now() >= end) {
        throw new WaitTimeout(job);
      }
    }
  }

  /** All jobs that a filter takes, newest first, page after page. */
  async *jobs(filter: Omit<Parameters<Calls["listJobs"]>[0] & object, "cursor"> = {}): AsyncGenerator<models.Job> {
    let cursor: string | null | undefined;
    do {
      const page = await this.listJobs({ ...filter, ...(cursor ? { cursor } : {}) });
      yield* page.jobs;
      cursor = page.next_cursor;
    } while (cursor);
  }

  /** Committed output records of a job, from the one of index `start`. */
  async output(id: string, start = 0): Promise<unknown[]> {
    const text = await this.jobOutput(id, { from: start });
    return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  /**
   * What happens to a job, until it has ended. A broken connection is taken up where it broke. `only` names kinds, `after`
   * is the id of the last event that was seen.
   */
  async *events(
    id: string,
    { only, after, signal }: { only?: Event["kind"][]; after?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<Event> {
    const url = `${this.#url}/api/v1/jobs/${encodeURIComponent(id)}/events${only ? `?only=${only.join(",")}` : ""}`;
    for (let attempt = 1; ; attempt += 1) {
      let response: Response | undefined;
      try {
        const headers = { ...this.#headers, ...(after ? { "Last-Event-ID": after } : {}) };
        response = await this.#fetch(url, { headers, ...(signal ? { signal } : {}) });
        if (response.status === 204) {
          return;
        }
        if (!response.ok && (!BUSY.has(response.status) || attempt >= this.#retry.attempts)) {
          throw await refusal(response);
        }
        if (response.ok && response.body) {
          for await (const event of events(response.body)) {
            attempt = 0;
            after = event.id || after;
            yield event;
            if (event.kind === "state" && ENDED.has(event.data.status)) {
              return;
            }
          }
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof Refused) {
          throw error;
        }
        if (attempt >= this.#retry.attempts) {
          throw new Unreachable(`${url}: ${said(error)}`, { cause: error });
        }
      }
      await pause(this.#wait(Math.max(attempt, 1), response), signal);
    }
  }

  /** Follows a job to its end, telling of each progress, and answers its result. Throws JobFailed where it has none. */
  async follow<Result = unknown>(
    id: string,
    onProgress: (progress: models.Progress) => void,
    options: { signal?: AbortSignal } = {},
  ): Promise<Result> {
    for await (const event of this.events(id, { only: ["state", "progress"], ...options })) {
      if (event.kind === "progress") {
        onProgress(event.data);
      }
    }
    return this.result<Result>(id, options);
  }
}

function waiting(timeoutMs: number | undefined, signal: AbortSignal | undefined): Waiting {
  return { ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(signal === undefined ? {} : { signal }) };
}

function defined<T>(fields: Record<string, T | undefined>): Record<string, T> {
  return Object.fromEntries(Object.entries(fields).filter((entry): entry is [string, T] => entry[1] !== undefined));
}

/** Where nothing was sent, anything may be sent again. */
function neverSent(error: unknown): boolean {
  const cause = (error as { cause?: { code?: string } }).cause;
  return ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(cause?.code ?? "");
}

function said(error: unknown): string {
  const { message, cause } = error as { message?: string; cause?: { message?: string } };
  return cause?.message || message || String(error);
}

async function refusal(response: Response): Promise<Refused> {
  const problem = await response.json().catch(() => ({}));
  return new Refused(response.status, problem as Partial<models.Problem>);
}

async function read<T>(response: Response, sent: Sent, method: string, attempt: number): Promise<T> {
  if (method === "DELETE" && attempt > 1 && response.status === 404) {
    // The attempt before, whose answer was lost, removed it.
    return undefined as T;
  }
  if (!response.ok) {
    throw await refusal(response);
  }
  if (sent.answer === "none") {
    await response.body?.cancel();
    return undefined as T;
  }
  return (await (sent.answer === "text" ? response.text() : response.json())) as T;
}

/** Server-sent events, put together from the bytes of a stream. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let kind = "";
  let id = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const [, name, text] = /^([^:]*):? ?(.*?)\r?$/s.exec(line) ?? [];
        if (name === "event") {
          kind = text ?? "";
        } else if (name === "id") {
          id = text ?? "";
        } else if (name === "data") {
          data.push(text ?? "");
        } else if (line.trim() === "" && data.length > 0) {
          yield { kind, data: JSON.parse(data.join("\n")), id } as Event;
          data = [];
        }
      }
    }
  } finally {
    // Whoever stops listening hangs up.
    await reader.cancel().catch(() => undefined);
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(end, ms);
    function end() {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal?.reason);
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
}
