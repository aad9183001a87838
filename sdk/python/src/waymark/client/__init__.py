"""Hosts of Waymark over HTTP, for programs that make jobs and wait for them.

    from waymark.client import Client

    with Client("http://127.0.0.1:7420") as client:
        print(client.run("mean", [1, 2, 6]))

:class:`Client` and :class:`AsyncClient` have one method for each call of the API, named as in its document, and those
that people want: `submit`, `run`, `wait`, `follow`, `events`, `output`, `jobs`. Answers are dictionaries with the types
of `waymark.client.models`.

What may be repeated is repeated: a request that no host answered is sent again after a random, growing wait, with the
same idempotency key where it makes a job, so that one call makes one job.
"""

from ._async import AsyncClient, AsyncFollowing
from ._core import Event, JobFailed, Refused, Retry, Unreachable, WaitTimeout, WaymarkError
from ._sync import Client, Following

__all__ = [
    "AsyncClient",
    "AsyncFollowing",
    "Client",
    "Event",
    "Following",
    "JobFailed",
    "Refused",
    "Retry",
    "Unreachable",
    "WaitTimeout",
    "WaymarkError",
]
