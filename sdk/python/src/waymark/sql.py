"""Databases that the operator grants (`waymark:sql`).

    from waymark import sql

    for id, total in sql.query("warehouse", "SELECT id, total FROM orders WHERE day = $1", "2026-01-31"):
        ...

Values reach a statement as parameters only, `$1`, `$2` and so on, in every database. Rows are read as they are asked for. A
cursor lives in the instance: a job that reads in more than one step keeps a :class:`Keyset` in its state.

Under test connections are SQLite's own: `with sql.connected(warehouse=sqlite3.connect(":memory:")):`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from ._capability import INSIDE, CapabilityError, Err, code, interface, standing_in
from ._step import Transient

if TYPE_CHECKING:
    import sqlite3

_query = interface("waymark_sql", "query")

Value = Union[None, bool, int, float, str, bytes]
"""What a column holds. Text is also exact decimals, dates, times, UUIDs and JSON."""
Row = tuple[Value, ...]

ROWS_PER_BATCH = 1_000


class Error(CapabilityError):
    """What a statement came to grief by. `code` is `not-granted`, `denied`, `bad-statement`, `too-much` or `unavailable`; only the
    last may pass."""

    about = "SQL"
    absent = "not-granted"


class Unavailable(Error, Transient):
    """The connection failed, was busy, or the statement took too long."""


def error(code: str, message: str) -> Error:
    """The error of this code."""
    return (Unavailable if code == "unavailable" else Error)(code, message)


_connections: ContextVar[dict[str, sqlite3.Connection] | None] = ContextVar("connections", default=None)


def connected(**connections: sqlite3.Connection) -> AbstractContextManager[None]:
    """For tests: these connections are granted, for reading and writing."""
    return standing_in(_connections, connections)


class Cursor:
    """The rows of a statement."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.columns: list[str] = (
            [column.name for column in inner.columns()]
            if INSIDE
            else [name for name, *_ in inner.description or ()]
        )
        """Names of the columns."""

    def next(self, rows: int = ROWS_PER_BATCH) -> list[Row]:
        """The next rows, at most so many, and at most about 1 MiB of them; none at the end. Immediate. Raises :class:`Error`."""
        if INSIDE:
            return [tuple(_read(value) for value in row) for row in _told(self._inner.next, rows)]
        return [tuple(row) for row in self._inner.fetchmany(rows)]

    def __iter__(self) -> Iterator[Row]:
        while rows := self.next():
            yield from rows


def connections() -> list[str]:
    """Names of the granted connections. Pure."""
    if INSIDE:
        return list(_query.connections())
    return sorted(_connections.get() or {})


def query(connection: str, statement: str, *parameters: Value) -> Cursor:
    """Runs a statement that reads. Immediate. Raises :class:`Error`."""
    if INSIDE:
        return Cursor(_told(_query.open, connection, statement, _sent(parameters)))
    return Cursor(_stood_in(connection, statement, parameters))


def execute(connection: str, statement: str, *parameters: Value) -> int:
    """Runs a statement that writes, in a transaction of its own, and answers how many rows it changed. Immediate: it may happen
    again if the step is run again after a crash, so make it one that may. Raises :class:`Error`."""
    if INSIDE:
        return int(_told(_query.execute, connection, statement, _sent(parameters)))
    changed = _stood_in(connection, statement, parameters)
    changed.connection.commit()
    return max(0, int(changed.rowcount))


@dataclass
class Keyset:
    """A statement read page by page in the order of its keys: each page begins behind the last row of the one before. Part of a
    job's state; what it holds of the table is the last key."""

    connection: str
    select: str
    """The statement, without order or limit."""
    keys: list[str]
    """Columns that are together unique and never null."""
    parameters: list[Union[None, bool, int, float, str]] = field(default_factory=list)
    rows_per_page: int = ROWS_PER_BATCH
    after: list[Union[None, bool, int, float, str]] | None = None
    """The last key."""
    rows: int = 0
    """Rows read so far."""

    def next_page(self) -> list[Row]:
        """The next page; empty at the end. Immediate. Raises :class:`Error`, `bad-statement` where a key is not among the columns."""
        keys = ", ".join('"' + key.replace('"', '""') + '"' for key in self.keys)
        behind, parameters = "", list(self.parameters)
        if self.after is not None:
            places = ", ".join(f"${len(parameters) + number}" for number in range(1, len(self.after) + 1))
            behind = f" WHERE ({keys}) > ({places})"
            parameters += self.after
        cursor = query(
            self.connection,
            f"SELECT * FROM ({self.select}) AS page{behind} ORDER BY {keys} LIMIT {max(1, self.rows_per_page)}",
            *parameters,
        )
        page = list(cursor)
        if page:
            after: list[Any] = []
            for key in self.keys:
                if key not in cursor.columns:
                    raise error("bad-statement", f"the key {key!r} is not among the columns")
                after.append(page[-1][cursor.columns.index(key)])
            self.after = after
        self.rows += len(page)
        return page


def _stood_in(connection: str, statement: str, parameters: tuple[Value, ...]) -> Any:
    import sqlite3

    known = (_connections.get() or {}).get(connection)
    if known is None:
        raise error("not-granted", f"there is no connection {connection!r}: give it to waymark.sql.connected")
    try:
        return known.execute(statement, {str(number): value for number, value in enumerate(parameters, 1)})
    except sqlite3.Error as refused:
        raise error("bad-statement", str(refused)) from refused


def _told(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Err as refused:
        raise error(code(refused.value), refused.value.value) from refused


def _sent(parameters: tuple[Value, ...]) -> list[Any]:
    # A truth value is a number too: it comes first.
    kinds = {bool: "Boolean", int: "Integer", float: "Real", str: "Text", bytes: "Blob"}

    def one(value: Value) -> Any:
        if value is None:
            return _query.Value_Null()
        kind = next((name for known, name in kinds.items() if isinstance(value, known)), None)
        if kind is None:
            raise error("bad-statement", f"{value!r} is no value of a database")
        return getattr(_query, f"Value_{kind}")(value)

    return [one(value) for value in parameters]


def _read(value: Any) -> Value:
    read: Value = getattr(value, "value", None)
    return read
