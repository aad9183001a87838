"""Which ends of tasks callers are told, and how often."""

import json
import threading

import redis
from application import app

ENDED = ("SUCCESS", "FAILURE", "REVOKED")


class Ends(threading.Thread):
    """Listens until it is stopped. `told`: how often each task's end was told; a second time is what must not be."""

    def __init__(self):
        super().__init__()
        self.told = {}
        self._listener = redis.Redis.from_url(app.conf.result_backend).pubsub()
        self._listener.psubscribe("celery-task-meta-*")
        self._stopping = threading.Event()
        self.start()

    def run(self):
        while not self._stopping.is_set():
            message = self._listener.get_message(timeout=0.2)
            if message and message["type"] == "pmessage":
                meta = json.loads(message["data"])
                if meta["status"] in ENDED:
                    self.told[meta["task_id"]] = self.told.get(meta["task_id"], 0) + 1

    def stop(self):
        self._stopping.set()
        self.join()
        return self.told
