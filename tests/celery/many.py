"""Many tasks, chains and chords; counts what callers are told. The last line is JSON."""

import json
import sys
import time

import redis
from application import app, sig
from celery import chain, chord
from ends import Ends

SINGLE, CHAINS, CHORDS = (int(word) for word in sys.argv[1:4])
WAIT = 200
ends = Ends()
expected = {}
with app.producer_pool.acquire() as producer:
    for number in range(SINGLE):
        result = app.send_task("proj.add", args=(number, 1), producer=producer)
        expected[result.id] = number + 1
        if number % 24 == 0:
            at = number // 24
            if at < CHAINS:
                last = chain(sig("add", at, 1), sig("add", 1), sig("add", 1))()
                expected[last.id] = at + 3
            if at < CHORDS:
                body = chord([sig("add", at, part) for part in range(5)])(sig("add"))
                expected[body.id] = 5 * at + 10
client = redis.Redis.from_url(app.conf.result_backend)
end = time.time() + WAIT
wrong = 0
open_ones = dict(expected)
while open_ones and time.time() < end:
    ids = list(open_ones)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        values = client.mget(["celery-task-meta-" + id for id in part])
        for id, value in zip(part, values):
            if value is None:
                continue
            meta = json.loads(value)
            if meta["status"] == "SUCCESS":
                wrong += meta["result"] != open_ones.pop(id)
            elif meta["status"] in ("FAILURE", "REVOKED"):
                wrong += 1
                print(meta)
                open_ones.pop(id)
    time.sleep(0.1)
# What would be told a second time.
time.sleep(1)
told = ends.stop()
ended = sum(1 for _ in client.scan_iter("celery-task-meta-*", count=1000))
twice = sum(1 for number in told.values() if number > 1)
print(json.dumps({"ended": ended, "twice": twice, "wrong": wrong + len(open_ones), "heard": len(told)}))
