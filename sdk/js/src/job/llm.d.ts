// Answers of a language model that the operator grants. Address and key stay in the host, which also keeps answers for a
// while: a step that runs again after a crash asks the same again and pays nothing. All calls are immediate.

import { CapabilityError } from "./capability.js";
import type { Schema } from "./index.js";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface Options {
  /** An instruction before everything else. */
  system?: string | undefined;
  /** One of the models that the operator allows [default: the grant's own]. */
  model?: string | undefined;
  /** Longest answer, in tokens [default: the grant's own]. */
  maxTokens?: number | undefined;
  /** 0 to 2 [default: 0]. */
  temperature?: number | undefined;
  /** Asks for the same answer each time, where the provider can do that. */
  seed?: number | undefined;
  /** JSON Schema that the answer fits; `ask` fills it in. */
  schema?: Schema | undefined;
  /** Neither read the host's cache nor write it. */
  fresh?: boolean | undefined;
}

/** What is asked: a question, or what was said so far with options of its own. */
export type Question = string | (Omit<Options, "system"> & { messages: Message[] });

export interface Answer {
  /** The model's text; with a schema, JSON text that fits it. */
  content: string;
  model: string;
  /** Tokens that were paid for; 0 from the cache. */
  promptTokens: number;
  completionTokens: number;
  /** What they cost, in millionths of the operator's currency. */
  costMicros: number;
  /** Nothing was asked or paid. */
  cached: boolean;
  /** The first answer did not fit the schema. */
  repaired: boolean;
  /** The answer ended because it was too long. */
  truncated: boolean;
}

/** Why there is no answer. Only `limited` and `unavailable` may pass. */
export class LlmError extends CapabilityError<
  "not-configured" | "bad-request" | "over-budget" | "bad-answer" | "refused" | "limited" | "unavailable"
> {
  constructor(code: LlmError["code"], message: string, ms?: number);
}

/** One answer. @throws {LlmError} */
export function complete(question: Question, options?: Options): Answer;
/** Many answers, which the host asks for in parallel; one or an error for each question, in their order. At most 1,000. */
export function completeAll(questions: Question[], options?: Options): (Answer | LlmError)[];
/** One answer as a value that fits a JSON Schema, which the host makes sure of. @throws {LlmError} */
export function ask<Value = any>(schema: Schema, question: Question, options?: Options): Value;
/** Many answers as values; a value or an error for each question. */
export function askAll<Value = any>(schema: Schema, questions: Question[], options?: Options): (Value | LlmError)[];

/** For tests: while `work` runs, questions are answered by `model`, which may throw an `LlmError`. */
export function answering<Made>(
  model: (request: Options & { messages: Message[] }) => string | (Partial<Answer> & { content: string }),
  work: () => Made,
): Made;
