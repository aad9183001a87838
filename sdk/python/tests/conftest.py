"""Tests of the client need a host with the job types `counter` and `tracked_work` at $WAYMARK_URL."""

import os
from collections.abc import Iterator

import pytest

from waymark.client import Client


@pytest.fixture
def client() -> Iterator[Client]:
    assert os.environ.get("WAYMARK_URL"), "WAYMARK_URL names no host: see the README"
    with Client() as made:
        yield made
