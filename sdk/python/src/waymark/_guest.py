"""The exports of the contract in terms of a job type. Only inside a component: componentize-py makes `wit_world`."""

from __future__ import annotations

import json
from typing import Any

from componentize_py_types import Err

from ._capability import interface
from ._context import Context, JobInfo, LogLevel
from ._job import MIME_TYPE, JobType
from ._step import AwaitChildren, AwaitSignal, Done, Failure, Progress, RetryAfter, Sleep, milliseconds

job, types = interface("waymark_task", "job"), interface("waymark_task", "types")

LEVELS = {
    "trace": job.Level.TRACE,
    "debug": job.Level.DEBUG,
    "info": job.Level.INFO,
    "warn": job.Level.WARN,
    "error": job.Level.ERROR,
}


def _progress(progress: Progress) -> Any:
    return types.Progress(progress.current, progress.total, progress.message)


class Host:
    """The host of this component."""

    def info(self) -> JobInfo:
        context = job.context()
        return JobInfo(
            context.job_id,
            context.correlation_id,
            context.attempt,
            context.committed_steps,
            context.soft_limit_ms,
            json.loads(context.metadata),
        )

    def should_yield(self) -> bool:
        return bool(job.should_yield())

    def idempotency_key(self) -> str:
        return str(job.idempotency_key())

    def log(self, level: LogLevel, message: str, fields: str) -> None:
        job.log(LEVELS[level], message, fields)

    def emit(self, item: str) -> None:
        job.emit(item)

    def report(self, progress: Progress) -> None:
        job.report(_progress(progress))

    def spawn(self, job_type: str, input: str) -> str:
        return str(job.spawn(job_type, input))

    def children(self) -> list[tuple[str, str | None, str | None]]:
        return [
            (id, None, result.value) if isinstance(result, Err) else (id, result.value, None)
            for id, result in job.children()
        ]

    def signal(self, name: str) -> str | None:
        payload: str | None = job.signal(name)
        return payload


def _failure(failure: Failure) -> Err[Any]:
    text = str(failure)
    if isinstance(failure, RetryAfter):
        return Err(types.Failure_RetryAfter((milliseconds(failure.seconds), text)))
    kinds = {
        "transient": types.Failure_Transient,
        "permanent": types.Failure_Permanent,
        "invalid-input": types.Failure_InvalidInput,
    }
    return Err(kinds[failure.kind](text))


def lifecycle(job_type: JobType) -> type:
    """The class `Lifecycle` of a job type."""
    context = Context(Host())
    # componentize-py makes a new object for each call; an instance of the component runs one job.
    running: list[Any] = []

    class Lifecycle:
        def describe(self) -> Any:
            return types.Descriptor(
                name=job_type.name,
                version=job_type.version,
                description=job_type.description,
                input_schema=json.dumps(job_type.input_schema),
                result_schema=json.dumps(job_type.result_schema),
                state_version=job_type.state_version,
                oldest_state_version=job_type.oldest_state_version,
            )

        def start(self, input: str) -> None:
            try:
                running[:] = [job_type.start(input, context)]
            except Failure as failure:
                raise _failure(failure) from failure

        def step(self) -> Any:
            try:
                answer = job_type.step(running[0], context)
            except Failure as failure:
                raise _failure(failure) from failure
            match answer:
                case Done():
                    return types.Outcome_Completed(answer.output)
                case Progress():
                    return types.Outcome_Progressed(_progress(answer))
                case Sleep():
                    return types.Outcome_Sleep(milliseconds(answer.seconds))
                case AwaitChildren():
                    return types.Outcome_AwaitChildren()
                case AwaitSignal():
                    timeout = None if answer.timeout is None else milliseconds(answer.timeout)
                    return types.Outcome_AwaitSignal(types.SignalWait(answer.name, timeout))

        def checkpoint(self) -> Any:
            try:
                return types.Snapshot(MIME_TYPE, job_type.state_version, job_type.checkpoint(running[0]))
            except Failure as failure:
                raise _failure(failure) from failure

        def restore(self, snapshot: Any) -> None:
            try:
                running[:] = [
                    job_type.restore(snapshot.mime_type, snapshot.state_version, bytes(snapshot.state), context)
                ]
            except Failure as failure:
                raise _failure(failure) from failure

    return Lifecycle
