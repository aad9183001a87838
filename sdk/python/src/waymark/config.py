"""What the operator tells a job type (`wasi:config`): texts under keys, the same for all jobs.

    from waymark import config

    threshold = float(config.get("threshold", "0.5"))

Under test: `with config.telling(threshold="0.7"):`. Without it there is nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import overload

from ._capability import INSIDE, interface, standing_in

_store = interface("wasi_config", "store")

_told: ContextVar[dict[str, str] | None] = ContextVar("told", default=None)


def telling(**told: str) -> AbstractContextManager[None]:
    """For tests: the operator tells this."""
    return standing_in(_told, told)


@overload
def get(key: str) -> str | None: ...
@overload
def get(key: str, default: str) -> str: ...
def get(key: str, default: str | None = None) -> str | None:
    """The text under a key, if the operator tells one. Pure while a host runs; another host may tell something else."""
    return all().get(key, default)


def all() -> dict[str, str]:
    """All texts by their keys."""
    return dict(_store.get_all()) if INSIDE else dict(_told.get() or {})
