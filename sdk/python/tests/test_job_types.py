"""What authors write, run in this interpreter."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from waymark import (
    AwaitChildren,
    AwaitSignal,
    Context,
    Done,
    Field,
    Items,
    Permanent,
    Progress,
    ShapeError,
    Sleep,
    Step,
    Transient,
    job,
)
from waymark._shape import read, schema, write
from waymark.testing import assert_survives_anything, run


@dataclass
class Input:
    """What to count.

    More about it."""

    steps: Annotated[int, Field(minimum=1, description="Steps to the end.")]
    emit: bool = False
    children: int = 0
    await_signal: str | None = None
    transient_at: int | None = None
    fail_at: int | None = None


@dataclass
class Output:
    sum: int
    children_sum: int = 0
    signal: Any = None


@job(name="counter", version="1.0.0")
@dataclass
class Counter:
    """Counts in steps."""

    input: Input
    at: int = 0
    sum: int = 0
    parked: bool = False
    spawned: bool = False

    @classmethod
    def start(cls, input: Input, context: Context) -> Counter:
        context.info("started", steps=input.steps)
        return cls(input)

    def step(self, context: Context) -> Step[Output]:
        if self.input.children and not self.spawned:
            self.spawned = True
            for _ in range(self.input.children):
                context.spawn("counter", {"steps": 2})
            return AwaitChildren()
        if self.input.await_signal and not self.parked:
            self.parked = True
            return AwaitSignal(self.input.await_signal)
        self.at += 1
        if self.at == self.input.fail_at:
            raise Permanent("asked to fail")
        if self.at == self.input.transient_at and context.job.attempt == 1:
            context.emit("never seen")
            raise Transient("asked to fail for now")
        self.sum += self.at
        if self.input.emit:
            context.emit({"step": self.at, "sum": self.sum})
        if self.at < self.input.steps:
            return Progress(self.at, self.input.steps)
        children = sum(child.result.sum for child in context.children(Output))
        signal = context.signal(self.input.await_signal) if self.input.await_signal else None
        return Done(Output(self.sum, children, signal))


def test_a_job_is_the_same_however_often_it_crashes() -> None:
    made = assert_survives_anything(
        Counter,
        {"steps": 4, "emit": True, "children": 2, "await_signal": "go"},
        signals={"go": {"by": "me"}},
        children=lambda _, input: {"sum": input["steps"] + 1},
    )
    assert made.result == {"sum": 10, "children_sum": 6, "signal": {"by": "me"}}
    assert made.outputs == [{"step": 1, "sum": 1}, {"step": 2, "sum": 3}, {"step": 3, "sum": 6}, {"step": 4, "sum": 10}]
    assert made.progress == [Progress(1, 4), Progress(2, 4), Progress(3, 4)]
    assert made.spawned == [("counter", {"steps": 2})] * 2
    assert ("info", "started", {"steps": 4}) in made.logs


def test_a_failed_step_leaves_nothing_and_is_tried_again_from_the_last_commit() -> None:
    made = run(Counter, {"steps": 3, "emit": True, "transient_at": 2})
    assert (made.attempts, made.result["sum"]) == (2, 6)
    assert [record["step"] for record in made.outputs] == [1, 2, 3]
    failed = run(Counter, {"steps": 3, "fail_at": 2})
    assert failed.failure is not None and (failed.failure.kind, failed.steps) == ("permanent", 1)


@pytest.mark.parametrize(
    ("input", "complaint"),
    [
        ({"steps": "3"}, "/steps: '3' is not a number"),
        ({"steps": 2.5}, "/steps: 2.5 is not a whole number"),
        ({}, "/steps: the field is missing"),
        ({"steps": 3, "step": 1}, "/step: there is no such field"),
        ([], "[] is not an object"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_the_place(input: Any, complaint: str) -> None:
    failed = run(Counter, input)
    assert failed.failure is not None
    assert (failed.failure.kind, str(failed.failure)) == ("invalid-input", complaint)


def test_the_schemas_say_what_the_annotations_say() -> None:
    described = Counter.waymark_job  # type: ignore[attr-defined]
    document = described.input_schema
    assert document["required"] == ["steps"] and document["additionalProperties"] is False
    assert document["properties"]["steps"] == {"type": "integer", "minimum": 1, "description": "Steps to the end."}
    assert document["properties"]["await_signal"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert document["description"] == "What to count." and "$defs" not in document
    assert described.description == "Counts in steps."
    assert described.result_schema["properties"]["signal"] == {}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Tree:
    value: float
    colour: Colour = Colour.RED
    kind: Literal["leaf", "node"] = "leaf"
    pair: tuple[int, str] = (0, "")
    names: dict[str, list[int]] = field(default_factory=dict)
    branches: list[Tree] = field(default_factory=list)
    either: int | float | None = None


def test_values_come_back_as_they_were_written() -> None:
    tree = Tree(0.1 + 0.2, Colour.BLUE, "node", (1, "ö"), {"a": [1]}, [Tree(1.0, either=2.0), Tree(2.0, either=2)])
    back = read(Tree, write(tree))
    assert back == tree and type(back.branches[0].either) is float and type(back.branches[1].either) is int
    assert schema(Tree)["$ref"] == "#/$defs/Tree", "a type that names itself stays among the definitions"


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {1, 2}, b"bytes", object()])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ShapeError, match="^/deep/0"):
        write({"deep": [value]})


def test_items_are_handed_out_in_portions_and_kept_in_the_checkpoint() -> None:
    @job(name="mean", version="0.1.0", description="The mean.")
    class Mean:
        numbers: Items[float]
        sum: float = 0.0

        @classmethod
        def start(cls, input: list[float], context: Context) -> Any:
            return cls(Items(input, per_step=2))  # type: ignore[call-arg]

        def step(self, context: Context) -> Step[float]:
            def add(number: float) -> None:
                self.sum += number

            return self.numbers.each(context, add) or Done(self.sum / self.numbers.total_items)

    made = assert_survives_anything(Mean, [1, 2, 6])
    assert (made.result, made.steps, made.progress) == (3.0, 2, [Progress(2, 3)])
    assert run(Mean, [1, 2, 6], always_yielding=True).steps == 3
    assert run(Mean, [1, "x"]).failure is not None


def test_a_forgotten_field_is_found() -> None:
    @job(name="forgets", version="0.1.0")
    class Forgets:
        at: int = 0
        hidden: int = field(default=0, init=False)

        @classmethod
        def start(cls, input: None, context: Context) -> Any:
            return cls()

        def step(self, context: Context) -> Step[int]:
            self.at, self.hidden = self.at + 1, self.hidden + 1
            return Progress(self.at) if self.at < 3 else Done(self.hidden)

    with pytest.raises(AssertionError, match="differs with crashes between steps"):
        assert_survives_anything(Forgets, None)


def test_a_state_that_json_does_not_have_fails_the_job() -> None:
    @job(name="endless", version="0.1.0")
    class Endless:
        at: float = float("inf")

        @classmethod
        def start(cls, input: None, context: Context) -> Any:
            return cls()

        def step(self, context: Context) -> Step[None]:
            return Progress(1)

    failed = run(Endless, None)
    assert failed.failure is not None and "/at: inf is no number that JSON has" in str(failed.failure)


def test_an_older_checkpoint_is_rewritten_and_a_newer_one_refused() -> None:
    @job(name="migrates", version="2.0.0", state_version=3, oldest_state_version=1)
    class Migrates:
        total: int
        again: bool = False

        @classmethod
        def start(cls, input: None, context: Context) -> Any:
            return cls(0)  # type: ignore[call-arg]

        @classmethod
        def migrate(cls, version: int, state: dict[str, Any]) -> dict[str, Any]:
            return {"sum": state["s"]} if version == 1 else {"total": state["sum"]}

        def restored(self, context: Context) -> None:
            self.again = True

        def step(self, context: Context) -> Step[int]:
            return Sleep(0.5)

    described = Migrates.waymark_job  # type: ignore[attr-defined]
    context: Any = None
    made = described.restore("application/json", 1, b'{"s": 7}', context)
    assert (made.total, made.again) == (7, True)
    with pytest.raises(Permanent, match="has state version 4; migrates 2.0.0 reads 1 to 3"):
        described.restore("application/json", 4, b"{}", context)
    with pytest.raises(Permanent, match="/total: the field is missing"):
        described.restore("application/json", 3, b"{}", context)


def test_a_class_that_is_no_job_type_is_refused_with_what_is_missing() -> None:
    def made(name: str = "x", version: str = "1.0.0", **more: Any) -> None:
        class Plain:
            pass

        for method, value in more.items():
            setattr(Plain, method, value)
        job(name=name, version=version)(Plain)

    def start(cls: Any, input: int, context: Context) -> Any: ...
    def bare(cls: Any, context: Context) -> Any: ...
    def step(self: Any, context: Context) -> Step[int]: ...
    def silent(self: Any, context: Context) -> None: ...
    def odd(self: Any, context: Context) -> Step[set[int]]: ...

    for complaint, arguments in [
        ("1 to 64 of a-z", {"name": "Upper"}),
        ("no semantic version", {"version": "1"}),
        ("has no start", {}),
        ("to be a class method", {"start": start, "step": step}),
        ("needs the parameter `input`", {"start": classmethod(bare), "step": step}),
        ("names the result", {"start": classmethod(start), "step": silent}),
        ("cannot be written as JSON", {"start": classmethod(start), "step": odd}),
    ]:
        with pytest.raises(TypeError, match=complaint):
            made(**arguments)  # type: ignore[arg-type]
