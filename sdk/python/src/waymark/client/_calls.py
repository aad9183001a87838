"""One method for each call of the API. Made by sdk/generate.py from host/daemon/openapi.json: change those."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote

from . import models


class Calls:
    """Each call of the API."""

    def _call(self, method: str, path: str, **more: Any) -> Any:
        raise NotImplementedError

    def bulk_jobs(
        self,
        action: str,
        *,
        status: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        correlation_id: str | None = None,
        error_kind: str | None = None,
        created_since: str | None = None,
        created_until: str | None = None,
        ended_since: str | None = None,
        ended_until: str | None = None,
        to: str | None = None,
        dry_run: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        why: str | None = None,
    ) -> models.Stepped:
        """Pauses, resumes, restarts, retries, cancels, deletes or moves the jobs that the filter takes, newest
        first."""
        answer: models.Stepped = self._call(
            "POST",
            f'/api/v1/jobs/bulk/{quote(action, safe="")}',
            params={"status": status, "type": type, "queue": queue, "tag": tag, "correlation_id": correlation_id, "error_kind": error_kind, "created_since": created_since, "created_until": created_until, "ended_since": ended_since, "ended_until": ended_until, "to": to, "dry_run": dry_run, "limit": limit, "cursor": cursor, "why": why},
        )
        return answer

    def cancel_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Ends the job now."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/cancel',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def change_route(
        self,
        type: str,
        action: str,
        *,
        full: bool | None = None,
        why: str | None = None,
    ) -> models.Route:
        """Changes a route: `promote` takes its canary to the next step, `hold` keeps it in its step, `rollback`
        takes all weight from it, `undo` makes the route what it was before its last change."""
        answer: models.Route = self._call(
            "POST",
            f'/api/v1/routes/{quote(type, safe="")}/{quote(action, safe="")}',
            params={"full": full, "why": why},
        )
        return answer

    def count_jobs(
        self,
    ) -> models.Counts:
        """Counts the jobs kept, by type and state."""
        answer: models.Counts = self._call(
            "GET",
            "/api/v1/counts",
            repeatable=True,
        )
        return answer

    def create_job(
        self,
        body: models.Submission,
        *,
        wait_ms: int | None = None,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
    ) -> models.Job:
        """Makes a job."""
        answer: models.Job = self._call(
            "POST",
            "/api/v1/jobs",
            params={"wait_ms": wait_ms},
            headers={"Idempotency-Key": idempotency_key, "X-Correlation-Id": correlation_id},
            json=body,
            keyed=True,
        )
        return answer

    def create_jobs(
        self,
        body: models.Batch,
    ) -> models.Outcomes:
        """Makes many jobs. 201 if none was refused, else 207."""
        answer: models.Outcomes = self._call(
            "POST",
            "/api/v1/jobs/batch",
            json=body,
        )
        return answer

    def create_workflow(
        self,
        body: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
    ) -> models.Job:
        """Makes a workflow."""
        answer: models.Job = self._call(
            "POST",
            "/api/v1/workflows",
            headers={"Idempotency-Key": idempotency_key, "X-Correlation-Id": correlation_id},
            json=body,
            keyed=True,
        )
        return answer

    def delete_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> None:
        """Cancels a job if it has not ended, and forgets it with all it kept."""
        self._call(
            "DELETE",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def delete_limits(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> None:
        """Takes the limits of a queue away."""
        self._call(
            "DELETE",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def delete_plugin(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> None:
        """Removes a plugin from this host's directory, and from those of all hosts if it was uploaded: the type
        retires. Running jobs end or move."""
        self._call(
            "DELETE",
            f'/api/v1/plugins/{quote(type, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def delete_route(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> None:
        """Removes a route: the active version of the plugin runs the type again."""
        self._call(
            "DELETE",
            f'/api/v1/routes/{quote(type, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def delete_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> None:
        """Forgets a schedule. Jobs that it made stay."""
        self._call(
            "DELETE",
            f'/api/v1/schedules/{quote(name, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def drain_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Draining:
        """Asks a host to claim no more, to release its jobs at the end of their steps, and to stop."""
        answer: models.Draining = self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/drain',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def forget_error(
        self,
        fingerprint: str,
        *,
        why: str | None = None,
    ) -> None:
        """Forgets a group of failures, as when its cause was mended. The next failure of its kind begins a new
        one."""
        self._call(
            "DELETE",
            f'/api/v1/errors/{quote(fingerprint, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    def health(
        self,
    ) -> models.Health:
        """Does the process answer? Says nothing of Redis: a restart would not bring that back."""
        answer: models.Health = self._call(
            "GET",
            "/healthz",
            repeatable=True,
        )
        return answer

    def job_checkpoint(
        self,
        id: str,
        *,
        step: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> models.Saved:
        """The newest checkpoint, or that of a step."""
        answer: models.Saved = self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/checkpoint',
            params={"step": step, "reveal": reveal, "why": why},
            repeatable=True,
        )
        return answer

    def job_checkpoints(
        self,
        id: str,
    ) -> models.SavedList:
        """All kept checkpoints, without their states."""
        answer: models.SavedList = self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/checkpoints',
            repeatable=True,
        )
        return answer

    def job_logs(
        self,
        id: str,
        *,
        from_: int | None = None,
        limit: int | None = None,
    ) -> models.Logs:
        """Log lines that the job wrote; the newest 1,000 or 1 MiB are kept."""
        answer: models.Logs = self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/logs',
            params={"from": from_, "limit": limit},
            repeatable=True,
        )
        return answer

    def job_output(
        self,
        id: str,
        *,
        from_: int | None = None,
        limit: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> str:
        """The committed output records of the job's present run, one JSON text per line."""
        answer: str = self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/output',
            params={"from": from_, "limit": limit, "reveal": reveal, "why": why},
            answer="text",
            repeatable=True,
        )
        return answer

    def list_audit(
        self,
        *,
        actor: str | None = None,
        about: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.AuditLog:
        """Lists changes that somebody asked for, newest first. Needs the scope `admin`."""
        answer: models.AuditLog = self._call(
            "GET",
            "/api/v1/audit",
            params={"actor": actor, "about": about, "limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    def list_errors(
        self,
        *,
        type: str | None = None,
        since: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> models.ErrorGroups:
        """Lists groups of failures; at most 100 per job type are kept, those seen last."""
        answer: models.ErrorGroups = self._call(
            "GET",
            "/api/v1/errors",
            params={"type": type, "since": since, "sort": sort, "limit": limit},
            repeatable=True,
        )
        return answer

    def list_hosts(
        self,
    ) -> models.Hosts:
        """Lists the hosts."""
        answer: models.Hosts = self._call(
            "GET",
            "/api/v1/hosts",
            repeatable=True,
        )
        return answer

    def list_jobs(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        correlation_id: str | None = None,
        error_kind: str | None = None,
        created_since: str | None = None,
        created_until: str | None = None,
        ended_since: str | None = None,
        ended_until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        include: str | None = None,
    ) -> models.JobPage:
        """Lists jobs, newest first."""
        answer: models.JobPage = self._call(
            "GET",
            "/api/v1/jobs",
            params={"status": status, "type": type, "queue": queue, "tag": tag, "correlation_id": correlation_id, "error_kind": error_kind, "created_since": created_since, "created_until": created_until, "ended_since": ended_since, "ended_until": ended_until, "limit": limit, "cursor": cursor, "include": include},
            repeatable=True,
        )
        return answer

    def list_mismatches(
        self,
        type: str,
    ) -> models.ShadowMismatches:
        """Lists the newest pairs of a job and its shadow job that ended in different ways."""
        answer: models.ShadowMismatches = self._call(
            "GET",
            f'/api/v1/routes/{quote(type, safe="")}/mismatches',
            repeatable=True,
        )
        return answer

    def list_plugins(
        self,
    ) -> models.Plugins:
        """Lists the plugins of this host, refused files included."""
        answer: models.Plugins = self._call(
            "GET",
            "/api/v1/plugins",
            repeatable=True,
        )
        return answer

    def list_queues(
        self,
    ) -> models.Queues:
        """Lists the queues."""
        answer: models.Queues = self._call(
            "GET",
            "/api/v1/queues",
            repeatable=True,
        )
        return answer

    def list_routes(
        self,
    ) -> models.Routes:
        """Lists the routes."""
        answer: models.Routes = self._call(
            "GET",
            "/api/v1/routes",
            repeatable=True,
        )
        return answer

    def list_schedules(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.Schedules:
        """Lists the schedules by name, the built-in ones included."""
        answer: models.Schedules = self._call(
            "GET",
            "/api/v1/schedules",
            params={"limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    def list_workflows(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.JobPage:
        """Lists workflows, newest first."""
        answer: models.JobPage = self._call(
            "GET",
            "/api/v1/workflows",
            params={"status": status, "tag": tag, "limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    def metrics(
        self,
    ) -> str:
        """Figures in the Prometheus text format."""
        answer: str = self._call(
            "GET",
            "/metrics",
            answer="text",
            repeatable=True,
        )
        return answer

    def move_job(
        self,
        id: str,
        body: models.Change,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Moves a job that has not ended to another queue, another priority, or both. A running one goes there
        when it leaves its worker."""
        answer: models.Job = self._call(
            "PATCH",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    def openapi(
        self,
    ) -> dict[str, Any]:
        """This document."""
        answer: dict[str, Any] = self._call(
            "GET",
            "/api/v1/openapi.json",
            repeatable=True,
        )
        return answer

    def pause_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Claiming:
        """Asks a host to claim nothing more. What it holds goes on."""
        answer: models.Claiming = self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def pause_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Stops the job: a running one at the end of its step, any other at once. It keeps its place. While it
        is paused, the time until which it sleeps goes on, and signals and ends of children that it waits for
        are kept."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def pause_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Switch:
        """Stops claims from a queue; running jobs go on. A queue that holds nothing yet can be paused too."""
        answer: models.Switch = self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def pause_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Pauses a schedule: it does not fire, and what passes meanwhile is not missed."""
        answer: models.Schedule = self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def preview_schedule(
        self,
        *,
        cron: str | None = None,
        every_ms: int | None = None,
        anchor: str | None = None,
        at: str | None = None,
        timezone: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> models.Upcoming:
        """The next times of a pattern, without keeping a schedule."""
        answer: models.Upcoming = self._call(
            "GET",
            "/api/v1/schedules/preview",
            params={"cron": cron, "every_ms": every_ms, "anchor": anchor, "at": at, "timezone": timezone, "after": after, "limit": limit},
            repeatable=True,
        )
        return answer

    def purge_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Purged:
        """Cancels every job that is queued in a queue. Running and scheduled jobs stay."""
        answer: models.Purged = self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/purge',
            params={"why": why},
        )
        return answer

    def put_plugin(
        self,
        type: str,
        body: bytes,
        *,
        force: bool | None = None,
        why: str | None = None,
    ) -> models.Plugin:
        """Puts a plugin into this host's directory, and answers when it is in service; the other hosts take it
        within seconds. A refused one leaves the version before it in service, and goes nowhere."""
        answer: models.Plugin = self._call(
            "PUT",
            f'/api/v1/plugins/{quote(type, safe="")}',
            params={"force": force, "why": why},
            content=body,
            repeatable=True,
        )
        return answer

    def put_route(
        self,
        type: str,
        body: dict[str, Any],
        *,
        why: str | None = None,
    ) -> models.Route:
        """Puts a route in the place of the one there is. It holds within two seconds for every job that has not
        committed a step; a canary begins with its first step."""
        answer: models.Route = self._call(
            "PUT",
            f'/api/v1/routes/{quote(type, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    def put_schedule(
        self,
        name: str,
        body: models.ScheduleRequest,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Creates or replaces a schedule. The same again changes nothing. As long as the fields that say when
        stay the same, the next time does."""
        answer: models.Schedule = self._call(
            "PUT",
            f'/api/v1/schedules/{quote(name, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    def ready(
        self,
    ) -> models.Health:
        """Can the host take and run jobs?"""
        answer: models.Health = self._call(
            "GET",
            "/readyz",
            repeatable=True,
        )
        return answer

    def reencrypt(
        self,
        *,
        cursor: str | None = None,
        dry_run: bool | None = None,
        why: str | None = None,
    ) -> models.Reencrypted:
        """Encrypts with the active key what another one encrypted, for about a second; running hosts need not
        stop. Needs the scope `admin`."""
        answer: models.Reencrypted = self._call(
            "POST",
            "/api/v1/keys/reencrypt",
            params={"cursor": cursor, "dry_run": dry_run, "why": why},
        )
        return answer

    def replay_job(
        self,
        id: str,
        body: dict[str, Any],
        *,
        wait_ms: int | None = None,
        why: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.Job:
        """Makes a new job from one that ended. The body holds the fields that are to be different; it may be
        empty."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/replay',
            params={"wait_ms": wait_ms, "why": why},
            headers={"Idempotency-Key": idempotency_key},
            json=body,
            keyed=True,
        )
        return answer

    def requeue_celery(
        self,
        *,
        limit: int | None = None,
        why: str | None = None,
    ) -> models.Requeued:
        """Puts messages of the dead list back into their Celery queues, the oldest first. Mend first what they
        died of: those that still cannot be taken come back."""
        answer: models.Requeued = self._call(
            "POST",
            "/api/v1/celery/dead/requeue",
            params={"limit": limit, "why": why},
        )
        return answer

    def restart_job(
        self,
        id: str,
        *,
        from_: int | None = None,
        why: str | None = None,
    ) -> models.Job:
        """Runs a paused or ended job again, from the beginning or from a kept checkpoint, as its next run."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/restart',
            params={"from": from_, "why": why},
        )
        return answer

    def resume_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Claiming:
        """Asks a host to claim again."""
        answer: models.Claiming = self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def resume_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Lets a paused job go on from its last checkpoint: it goes back to its queue. One that slept or waited
        sleeps or waits again, unless its time, its signal or the end of its children has come meanwhile. A job
        that is not paused stays as it is."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def resume_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Switch:
        """Allows claims from a queue again."""
        answer: models.Switch = self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def resume_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Lets a schedule fire again, from its next time on."""
        answer: models.Schedule = self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    def retry_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Lets a failed job go on from its last kept checkpoint, as its next run with all its attempts; from
        the beginning where it keeps none."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/retry',
            params={"why": why},
        )
        return answer

    def retry_workflow(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Runs an ended workflow again, as its next run: what succeeded is kept, the rest runs again."""
        answer: models.Job = self._call(
            "POST",
            f'/api/v1/workflows/{quote(id, safe="")}/retry',
            params={"why": why},
        )
        return answer

    def roll_back_plugin(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> models.Plugin:
        """Makes the version before the active one active again on this host. Jobs of the version that it goes
        back from move with their next commit where the other reads their checkpoints, and pause with an error
        where it does not."""
        answer: models.Plugin = self._call(
            "POST",
            f'/api/v1/plugins/{quote(type, safe="")}/rollback',
            params={"why": why},
        )
        return answer

    def run_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Ran:
        """Runs a schedule now, whether it is paused or not. Its planned times stay as they are; its overlap
        policy holds."""
        answer: models.Ran = self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/run',
            params={"why": why},
        )
        return answer

    def scale(
        self,
        *,
        queue: str | None = None,
        target_ms: int | None = None,
    ) -> models.Signal:
        """What really waits, and what it would need to begin within a time."""
        answer: models.Signal = self._call(
            "GET",
            "/api/v1/scale",
            params={"queue": queue, "target_ms": target_ms},
            repeatable=True,
        )
        return answer

    def set_limits(
        self,
        queue: str,
        body: models.Limits,
        *,
        why: str | None = None,
    ) -> models.Standing:
        """Sets the limits of a queue, all of them: what the body leaves away is not limited any more. They hold
        at once; jobs that run already count from their next claim on."""
        answer: models.Standing = self._call(
            "PUT",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    def show_celery(
        self,
    ) -> models.Front:
        """Shows the Celery front."""
        answer: models.Front = self._call(
            "GET",
            "/api/v1/celery",
            repeatable=True,
        )
        return answer

    def show_error(
        self,
        fingerprint: str,
    ) -> models.ErrorGroupJobs:
        """Shows a group of failures with the jobs that failed so last."""
        answer: models.ErrorGroupJobs = self._call(
            "GET",
            f'/api/v1/errors/{quote(fingerprint, safe="")}',
            repeatable=True,
        )
        return answer

    def show_job(
        self,
        id: str,
        *,
        wait_ms: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> models.Job:
        """Shows a job."""
        answer: models.Job = self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"wait_ms": wait_ms, "reveal": reveal, "why": why},
            repeatable=True,
        )
        return answer

    def show_limits(
        self,
        queue: str,
    ) -> models.Standing:
        """Shows the limits of a queue, what runs under them, and its flow keys."""
        answer: models.Standing = self._call(
            "GET",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            repeatable=True,
        )
        return answer

    def show_plugin(
        self,
        type: str,
    ) -> models.Plugin:
        """Shows a plugin."""
        answer: models.Plugin = self._call(
            "GET",
            f'/api/v1/plugins/{quote(type, safe="")}',
            repeatable=True,
        )
        return answer

    def show_route(
        self,
        type: str,
    ) -> models.RouteWithCounts:
        """Shows the route of a job type, what was counted of each of its targets, and its last changes."""
        answer: models.RouteWithCounts = self._call(
            "GET",
            f'/api/v1/routes/{quote(type, safe="")}',
            repeatable=True,
        )
        return answer

    def show_schedule(
        self,
        name: str,
    ) -> models.Schedule:
        """One schedule, its next ten times, and what became of the last 20."""
        answer: models.Schedule = self._call(
            "GET",
            f'/api/v1/schedules/{quote(name, safe="")}',
            repeatable=True,
        )
        return answer

    def show_workflow(
        self,
        id: str,
        *,
        nodes: int | None = None,
        from_: int | None = None,
    ) -> models.Workflow:
        """Shows a workflow and a page of its nodes."""
        answer: models.Workflow = self._call(
            "GET",
            f'/api/v1/workflows/{quote(id, safe="")}',
            params={"nodes": nodes, "from": from_},
            repeatable=True,
        )
        return answer

    def signal_job(
        self,
        id: str,
        name: str,
        body: Any,
        *,
        why: str | None = None,
    ) -> models.Signalled:
        """Sends a signal to a job; the body is its payload, any JSON, `null` when empty."""
        answer: models.Signalled = self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/signals/{quote(name, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer


class AsyncCalls:
    """Each call of the API, for asyncio."""

    async def _call(self, method: str, path: str, **more: Any) -> Any:
        raise NotImplementedError

    async def bulk_jobs(
        self,
        action: str,
        *,
        status: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        correlation_id: str | None = None,
        error_kind: str | None = None,
        created_since: str | None = None,
        created_until: str | None = None,
        ended_since: str | None = None,
        ended_until: str | None = None,
        to: str | None = None,
        dry_run: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        why: str | None = None,
    ) -> models.Stepped:
        """Pauses, resumes, restarts, retries, cancels, deletes or moves the jobs that the filter takes, newest
        first."""
        answer: models.Stepped = await self._call(
            "POST",
            f'/api/v1/jobs/bulk/{quote(action, safe="")}',
            params={"status": status, "type": type, "queue": queue, "tag": tag, "correlation_id": correlation_id, "error_kind": error_kind, "created_since": created_since, "created_until": created_until, "ended_since": ended_since, "ended_until": ended_until, "to": to, "dry_run": dry_run, "limit": limit, "cursor": cursor, "why": why},
        )
        return answer

    async def cancel_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Ends the job now."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/cancel',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def change_route(
        self,
        type: str,
        action: str,
        *,
        full: bool | None = None,
        why: str | None = None,
    ) -> models.Route:
        """Changes a route: `promote` takes its canary to the next step, `hold` keeps it in its step, `rollback`
        takes all weight from it, `undo` makes the route what it was before its last change."""
        answer: models.Route = await self._call(
            "POST",
            f'/api/v1/routes/{quote(type, safe="")}/{quote(action, safe="")}',
            params={"full": full, "why": why},
        )
        return answer

    async def count_jobs(
        self,
    ) -> models.Counts:
        """Counts the jobs kept, by type and state."""
        answer: models.Counts = await self._call(
            "GET",
            "/api/v1/counts",
            repeatable=True,
        )
        return answer

    async def create_job(
        self,
        body: models.Submission,
        *,
        wait_ms: int | None = None,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
    ) -> models.Job:
        """Makes a job."""
        answer: models.Job = await self._call(
            "POST",
            "/api/v1/jobs",
            params={"wait_ms": wait_ms},
            headers={"Idempotency-Key": idempotency_key, "X-Correlation-Id": correlation_id},
            json=body,
            keyed=True,
        )
        return answer

    async def create_jobs(
        self,
        body: models.Batch,
    ) -> models.Outcomes:
        """Makes many jobs. 201 if none was refused, else 207."""
        answer: models.Outcomes = await self._call(
            "POST",
            "/api/v1/jobs/batch",
            json=body,
        )
        return answer

    async def create_workflow(
        self,
        body: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
    ) -> models.Job:
        """Makes a workflow."""
        answer: models.Job = await self._call(
            "POST",
            "/api/v1/workflows",
            headers={"Idempotency-Key": idempotency_key, "X-Correlation-Id": correlation_id},
            json=body,
            keyed=True,
        )
        return answer

    async def delete_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> None:
        """Cancels a job if it has not ended, and forgets it with all it kept."""
        await self._call(
            "DELETE",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def delete_limits(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> None:
        """Takes the limits of a queue away."""
        await self._call(
            "DELETE",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def delete_plugin(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> None:
        """Removes a plugin from this host's directory, and from those of all hosts if it was uploaded: the type
        retires. Running jobs end or move."""
        await self._call(
            "DELETE",
            f'/api/v1/plugins/{quote(type, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def delete_route(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> None:
        """Removes a route: the active version of the plugin runs the type again."""
        await self._call(
            "DELETE",
            f'/api/v1/routes/{quote(type, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def delete_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> None:
        """Forgets a schedule. Jobs that it made stay."""
        await self._call(
            "DELETE",
            f'/api/v1/schedules/{quote(name, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def drain_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Draining:
        """Asks a host to claim no more, to release its jobs at the end of their steps, and to stop."""
        answer: models.Draining = await self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/drain',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def forget_error(
        self,
        fingerprint: str,
        *,
        why: str | None = None,
    ) -> None:
        """Forgets a group of failures, as when its cause was mended. The next failure of its kind begins a new
        one."""
        await self._call(
            "DELETE",
            f'/api/v1/errors/{quote(fingerprint, safe="")}',
            params={"why": why},
            answer="none",
            repeatable=True,
        )

    async def health(
        self,
    ) -> models.Health:
        """Does the process answer? Says nothing of Redis: a restart would not bring that back."""
        answer: models.Health = await self._call(
            "GET",
            "/healthz",
            repeatable=True,
        )
        return answer

    async def job_checkpoint(
        self,
        id: str,
        *,
        step: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> models.Saved:
        """The newest checkpoint, or that of a step."""
        answer: models.Saved = await self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/checkpoint',
            params={"step": step, "reveal": reveal, "why": why},
            repeatable=True,
        )
        return answer

    async def job_checkpoints(
        self,
        id: str,
    ) -> models.SavedList:
        """All kept checkpoints, without their states."""
        answer: models.SavedList = await self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/checkpoints',
            repeatable=True,
        )
        return answer

    async def job_logs(
        self,
        id: str,
        *,
        from_: int | None = None,
        limit: int | None = None,
    ) -> models.Logs:
        """Log lines that the job wrote; the newest 1,000 or 1 MiB are kept."""
        answer: models.Logs = await self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/logs',
            params={"from": from_, "limit": limit},
            repeatable=True,
        )
        return answer

    async def job_output(
        self,
        id: str,
        *,
        from_: int | None = None,
        limit: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> str:
        """The committed output records of the job's present run, one JSON text per line."""
        answer: str = await self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}/output',
            params={"from": from_, "limit": limit, "reveal": reveal, "why": why},
            answer="text",
            repeatable=True,
        )
        return answer

    async def list_audit(
        self,
        *,
        actor: str | None = None,
        about: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.AuditLog:
        """Lists changes that somebody asked for, newest first. Needs the scope `admin`."""
        answer: models.AuditLog = await self._call(
            "GET",
            "/api/v1/audit",
            params={"actor": actor, "about": about, "limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    async def list_errors(
        self,
        *,
        type: str | None = None,
        since: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> models.ErrorGroups:
        """Lists groups of failures; at most 100 per job type are kept, those seen last."""
        answer: models.ErrorGroups = await self._call(
            "GET",
            "/api/v1/errors",
            params={"type": type, "since": since, "sort": sort, "limit": limit},
            repeatable=True,
        )
        return answer

    async def list_hosts(
        self,
    ) -> models.Hosts:
        """Lists the hosts."""
        answer: models.Hosts = await self._call(
            "GET",
            "/api/v1/hosts",
            repeatable=True,
        )
        return answer

    async def list_jobs(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        correlation_id: str | None = None,
        error_kind: str | None = None,
        created_since: str | None = None,
        created_until: str | None = None,
        ended_since: str | None = None,
        ended_until: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        include: str | None = None,
    ) -> models.JobPage:
        """Lists jobs, newest first."""
        answer: models.JobPage = await self._call(
            "GET",
            "/api/v1/jobs",
            params={"status": status, "type": type, "queue": queue, "tag": tag, "correlation_id": correlation_id, "error_kind": error_kind, "created_since": created_since, "created_until": created_until, "ended_since": ended_since, "ended_until": ended_until, "limit": limit, "cursor": cursor, "include": include},
            repeatable=True,
        )
        return answer

    async def list_mismatches(
        self,
        type: str,
    ) -> models.ShadowMismatches:
        """Lists the newest pairs of a job and its shadow job that ended in different ways."""
        answer: models.ShadowMismatches = await self._call(
            "GET",
            f'/api/v1/routes/{quote(type, safe="")}/mismatches',
            repeatable=True,
        )
        return answer

    async def list_plugins(
        self,
    ) -> models.Plugins:
        """Lists the plugins of this host, refused files included."""
        answer: models.Plugins = await self._call(
            "GET",
            "/api/v1/plugins",
            repeatable=True,
        )
        return answer

    async def list_queues(
        self,
    ) -> models.Queues:
        """Lists the queues."""
        answer: models.Queues = await self._call(
            "GET",
            "/api/v1/queues",
            repeatable=True,
        )
        return answer

    async def list_routes(
        self,
    ) -> models.Routes:
        """Lists the routes."""
        answer: models.Routes = await self._call(
            "GET",
            "/api/v1/routes",
            repeatable=True,
        )
        return answer

    async def list_schedules(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.Schedules:
        """Lists the schedules by name, the built-in ones included."""
        answer: models.Schedules = await self._call(
            "GET",
            "/api/v1/schedules",
            params={"limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    async def list_workflows(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.JobPage:
        """Lists workflows, newest first."""
        answer: models.JobPage = await self._call(
            "GET",
            "/api/v1/workflows",
            params={"status": status, "tag": tag, "limit": limit, "cursor": cursor},
            repeatable=True,
        )
        return answer

    async def metrics(
        self,
    ) -> str:
        """Figures in the Prometheus text format."""
        answer: str = await self._call(
            "GET",
            "/metrics",
            answer="text",
            repeatable=True,
        )
        return answer

    async def move_job(
        self,
        id: str,
        body: models.Change,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Moves a job that has not ended to another queue, another priority, or both. A running one goes there
        when it leaves its worker."""
        answer: models.Job = await self._call(
            "PATCH",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    async def openapi(
        self,
    ) -> dict[str, Any]:
        """This document."""
        answer: dict[str, Any] = await self._call(
            "GET",
            "/api/v1/openapi.json",
            repeatable=True,
        )
        return answer

    async def pause_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Claiming:
        """Asks a host to claim nothing more. What it holds goes on."""
        answer: models.Claiming = await self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def pause_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Stops the job: a running one at the end of its step, any other at once. It keeps its place. While it
        is paused, the time until which it sleeps goes on, and signals and ends of children that it waits for
        are kept."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def pause_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Switch:
        """Stops claims from a queue; running jobs go on. A queue that holds nothing yet can be paused too."""
        answer: models.Switch = await self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def pause_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Pauses a schedule: it does not fire, and what passes meanwhile is not missed."""
        answer: models.Schedule = await self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/pause',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def preview_schedule(
        self,
        *,
        cron: str | None = None,
        every_ms: int | None = None,
        anchor: str | None = None,
        at: str | None = None,
        timezone: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> models.Upcoming:
        """The next times of a pattern, without keeping a schedule."""
        answer: models.Upcoming = await self._call(
            "GET",
            "/api/v1/schedules/preview",
            params={"cron": cron, "every_ms": every_ms, "anchor": anchor, "at": at, "timezone": timezone, "after": after, "limit": limit},
            repeatable=True,
        )
        return answer

    async def purge_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Purged:
        """Cancels every job that is queued in a queue. Running and scheduled jobs stay."""
        answer: models.Purged = await self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/purge',
            params={"why": why},
        )
        return answer

    async def put_plugin(
        self,
        type: str,
        body: bytes,
        *,
        force: bool | None = None,
        why: str | None = None,
    ) -> models.Plugin:
        """Puts a plugin into this host's directory, and answers when it is in service; the other hosts take it
        within seconds. A refused one leaves the version before it in service, and goes nowhere."""
        answer: models.Plugin = await self._call(
            "PUT",
            f'/api/v1/plugins/{quote(type, safe="")}',
            params={"force": force, "why": why},
            content=body,
            repeatable=True,
        )
        return answer

    async def put_route(
        self,
        type: str,
        body: dict[str, Any],
        *,
        why: str | None = None,
    ) -> models.Route:
        """Puts a route in the place of the one there is. It holds within two seconds for every job that has not
        committed a step; a canary begins with its first step."""
        answer: models.Route = await self._call(
            "PUT",
            f'/api/v1/routes/{quote(type, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    async def put_schedule(
        self,
        name: str,
        body: models.ScheduleRequest,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Creates or replaces a schedule. The same again changes nothing. As long as the fields that say when
        stay the same, the next time does."""
        answer: models.Schedule = await self._call(
            "PUT",
            f'/api/v1/schedules/{quote(name, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    async def ready(
        self,
    ) -> models.Health:
        """Can the host take and run jobs?"""
        answer: models.Health = await self._call(
            "GET",
            "/readyz",
            repeatable=True,
        )
        return answer

    async def reencrypt(
        self,
        *,
        cursor: str | None = None,
        dry_run: bool | None = None,
        why: str | None = None,
    ) -> models.Reencrypted:
        """Encrypts with the active key what another one encrypted, for about a second; running hosts need not
        stop. Needs the scope `admin`."""
        answer: models.Reencrypted = await self._call(
            "POST",
            "/api/v1/keys/reencrypt",
            params={"cursor": cursor, "dry_run": dry_run, "why": why},
        )
        return answer

    async def replay_job(
        self,
        id: str,
        body: dict[str, Any],
        *,
        wait_ms: int | None = None,
        why: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.Job:
        """Makes a new job from one that ended. The body holds the fields that are to be different; it may be
        empty."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/replay',
            params={"wait_ms": wait_ms, "why": why},
            headers={"Idempotency-Key": idempotency_key},
            json=body,
            keyed=True,
        )
        return answer

    async def requeue_celery(
        self,
        *,
        limit: int | None = None,
        why: str | None = None,
    ) -> models.Requeued:
        """Puts messages of the dead list back into their Celery queues, the oldest first. Mend first what they
        died of: those that still cannot be taken come back."""
        answer: models.Requeued = await self._call(
            "POST",
            "/api/v1/celery/dead/requeue",
            params={"limit": limit, "why": why},
        )
        return answer

    async def restart_job(
        self,
        id: str,
        *,
        from_: int | None = None,
        why: str | None = None,
    ) -> models.Job:
        """Runs a paused or ended job again, from the beginning or from a kept checkpoint, as its next run."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/restart',
            params={"from": from_, "why": why},
        )
        return answer

    async def resume_host(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Claiming:
        """Asks a host to claim again."""
        answer: models.Claiming = await self._call(
            "POST",
            f'/api/v1/hosts/{quote(id, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def resume_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Lets a paused job go on from its last checkpoint: it goes back to its queue. One that slept or waited
        sleeps or waits again, unless its time, its signal or the end of its children has come meanwhile. A job
        that is not paused stays as it is."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def resume_queue(
        self,
        queue: str,
        *,
        why: str | None = None,
    ) -> models.Switch:
        """Allows claims from a queue again."""
        answer: models.Switch = await self._call(
            "POST",
            f'/api/v1/queues/{quote(queue, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def resume_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Schedule:
        """Lets a schedule fire again, from its next time on."""
        answer: models.Schedule = await self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/resume',
            params={"why": why},
            repeatable=True,
        )
        return answer

    async def retry_job(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Lets a failed job go on from its last kept checkpoint, as its next run with all its attempts; from
        the beginning where it keeps none."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/retry',
            params={"why": why},
        )
        return answer

    async def retry_workflow(
        self,
        id: str,
        *,
        why: str | None = None,
    ) -> models.Job:
        """Runs an ended workflow again, as its next run: what succeeded is kept, the rest runs again."""
        answer: models.Job = await self._call(
            "POST",
            f'/api/v1/workflows/{quote(id, safe="")}/retry',
            params={"why": why},
        )
        return answer

    async def roll_back_plugin(
        self,
        type: str,
        *,
        why: str | None = None,
    ) -> models.Plugin:
        """Makes the version before the active one active again on this host. Jobs of the version that it goes
        back from move with their next commit where the other reads their checkpoints, and pause with an error
        where it does not."""
        answer: models.Plugin = await self._call(
            "POST",
            f'/api/v1/plugins/{quote(type, safe="")}/rollback',
            params={"why": why},
        )
        return answer

    async def run_schedule(
        self,
        name: str,
        *,
        why: str | None = None,
    ) -> models.Ran:
        """Runs a schedule now, whether it is paused or not. Its planned times stay as they are; its overlap
        policy holds."""
        answer: models.Ran = await self._call(
            "POST",
            f'/api/v1/schedules/{quote(name, safe="")}/run',
            params={"why": why},
        )
        return answer

    async def scale(
        self,
        *,
        queue: str | None = None,
        target_ms: int | None = None,
    ) -> models.Signal:
        """What really waits, and what it would need to begin within a time."""
        answer: models.Signal = await self._call(
            "GET",
            "/api/v1/scale",
            params={"queue": queue, "target_ms": target_ms},
            repeatable=True,
        )
        return answer

    async def set_limits(
        self,
        queue: str,
        body: models.Limits,
        *,
        why: str | None = None,
    ) -> models.Standing:
        """Sets the limits of a queue, all of them: what the body leaves away is not limited any more. They hold
        at once; jobs that run already count from their next claim on."""
        answer: models.Standing = await self._call(
            "PUT",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer

    async def show_celery(
        self,
    ) -> models.Front:
        """Shows the Celery front."""
        answer: models.Front = await self._call(
            "GET",
            "/api/v1/celery",
            repeatable=True,
        )
        return answer

    async def show_error(
        self,
        fingerprint: str,
    ) -> models.ErrorGroupJobs:
        """Shows a group of failures with the jobs that failed so last."""
        answer: models.ErrorGroupJobs = await self._call(
            "GET",
            f'/api/v1/errors/{quote(fingerprint, safe="")}',
            repeatable=True,
        )
        return answer

    async def show_job(
        self,
        id: str,
        *,
        wait_ms: int | None = None,
        reveal: bool | None = None,
        why: str | None = None,
    ) -> models.Job:
        """Shows a job."""
        answer: models.Job = await self._call(
            "GET",
            f'/api/v1/jobs/{quote(id, safe="")}',
            params={"wait_ms": wait_ms, "reveal": reveal, "why": why},
            repeatable=True,
        )
        return answer

    async def show_limits(
        self,
        queue: str,
    ) -> models.Standing:
        """Shows the limits of a queue, what runs under them, and its flow keys."""
        answer: models.Standing = await self._call(
            "GET",
            f'/api/v1/queues/{quote(queue, safe="")}/limits',
            repeatable=True,
        )
        return answer

    async def show_plugin(
        self,
        type: str,
    ) -> models.Plugin:
        """Shows a plugin."""
        answer: models.Plugin = await self._call(
            "GET",
            f'/api/v1/plugins/{quote(type, safe="")}',
            repeatable=True,
        )
        return answer

    async def show_route(
        self,
        type: str,
    ) -> models.RouteWithCounts:
        """Shows the route of a job type, what was counted of each of its targets, and its last changes."""
        answer: models.RouteWithCounts = await self._call(
            "GET",
            f'/api/v1/routes/{quote(type, safe="")}',
            repeatable=True,
        )
        return answer

    async def show_schedule(
        self,
        name: str,
    ) -> models.Schedule:
        """One schedule, its next ten times, and what became of the last 20."""
        answer: models.Schedule = await self._call(
            "GET",
            f'/api/v1/schedules/{quote(name, safe="")}',
            repeatable=True,
        )
        return answer

    async def show_workflow(
        self,
        id: str,
        *,
        nodes: int | None = None,
        from_: int | None = None,
    ) -> models.Workflow:
        """Shows a workflow and a page of its nodes."""
        answer: models.Workflow = await self._call(
            "GET",
            f'/api/v1/workflows/{quote(id, safe="")}',
            params={"nodes": nodes, "from": from_},
            repeatable=True,
        )
        return answer

    async def signal_job(
        self,
        id: str,
        name: str,
        body: Any,
        *,
        why: str | None = None,
    ) -> models.Signalled:
        """Sends a signal to a job; the body is its payload, any JSON, `null` when empty."""
        answer: models.Signalled = await self._call(
            "POST",
            f'/api/v1/jobs/{quote(id, safe="")}/signals/{quote(name, safe="")}',
            params={"why": why},
            json=body,
            repeatable=True,
        )
        return answer
