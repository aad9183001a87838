"""A host for pytest: runs a job type in this interpreter, and crashes it as often as one likes.

    from waymark.testing import assert_survives_anything

    def test_the_mean_is_right_however_often_it_crashes():
        assert assert_survives_anything(Mean, [1, 2, 6]).result == 3.0
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._context import Context, JobInfo, LogLevel, dump
from ._job import MIME_TYPE, JobType
from ._step import AwaitChildren, AwaitSignal, Done, Failure, Progress, RetryAfter, Sleep, Transient, milliseconds

STEPS_MAX = 1_000_000
"""Steps after which a run is given up as endless, unless told otherwise."""

Crash = Literal["never", "between steps", "within steps"]
"""How often the job loses its instance: never; after each step, so that the next runs in one restored from the
checkpoint; or within each step, which so runs twice from the same checkpoint."""


@dataclass
class Run:
    """All that a run left behind."""

    result: Any = None
    failure: Failure | None = None
    """What ended the job, where it failed."""
    outputs: list[Any] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    spawned: list[tuple[str, Any]] = field(default_factory=list)
    """Job type and input of each child."""
    logs: list[tuple[LogLevel, str, dict[str, Any]]] = field(default_factory=list)
    """Lines of a step that ran twice are here twice."""
    steps: int = 0
    attempts: int = 1
    checkpoint_bytes_max: int = 0

    def seen(self) -> tuple[Any, ...]:
        """Everything that a caller of the job can observe."""
        failure = None if self.failure is None else (self.failure.kind, str(self.failure))
        return self.result, failure, self.outputs, self.progress, self.spawned, self.steps


@dataclass
class _Effects:
    outputs: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    spawned: list[tuple[str, str]] = field(default_factory=list)


class _Host:
    """The functions of the contract. Buffered effects are kept apart until the step is committed."""

    def __init__(self, yields: bool, metadata: dict[str, Any]) -> None:
        self.yields, self.metadata = yields, metadata
        self.attempt, self.committed, self.spawned_before = 1, 0, 0
        self.ended: list[tuple[str, str | None, str | None]] = []
        self.signals: dict[str, str] = {}
        self.logs: list[tuple[LogLevel, str, dict[str, Any]]] = []
        self.effects = _Effects()

    def info(self) -> JobInfo:
        return JobInfo("job", "job", self.attempt, self.committed, None, self.metadata)

    def should_yield(self) -> bool:
        return self.yields

    def idempotency_key(self) -> str:
        return f"job:1:{self.committed + 1}"

    def log(self, level: LogLevel, message: str, fields: str) -> None:
        self.logs.append((level, message, json.loads(fields)))

    def emit(self, item: str) -> None:
        self.effects.outputs.append(item)

    def report(self, progress: Progress) -> None:
        self.effects.progress.append(progress)

    def spawn(self, job_type: str, input: str) -> str:
        self.effects.spawned.append((job_type, input))
        return f"child-{self.spawned_before + len(self.effects.spawned)}"

    def children(self) -> list[tuple[str, str | None, str | None]]:
        return self.ended

    def signal(self, name: str) -> str | None:
        return self.signals.get(name)


def run(
    cls: Any,
    input: Any,
    *,
    crash: Crash = "never",
    always_yielding: bool = False,
    signals: Mapping[str, Any] | None = None,
    children: Callable[[str, Any], Any] | None = None,
    metadata: dict[str, Any] | None = None,
    attempts_max: int = 3,
    steps_max: int = STEPS_MAX,
) -> Run:
    """Runs one job to its end.

    Args:
        cls: the decorated class.
        input: what a caller would send, as values that JSON has.
        crash: how often the job loses its instance.
        always_yielding: `should_yield` answers true, as while somebody waits for a pause.
        signals: payloads that arrive when they are waited for; a wait for another ends by its time-out, or fails.
        children: answers a child from its type and input; what it raises is why the child failed.
        metadata: the job's metadata.
        attempts_max: attempts at what fails for now. Nothing is waited for.
        steps_max: steps after which AssertionError is raised.
    """
    job_type: JobType = cls.waymark_job
    host, result = _Host(always_yielding, metadata or {}), Run()
    context = Context(host)
    waiting: list[tuple[str, str]] = []

    def commit(progress: Progress | None) -> None:
        result.outputs += [json.loads(item) for item in host.effects.outputs]
        result.progress += host.effects.progress + ([progress] if progress else [])
        result.spawned += [(type, json.loads(text)) for type, text in host.effects.spawned]
        waiting.extend(host.effects.spawned)
        host.spawned_before += len(host.effects.spawned)
        host.effects = _Effects()
        host.committed += 1
        result.steps += 1

    def saved(state: Any) -> bytes:
        checkpoint = job_type.checkpoint(state)
        result.checkpoint_bytes_max = max(result.checkpoint_bytes_max, len(checkpoint))
        return checkpoint

    def restored(checkpoint: bytes) -> Any:
        host.effects = _Effects()
        return job_type.restore(MIME_TYPE, job_type.state_version, checkpoint, context)

    # None while nothing is committed: then an attempt begins with `start`.
    checkpoint: bytes | None = None
    state: Any = None
    while True:
        try:
            if state is None:
                host.effects = _Effects()
                state = job_type.start(dump(input), context) if checkpoint is None else restored(checkpoint)
            if crash == "within steps":
                before = saved(state)
                answer = job_type.step(restored(before), context)
                first = answer, host.effects
                state = restored(before)
                answer = job_type.step(state, context)
                assert (answer, host.effects) == first, f"step {result.steps + 1} does not do the same twice"
            else:
                answer = job_type.step(state, context)
        except Failure as failure:
            may_pass = isinstance(failure, (Transient, RetryAfter))
            if may_pass and result.attempts < attempts_max:
                result.attempts += 1
                host.attempt += 1
                state = None
                continue
            result.failure, result.logs = failure, host.logs
            return result
        commit(answer if isinstance(answer, Progress) else None)
        assert result.steps <= steps_max, f"the job did not end within {steps_max} steps"
        match answer:
            case Done():
                result.result, result.logs = json.loads(answer.output), host.logs
                return result
            case AwaitChildren():
                host.ended = [_child(number + 1, *spawned, children) for number, spawned in enumerate(waiting)]
            case AwaitSignal() if signals and answer.name in signals:
                host.signals[answer.name] = dump(signals[answer.name])
            case AwaitSignal():
                assert answer.timeout is not None, f"the signal {answer.name!r} never arrives: give it in `signals`"
                milliseconds(answer.timeout)
            case Sleep():
                milliseconds(answer.seconds)
        try:
            checkpoint = saved(state)
        except Failure as failure:
            result.failure, result.logs = failure, host.logs
            return result
        if crash != "never":
            state = None


def _child(
    number: int, job_type: str, input: str, answer: Callable[[str, Any], Any] | None
) -> tuple[str, str | None, str | None]:
    assert answer is not None, f"a child of type {job_type!r} has nobody to answer it: give `children`"
    try:
        return f"child-{number}", dump(answer(job_type, json.loads(input))), None
    except Exception as error:  # noqa: BLE001 - whatever a child fails of is told to its parent
        return f"child-{number}", None, str(error)


def assert_survives_anything(cls: Any, input: Any, **settings: Any) -> Run:
    """Runs a job undisturbed, then restored from its checkpoint after every step, then with every step run twice.

    Raises AssertionError where result, output records, progress, children or steps are not the same each time.
    Returns the undisturbed run; settings are those of :func:`run`.
    """
    undisturbed = run(cls, input, **settings)
    crashes: tuple[Crash, ...] = ("between steps", "within steps")
    for crash in crashes:
        disturbed = run(cls, input, crash=crash, **settings)
        assert disturbed.seen() == undisturbed.seen(), (
            f"the job differs with crashes {crash}:\n  {disturbed.seen()}\nundisturbed:\n  {undisturbed.seen()}"
        )
    return undisturbed
