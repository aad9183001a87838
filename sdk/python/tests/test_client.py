"""Both clients against a real host."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
import types
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from waymark.adapter import JobManagerAdapter
from waymark.client import AsyncClient, Client, JobFailed, Refused, Retry, Unreachable, WaitTimeout

WITHIN = 30.0
FAST = Retry(attempts=4, base=0.01, longest=0.05)


def test_a_job_is_made_and_its_result_waited_for(client: Client) -> None:
    assert client.run("counter", {"steps": 4}, timeout=WITHIN)["sum"] == 10
    job = client.submit("counter", {"steps": 3, "emit": True}, priority=7, tags=["python"], metadata={"by": "me"})
    ended = client.wait(job["id"], timeout=WITHIN)
    assert (ended["status"], ended["priority"], ended["metadata"]) == ("succeeded", 7, {"by": "me"})
    assert [record["sum"] for record in client.output(job["id"])] == [1, 3, 6]
    assert client.output(job["id"], start=2) == [{"step": 3, "sum": 6}]


def test_a_failed_job_and_one_that_takes_long_raise(client: Client) -> None:
    with pytest.raises(JobFailed, match="asked to fail at step 2 \\(permanent\\)") as failed:
        client.run("counter", {"steps": 3, "fail_at": 2}, timeout=WITHIN)
    assert failed.value.job["status"] == "failed"
    waits = client.submit("counter", {"steps": 2, "await_signal": "go"})
    with pytest.raises(WaitTimeout) as late:
        client.wait(waits["id"], timeout=0.1)
    assert isinstance(late.value, TimeoutError)
    client.signal_job(waits["id"], "go", {"by": "me"})
    assert client.result(waits["id"], timeout=WITHIN)["signal"] == {"by": "me"}


def test_a_refusal_says_what_the_host_says(client: Client) -> None:
    with pytest.raises(Refused, match="/input/steps") as refused:
        client.submit("counter", {"steps": "three"})
    assert (refused.value.status, refused.value.code) == (422, "invalid-input")
    with pytest.raises(Refused) as unknown:
        client.show_job("01K0Q5Z3V6T4S8W2R9YBXNCMDE")
    assert unknown.value.status == 404


def test_one_key_makes_one_job(client: Client) -> None:
    key = str(uuid.uuid4())
    first, second = (client.submit("counter", {"steps": 1}, idempotency_key=key)["id"] for _ in range(2))
    assert first == second
    assert client.submit("counter", {"steps": 1})["id"] != first


def test_pages_are_turned(client: Client) -> None:
    tag = uuid.uuid4().hex
    made = [client.submit("counter", {"steps": 1}, tags=[tag])["id"] for _ in range(5)]
    assert [job["id"] for job in client.jobs(tag=tag, limit=2)] == made[::-1]


def test_a_job_is_followed_to_its_end(client: Client) -> None:
    job = client.submit("counter", {"steps": 3, "emit": True, "log": True, "await_signal": "go"})
    seen: list[int] = []
    kinds = set()
    with client.follow(job["id"], on_progress=lambda progress: seen.append(progress["current"])) as following:
        for event in following:
            kinds.add(event.kind)
            if event.kind == "state" and event.data["status"] == "waiting":
                client.signal_job(job["id"], "go", None)
        assert following.job is not None and following.job["status"] == "succeeded"
        assert following.result()["sum"] == 6
    assert {"state", "output", "log"} <= kinds and seen == sorted(seen)


def test_a_block_that_fails_cancels_its_job_where_it_is_asked_to(client: Client) -> None:
    job = client.submit("counter", {"steps": 2, "await_signal": "never"})
    with pytest.raises(ZeroDivisionError):
        with client.follow(job["id"], cancel_on_error=True):
            raise ZeroDivisionError
    assert client.wait(job["id"], timeout=WITHIN)["status"] == "cancelled"


@contextmanager
def losing(answers: int) -> Iterator[str]:
    """Something before the host that passes requests on, and cuts the connection instead of the first answers."""
    host = urlsplit(os.environ["WAYMARK_URL"])
    listener = socket.create_server(("127.0.0.1", 0))
    left = [answers]

    def serve(caller: socket.socket) -> None:
        with caller, socket.create_connection((host.hostname, host.port)) as behind:
            threading.Thread(target=pump, args=(caller, behind), daemon=True).start()
            while data := behind.recv(65536):
                if left[0] > 0:
                    # The host has done it; nobody hears of it.
                    left[0] -= 1
                    caller.shutdown(socket.SHUT_RDWR)
                    return
                caller.sendall(data)

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(caller,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_a_lost_answer_makes_no_second_job(client: Client) -> None:
    tag = uuid.uuid4().hex
    with losing(2) as url, Client(url, retry=FAST) as far:
        made = far.submit("counter", {"steps": 1}, tags=[tag])
    assert [job["id"] for job in client.jobs(tag=tag)] == [made["id"]]


def test_what_may_not_be_repeated_is_not(client: Client) -> None:
    tag = uuid.uuid4().hex
    with losing(1) as url, Client(url, retry=FAST) as far, pytest.raises(Unreachable):
        far.create_jobs({"jobs": [{"type": "counter", "input": {"steps": 1}, "tags": [tag]}]})
    assert len(list(client.jobs(tag=tag))) == 1


def test_a_stream_goes_on_where_it_broke(client: Client) -> None:
    job = client.submit("counter", {"steps": 20, "emit": True})
    client.wait(job["id"], timeout=WITHIN)
    with losing(1) as url, Client(url, retry=FAST) as far:
        records = [event.data["step"] for event in far.events(job["id"]) if event.kind == "output"]
    assert records == list(range(1, 21))
    last = [event.id for event in client.events(job["id"])][-1]
    assert list(client.events(job["id"], after=last)) == [], "everything was told"


def test_nobody_there_is_said_after_the_retries() -> None:
    with Client("http://127.0.0.1:9", retry=FAST) as nobody, pytest.raises(Unreachable, match="127.0.0.1:9"):
        nobody.show_job("x")


def test_the_asynchronous_client_does_the_same() -> None:
    async def main() -> None:
        async with AsyncClient(retry=FAST) as client:
            results = await asyncio.gather(*(client.run("counter", {"steps": n}, timeout=WITHIN) for n in range(1, 6)))
            assert [result["sum"] for result in results] == [1, 3, 6, 10, 15]
            with pytest.raises(JobFailed):
                await client.run("counter", {"steps": 1, "fail_at": 1}, timeout=WITHIN)
            tag = uuid.uuid4().hex
            job = await client.submit("counter", {"steps": 3, "emit": True}, tags=[tag])
            async with client.follow(job["id"]) as following:
                assert (await following.result())["sum"] == 6
            assert [found["id"] async for found in client.jobs(tag=tag)] == [job["id"]]
            assert len(await client.output(job["id"])) == 3
            with pytest.raises(WaitTimeout):
                waits = await client.submit("counter", {"steps": 2, "await_signal": "go"})
                await client.wait(waits["id"], timeout=0.05)
            with losing(1) as url:
                async with AsyncClient(url, retry=FAST) as far:
                    tag = uuid.uuid4().hex
                    await far.submit("counter", {"steps": 1}, tags=[tag])
                    assert len([found async for found in client.jobs(tag=tag)]) == 1

    asyncio.run(main())


def test_the_old_interface_does_what_it_did(client: Client) -> None:
    manager = JobManagerAdapter(client)
    id = manager.create_job("counter", {"input": {"steps": 300, "work_us": 5000}, "report": 7})
    running = _until(manager, id, "running")
    assert running["metadata"] == {"report": 7} and running["job_type"] == "counter"
    assert manager.pause_job(id) and _until(manager, id, "paused")
    assert manager.resume_job(id)
    assert _until(manager, id, "succeeded")["result"]["sum"] == 45150
    assert not manager.cancel_job(id), "an ended job is not cancelled"
    assert manager.get_job_status("01K0Q5Z3V6T4S8W2R9YBXNCMDE") is None
    other = manager.create_job("counter", {"steps": 2, "await_signal": "go"})
    assert manager.cancel_job(other) and _until(manager, other, "cancelled")
    assert other in [job["job_id"] for job in manager.list_jobs("counter", "cancelled", limit=1)]


def test_progress_made_outside_is_shown(client: Client) -> None:
    manager = JobManagerAdapter(client)
    id = manager.create_job("tracked_work", {"what": "moving house"})
    _until(manager, id, "waiting")
    manager.update_job_progress(id, 3, 10, "boxes packed")
    seen = _look(lambda: (status := manager.get_job_status(id)) and status["current"] == 3 and status)
    assert (seen["progress"], seen["message"], seen["status"]) == (30.0, "boxes packed", "waiting")
    manager.update_job_progress(id, 10, 10, "there", done=True)
    assert _until(manager, id, "succeeded")["result"] == {"current": 10, "total": 10, "message": "there"}


def _until(manager: JobManagerAdapter, id: str, status: str) -> dict:  # type: ignore[type-arg]
    return _look(lambda: (found := manager.get_job_status(id)) and found["status"] == status and found)


def _look(look):  # type: ignore[no-untyped-def]
    for _ in range(600):
        if found := look():
            return found
        threading.Event().wait(0.05)
    raise AssertionError("waited 30 s")


def test_the_readme_says_what_works(client: Client) -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        # Annotations are looked up in the module that a class says.
        module = types.ModuleType("readme")
        sys.modules["readme"] = module
        exec(compile(block, "README.md", "exec"), module.__dict__)
