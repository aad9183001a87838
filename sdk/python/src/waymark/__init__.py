"""Job types for Waymark in Python.

A job type is a dataclass with `start` and `step`, marked with :func:`job`. The dataclass is the checkpoint: between
two steps the host may save it, throw the instance away, and go on from what was saved, on another host.

    from dataclasses import dataclass
    from waymark import Context, Done, Items, Step, job

    @job(name="mean", version="0.1.0")
    @dataclass
    class Mean:
        numbers: Items[float]
        sum: float = 0.0

        @classmethod
        def start(cls, input: list[float], context: Context) -> "Mean":
            return cls(Items(input))

        def step(self, context: Context) -> Step[float]:
            def add(number: float) -> None:
                self.sum += number

            return self.numbers.each(context, add) or Done(self.sum / self.numbers.total_items)

`waymark.testing` runs a job type under pytest. `waymark.client` talks to hosts; it is not part of a component.
"""

from ._context import Child, Context, JobInfo, LogLevel
from ._items import ITEMS_PER_STEP, Items
from ._job import JobType, job
from ._shape import Field, ShapeError
from ._step import (
    AwaitChildren,
    AwaitSignal,
    Done,
    Failure,
    InvalidInput,
    Permanent,
    Progress,
    RetryAfter,
    Sleep,
    Step,
    Transient,
)

__all__ = [
    "ITEMS_PER_STEP",
    "AwaitChildren",
    "AwaitSignal",
    "Child",
    "Context",
    "Done",
    "Failure",
    "Field",
    "InvalidInput",
    "Items",
    "JobInfo",
    "JobType",
    "LogLevel",
    "Permanent",
    "Progress",
    "RetryAfter",
    "ShapeError",
    "Sleep",
    "Step",
    "Transient",
    "job",
]
