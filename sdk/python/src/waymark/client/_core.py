"""What both clients share: errors, when to send again, and how events are read."""

from __future__ import annotations

import json
import os
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from . import models

DEFAULT_URL = "http://127.0.0.1:7420"
WAIT_MS = 30_000
"""Longest wait of one request; the client asks again until its own time is over."""
RETRY_AFTER_MAX = 60.0
"""Longest wait, seconds, that a host's `Retry-After` is heard with."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})
BUSY = frozenset({429, 502, 503, 504})
"""Statuses that say: not now."""


class WaymarkError(Exception):
    """Whatever goes wrong between this program and a host."""


class Unreachable(WaymarkError):
    """No host answered, or the connection broke before the answer was there."""


class Refused(WaymarkError):
    """A host refused the request."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        """HTTP status."""
        self.code = str(problem.get("code", "unknown"))
        """Stable code, with a page in the documentation; `unknown` where something else than a host answered."""
        self.detail = str(problem.get("detail", f"the answer was {status}: is it a Waymark host?"))
        """What happened this time."""
        self.problem = problem
        """The whole document (RFC 9457), as `waymark.client.models.Problem`."""
        violations = [f"{one['pointer']}: {one['detail']}" for one in problem.get("errors", [])[1:]]
        super().__init__("\n  ".join([f"{self.detail} ({self.code})", *violations]))


class JobFailed(WaymarkError):
    """A job ended without a result: it failed, or was cancelled."""

    def __init__(self, job: models.Job) -> None:
        self.job = job
        """The job as it ended."""
        error = job.get("error")
        reason = f"{error['message']} ({error['kind']})" if error else job["status"]
        super().__init__(f"the job {job['id']} of type {job['type']} {job['status']}: {reason}")


class WaitTimeout(WaymarkError, TimeoutError):
    """A job did not end in time. It goes on."""

    def __init__(self, job: models.Job) -> None:
        self.job = job
        """The job as it was last seen."""
        super().__init__(f"the job {job['id']} is still {job['status']}")


@dataclass(frozen=True)
class Retry:
    """When a request is sent again."""

    attempts: int = 5
    """Requests in all, 1 or more."""
    base: float = 0.2
    """Seconds that the first wait is at most; each is drawn below twice the bound of the one before."""
    longest: float = 5.0
    """Seconds that no wait exceeds, but for a host's own `Retry-After`."""

    def wait(self, attempt: int, response: httpx.Response | None = None) -> float:
        """Seconds to wait after the attempt of this number (from 1)."""
        if response is not None:
            try:
                return min(max(float(response.headers["retry-after"]), 0.0), RETRY_AFTER_MAX)
            except (KeyError, ValueError):
                pass
        return random.uniform(0, min(self.longest, self.base * 2 ** (attempt - 1)))


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    kind: str
    """`state`, `progress`, `log`, `output`, or `reset` when a new run begins."""
    data: Any
    """`state`: the job without its input; `progress`: as in a job; `log`: a line; `output`: a record."""
    id: str
    """Position of the reader; going on after it loses and repeats nothing."""


class Request:
    """One request: what is sent, and whether it may be sent again."""

    def __init__(
        self,
        method: str,
        path: str,
        timeout: float,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str | None] | None = None,
        json: Any = None,
        content: bytes | None = None,
        answer: str = "json",
        repeatable: bool = False,
        keyed: bool = False,
    ) -> None:
        self.answer, self.method = answer, method
        self.repeatable = repeatable or keyed
        sent = {name: value for name, value in (headers or {}).items() if value is not None}
        if keyed:
            sent.setdefault("Idempotency-Key", str(uuid.uuid4()))
        query = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in (params or {}).items()
            if value is not None
        }
        waits = float(query.get("wait_ms", 0)) / 1000
        self.arguments: dict[str, Any] = {
            "params": query,
            "headers": sent,
            "timeout": httpx.Timeout(timeout, read=timeout + waits),
        }
        if content is not None:
            self.arguments["content"] = content
            sent["Content-Type"] = "application/wasm"
        elif json is not None:
            self.arguments["content"] = dumped(json)
            sent["Content-Type"] = "application/json"
        self.path = path

    def fails_for_good(self, error: httpx.TransportError) -> bool:
        """May the request not be sent again after this? Where nothing was sent, any may."""
        return not (self.repeatable or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)))

    def is_to_be_repeated(self, response: httpx.Response) -> bool:
        """Is it worth while to send it again after this answer?"""
        # A host that says 429 has done nothing.
        return response.status_code == 429 or (self.repeatable and response.status_code in BUSY)

    def read(self, response: httpx.Response, attempt: int) -> Any:
        """What is made of the answer.

        Raises Refused where the host refused.
        """
        if self.method == "DELETE" and attempt > 1 and response.status_code == 404:
            # The attempt before, whose answer was lost, removed it.
            return None
        if response.is_success:
            match self.answer:
                case "none":
                    return None
                case "text":
                    return response.text
                case _:
                    return response.json()
        raise refusal(response)


def refusal(response: httpx.Response) -> Refused:
    """The error of an answer that is not a success."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return Refused(response.status_code, problem if isinstance(problem, dict) else {})


def dumped(value: Any) -> bytes:
    """JSON, without the numbers that JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def settings(url: str | None, token: str | None) -> dict[str, Any]:
    """Where to, and as whom; the environment says what is not given."""
    token = token or os.environ.get("WAYMARK_TOKEN")
    headers = {"User-Agent": "waymark-python/0.1.0"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {"base_url": (url or os.environ.get("WAYMARK_URL") or DEFAULT_URL).rstrip("/"), "headers": headers}


def submission(job_type: str, input: Any, more: dict[str, Any]) -> models.Submission:
    """The body that makes a job."""
    body: Any = {"type": job_type, "input": input, **more}
    made: models.Submission = body
    return made


def result(job: models.Job) -> Any:
    """The result of an ended job.

    Raises JobFailed where it has none.
    """
    if job["status"] != "succeeded":
        raise JobFailed(job)
    return job.get("result")


def last_id(position: str | None) -> dict[str, str]:
    """The header with which a stream goes on."""
    return {"Last-Event-ID": position} if position else {}


class Lines:
    """Server-sent events, put together from the lines of a stream."""

    def __init__(self) -> None:
        self._kind, self._id = "", ""
        self._data: list[str] = []

    def take(self, line: str) -> Event | None:
        """Takes one line; answers the event that ends with it."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    self._kind = value
                case "id":
                    self._id = value
                case "data":
                    self._data.append(value)
            return None
        if not self._data:
            return None
        event = Event(self._kind or "message", json.loads("\n".join(self._data)), self._id)
        self._kind, self._data = "", []
        return event


def events(lines: Iterable[str]) -> Iterator[Event]:
    """All events of a stream of lines."""
    reader = Lines()
    for line in lines:
        event = reader.take(line)
        if event is not None:
            yield event


class Seen:
    """What following a job has shown of it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.job: models.Job | None = None
        """The job as last seen, without its input."""
        self.progress: models.Progress | None = None
        """How far it is, as last seen."""

    def take(self, event: Event) -> None:
        """Takes over what an event says."""
        if event.kind == "state":
            self.job = event.data
            if event.data.get("progress"):
                self.progress = event.data["progress"]
        elif event.kind == "progress":
            self.progress = event.data
        elif event.kind == "reset":
            self.progress = None
