"""The client that waits for each answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from . import models
from ._calls import Calls
from ._core import (
    BUSY,
    ENDED,
    WAIT_MS,
    Event,
    JobFailed,
    Request,
    Retry,
    Seen,
    Unreachable,
    WaitTimeout,
    events,
    last_id,
    refusal,
    result,
    settings,
    submission,
)


class Client(Calls):
    """A host, or what stands before several.

    Safe to share between threads. A context manager; without one, call :meth:`close`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retry: Retry = Retry(),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: address of a host [default: $WAYMARK_URL, or http://127.0.0.1:7420].
            token: token, where the host asks for one [default: $WAYMARK_TOKEN].
            timeout: seconds for connecting, and between two bytes of an answer.
            retry: when a request is sent again.
            transport: how requests travel, for proxies and tests.
        """
        self._timeout, self._retry = timeout, retry
        # A host on this machine is never behind a proxy.
        self._http = httpx.Client(**settings(url, token), timeout=timeout, transport=transport, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **more: Any) -> Any:
        request = Request(method, path, self._timeout, **more)
        for attempt in range(1, self._retry.attempts + 1):
            last = attempt == self._retry.attempts
            try:
                response = self._http.request(method, path, **request.arguments)
            except httpx.TransportError as error:
                if last or request.fails_for_good(error):
                    raise Unreachable(f"{method} {self._http.base_url}{path}: {error or type(error).__name__}") from error
                time.sleep(self._retry.wait(attempt))
                continue
            if last or not request.is_to_be_repeated(response):
                return request.read(response, attempt)
            time.sleep(self._retry.wait(attempt, response))
        raise Unreachable("no request was sent: retry.attempts is 1 or more")

    def submit(self, job_type: str, input: Any, *, idempotency_key: str | None = None, **more: Any) -> models.Job:
        """Makes a job; `more` are the other fields of `waymark.client.models.Submission`.

        Raises Refused where the input does not fit, and the like.
        """
        return self.create_job(submission(job_type, input, more), idempotency_key=idempotency_key)

    def run(self, job_type: str, input: Any, *, timeout: float | None = None, **more: Any) -> Any:
        """Makes a job, waits for its end, and answers its result.

        Raises JobFailed where it has none, WaitTimeout after `timeout` seconds.
        """
        return result(self.wait(self.submit(job_type, input, **more)["id"], timeout=timeout))

    def result(self, id: str, *, timeout: float | None = None) -> Any:
        """Waits for the end of a job, and answers its result. Raises as :meth:`run` does."""
        return result(self.wait(id, timeout=timeout))

    def wait(self, id: str, *, timeout: float | None = None) -> models.Job:
        """Waits until a job has ended, however it ended.

        Raises WaitTimeout after `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_MS if end is None else max(0, min(WAIT_MS, int((end - time.monotonic()) * 1000)))
            job = self.show_job(id, wait_ms=left)
            if job["status"] in ENDED:
                return job
            if end is not None and time.monotonic() >= end:
                raise WaitTimeout(job)

    def jobs(self, **filter: Any) -> Iterator[models.Job]:
        """All jobs that a filter takes, newest first, page after page; the filter is that of `list_jobs`."""
        cursor = None
        while True:
            page = self.list_jobs(**filter, cursor=cursor)
            yield from page["jobs"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def output(self, id: str, *, start: int = 0, limit: int | None = None) -> list[Any]:
        """Committed output records of a job, from the one of index `start`."""
        text = self.job_output(id, from_=start, limit=limit)
        return [json.loads(line) for line in text.splitlines() if line]

    def events(self, id: str, *, only: str | None = None, after: str | None = None) -> Iterator[Event]:
        """What happens to a job, until it has ended. A broken connection is taken up where it broke.

        Args:
            id: the job.
            only: kinds with commas between them [default: state, progress, log and output].
            after: id of the last event that was seen; those after it follow.

        Raises Unreachable where no host answers for as long as the retries last.
        """
        path, attempt = f"/api/v1/jobs/{quote(id, safe='')}/events", 0
        query = {"only": only} if only else {}
        while True:
            attempt += 1
            response: httpx.Response | None = None
            try:
                with self._http.stream("GET", path, params=query, headers=last_id(after)) as response:
                    if response.status_code == 204:
                        return
                    if not response.is_success and (response.status_code not in BUSY or attempt >= self._retry.attempts):
                        response.read()
                        raise refusal(response)
                    for event in events(response.iter_lines()) if response.is_success else ():
                        attempt, after = 0, event.id or after
                        yield event
                        if event.kind == "state" and event.data["status"] in ENDED:
                            return
            except httpx.TransportError as error:
                if attempt >= self._retry.attempts:
                    raise Unreachable(f"{path}: {error or type(error).__name__}") from error
            time.sleep(self._retry.wait(max(attempt, 1), response))

    def follow(
        self, id: str, *, on_progress: Callable[[models.Progress], None] | None = None, cancel_on_error: bool = False
    ) -> Following:
        """Follows a job in a `with` block; see :class:`Following`.

        Args:
            id: the job.
            on_progress: called with each progress that is seen.
            cancel_on_error: an exception that leaves the block cancels the job.
        """
        return Following(self, id, on_progress, cancel_on_error)


class Following(Seen):
    """A job that is followed, as a context manager and an iterator of its events.

    with client.follow(id) as job:
        for event in job:
            print(job.progress)
        print(job.result())
    """

    def __init__(
        self,
        client: Client,
        id: str,
        on_progress: Callable[[models.Progress], None] | None,
        cancel_on_error: bool,
    ) -> None:
        super().__init__(id)
        self._client, self._on_progress, self._cancel_on_error = client, on_progress, cancel_on_error
        self._events = client.events(id)

    def __enter__(self) -> Following:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
        if error is not None and self._cancel_on_error and not isinstance(error, JobFailed):
            self._client.cancel_job(self.id)

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            before = self.progress
            self.take(event)
            if self._on_progress is not None and self.progress is not None and self.progress != before:
                self._on_progress(self.progress)
            yield event

    def result(self) -> Any:
        """Follows the job to its end, and answers its result.

        Raises JobFailed where it has none.
        """
        for _ in self:
            pass
        return result(self._client.wait(self.id))
