// Databases that the operator grants: `waymark:sql`.

import { CapabilityError, asked, drop, during } from "./capability.js";

const ROWS_PER_BATCH = 1_000;

let host;
let database;

export function connect(interfaces) {
  host = interfaces["waymark:sql/query@0.1.0"];
}

export class SqlError extends CapabilityError {
  constructor(code, message) {
    super("SQL", "not-granted", code, message);
    this.name = "SqlError";
  }
}

export const answering = (answer, work) =>
  during(
    (value) => {
      database = value;
    },
    answer,
    database,
    work,
  );

const told = ({ tag, val }) => new SqlError(tag, val);

function sent(value) {
  if (value === null || value === undefined) {
    return { tag: "null" };
  }
  switch (typeof value) {
    case "boolean":
      return { tag: "boolean", val: value };
    case "bigint":
      return { tag: "integer", val: value };
    case "number":
      return Number.isSafeInteger(value) ? { tag: "integer", val: BigInt(value) } : { tag: "real", val: value };
    case "string":
      return { tag: "text", val: value };
  }
  if (value instanceof Uint8Array) {
    return { tag: "blob", val: value };
  }
  throw new SqlError("bad-statement", `${String(value)} is no value of a database`);
}

function read({ tag, val }) {
  if (tag === "null") {
    return null;
  }
  // A number that JavaScript cannot hold exactly stays a bigint.
  return tag === "integer" && Number.isSafeInteger(Number(val)) ? Number(val) : val;
}

class Cursor {
  #cursor;
  #rows;
  constructor(cursor, columns, rows) {
    this.#cursor = cursor;
    this.#rows = rows;
    this.columns = columns;
  }
  next(rows = ROWS_PER_BATCH) {
    if (this.#cursor === undefined) {
      return this.#rows.splice(0, rows);
    }
    const next = asked(() => this.#cursor.next(rows), told).map((row) => row.map(read));
    if (next.length === 0) {
      this.close();
    }
    return next;
  }
  // A job holds few cursors at once, and nobody knows when the engine collects one.
  close() {
    if (this.#cursor !== undefined) {
      drop(this.#cursor);
    }
    this.#cursor = undefined;
    this.#rows = [];
  }
  *[Symbol.iterator]() {
    try {
      for (let rows = this.next(); rows.length > 0; rows = this.next()) {
        yield* rows;
      }
    } finally {
      this.close();
    }
  }
}

function standIn(connection, statement, parameters) {
  if (database === undefined) {
    throw new SqlError("not-granted", "no database: give one to answering of waymark/sql");
  }
  return database(connection, statement, parameters);
}

export const connections = () => (host === undefined ? [] : host.connections());

export function query(connection, statement, ...parameters) {
  if (host === undefined) {
    const { columns = [], rows = [] } = standIn(connection, statement, parameters);
    return new Cursor(undefined, columns, rows.map((row) => [...row]));
  }
  const cursor = asked(() => host.open(connection, statement, parameters.map(sent)), told);
  return new Cursor(cursor, cursor.columns().map(({ name }) => name));
}

export function execute(connection, statement, ...parameters) {
  if (host === undefined) {
    return standIn(connection, statement, parameters).changed ?? 0;
  }
  return Number(asked(() => host.execute(connection, statement, parameters.map(sent)), told));
}

export const keyset = (connection, select, keys, { parameters = [], rowsPerPage = ROWS_PER_BATCH } = {}) => ({
  connection,
  select,
  keys,
  parameters,
  rows_per_page: Math.max(1, rowsPerPage),
  after: null,
  rows: 0,
});

export function nextPage(pages) {
  const { connection, select, keys, after } = pages;
  const quoted = keys.map((key) => `"${key.replaceAll('"', '""')}"`).join(", ");
  const places = (after ?? []).map((_, index) => `$${pages.parameters.length + index + 1}`).join(", ");
  const behind = after === null ? "" : ` WHERE (${quoted}) > (${places})`;
  const cursor = query(
    connection,
    `SELECT * FROM (${select}) AS page${behind} ORDER BY ${quoted} LIMIT ${pages.rows_per_page}`,
    ...pages.parameters,
    ...(after ?? []),
  );
  const page = [...cursor];
  if (page.length > 0) {
    pages.after = keys.map((key) => {
      const index = cursor.columns.indexOf(key);
      if (index < 0) {
        throw new SqlError("bad-statement", `the key ${key} is not among the columns`);
      }
      return page.at(-1)[index];
    });
  }
  pages.rows += page.length;
  return page;
}
