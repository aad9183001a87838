"""Counts the words of a text, one line a step, and keeps a running checksum.

Built with componentize-py; `wit_world` is made from `wit/` when the component is built.
"""

import json
import os
import re
from collections import Counter

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import job, types

FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MASK = (1 << 64) - 1


def fnv1a(state: int, data: bytes, rounds: int) -> int:
    """Fowler-Noll-Vo over the bytes, so many times: a checksum, and work of a length that a test can choose."""
    for _ in range(rounds):
        for byte in data:
            state = ((state ^ byte) * FNV_PRIME) & MASK
    return state


def files() -> list[str]:
    """What can be seen of the host's files."""
    try:
        return os.listdir("/")
    except OSError:
        return []


class State:
    """The running job: one instance of the component runs one."""

    lines: list[str]
    rounds: int
    position = 0
    words: Counter = Counter()
    checksum = FNV_OFFSET


class Lifecycle(exports.Lifecycle):
    """componentize-py makes a new object of this class for each call: what lasts is in `State`."""

    def describe(self) -> types.Descriptor:
        return types.Descriptor(
            name="word_count_python",
            version="1.0.0",
            description="Counts the words of a text, one line a step.",
            input_schema=json.dumps({
                "type": "object",
                "properties": {
                    "lines": {"type": "array", "items": {"type": "string"}},
                    "rounds": {"type": "integer", "minimum": 1},
                },
                "required": ["lines"],
                "additionalProperties": False,
            }),
            result_schema=json.dumps({"type": "object"}),
            state_version=1,
            oldest_state_version=1,
        )

    def start(self, input: str) -> None:
        job_input = json.loads(input)
        if not job_input["lines"]:
            raise Err(types.Failure_InvalidInput("there are no lines"))
        State.lines = job_input["lines"]
        State.rounds = job_input.get("rounds", 1)
        print("started")

    def step(self) -> types.Outcome:
        line = State.lines[State.position]
        if line == "FAIL":
            raise Err(types.Failure_Permanent(f"line {State.position + 1} asks to fail"))
        if line == "RAISE":
            raise RuntimeError(f"line {State.position + 1} asks to raise")
        words = re.findall(r"[a-z]+", line.lower())
        State.words.update(words)
        State.checksum = fnv1a(State.checksum, line.encode(), State.rounds)
        State.position += 1
        checksum = f"{State.checksum:016x}"
        job.emit(json.dumps({"line": State.position, "words": len(words), "checksum": checksum}))
        if State.position < len(State.lines):
            return types.Outcome_Progressed(types.Progress(State.position, len(State.lines), line))
        job.log(job.Level.INFO, "counted", json.dumps({"lines": State.position}))
        return types.Outcome_Completed(json.dumps({
            "lines": State.position,
            "words": dict(State.words),
            "checksum": checksum,
            "job_id": job.context().job_id,
            "environment": dict(os.environ),
            "files": files(),
        }))

    def checkpoint(self) -> types.Snapshot:
        state = {
            "lines": State.lines,
            "rounds": State.rounds,
            "position": State.position,
            "words": State.words,
            "checksum": State.checksum,
        }
        return types.Snapshot("application/json", 1, json.dumps(state).encode())

    def restore(self, snapshot: types.Snapshot) -> None:
        state = json.loads(snapshot.state)
        State.lines = state["lines"]
        State.rounds = state["rounds"]
        State.position = state["position"]
        State.words = Counter(state["words"])
        State.checksum = state["checksum"]
