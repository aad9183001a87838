"""Values that a job type keeps beyond its jobs (`wasi:keyvalue`), for as long as the operator says: a cache of all hosts.

    from waymark import kv

    bucket = kv.Bucket()
    if (kept := bucket.get("EUR")) is None:
        bucket.set("EUR", rate)

Writes take effect at once, whether or not the step is committed: a place for what can be had again, not for results.

Under test: `with kv.keeping("default"):` begins with empty buckets of these names.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from ._capability import INSIDE, CapabilityError, Err, code, interface, standing_in
from ._step import Transient

_store = interface("wasi_keyvalue", "store")
_atomics = interface("wasi_keyvalue", "atomics")


class Error(CapabilityError):
    """Why a bucket does not serve. `code` is `access-denied`, `no-such-store`, or `other`, which may pass: it is full, or the store
    does not answer."""

    about = "bucket"
    absent = "access-denied"


class Unavailable(Error, Transient):
    """The bucket is full, or the store does not answer."""


_buckets: ContextVar[dict[str, dict[str, bytes]] | None] = ContextVar("buckets", default=None)


def keeping(*buckets: str) -> AbstractContextManager[None]:
    """For tests: there are these buckets, which are empty."""
    empty: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
    return standing_in(_buckets, empty)


class Bucket:
    """A bucket of values. Names have at most 1 KiB. The operator says which buckets there are. Raises :class:`Error`."""

    def __init__(self, name: str = "default") -> None:
        self._inner: Any = None
        self._values: dict[str, bytes] = {}
        if INSIDE:
            self._inner = _told(_store.open, name)
            return
        buckets = _buckets.get()
        if buckets is None:
            raise Error("access-denied", "there are none: give some to waymark.kv.keeping")
        if name not in buckets:
            raise Error("no-such-store", f"there is no bucket {name!r}")
        self._values = buckets[name]

    def get(self, name: str) -> bytes | None:
        """A value, if it is there and has not expired. Immediate."""
        if not INSIDE:
            return self._values.get(name)
        value = _told(self._inner.get, name)
        return None if value is None else bytes(value)

    def set(self, name: str, value: bytes | str) -> None:
        """Writes a value, text as UTF-8, which expires when the operator says. Immediate."""
        value = value.encode() if isinstance(value, str) else value
        if INSIDE:
            _told(self._inner.set, name, value)
        else:
            self._values[name] = value

    def delete(self, name: str) -> None:
        """Removes a value, if it is there. Immediate."""
        if INSIDE:
            _told(self._inner.delete, name)
        else:
            self._values.pop(name, None)

    def increment(self, name: str, delta: int = 1) -> int:
        """Adds to a number, which begins at 0, and answers the sum. Immediate: a step that runs again adds again."""
        if INSIDE:
            return int(_told(_atomics.increment, self._inner, name, delta))
        number = int(self._values.get(name, b"0")) + delta
        self._values[name] = str(number).encode()
        return number

    def names(self) -> list[str]:
        """All names, in no order. Immediate."""
        if not INSIDE:
            return list(self._values)
        names: list[str] = []
        cursor = None
        while True:
            answer = _told(self._inner.list_keys, cursor)
            names += answer.keys
            cursor = answer.cursor
            if cursor is None:
                return names

    def __contains__(self, name: str) -> bool:
        return bool(_told(self._inner.exists, name)) if INSIDE else name in self._values


def _told(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Err as refused:
        word = code(refused.value)
        if word == "access-denied":
            raise Error(word, "`keyvalue` is not granted to this job type") from refused
        if word == "no-such-store":
            raise Error(word, "there is none of this name in grants.keyvalue.buckets") from refused
        raise Unavailable(word, refused.value.value) from refused
