// HTTP requests to where the operator allows: `wasi:http`.

import { CapabilityError, asked, drop, during } from "./capability.js";

const CHUNK_BYTES = 4_096;
const READ_BYTES = 65_536n;
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
const BAD_REQUEST = [
  "HTTP-request-method-invalid",
  "HTTP-request-URI-invalid",
  "HTTP-request-URI-too-long",
  "HTTP-request-header-section-size",
  "HTTP-request-header-size",
  "configuration-error",
];

let types;
let handler;
let web;

export function connect(interfaces) {
  types = interfaces["wasi:http/types@0.2.1"];
  handler = interfaces["wasi:http/outgoing-handler@0.2.1"];
}

export class HttpError extends CapabilityError {
  constructor(code, message) {
    super("HTTP", "denied", code, message);
    this.name = "HttpError";
  }
}

export const answering = (answer, work) =>
  during(
    (value) => {
      web = value;
    },
    answer,
    web,
    work,
  );

class Answer {
  constructor({ status, headers = {}, body = new Uint8Array() }) {
    this.status = status;
    this.headers = headers;
    this.body = typeof body === "string" ? new TextEncoder().encode(body) : body;
  }
  get text() {
    return new TextDecoder().decode(this.body);
  }
  json() {
    return JSON.parse(this.text);
  }
}

export function request(method, url, { headers = {}, body = "", json } = {}) {
  const more = json === undefined ? {} : { "content-type": "application/json" };
  const text = json === undefined ? body : JSON.stringify(json);
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const asking = { method, url, headers: { ...more, ...headers }, body: bytes };
  if (types !== undefined) {
    return send(asking);
  }
  if (web === undefined) {
    throw new HttpError("denied", "no web: give one to answering of waymark/http");
  }
  return new Answer(web(asking));
}

export const get = (url, options) => request("GET", url, options);
export const post = (url, options) => request("POST", url, options);

function told({ tag }) {
  if (["HTTP-request-denied", "destination-IP-prohibited"].includes(tag)) {
    return new HttpError("denied", `not allowed: ${tag}`);
  }
  if (["HTTP-request-body-size", "HTTP-response-body-size"].includes(tag)) {
    return new HttpError("too-long", tag);
  }
  return BAD_REQUEST.includes(tag) ? new HttpError("bad-request", tag) : new HttpError("unavailable", `no answer: ${tag}`);
}

function prepare({ method, url, headers }) {
  const [, scheme, authority, path] = /^([^:]+):\/\/([^/?#]*)([^#]*)/.exec(url) ?? [];
  if (scheme === undefined) {
    throw new HttpError("bad-request", "the address has no scheme");
  }
  try {
    const encoder = new TextEncoder();
    const fields = Object.entries(headers).map(([name, value]) => [name, encoder.encode(value)]);
    const outgoing = new types.OutgoingRequest(types.Fields.fromList(fields));
    outgoing.setScheme(["http", "https"].includes(scheme) ? { tag: scheme.toUpperCase() } : { tag: "other", val: scheme });
    outgoing.setAuthority(authority);
    outgoing.setPathWithQuery(path.startsWith("/") ? path : `/${path}`);
    outgoing.setMethod(METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method });
    return outgoing;
  } catch (error) {
    throw new HttpError("bad-request", `not a request: ${error?.payload?.tag ?? error}`);
  }
}

function write(outgoing, bytes) {
  const stream = outgoing.write();
  try {
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      stream.blockingWriteAndFlush(bytes.slice(at, at + CHUNK_BYTES));
    }
  } catch {
    // Why nobody reads it any more, the answer says.
  } finally {
    drop(stream);
  }
}

function send(asking) {
  const outgoing = prepare(asking);
  const body = outgoing.body();
  const future = asked(() => handler.handle(outgoing, undefined), told);
  if (asking.body.length > 0) {
    write(body, asking.body);
  }
  try {
    types.OutgoingBody.finish(body, undefined);
  } catch {
    // As above.
  }
  const answered = future.subscribe();
  answered.block();
  drop(answered);
  const got = future.get();
  const result = got?.tag === "ok" ? got.val : got;
  if (result?.tag !== "ok") {
    throw told(result?.val ?? { tag: "the answer was taken already" });
  }
  return receive(result.val);
}

function receive(incoming) {
  const headers = {};
  for (const [given, value] of incoming.headers().entries()) {
    const name = given.toLowerCase();
    const text = new TextDecoder().decode(value);
    headers[name] = name in headers ? `${headers[name]}, ${text}` : text;
  }
  const chunks = [];
  const stream = incoming.consume().stream();
  for (;;) {
    try {
      chunks.push(stream.blockingRead(READ_BYTES));
    } catch (error) {
      if (error?.payload?.tag !== "closed") {
        const code = error?.payload?.val && types.httpErrorCode(error.payload.val);
        throw code ? told(code) : new HttpError("unavailable", "the answer broke off");
      }
      break;
    }
  }
  const body = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return new Answer({ status: incoming.status(), headers, body });
}
