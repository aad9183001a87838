"""What a Celery application and its broker say of themselves, as one JSON document.

Run by `waymark migrate celery inspect` with the application's own interpreter, which has Celery and, where it is named, the
application. Reads settings from standard input. Changes nothing: queues are looked at, not taken from.
"""

import importlib
import json
import os
import runpy
import sys

# kombu keeps messages of a priority in a list of their own.
STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
# Messages looked at in each list, for the names of their tasks.
LOOK_MAX = 200
QUEUES_MAX = 1000


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def application(settings):
    try:
        from celery import Celery
    except ImportError as error:
        fail(f"{sys.executable} has no Celery ({error}): name the application's interpreter with --python")
    if not settings["app"]:
        return Celery(broker=settings["broker"])
    module, _, name = settings["app"].partition(":")
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        fail(f"the application {settings['app']!r} cannot be imported here: {error}")
    names = [name] if name else ["app", "celery", "application"]
    found = [getattr(loaded, one) for one in names if isinstance(getattr(loaded, one, None), Celery)]
    if not found:
        fail(f"the module {module!r} has no Celery application called {' or '.join(names)}: name it as MODULE:NAME")
    if settings["broker"]:
        found[0].conf.broker_url = settings["broker"]
    return found[0]


def queues(app):
    found = []
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        if connection.transport.driver_type != "redis":
            return None
        channel = connection.default_channel
        client, prefix = channel.client, getattr(channel, "global_keyprefix", "") or ""
        # The client puts the prefix in front of what it is asked for; SCAN and its answers have it written out.
        names = set()
        for key in client.scan_iter(match=f"{prefix}_kombu.binding.*", count=1000):
            key = key.decode() if isinstance(key, bytes) else key
            for member in client.smembers(key.removeprefix(prefix)):
                member = member.decode() if isinstance(member, bytes) else member
                names.add(member.split(SEPARATOR)[-1])
        names |= {queue.name for queue in app.amqp.queues.values()}
        for name in sorted(names)[:QUEUES_MAX]:
            # Mailboxes of remote control and events are the workers' own.
            if name.endswith(".pidbox") or name.startswith("celeryev"):
                continue
            depth, tasks, unread = 0, {}, 0
            for step in STEPS:
                key = name if step == 0 else f"{name}{SEPARATOR}{step}"
                depth += client.llen(key)
                for message in client.lrange(key, 0, LOOK_MAX - 1):
                    try:
                        task = json.loads(message)["headers"]["task"]
                        tasks[task] = tasks.get(task, 0) + 1
                    except (ValueError, KeyError, TypeError):
                        unread += 1
            found.append({"name": name, "depth": depth, "tasks": tasks, "unread": unread})
    return found


def workers(app, timeout):
    inspect = app.control.inspect(timeout=timeout)
    registered = inspect.registered() or {}
    active = inspect.active_queues() or {}
    return [
        {
            "name": name,
            "tasks": sorted(task.split(" ")[0] for task in tasks),
            "queues": sorted(queue["name"] for queue in active.get(name) or []),
        }
        for name, tasks in sorted(registered.items())
    ]


def beat(app, path):
    if not path:
        return app.conf.beat_schedule or {}, app.conf.timezone
    if path.endswith(".json"):
        with open(path) as file:
            document = json.load(file)
        return document.get("beat_schedule", document), document.get("timezone") or app.conf.timezone
    names = runpy.run_path(path)
    for one in ("beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"):
        if one in names:
            zone = names.get("timezone") or names.get("CELERY_TIMEZONE") or app.conf.timezone
            return names[one], zone
    fail(f"{path} sets none of beat_schedule, CELERY_BEAT_SCHEDULE and CELERYBEAT_SCHEDULE")


def timing(schedule):
    """The time of an entry in Waymark's words, and why not."""
    from datetime import timedelta

    from celery.schedules import crontab
    from celery.schedules import schedule as interval

    if isinstance(schedule, (int, float)):
        return {"every_ms": round(schedule * 1000)}, None
    if isinstance(schedule, timedelta):
        return {"every_ms": round(schedule.total_seconds() * 1000)}, None
    if isinstance(schedule, dict) and "crontab" in schedule:
        schedule = crontab(**schedule["crontab"])
    if isinstance(schedule, crontab):
        fields = [
            str(getattr(schedule, f"_orig_{name}")).replace(" ", "")
            for name in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        ]
        if fields[2] != "*" and fields[4] != "*":
            return None, "day of month and day of week: Celery wants both to fit, cron takes either"
        return {"cron": " ".join(fields)}, None
    if isinstance(schedule, interval):
        return {"every_ms": round(schedule.run_every.total_seconds() * 1000)}, None
    return None, f"a schedule of type {type(schedule).__name__} has no counterpart"


def entries(schedules):
    for name, entry in schedules.items():
        when, why = timing(entry.get("schedule"))
        options = entry.get("options") or {}
        yield {
            "name": name,
            "task": entry.get("task"),
            "args": list(entry.get("args") or ()),
            "kwargs": dict(entry.get("kwargs") or {}),
            "options": sorted(options),
            "queue": options.get("queue"),
            "when": when,
            "why": why,
        }


def main():
    settings = json.load(sys.stdin)
    sys.path.insert(0, os.getcwd())
    app = application(settings)
    from kombu.exceptions import OperationalError

    try:
        found = queues(app)
        seen = workers(app, settings["timeout"])
    except OperationalError as error:
        fail(f"the broker {app.connection_for_read().as_uri()} does not answer: {error}")
    schedules, zone = beat(app, settings["beat"])
    document = {
        "queues": found,
        "workers": seen,
        "default_queue": app.conf.task_default_queue,
        "timezone": str(zone or "UTC"),
        "schedules": list(entries(schedules)),
        "own_tasks": sorted(name for name in app.tasks if not name.startswith("celery.")) if settings["app"] else [],
    }
    json.dump(document, sys.stdout, default=str)


main()
