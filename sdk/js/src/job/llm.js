// Answers of a language model that the operator grants: `waymark:llm`.

import { CapabilityError, during } from "./capability.js";

let host;
let model;

export function connect(interfaces) {
  host = interfaces["waymark:llm/chat@0.1.0"];
}

export class LlmError extends CapabilityError {
  constructor(code, message, ms) {
    super("language model", "not-configured", code, message, { ms });
    this.name = "LlmError";
  }
}

export const answering = (answer, work) =>
  during(
    (value) => {
      model = value;
    },
    answer,
    model,
    work,
  );

const request = (question, { system, ...options }) => {
  const made = typeof question === "string" ? { messages: [{ role: "user", content: question }] } : question;
  const before = system === undefined ? [] : [{ role: "system", content: system }];
  return { ...made, ...options, messages: [...before, ...made.messages] };
};

const told = ({ tag, val }) => (tag === "limited" ? new LlmError(tag, val[1], Number(val[0])) : new LlmError(tag, val));

const NOTHING_PAID = { model: "test", promptTokens: 0, completionTokens: 0, costMicros: 0 };
const PLAIN = { cached: false, repaired: false, truncated: false };

function standIn(asked) {
  if (model === undefined) {
    return new LlmError("not-configured", "no model: give one to answering of waymark/llm");
  }
  try {
    const answer = model(asked);
    return { ...NOTHING_PAID, ...PLAIN, ...(typeof answer === "string" ? { content: answer } : answer) };
  } catch (error) {
    if (error instanceof LlmError) {
      return error;
    }
    throw error;
  }
}

const sent = ({ messages, model, maxTokens, temperature, seed, schema, fresh = false }) => ({
  messages,
  model,
  maxTokens,
  temperature,
  seed: seed === undefined ? undefined : BigInt(seed),
  schema: schema === undefined ? undefined : JSON.stringify(schema),
  fresh,
});

const answered = ({ tag, val }) =>
  tag === "err"
    ? told(val)
    : {
        ...val,
        promptTokens: Number(val.promptTokens),
        completionTokens: Number(val.completionTokens),
        costMicros: Number(val.costMicros),
      };

export function completeAll(questions, options = {}) {
  const requests = questions.map((question) => request(question, options));
  return host === undefined ? requests.map(standIn) : host.completeMany(requests.map(sent)).map(answered);
}

function only([answer]) {
  if (answer instanceof LlmError) {
    throw answer;
  }
  return answer;
}

export const complete = (question, options) => only(completeAll([question], options));

export const askAll = (schema, questions, options = {}) =>
  completeAll(questions, { ...options, schema }).map((answer) => {
    if (answer instanceof LlmError) {
      return answer;
    }
    try {
      return JSON.parse(answer.content);
    } catch (error) {
      return new LlmError("bad-answer", `the answer is not JSON: ${error.message}`);
    }
  });

export const ask = (schema, question, options) => only(askAll(schema, [question], options));
