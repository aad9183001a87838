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


class Lifecycle(exports.Lifecycle):
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
        self.lines = job_input["lines"]
        self.rounds = job_input.get("rounds", 1)
        self.position = 0
        self.words = Counter()
        self.checksum = FNV_OFFSET
        print("started")

    def step(self) -> types.Outcome:
        line = self.lines[self.position]
        if line == "FAIL":
            raise Err(types.Failure_Permanent(f"line {self.position + 1} asks to fail"))
        if line == "RAISE":
            raise RuntimeError(f"line {self.position + 1} asks to raise")
        words = re.findall(r"[a-z]+", line.lower())
        self.words.update(words)
        self.checksum = fnv1a(self.checksum, line.encode(), self.rounds)
        self.position += 1
        checksum = f"{self.checksum:016x}"
        job.emit(json.dumps({"line": self.position, "words": len(words), "checksum": checksum}))
        if self.position < len(self.lines):
            return types.Outcome_Progressed(types.Progress(self.position, len(self.lines), line))
        job.log(job.Level.INFO, "counted", json.dumps({"lines": self.position}))
        return types.Outcome_Completed(json.dumps({
            "lines": self.position,
            "words": dict(self.words),
            "checksum": checksum,
            "job_id": job.context().job_id,
            "environment": dict(os.environ),
            "files": files(),
        }))

    def checkpoint(self) -> types.Snapshot:
        state = {
            "lines": self.lines,
            "rounds": self.rounds,
            "position": self.position,
            "words": self.words,
            "checksum": self.checksum,
        }
        return types.Snapshot("application/json", 1, json.dumps(state).encode())

    def restore(self, snapshot: types.Snapshot) -> None:
        state = json.loads(snapshot.state)
        self.lines = state["lines"]
        self.rounds = state["rounds"]
        self.position = state["position"]
        self.words = Counter(state["words"])
        self.checksum = state["checksum"]
