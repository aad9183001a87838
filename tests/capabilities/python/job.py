"""A job type that uses every capability, one a step: what came of each is its result."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from waymark import Context, Done, Progress, Step, config, http, job, kv, llm, sql


@dataclass
class Input:
    url: str
    """Where requests are answered."""
    denied: str
    """Where no request may go."""
    fail: bool = False
    """Do not catch the first error."""


@dataclass
class Verdict:
    risky: bool
    reason: str


@job(name="capabilities-python", version="0.1.0")
@dataclass
class Capabilities:
    """Uses every capability."""

    input: Input
    found: dict[str, Any] = field(default_factory=dict)
    rows: sql.Keyset = field(default_factory=lambda: sql.Keyset("notes", "SELECT id, note FROM notes", ["id"]))

    @classmethod
    def start(cls, input: Input, context: Context) -> Capabilities:
        return cls(input)

    def step(self, context: Context) -> Step[dict[str, Any]]:
        if self.input.fail:
            llm.complete("three", model="unknown")
        steps = [self.ask_the_web, self.ask_a_model, self.read_rows, self.write_rows, self.keep, self.scribble]
        done = context.job.committed_steps
        if done < len(steps):
            name = steps[done].__name__
            self.found[name] = steps[done](context)
            return Progress(done + 1, len(steps), name)
        return Done(self.found)

    def ask_the_web(self, context: Context) -> Any:
        headers = {"authorization": "Bearer {{secret:token}}", "idempotency-key": context.idempotency_key()}
        answer = http.post(f"{self.input.url}/echo?a=b", json={"long": "x" * 10_000}, headers=headers)
        try:
            http.get(self.input.denied)
            refused = "nothing"
        except http.Error as error:
            refused = error.code
        return [answer.status, answer.headers["x-kind"], len(answer.json()["long"]), refused]

    def ask_a_model(self, context: Context) -> Any:
        verdict = llm.ask(Verdict, "a section", system="Is this a risk?", max_tokens=50)
        answers = llm.complete_all(["one", "two"])
        contents = [answer.code if isinstance(answer, llm.Error) else answer.content for answer in answers]
        try:
            llm.complete("three", model="unknown")
            refused = "nothing"
        except llm.Error as error:
            refused = error.code
        return [verdict.risky, verdict.reason, contents, refused]

    def read_rows(self, context: Context) -> Any:
        self.rows.rows_per_page = 2
        pages = []
        while page := self.rows.next_page():
            pages.append([list(row) for row in page])
        values = next(iter(sql.query("notes", "SELECT $1, $2, $3, $4, $5", None, True, 7, 0.5, "text")))
        blob = sql.query("notes", "SELECT $1 AS bytes", b"\x00\xff").next()[0][0]
        return [sql.connections(), pages, list(values), blob == b"\x00\xff"]

    def write_rows(self, context: Context) -> Any:
        changed = sql.execute("notes", "UPDATE notes SET note = $1 WHERE id > $2", "changed", 1)
        try:
            sql.query("notes", "SELECT nothing FROM nowhere")
            refused = "nothing"
        except sql.Error as error:
            refused = error.code
        return [changed, refused]

    def keep(self, context: Context) -> Any:
        bucket = kv.Bucket()
        bucket.set("rate", "1.25")
        sum = bucket.increment("jobs", 2)
        kept = [bucket.get("rate") == b"1.25", bucket.get("none"), "rate" in bucket, sorted(bucket.names()), sum]
        bucket.delete("rate")
        return [*kept, "rate" in bucket, config.get("threshold"), config.get("none", "default"), config.all()]

    def scribble(self, context: Context) -> Any:
        """The files of one's own language do, up to the quota."""
        path = "/scratch/rows.txt"
        with open(path, "w") as file:
            file.write("one\ntwo\n")
        with open(path) as file:
            read = file.read()
        try:
            # A buffered file writes once more when it is closed, and then hears of the closed stream only.
            with open("/scratch/large", "wb", buffering=0) as large:
                for _ in range(64):
                    large.write(bytes(4096))
            refused = "nothing"
        except OSError as error:
            refused = str(error.strerror)
        return [read, sorted(os.listdir("/scratch")), refused]
