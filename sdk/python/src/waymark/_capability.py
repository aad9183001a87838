"""What capabilities have in common: their errors, where they find the host, and who stands in for it under test."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from ._step import Failure

Double = TypeVar("Double")

INSIDE = importlib.util.find_spec("wit_world") is not None
"""This is a component: componentize-py made `wit_world` of the interfaces that the job type imports."""


class CapabilityError(Failure):
    """A capability did not do as it was asked. Not caught, it is for the host what it should make of it."""

    about: ClassVar[str] = ""
    absent: ClassVar[str] = ""

    def __init__(self, code: str, message: str, seconds: float = 0.0) -> None:
        Exception.__init__(self, f"{self.about}: {message}")
        self.code = code
        """What went wrong, in the contract's word, such as `unavailable`."""
        self.seconds = seconds

    @property
    def is_absent(self) -> bool:
        """The operator grants no such thing: a job that can do without goes on without."""
        return self.code == self.absent


# Outside of a component nobody raises them.
Err: Any = importlib.import_module("componentize_py_types").Err if INSIDE else ()
Ok: Any = importlib.import_module("componentize_py_types").Ok if INSIDE else ()


def interface(package: str, name: str) -> Any:
    """An interface of the component's world; `None` outside of a component. To be called while modules are imported: later there
    are no files any more.

    Raises ImportError where the world does not have it.
    """
    if not INSIDE:
        return None
    # It is called after its package too where another interface has the same name.
    for module in (f"{package}_{name}", name):
        try:
            return importlib.import_module(f"wit_world.imports.{module}")
        except ModuleNotFoundError:
            continue
    raise ImportError(
        f"the component does not import {name} of {package.replace('_', ':')}: `waymark plugin build` finds out what to "
        "import where job.py, or a module beside it, imports waymark's modules by name"
    )


def code(case: Any) -> str:
    """The contract's word for a case of a variant: `Error_NotConfigured` is `not-configured`."""
    name = type(case).__name__.partition("_")[2]
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


@contextmanager
def standing_in(variable: ContextVar[Double | None], double: Double) -> Iterator[None]:
    """For as long as the block runs, the host is this."""
    token = variable.set(double)
    try:
        yield
    finally:
        variable.reset(token)
