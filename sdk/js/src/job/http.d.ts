// HTTP requests to where the operator allows. A key that the operator keeps as a secret is written `{{secret:name}}` in the value
// of a header; the host fills it in. Redirects are not followed: they are answers with their status.

import { CapabilityError } from "./capability.js";

export interface Options {
  headers?: { [name: string]: string };
  body?: string | Uint8Array;
  /** Sent as JSON in place of a body. */
  json?: unknown;
}

/** What came back, whatever its status. */
export interface Answer {
  readonly status: number;
  /** Names in lower case. Of several headers of a name, the values with commas between them. */
  readonly headers: { [name: string]: string };
  readonly body: Uint8Array;
  /** The body as UTF-8. */
  readonly text: string;
  /** The body as JSON. @throws {SyntaxError} */
  json(): any;
}

/** Why there is no answer. Only `unavailable` may pass. */
export class HttpError extends CapabilityError<"bad-request" | "denied" | "too-long" | "unavailable"> {
  constructor(code: HttpError["code"], message: string);
}

/** Sends a request to `https://host:port/path?query` and reads the whole answer. Immediate. @throws {HttpError} */
export function request(method: string, url: string, options?: Options): Answer;
export function get(url: string, options?: Options): Answer;
export function post(url: string, options?: Options): Answer;

/** For tests: while `work` runs, requests are answered by `web`, which may throw an `HttpError`. */
export function answering<Made>(
  web: (request: { method: string; url: string; headers: { [name: string]: string }; body: Uint8Array }) => {
    status: number;
    headers?: { [name: string]: string };
    body?: string | Uint8Array;
  },
  work: () => Made,
): Made;
