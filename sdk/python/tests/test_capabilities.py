"""Capabilities with somebody who stands in for the host, and what a component imports of them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from waymark import Context, Done, Progress, RetryAfter, Step, Transient, config, http, job, kv, llm, sql
from waymark.build import capabilities, world
from waymark.testing import assert_survives_anything, run


@dataclass
class Verdict:
    risky: bool
    reason: str


def test_a_typed_question_carries_its_schema_and_reads_its_answer() -> None:
    asked: list[llm.Request] = []

    def model(request: llm.Request) -> str:
        asked.append(request)
        return request.messages[-1].content

    with llm.answering(model):
        verdict = llm.ask(Verdict, '{"risky": true, "reason": "new"}', system="A risk?", max_tokens=9)
        answers = llm.ask_all(bool, ["true", "7"])
    assert verdict == Verdict(True, "new")
    assert asked[0].schema is not None and asked[0].schema["required"] == ["risky", "reason"]
    assert [message.role for message in asked[0].messages] == ["system", "user"]
    assert (asked[0].max_tokens, asked[0].fresh) == (9, False)
    assert answers[0] is True
    wrong = answers[1]
    assert isinstance(wrong, llm.Error) and wrong.code == "bad-answer"


def test_an_error_is_for_the_host_what_it_should_make_of_it() -> None:
    absent = llm.error("not-configured", "none")
    assert absent.is_absent and absent.kind == "permanent" and str(absent) == "language model: none"
    limited = llm.error("limited", "later", 1.5)
    assert isinstance(limited, RetryAfter) and (limited.kind, limited.seconds) == ("retry-after", 1.5)
    for passing in (
        llm.error("unavailable", "away"),
        sql.error("unavailable", "away"),
        http.Unavailable("unavailable", "away"),
        kv.Unavailable("other", "full"),
    ):
        assert isinstance(passing, Transient) and passing.kind == "transient" and not passing.is_absent
    assert http.Error("denied", "no").kind == sql.error("denied", "no").kind == "permanent"


def test_without_a_grant_every_capability_says_so() -> None:
    with pytest.raises(llm.Error) as no_model:
        llm.complete("?")
    with pytest.raises(http.Error) as no_web:
        http.get("https://a.example/")
    with pytest.raises(sql.Error) as no_connection:
        sql.query("notes", "SELECT 1")
    with pytest.raises(kv.Error) as no_bucket:
        kv.Bucket()
    for error in (no_model, no_web, no_connection, no_bucket):
        assert error.value.is_absent
    assert (sql.connections(), config.all(), config.get("a"), config.get("a", "b")) == ([], {}, None, "b")


def test_requests_and_answers_are_bytes_texts_or_json() -> None:
    def web(request: http.Request) -> http.Answer:
        return http.Answer(201, {"x-method": request.method, **request.headers}, request.body)

    with http.answering(web):
        answer = http.post("https://a.example/", json={"a": "ö"}, headers={"accept": "*/*"})
        assert (answer.status, answer.json(), answer.headers["x-method"]) == (201, {"a": "ö"}, "POST")
        assert answer.headers["content-type"] == "application/json"
        assert http.request("PUT", "https://a.example/", body="ö").text == "ö"
        assert http.get("https://a.example/").body == b""


def notes(rows: int) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")
    connection.executemany("INSERT INTO notes VALUES (?, ?)", [(id, f"note {id}") for id in range(1, rows + 1)])
    return connection


def test_statements_have_parameters_and_rows_have_columns() -> None:
    with sql.connected(notes=notes(5)):
        assert sql.connections() == ["notes"]
        cursor = sql.query("notes", "SELECT id, note FROM notes WHERE id > $1 AND id < $2", 1, 5)
        assert cursor.columns == ["id", "note"]
        assert cursor.next(2) == [(2, "note 2"), (3, "note 3")]
        assert list(cursor) == [(4, "note 4")]
        assert sql.execute("notes", "UPDATE notes SET note = $1 WHERE id > $2", "changed", 3) == 2
        with pytest.raises(sql.Error) as refused:
            sql.query("notes", "SELECT nothing FROM nowhere")
        assert refused.value.code == "bad-statement" and not refused.value.is_absent


@job(name="reader", version="1.0.0")
@dataclass
class Reader:
    """Reads a table in pages, as a job that may end at any of them."""

    pages: sql.Keyset
    ids: int = 0

    @classmethod
    def start(cls, input: int, context: Context) -> Reader:
        keys = sql.Keyset("notes", "SELECT id, note FROM notes WHERE id <= $1", ["id"], [input], rows_per_page=2)
        return cls(keys)

    def step(self, context: Context) -> Step[list[int]]:
        page = self.pages.next_page()
        for id, note in page:
            assert isinstance(id, int)
            self.ids += id
            context.emit(note)
        return Progress(self.pages.rows) if page else Done([self.ids, self.pages.rows])


def test_a_job_reads_every_row_once_however_often_it_crashes() -> None:
    with sql.connected(notes=notes(9)):
        done = assert_survives_anything(Reader, 5)
    assert done.result == [15, 5]
    assert done.outputs == [f"note {id}" for id in range(1, 6)]
    lost = run(Reader, 5)
    assert isinstance(lost.failure, sql.Error) and (lost.failure.code, lost.failure.kind) == ("not-granted", "permanent")


def test_buckets_and_settings_are_those_that_a_test_gives() -> None:
    with kv.keeping("default"), config.telling(threshold="0.5"):
        bucket = kv.Bucket()
        assert (bucket.get("rate"), "rate" in bucket) == (None, False)
        bucket.set("rate", "1.25")
        assert (bucket.get("rate"), bucket.increment("jobs"), bucket.increment("jobs", 2)) == (b"1.25", 1, 3)
        bucket.delete("rate")
        bucket.delete("rate")
        assert bucket.names() == ["jobs"]
        assert kv.Bucket("default").names() == ["jobs"]
        with pytest.raises(kv.Error) as unknown:
            kv.Bucket("other")
        assert unknown.value.code == "no-such-store"
        assert (config.get("threshold", "1"), config.all()) == ("0.5", {"threshold": "0.5"})


def test_a_component_imports_what_its_sources_import(tmp_path: Path) -> None:
    def used(**sources: str) -> list[str]:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        return capabilities(tmp_path, "job")

    assert used(job="from waymark import Context, Done, job\nimport json\n") == []
    assert used(job="from waymark import (\n    Context,\n    llm,\n)\n") == ["llm"]
    assert used(job="import waymark.sql\nfrom waymark.http import get\n") == ["http", "sql"]
    assert used(job="import helper\n", helper="def late():\n    from waymark import kv as values\n") == ["kv"]
    assert used(job="import absent.module\nllm = 'from waymark import llm'\n") == []
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\n")
    (package / "inner.py").write_text("from .deeper import x\n")
    (package / "deeper.py").write_text("from waymark import config\n")
    assert used(job="import package\n") == ["config"]
    text = world(["llm"])
    assert "import waymark:llm/chat@0.1.0;" in text and "sql" not in text and "include task;" in text
    assert world([]).count("import") == 0
