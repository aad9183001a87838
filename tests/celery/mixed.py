"""A steady load of tasks, chains and chords for some seconds; counts what callers are told. The last line is JSON.

mixed.py SECONDS TASKS_PER_SECOND
"""

import json
import sys
import time

import redis
from application import app, sig
from celery import chain, chord
from ends import ENDED, Ends

SECONDS, RATE = float(sys.argv[1]), float(sys.argv[2])
# What is still open is waited for so long.
WAIT = 240
# Results are read in portions.
PORTION = 500
# What is wrong is printed so often.
SHOWN = 20
open_ones, wrong = {}, 0
# Ids of all tasks that were sent here. Old workers tell of tasks of their own, some of them again after a death.
ours = set()
ends = Ends()


def note(result, value):
    """Of the last task of a chain, of the body of a chord, those before it are known as its parents."""
    open_ones[result.id] = value
    while result is not None:
        ours.update(one.id for one in getattr(result, "results", [result]))
        result = result.parent


def look(client):
    """Which of the open ones have ended."""
    global wrong
    ids = list(open_ones)
    for start in range(0, len(ids), PORTION):
        part = ids[start : start + PORTION]
        for id, value in zip(part, client.mget(["celery-task-meta-" + id for id in part])):
            meta = json.loads(value) if value else {"status": "PENDING"}
            if meta["status"] not in ENDED:
                continue
            right = open_ones.pop(id)
            if meta["status"] != "SUCCESS" or meta["result"] != right:
                wrong += 1
                if wrong <= SHOWN:
                    print(f"{right} expected: {meta}", flush=True)


client = redis.Redis.from_url(app.conf.result_backend)
begun, number, looked = time.time(), 0, time.time()
with app.producer_pool.acquire() as producer:
    while time.time() < begun + SECONDS:
        note(app.send_task("proj.add", args=(number, 1), producer=producer), number + 1)
        if number % 20 == 0:
            note(chain(sig("add", number, 1), sig("add", 1), sig("add", 1))(), number + 3)
        if number % 20 == 10:
            note(chord([sig("add", number, part) for part in range(5)])(sig("add")), 5 * number + 10)
        number += 1
        if time.time() > looked + 1:
            look(client)
            looked = time.time()
        time.sleep(max(0, begun + number / RATE - time.time()))
end = time.time() + WAIT
while open_ones and time.time() < end:
    look(client)
    time.sleep(0.2)
# What would be told a second time.
time.sleep(2)
told = ends.stop()
for id, value in list(open_ones.items())[:SHOWN]:
    print(f"{id} did not end; {value} expected: {client.get('celery-task-meta-' + id)}")
counts = {
    "sent": len(ours),
    "heard": sum(1 for id in ours if id in told),
    "twice": sum(1 for id in ours if told.get(id, 0) > 1),
    "wrong": wrong,
    "open": len(open_ones),
}
print(json.dumps(counts))
