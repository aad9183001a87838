"""The job type `{name}`."""

from __future__ import annotations

from dataclasses import dataclass

from waymark import Context, Done, Items, Step, job


@dataclass
class Input:
    """What a caller sends. An input that does not fit is refused before a job is made."""

    numbers: list[float]


@dataclass
class Output:
    """What the job answers in the end."""

    sum: float


@job(name="{name}", version="0.1.0")
@dataclass
class Sum:
    """Adds up numbers.

    The fields are the checkpoint: what is not in here does not outlive a step.
    """

    numbers: Items[float]
    sum: float = 0.0

    @classmethod
    def start(cls, input: Input, context: Context) -> Sum:
        context.info(f"{len(input.numbers)} numbers to add up")
        # Two a step, so that there is something to see. A real step takes 10 to 500 ms.
        return cls(Items(input.numbers, per_step=2))

    def step(self, context: Context) -> Step[Output]:
        def add(number: float) -> None:
            self.sum += number
            context.emit({"number": number, "sum": self.sum})

        return self.numbers.each(context, add) or Done(Output(self.sum))
