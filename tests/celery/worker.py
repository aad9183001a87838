"""The same application with its tasks, for a worker of Celery."""

from application import app


@app.task(name="proj.add")
def add(*args):
    return sum(args)
