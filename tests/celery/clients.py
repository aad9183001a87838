"""Every call of the contract, one after another; a line `ok NAME` or `FAIL NAME: why` for each, then `done N`."""

import sys
import threading
import time
import traceback
import uuid

import celery
from application import app, sig
from celery import chain, chord, group
from celery.result import AsyncResult

WAIT = 30
checks = []


def check(run):
    checks.append(run)
    return run


def send(name, *args, **options):
    return app.send_task("proj." + name, args=args, **options)


def until(look, within=WAIT):
    end = time.time() + within
    while time.time() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited for nothing")


def fails(result, name):
    try:
        value = result.get(timeout=WAIT)
    except Exception as error:
        assert type(error).__name__ == name, repr(error)
        return error
    raise AssertionError(f"it did not fail: {value!r}")


@check
def priorities():
    for priority in (0, 4, 7, 9):
        assert send("add", 1, priority, priority=priority).get(timeout=WAIT) == 1 + priority


@check
def keyword_arguments():
    assert send("add", 1, kwargs={"y": 2}).get(timeout=WAIT) == 3


@check
def failure_is_raised():
    result = send("boom", 2)
    error = fails(result, "ValueError")
    assert isinstance(error, ValueError) and error.args == ("bad 2",), repr(error)
    assert result.state == "FAILURE" and "ValueError" in result.traceback


@check
def not_registered():
    error = fails(app.send_task("proj.unknown"), "NotRegistered")
    assert "proj.unknown" in str(error)


@check
def pickle_is_refused_loudly():
    app.conf.accept_content = ["json", "pickle"]
    result = app.send_task("proj.add", args=(1, 2), serializer="pickle")
    fails(result, "ContentDisallowed")


@check
def progress_is_polled_and_streamed():
    seen = []
    result = send("slow", 6, 250)
    assert result.get(timeout=WAIT, on_message=seen.append) == 6
    states = [message["status"] for message in seen]
    assert states[-1] == "SUCCESS", states


@check
def celery_progress():
    try:
        from celery_progress.backend import Progress
    except ImportError:
        return
    result = send("slow", 40_000_000)
    until(lambda: result.state == "PROGRESS")
    info = Progress(AsyncResult(result.id, app=app)).get_info()
    assert not info["complete"] and info["progress"]["total"] == 40_000_000, info
    assert 0 <= info["progress"]["percent"] <= 100 and info["progress"]["pending"] is False, info
    app.control.revoke(result.id, terminate=True)
    fails(result, "TaskRevokedError")


@check
def retry_state():
    result = send("again")
    states = set()
    until(lambda: states.add(result.state) or "RETRY" in states)
    assert result.get(timeout=WAIT) == 2


@check
def countdown():
    begun = time.time()
    assert send("add", 1, 1, countdown=1).get(timeout=WAIT) == 2
    assert time.time() - begun >= 1


@check
def expired_before_it_started():
    error = fails(send("add", 1, 1, countdown=1.5, expires=0.5), "TaskRevokedError")
    assert "expired" in str(error)


@check
def compression():
    for kind in ("zlib", "gzip", "bzip2"):
        assert send("add", 1, 2, compression=kind).get(timeout=WAIT) == 3


@check
def ignored_result():
    result = send("add", 1, 2, ignore_result=True)
    time.sleep(0.3)
    assert app.backend.client.get("celery-task-meta-" + result.id) is None


@check
def forget():
    result = send("add", 1, 2)
    assert result.get(timeout=WAIT) == 3
    result.forget()
    assert app.backend.client.get("celery-task-meta-" + result.id) is None


@check
def chain_of_three():
    result = chain(sig("add", 1, 2), sig("add", 10), sig("mul", 2))()
    assert result.get(timeout=WAIT) == 26
    assert result.parent.get(timeout=WAIT) == 13
    first = result.parent.parent
    children = AsyncResult(first.id, app=app).children
    assert [child.id for child in children] == [result.parent.id], children


@check
def immutable_signatures():
    assert chain(sig("add", 1, 2), sig("add", 10, immutable=True))().get(timeout=WAIT) == 10


@check
def failing_chain():
    result = chain(sig("boom", 1), sig("add", 1), sig("add", 2))()
    fails(AsyncResult(result.id, app=app), "ValueError")


@check
def group_of_five():
    result = group(sig("add", n, n) for n in range(5))()
    assert result.get(timeout=WAIT) == [0, 2, 4, 6, 8]
    assert result.successful()


@check
def chord_of_five():
    assert chord([sig("add", n, n) for n in range(5)])(sig("add")).get(timeout=WAIT) == 20


@check
def chord_of_one():
    assert chord([sig("add", 1, 2)])(sig("add")).get(timeout=WAIT) == 3


@check
def chord_keeps_the_order():
    header = [sig("echo", n) for n in range(20)]
    assert chord(header)(sig("echo")).get(timeout=WAIT) == [[[n] for n in range(20)]]


@check
def failing_chord():
    result = chord([sig("add", 1, 2), sig("boom", 3)])(sig("add"))
    # The result of the chord knows its header, and may raise what that raised.
    error = fails(AsyncResult(result.id, app=app), "ChordError")
    assert "bad 3" in str(error), error


@check
def failing_chord_with_a_chain_as_body():
    result = chord([sig("add", 1, 2), sig("boom", 3)])(chain(sig("add"), sig("add", 1)))
    fails(AsyncResult(result.id, app=app), "ChordError")


@check
def links():
    result = send("add", 1, 2, link=sig("add", 10))
    assert result.get(timeout=WAIT) == 3
    children = until(lambda: AsyncResult(result.id, app=app).children)
    assert children[0].get(timeout=WAIT) == 13


@check
def errbacks():
    marker = str(uuid.uuid4())
    fails(send("boom", 1, link_error=sig("echo").set(task_id=marker)), "ValueError")
    told = AsyncResult(marker, app=app).get(timeout=WAIT)
    assert len(told) == 1 and isinstance(told[0], str), told


@check
def chain_then_chord():
    result = chain(sig("add", 1, 2), chord([sig("add", n) for n in range(3)], sig("add")))()
    assert result.get(timeout=WAIT) == 3 * 3 + 3


@check
def chain_then_group():
    result = chain(sig("add", 1, 2), group(sig("add", n) for n in range(3)))()
    assert result.get(timeout=WAIT) == [3, 4, 5]


@check
def chain_then_chord_then_task():
    result = chain(sig("add", 1, 2), chord([sig("add", n) for n in range(3)], sig("add")), sig("add", 100))()
    assert result.get(timeout=WAIT) == 112


@check
def group_then_task_then_task():
    result = chain(group(sig("add", n, n) for n in range(3)), sig("add"), sig("mul", 2))()
    assert result.get(timeout=WAIT) == 12


@check
def chord_whose_members_are_chains():
    header = [chain(sig("add", n, 1), sig("mul", 10)) for n in range(3)]
    assert chord(header)(sig("add")).get(timeout=WAIT) == 60


@check
def chord_whose_members_are_groups():
    header = [group(sig("add", 1, 1), sig("add", 2, 2)), sig("add", 3, 3)]
    assert chord(header)(sig("add")).get(timeout=WAIT) == 12


@check
def nested_chords():
    inner = chord([sig("add", 1, 1), sig("add", 2, 2)], sig("add"))
    assert chord([inner, sig("add", 10, 0)], sig("add"))().get(timeout=WAIT) == 16


@check
def chord_followed_by_a_group():
    result = chain(chord([sig("add", 1), sig("add", 2)], sig("add")), group(sig("add", n) for n in range(2)))()
    assert result.get(timeout=WAIT) == [3, 4]


@check
def map_starmap_and_chunks():
    task = sig("add")
    one = app.signature("celery.map", kwargs={"task": task, "it": [1, 2, 3]}, immutable=True)
    assert one.apply_async().get(timeout=WAIT) == [1, 2, 3]
    star = app.signature("celery.starmap", kwargs={"task": task, "it": [[1, 2], [3, 4]]}, immutable=True)
    assert star.apply_async().get(timeout=WAIT) == [3, 7]
    chunks = app.signature("celery.chunks", kwargs={"task": task, "it": [[1, 2], [3, 4], [5, 6]], "n": 2}, immutable=True)
    assert chunks.apply_async().get(timeout=WAIT) == [[3, 7], [11]]


@check
def empty_map():
    one = app.signature("celery.map", kwargs={"task": sig("add"), "it": []}, immutable=True)
    assert one.apply_async().get(timeout=WAIT) == []


@check
def ping():
    answers = app.control.ping(timeout=1)
    assert any(answer.get("waymark@test") == {"ok": "pong"} for answer in answers), answers
    assert app.control.inspect(timeout=1).ping() == {"waymark@test": {"ok": "pong"}}


@check
def inspect():
    node = "waymark@test"
    asks = app.control.inspect(destination=[node], timeout=1)
    assert asks.stats()[node]["pool"]["implementation"] == "waymark"
    assert "proj.add" in asks.registered()[node]
    assert [queue["name"] for queue in asks.active_queues()[node]] == ["celery"]
    assert asks.conf()[node]["task_default_queue"] == "celery"
    assert asks.clock()[node]["clock"] > 0
    assert "waymark" in asks.report()[node]["ok"]
    later = send("add", 1, 1, countdown=60)
    until(lambda: any(one["request"]["id"] == later.id for one in asks.scheduled()[node]))
    assert asks.query_task(later.id)[node][later.id][0] == "reserved"
    app.control.revoke(later.id)
    fails(later, "TaskRevokedError")
    assert later.id in asks.revoked()[node]
    running = send("slow", 400_000_000)
    until(lambda: any(one["id"] == running.id for one in asks.active()[node]))
    app.control.revoke(running.id, terminate=True)
    fails(running, "TaskRevokedError")
    assert asks.reserved()[node] == []


@check
def revoked_before_it_came():
    name = str(uuid.uuid4())
    answer = app.control.revoke(name, reply=True, timeout=1)
    assert "ok" in answer[0]["waymark@test"], answer
    fails(send("add", 1, 1, task_id=name), "TaskRevokedError")


@check
def what_is_not_there_says_so():
    for call in (
        lambda: app.control.autoscale(1, 2, reply=True, timeout=1),
        lambda: app.control.pool_grow(1, reply=True, timeout=1),
        lambda: app.control.time_limit("proj.add", soft=1, reply=True, timeout=1),
        lambda: app.control.broadcast("shutdown", reply=True, timeout=1),
        lambda: app.control.broadcast("nothing_like_it", reply=True, timeout=1),
    ):
        answer = call()[0]["waymark@test"]
        assert "error" in answer, answer


@check
def rate_limits_are_those_of_the_queue():
    answer = app.control.rate_limit("proj.limited", "100/s", reply=True, timeout=1)
    assert "ok" in answer[0]["waymark@test"], answer
    assert "error" in app.control.rate_limit("proj.nobody", "1/s", reply=True, timeout=1)[0]["waymark@test"]


@check
def events():
    seen = {}
    answer = app.control.enable_events(reply=True, timeout=1)
    assert "ok" in answer[0]["waymark@test"]
    with app.connection_for_read() as connection:
        def note(event):
            seen.setdefault(event["type"], []).append(event)
        receiver = app.events.Receiver(connection, handlers={"*": note})
        wanted = {"task-received", "task-started", "task-succeeded", "task-failed", "worker-heartbeat"}
        stopping = threading.Event()

        # While somebody listens: what nobody hears is lost.
        def work():
            while not stopping.wait(0.3):
                send("add", 1, 2)
                send("boom", 2)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in receiver.itercapture(limit=None, timeout=WAIT):
                if wanted <= set(seen):
                    break
        finally:
            stopping.set()
            thread.join()
    assert wanted <= set(seen), sorted(seen)
    assert seen["worker-heartbeat"][0]["hostname"] == "waymark@test"
    assert seen["task-succeeded"][0]["runtime"] >= 0
    app.control.disable_events()


def main():
    failed = 0
    only = sys.argv[1:]
    for run in checks:
        if only and run.__name__ not in only:
            continue
        begun = time.time()
        try:
            run()
            print(f"ok {run.__name__} {time.time() - begun:.2f}", flush=True)
        except BaseException as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL {run.__name__}: {type(error).__name__}: {error} ({where.name}:{where.lineno})", flush=True)
            if isinstance(error, KeyboardInterrupt):
                raise
    print(f"done {len(checks)} with celery {celery.__version__}, failed {failed}", flush=True)
    sys.exit(1 if failed else 0)


main()
