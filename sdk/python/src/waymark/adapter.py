"""The interface of an in-process job manager, on top of a host: for callers that are to stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .client import Client, Refused, WaitTimeout, models
from .client._core import ENDED

PROGRESS_SIGNAL = "progress"
"""Signal with which a caller that does the work itself tells of its progress."""
DONE_TRIES, DONE_WAIT_MS = 15, 2_000


class JobManagerAdapter:
    """`create_job`, `get_job_status`, `update_job_progress`, `pause_job`, `resume_job`, `cancel_job`, `list_jobs`.

    Args:
        client: the host.
        to_input: makes the input and the metadata of a job from its type and the caller's metadata. By default
            `metadata["input"]` is the input and the rest is metadata; without that key all of it is the input.
    """

    def __init__(
        self,
        client: Client,
        to_input: Callable[[str, dict[str, Any]], tuple[Any, dict[str, Any]]] | None = None,
    ) -> None:
        self.client = client
        self._to_input = to_input or _split

    def create_job(self, job_type: str, metadata: dict[str, Any] | None = None) -> str:
        """Makes a job; answers its id. Raises Refused where the input does not fit the type."""
        input, kept = self._to_input(job_type, dict(metadata or {}))
        return self.client.submit(job_type, input, metadata=kept)["id"]

    def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """Where a job stands, as :meth:`list_jobs` shows it, with result and error; `None` where there is none."""
        try:
            return _status(self.client.show_job(job_id))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def update_job_progress(
        self, job_id: str, current: int, total: int | None = None, message: str | None = None, *, done: bool = False
    ) -> None:
        """Tells of progress that was made outside.

        A job type of a plugin reports its own progress, and needs no help. For work that the caller does itself there
        is the job type `tracked_work`: it waits for the signal `progress`, and shows what it says. `done` ends it.

        Raises WaitTimeout where the job has not ended half a minute after `done`: no host runs it.
        """
        payload = {"current": current, "total": total, "message": message, "done": done}
        self.client.signal_job(job_id, PROGRESS_SIGNAL, payload)
        if not done:
            return
        # A signal that comes while the one before is being committed goes with it. The last word is repeated.
        for _ in range(DONE_TRIES):
            job = self.client.show_job(job_id, wait_ms=DONE_WAIT_MS)
            if job["status"] in ENDED:
                return
            try:
                self.client.signal_job(job_id, PROGRESS_SIGNAL, payload)
            except Refused as refused:
                if refused.status != 409:
                    raise
        raise WaitTimeout(job)

    def pause_job(self, job_id: str) -> bool:
        """Asks a job to pause at the end of its step. False where its state does not allow it."""
        return self._control(self.client.pause_job, job_id)

    def resume_job(self, job_id: str) -> bool:
        """Lets a paused job go on from its checkpoint. False where its state does not allow it."""
        return self._control(self.client.resume_job, job_id)

    def cancel_job(self, job_id: str) -> bool:
        """Cancels a job. False where its state does not allow it."""
        return self._control(self.client.cancel_job, job_id)

    def list_jobs(self, job_type: str | None = None, status: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest jobs, at most `limit` of them."""
        jobs = []
        if limit > 0:
            for job in self.client.jobs(type=job_type, status=status, limit=min(limit, 100)):
                jobs.append(_status(job))
                if len(jobs) >= limit:
                    break
        return jobs

    def _control(self, control: Callable[[str], models.Job], job_id: str) -> bool:
        try:
            control(job_id)
        except Refused as refused:
            if refused.status in (404, 409):
                return False
            raise
        return True


def _split(_: str, metadata: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if "input" not in metadata:
        return metadata, {}
    input = metadata.pop("input")
    return input, metadata


def _status(job: models.Job) -> dict[str, Any]:
    progress: Any = job.get("progress") or {}
    return {
        "job_id": job["id"],
        "job_type": job["type"],
        "status": job["status"],
        "progress": progress.get("percent"),
        "current": progress.get("current", 0),
        "total": progress.get("total"),
        "message": progress.get("message"),
        "result": job.get("result"),
        "error": job.get("error"),
        "metadata": job["metadata"],
        "created_at": job["created_at"],
        "started_at": job.get("started_at"),
        "ended_at": job.get("ended_at"),
    }
