"""What a job may ask of its host."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ._shape import ShapeError, read, write
from ._step import Permanent, Progress

LogLevel = Literal["trace", "debug", "info", "warn", "error"]


@dataclass(frozen=True)
class JobInfo:
    """The job that runs."""

    id: str
    correlation_id: str
    attempt: int
    """From 1."""
    committed_steps: int
    """Commits so far; the number of the running step is one more."""
    soft_limit_ms: int | None = None
    """Milliseconds left before the soft limit; at zero, return from `step` as soon as possible."""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Child:
    """A child job that has ended."""

    id: str
    result: Any = None
    """What it answered; `None` where it failed."""
    error: str | None = None
    """Why it has no result: it failed, was cancelled or was deleted."""


class Backend(Protocol):
    """The functions of the contract, as a host gives them. JSON is text here."""

    def info(self) -> JobInfo: ...
    def should_yield(self) -> bool: ...
    def idempotency_key(self) -> str: ...
    def log(self, level: LogLevel, message: str, fields: str) -> None: ...
    def emit(self, item: str) -> None: ...
    def report(self, progress: Progress) -> None: ...
    def spawn(self, job_type: str, input: str) -> str: ...
    def children(self) -> list[tuple[str, str | None, str | None]]: ...
    def signal(self, name: str) -> str | None: ...


class Context:
    """What a job may ask of its host. Handed to `start`, `step` and `restored`.

    Pure functions have no effect. Buffered ones take effect exactly once, with the commit of the step. Immediate ones
    take effect at once, and again if the step runs again after a crash.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def job(self) -> JobInfo:
        """Pure: the job that runs."""
        return self._backend.info()

    def should_yield(self) -> bool:
        """Pure: true when the job should return from `step` soon (pause, cancel, drain or soft limit)."""
        return self._backend.should_yield()

    def idempotency_key(self) -> str:
        """Pure: the same whenever the same step of the same job runs again, so a receiver can drop repeats."""
        return self._backend.idempotency_key()

    def emit(self, record: Any) -> None:
        """Buffered: appends one record to the job's output.

        Raises ShapeError where it cannot be written as JSON.
        """
        self._backend.emit(dump(record))

    def report(self, progress: Progress) -> None:
        """Buffered: progress within a long step."""
        self._backend.report(progress)

    def spawn(self, job_type: str, input: Any) -> str:
        """Buffered: starts a child job; returns its id, which is the same when the step runs again."""
        return self._backend.spawn(job_type, dump(input))

    def children(self, shape: Any = Any) -> list[Child]:
        """Pure: the children in the order they were spawned, once all have ended; until then none.

        `shape` is the type of their results. Raises Permanent where one has another.
        """
        found = []
        for id, result, error in self._backend.children():
            value = None if result is None else _shaped(shape, result, f"the result of the child {id}")
            found.append(Child(id, value, error))
        return found

    def signal(self, name: str, shape: Any = Any) -> Any | None:
        """Pure: the payload of the awaited signal, or `None` if it has not arrived.

        `shape` is the type of the payload. Raises Permanent where it has another.
        """
        payload = self._backend.signal(name)
        return None if payload is None else _shaped(shape, payload, f"the payload of the signal {name}")

    def log(self, level: LogLevel, message: str, **fields: Any) -> None:
        """Immediate: one line of the job's log, at most 8 KiB and 200 lines a second."""
        self._backend.log(level, message, dump(fields))

    def debug(self, message: str, **fields: Any) -> None:
        """Immediate: a line of level `debug`."""
        self.log("debug", message, **fields)

    def info(self, message: str, **fields: Any) -> None:
        """Immediate: a line of level `info`."""
        self.log("info", message, **fields)

    def warn(self, message: str, **fields: Any) -> None:
        """Immediate: a line of level `warn`."""
        self.log("warn", message, **fields)

    def error(self, message: str, **fields: Any) -> None:
        """Immediate: a line of level `error`."""
        self.log("error", message, **fields)


def dump(value: Any) -> str:
    """A value as JSON text."""
    return json.dumps(write(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _shaped(shape: Any, text: str, what: str) -> Any:
    try:
        return read(shape, json.loads(text))
    except ShapeError as error:
        raise Permanent(f"{what}: {error}") from error
