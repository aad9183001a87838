"""The Celery application of the tests: a client that knows nothing of Waymark."""

import os

from celery import Celery

app = Celery("proj", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
)
if os.environ.get("KEY_PREFIX"):
    app.conf.broker_transport_options = {"global_keyprefix": os.environ["KEY_PREFIX"]}
if os.environ.get("MASTER"):
    # Broker and results are found by a Sentinel.
    app.conf.broker_transport_options = {"master_name": os.environ["MASTER"]}
    app.conf.result_backend_transport_options = {"master_name": os.environ["MASTER"]}
if os.environ.get("VISIBILITY_S"):
    # The tasks of a worker that is killed are back with the start of the next one.
    app.conf.task_acks_late = True
    app.conf.broker_transport_options = {"visibility_timeout": int(os.environ["VISIBILITY_S"])}


def sig(name, *args, **options):
    """A signature of a task that only the other side knows."""
    return app.signature("proj." + name, args=args, **options)
