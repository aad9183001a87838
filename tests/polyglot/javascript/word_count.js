// Counts the words of a text, one line a step, and keeps a running checksum. Built with componentize-js.

import { context, emit, log } from "waymark:task/job@0.1.0";

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

// Fowler-Noll-Vo over the bytes, so many times: a checksum, and work of a length that a test can choose.
function fnv1a(state, bytes, rounds) {
  for (let round = 0; round < rounds; round += 1) {
    for (const byte of bytes) {
      state = BigInt.asUintN(64, (state ^ BigInt(byte)) * FNV_PRIME);
    }
  }
  return state;
}

// A failure that the contract knows; its kind decides what the host does next.
function failure(tag, val) {
  return Object.assign(new Error(val), { payload: { tag, val } });
}

let job;

export const lifecycle = {
  describe() {
    return {
      name: "word_count_javascript",
      version: "1.0.0",
      description: "Counts the words of a text, one line a step.",
      inputSchema: JSON.stringify({
        type: "object",
        properties: {
          lines: { type: "array", items: { type: "string" } },
          rounds: { type: "integer", minimum: 1 },
        },
        required: ["lines"],
        additionalProperties: false,
      }),
      resultSchema: JSON.stringify({ type: "object" }),
      stateVersion: 1,
      oldestStateVersion: 1,
    };
  },

  start(input) {
    const { lines, rounds = 1 } = JSON.parse(input);
    if (lines.length === 0) {
      throw failure("invalid-input", "there are no lines");
    }
    job = { lines, rounds, position: 0, words: {}, checksum: FNV_OFFSET };
    console.log("started");
  },

  step() {
    const line = job.lines[job.position];
    if (line === "FAIL") {
      throw failure("permanent", `line ${job.position + 1} asks to fail`);
    }
    if (line === "RAISE") {
      throw new TypeError(`line ${job.position + 1} asks to raise`);
    }
    const words = line.toLowerCase().match(/[a-z]+/g) ?? [];
    for (const word of words) {
      job.words[word] = (job.words[word] ?? 0) + 1;
    }
    job.checksum = fnv1a(job.checksum, new TextEncoder().encode(line), job.rounds);
    job.position += 1;
    const checksum = job.checksum.toString(16).padStart(16, "0");
    emit(JSON.stringify({ line: job.position, words: words.length, checksum }));
    if (job.position < job.lines.length) {
      const progress = { current: BigInt(job.position), total: BigInt(job.lines.length), message: line };
      return { tag: "progressed", val: progress };
    }
    log("info", "counted", JSON.stringify({ lines: job.position }));
    const result = { lines: job.position, words: job.words, checksum, job_id: context().jobId };
    return { tag: "completed", val: JSON.stringify(result) };
  },

  checkpoint() {
    const state = JSON.stringify({ ...job, checksum: job.checksum.toString() });
    return { mimeType: "application/json", stateVersion: 1, state: new TextEncoder().encode(state) };
  },

  restore(snapshot) {
    const state = JSON.parse(new TextDecoder().decode(snapshot.state));
    job = { ...state, checksum: BigInt(state.checksum) };
  },
};
