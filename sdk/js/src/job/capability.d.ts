import { Failure } from "./index.js";

/** A capability did not do as it was asked. Not caught, it is for the host what it should make of it. */
export class CapabilityError<Code extends string = string> extends Failure {
  constructor(about: string, absent: string, code: Code, message: string, more?: { kind?: Failure["kind"]; ms?: number });
  /** What went wrong, in the contract's word. */
  readonly code: Code;
  /** The operator grants no such thing: a job that can do without goes on without. */
  readonly isAbsent: boolean;
}
