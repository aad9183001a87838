"""Fills a queue, then measures from the first result to the last. The last line is JSON: tasks a second.

`throughput.py front N`: of the host that runs, which is told not to take while the queue is filled.
`throughput.py stock N`: of a prefork worker of Celery with two processes.
"""

import json
import subprocess
import sys
import time
import uuid

import redis
from application import app
from kombu.utils.json import dumps

WHO, TASKS = sys.argv[1], int(sys.argv[2])
WAIT = 300
broker = redis.Redis.from_url(app.conf.broker_url)
results = redis.Redis.from_url(app.conf.result_backend)


def template():
    """A message as the client writes it."""
    app.send_task("proj.add", args=(1, 2), queue="template")
    message = broker.rpop("template")
    return json.loads(message)


def fill(queue):
    message = template()
    message["properties"]["delivery_info"]["routing_key"] = queue
    pipe = broker.pipeline(transaction=False)
    for _ in range(TASKS):
        id = str(uuid.uuid4())
        message["headers"].update(id=id, root_id=id)
        message["properties"].update(correlation_id=id, delivery_tag=str(uuid.uuid4()))
        pipe.lpush(queue, dumps(message))
    pipe.execute()


def measure(before):
    """From a tenth of the results to all of them, so that starting up does not count."""
    end = time.time() + WAIT
    begun = first = None
    while time.time() < end:
        done = results.dbsize() - before
        if begun is None and done >= TASKS // 10:
            begun, first = time.time(), done
        if done >= TASKS:
            return (done - first) / (time.time() - begun)
        time.sleep(0.005)
    raise SystemExit(f"only {results.dbsize() - before} of {TASKS} results")


before = results.dbsize()
if WHO == "front":
    app.control.cancel_consumer("celery", reply=True, timeout=1)
    time.sleep(0.2)
    fill("celery")
    app.control.add_consumer("celery", reply=False)
    rate = measure(before)
else:
    fill("stock")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "-Q", "stock", "-P", "prefork", "-c", "2", "-l", "ERROR"]
    )
    try:
        rate = measure(before)
    finally:
        worker.terminate()
        worker.wait()
print(json.dumps({"who": WHO, "tasks": TASKS, "per_second": round(rate)}))
