// Databases that the operator grants. Values reach a statement as parameters only, `$1`, `$2` and so on, in every database.

import { CapabilityError } from "./capability.js";

/** What a column holds: whole numbers that JavaScript cannot hold exactly are bigints. Text is also decimals, dates and JSON. */
export type Value = null | boolean | number | bigint | string | Uint8Array;
export type Row = Value[];

/** What a statement came to grief by. Only `unavailable` may pass. */
export class SqlError extends CapabilityError<"not-granted" | "denied" | "bad-statement" | "too-much" | "unavailable"> {
  constructor(code: SqlError["code"], message: string);
}

/** The rows of a statement, read as they are asked for. A job holds few at once: one that is not read to its end is closed. */
export interface Cursor extends Iterable<Row> {
  readonly columns: string[];
  /** The next rows, at most so many [default: 1,000]; none at the end. @throws {SqlError} */
  next(rows?: number): Row[];
  close(): void;
}

/** Names of the granted connections. Pure. */
export function connections(): string[];
/** Runs a statement that reads. Immediate. @throws {SqlError} */
export function query(connection: string, statement: string, ...parameters: Value[]): Cursor;
/**
 * Runs a statement that writes, in a transaction of its own, and answers how many rows it changed. Immediate: it may happen again
 * if the step is run again after a crash. @throws {SqlError}
 */
export function execute(connection: string, statement: string, ...parameters: Value[]): number;

/** A statement read page by page in the order of its keys: part of a state, which holds the last key of the table. */
export interface Keyset {
  connection: string;
  select: string;
  keys: string[];
  parameters: Value[];
  rows_per_page: number;
  after: Value[] | null;
  /** Rows read so far. */
  rows: number;
}

/** Pages of `select`, without order or limit, in which the columns `keys` are together unique and never null. */
export function keyset(
  connection: string,
  select: string,
  keys: string[],
  options?: { parameters?: Value[]; rowsPerPage?: number },
): Keyset;
/** The next page, behind the last row of the one before; empty at the end. Immediate. @throws {SqlError} */
export function nextPage(pages: Keyset): Row[];

/** For tests: while `work` runs, statements are answered by `database`: rows of one that reads, a number for one that writes. */
export function answering<Made>(
  database: (
    connection: string,
    statement: string,
    parameters: Value[],
  ) => { columns?: string[]; rows?: Row[]; changed?: number },
  work: () => Made,
): Made;
