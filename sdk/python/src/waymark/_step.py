"""The words in which a step answers, and those in which it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, Union

Output = TypeVar("Output")


@dataclass(frozen=True)
class Progress:
    """More work remains."""

    current: int
    """Units of work finished, 0 or more. Never goes back within one run."""
    total: int | None = None
    """Units of work in all, where known."""
    message: str | None = None
    """One line for a person."""


@dataclass(frozen=True)
class Done(Generic[Output]):
    """The job is done."""

    output: Output
    """Its result: one JSON document of at most 1 MiB."""


@dataclass(frozen=True)
class Sleep:
    """Go on after a time. A sleeping job holds no slot and no memory."""

    seconds: float
    """0 or more; the host counts in milliseconds."""


@dataclass(frozen=True)
class AwaitChildren:
    """Go on when every child has ended."""


@dataclass(frozen=True)
class AwaitSignal:
    """Go on when a signal has arrived, or when the time is over."""

    name: str
    """1 to 64 of a-z, 0-9, '_' and '-'."""
    timeout: float | None = None
    """Seconds; `None` waits for ever."""


Step = Union[Progress, Done[Output], Sleep, AwaitChildren, AwaitSignal]
"""What a step answers. `Step[Output]` as the return annotation of `step` names the type of the result."""


class Failure(Exception):
    """Why a job cannot go on. Raise one of the classes below: its kind decides what the host does next."""

    kind = "permanent"


class Transient(Failure):
    """May succeed later: tried again from the last commit, after a growing wait."""

    kind = "transient"


class RetryAfter(Failure):
    """The other side said when to come back."""

    kind = "retry-after"

    def __init__(self, seconds: float, message: str) -> None:
        super().__init__(message)
        self.seconds = seconds


class Permanent(Failure):
    """Never going to succeed: the job fails now."""

    kind = "permanent"


class InvalidInput(Failure):
    """The input does not fit this job type: the job fails now, and the caller is told why."""

    kind = "invalid-input"


def milliseconds(seconds: float) -> int:
    """A span of time as the contract counts it.

    Raises ValueError where it is negative or no number.
    """
    if not seconds >= 0 or seconds == float("inf"):
        raise ValueError(f"{seconds} is no span of time: seconds are 0 or more")
    return round(seconds * 1000)
