"""The same application with its tasks, for a worker of Celery."""

import time

from application import app


@app.task(name="proj.add")
def add(*args, **kwargs):
    """Numbers, or lists of them, which the body of a chord gets."""
    return sum(sum(one) if isinstance(one, list) else one for one in args) + sum(kwargs.values())


@app.task(name="proj.work", bind=True)
def work(self, op, value=None):
    """What may become of a task."""
    if op == "boom":
        raise ValueError(f"bad {value}")
    if op == "again" and self.request.retries == 0:
        raise self.retry(countdown=0, max_retries=1)
    if op == "slow":
        for done in range(1, value + 1):
            self.update_state(state="PROGRESS", meta={"current": done, "total": value, "description": "rows"})
            time.sleep(0.1)
    return [op, value, self.request.retries]


@app.task(name="proj.old.more", bind=True)
def more(self, value):
    """A part of a chord that adds another one, which somebody else runs."""
    self.add_to_chord(app.signature("proj.add", args=[value, value]))
    return value
