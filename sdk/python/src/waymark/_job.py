"""The decorator that makes a job type of a dataclass."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, Union, get_args, get_origin

from ._capability import INSIDE
from ._context import Context, dump
from ._shape import ShapeError, read, schema
from ._step import AwaitChildren, AwaitSignal, Done, InvalidInput, Permanent, Progress, Sleep

NAME = re.compile(r"[a-z0-9_-]{1,64}")
VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")

Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class JobType:
    """What is known of a job type: the decorated class has it as `waymark_job`."""

    cls: Any
    name: str
    version: str
    description: str
    state_version: int
    oldest_state_version: int
    input_shape: Any
    output_shape: Any
    input_schema: dict[str, Any]
    result_schema: dict[str, Any]

    def start(self, input: str, context: Context) -> Any:
        """A new job on an input, which is JSON text.

        Raises InvalidInput where the input does not fit.
        """
        try:
            value = read(self.input_shape, json.loads(input))
        except (ShapeError, json.JSONDecodeError) as error:
            raise InvalidInput(str(error)) from error
        return self.cls.start(value, context)

    def step(self, state: Any, context: Context) -> Any:
        """One step of a job; a result comes back as JSON text.

        Raises Permanent where the step answers with something else than a step.
        """
        answer = state.step(context)
        if isinstance(answer, Done):
            try:
                return Done(dump(answer.output))
            except ShapeError as error:
                raise Permanent(f"the result: {error}") from error
        if not isinstance(answer, (Progress, Sleep, AwaitChildren, AwaitSignal)):
            raise Permanent(f"step answers with Progress, Done, Sleep, AwaitChildren or AwaitSignal, not {answer!r}")
        return answer

    def checkpoint(self, state: Any) -> bytes:
        """Everything needed to go on with a job.

        Raises Permanent where a field cannot be written as JSON.
        """
        try:
            return dump(state).encode()
        except ShapeError as error:
            raise Permanent(f"the checkpoint of {self.name}: {error}") from error

    def restore(self, mime_type: str, state_version: int, state: bytes, context: Context) -> Any:
        """A job from a checkpoint of this or an older version.

        Raises Permanent where it cannot be read.
        """
        if mime_type != MIME_TYPE:
            raise Permanent(f"the checkpoint is {mime_type}; {self.name} reads {MIME_TYPE}")
        if not self.oldest_state_version <= state_version <= self.state_version:
            raise Permanent(
                f"the checkpoint has state version {state_version}; {self.name} {self.version} reads "
                f"{self.oldest_state_version} to {self.state_version}"
            )
        value = json.loads(state)
        for version in range(state_version, self.state_version):
            value = self.cls.migrate(version, value)
        try:
            restored = read(self.cls, value)
        except ShapeError as error:
            raise Permanent(f"the checkpoint of {self.name} cannot be read: {error}") from error
        if hasattr(restored, "restored"):
            restored.restored(context)
        return restored


MIME_TYPE = "application/json"
"""Media type of every checkpoint that this SDK writes."""


def job(
    *,
    name: str,
    version: str,
    description: str | None = None,
    state_version: int = 1,
    oldest_state_version: int | None = None,
) -> Callable[[Class], Class]:
    """Makes a job type of a class, and a dataclass of it where it is none.

    The class has `start(cls, input, context)`, a class method that returns a new job, and `step(self, context)`, which
    returns a :data:`Step`. The annotation of `input` is the type of the input, `Step[...]` the type of the result.
    Optional are `restored(self, context)`, called after a checkpoint was read, and `migrate(cls, version, state)`, a
    class method that rewrites the JSON of a checkpoint from `version` to `version + 1`.

    Args:
        name: the job type: 1 to 64 of a-z, 0-9, '_' and '-'.
        version: semantic version of the plugin, such as `1.2.0`.
        description: one or two sentences for a person [default: the first paragraph of the docstring].
        state_version: version of the fields; raise it when an older checkpoint no longer fits.
        oldest_state_version: the oldest that `migrate` reads [default: only the present one].

    Raises TypeError where the class is no job type. Inside a component the class `Lifecycle`, which the contract
    exports, is put into the module: a component has one job type.
    """

    def decorate(cls: Class) -> Class:
        if not NAME.fullmatch(name):
            raise TypeError(f"{name!r} is no job type: it is named with 1 to 64 of a-z, 0-9, '_' and '-'")
        if not VERSION.fullmatch(version):
            raise TypeError(f"{version!r} is no semantic version, such as 1.0.0")
        oldest = state_version if oldest_state_version is None else oldest_state_version
        if not 0 <= oldest <= state_version:
            raise TypeError("oldest_state_version is at most state_version, and neither is below 0")
        if oldest < state_version and not hasattr(cls, "migrate"):
            raise TypeError(f"{cls.__name__} reads checkpoints of version {oldest}: it needs `migrate`")
        made: Any = cls if dataclasses.is_dataclass(cls) else dataclasses.dataclass(cls)
        input_shape, output_shape = _shapes(made)
        words = description
        if words is None:
            own = cls.__doc__ or ""
            words = "" if own.startswith(f"{cls.__name__}(") else " ".join(own.split("\n\n")[0].split())
        try:
            # The checkpoint must have a shape too: better to hear of it now.
            schema(made)
            schemas = schema(input_shape), schema(output_shape)
        except ShapeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from error
        made.waymark_job = JobType(
            made, name, version, words, state_version, oldest, input_shape, output_shape, *schemas
        )
        if INSIDE:
            from ._guest import lifecycle

            module = sys.modules[made.__module__]
            if hasattr(module, "Lifecycle"):
                raise TypeError(f"{made.__module__} has two job types: a component has one")
            setattr(module, "Lifecycle", lifecycle(made.waymark_job))
        typed: Class = made
        return typed

    return decorate


def _shapes(cls: Any) -> tuple[Any, Any]:
    """The types of input and result, from the annotations."""
    hints = {}
    for method in ("start", "step"):
        function = getattr(cls, method, None)
        if function is None:
            raise TypeError(f"{cls.__name__} has no {method}")
        plain = getattr(function, "__func__", function)
        # The class itself is not in its module yet.
        hints[method] = typing.get_type_hints(plain, localns={cls.__name__: cls}, include_extras=True)
    if not isinstance(vars(cls).get("start"), classmethod):
        raise TypeError(f"{cls.__name__}.start is to be a class method: it makes the job")
    if "input" not in hints["start"]:
        raise TypeError(f"{cls.__name__}.start needs the parameter `input` with its type, such as `input: list[float]`")
    answer = hints["step"].get("return")
    parts = get_args(answer) if get_origin(answer) in (Union, types.UnionType) else (answer,)
    done = [part for part in parts if get_origin(part) is Done]
    if len(done) != 1 or isinstance(get_args(done[0])[0], TypeVar):
        raise TypeError(f"{cls.__name__}.step needs a return type that names the result, such as `Step[float]`")
    return hints["start"]["input"], get_args(done[0])[0]
