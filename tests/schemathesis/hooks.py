"""What Schemathesis cannot know of a host: names that are there, bodies that fit, and what would end the run.

Fills the host first, with jobs in every state and whatever else has a name; then puts those names in the place of most that
Schemathesis made up. Which one follows from the request itself, so that a request repeated is the same request.
"""

import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request

import schemathesis

URL, TOKEN = os.environ["WAYMARK_URL"], os.environ["WAYMARK_TOKEN"]
# A plugin that is uploaded and removed all the time; jobs are of other types.
SPARE = os.environ["WAYMARK_SPARE_PLUGIN"]
# What was found is looked for again after so many seconds: jobs are deleted, ids of schedules and failures come.
LOOK_AGAIN = 10
# Jobs of these inputs come to every state; `held` is a paused queue.
JOBS = [
    {"type": "counter", "input": {"steps": 3, "emit": True, "log": True}, "tags": ["a", "b"], "correlation_id": "one"},
    {"type": "counter", "input": {"steps": 3, "emit": True}, "metadata": {"of": "tests"}, "priority": 9},
    {"type": "counter", "input": {"steps": 3, "fail_at": 2}, "max_attempts": 1},
    {"type": "counter", "input": {"steps": 3, "panic_at": 2}, "retry": {"max_attempts": 2, "base_ms": 10}},
    {"type": "counter", "input": {"steps": 2, "sleep_ms": 3_600_000}, "soft_limit_ms": 7_200_000},
    {"type": "counter", "input": {"steps": 2, "await_signal": "go"}, "unique_key": "waits"},
    {"type": "counter", "input": {"steps": 2, "children": 3}},
    {"type": "counter", "input": {"steps": 4}, "queue": "held", "flow_key": "tenant", "weight": 2},
    {"type": "counter", "input": {"steps": 4}, "delay_ms": 3_600_000},
    {"type": "waymark.echo", "input": {"any": ["thing", None]}, "unique_key": "echo", "unique_for_ms": 60_000},
    {"type": "waymark.echo", "input": None, "webhook": {"url": "http://127.0.0.1:9/", "on": ["failed"]}},
]
WORKFLOWS = [
    {"name": "two", "chain": [{"type": "counter", "input": {"steps": 2}}, {"type": "waymark.echo", "input": 1}]},
    {"nodes": {"a": {"type": "waymark.echo", "input": 1}, "b": {"type": "counter", "input": {"steps": 2}, "needs": ["a"]}}},
    {"group": [{"type": "counter", "input": {"steps": 2, "fail_at": 1}}, {"type": "waymark.echo", "input": 1}]},
]
TIMINGS = [{"cron": "*/5 * * * *", "timezone": "Europe/Berlin"}, {"every_ms": 60_000}, {"at": "2031-01-01T00:00:00Z"}]
SCHEDULES = [{**timing, "job": JOBS[0]} for timing in TIMINGS]
LIMITS = [
    {"concurrency": 1, "when_full": "reject"},
    {"rate": {"count": 5, "per_ms": 1000, "burst": 2}, "key": "/input/tenant", "per_key": {"concurrency": 1}},
]
TARGETS = [{"arm": "old", "version": "{version}", "weight": 100}, {"arm": "new", "http": {"url": "https://example.com/"}}]
ROUTES = [
    {"targets": TARGETS[:1]},
    {"targets": TARGETS, "canary": {"arm": "new", "steps": [{"percent": 10}, {"percent": 100}]}},
]
# In place of what a request has in these parameters.
QUERIES = {
    "status": ["failed", "succeeded,queued", "running", "paused"],
    "type": ["counter", "waymark.echo"],
    "queue": ["counter", "held", "c*"],
    "tag": ["a"],
    "correlation_id": ["one"],
    "include": ["input", "result", "input,result"],
    "since": ["2020-01-01T00:00:00Z"],
    "created_since": ["2020-01-01T00:00:00Z"],
    "created_until": ["2040-01-01T00:00:00Z"],
    "ended_since": ["2020-01-01T00:00:00+02:00"],
    "ended_until": ["2040-01-01T00:00:00Z"],
    "at": ["2031-01-01T00:00:00Z"],
    "after": ["2026-01-01T00:00:00Z"],
    "anchor": ["2026-01-01T00:00:00Z"],
    "cron": ["0 4 * * 1", "*/5 * * * * *"],
    "timezone": ["UTC", "America/New_York"],
    "sort": ["attempts", "last_seen"],
    "to": ["held", "7"],
    "limit": [1, 2],
    "nodes": [1, 10],
    "from": [0, 1],
    "error_kind": ["permanent", "guest-trap"],
}
HEADERS = {"Idempotency-Key": ["1", "2", "3"], "X-Correlation-Id": ["one"]}
# Parameters that only fit together.
WHOLE_QUERIES = {
    "preview_schedule": [{**timing, "limit": 3} for timing in TIMINGS],
    "bulk_jobs": [{"status": "succeeded", "dry_run": "true"}, {"tag": "a", "limit": 2}, {"type": "counter", "limit": 1}],
}
ACTIONS = {
    "bulk_jobs": ["pause", "resume", "restart", "retry", "cancel", "move", "priority"],
    "change_route": ["promote", "hold", "rollback", "undo"],
}
BODIES = {
    "create_job": JOBS,
    "create_jobs": [{"jobs": JOBS[:3]}, {"jobs": [*JOBS[:2], {"type": "nobody", "input": 1}]}],
    "create_workflow": WORKFLOWS,
    "put_schedule": SCHEDULES,
    "set_limits": LIMITS,
    "put_route": ROUTES,
    "replay_job": [{}, {"priority": 3}, {"input": {"steps": 1}}],
    "move_job": [{"queue": "held"}, {"priority": 5}],
    "signal_job": [None, {"any": "thing"}],
}


def call(method, path, body=None):
    """What the host answers; `None` where it refuses."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method), timeout=60) as answer:
            text = answer.read()
            return json.loads(text) if text else {}
    except urllib.error.HTTPError as refused:
        refused.close()
        return None


class World:
    """The names that are there."""

    def __init__(self):
        self.lock, self.read_at, self.names = threading.Lock(), None, {}

    def fill(self):
        """Makes what there should be at least; what is there already is refused or stays."""
        version = (call("GET", "/api/v1/plugins/counter") or {})["version"]
        for target in TARGETS:
            if "version" in target:
                target["version"] = version
        call("POST", "/api/v1/jobs/batch", {"jobs": JOBS})
        paused = call("POST", "/api/v1/jobs", JOBS[8])
        cancelled = call("POST", "/api/v1/jobs", JOBS[8])
        if paused and cancelled:
            call("POST", f"/api/v1/jobs/{paused['id']}/pause")
            call("POST", f"/api/v1/jobs/{cancelled['id']}/cancel")
        for workflow in WORKFLOWS:
            call("POST", "/api/v1/workflows", workflow)
        for number, schedule in enumerate(SCHEDULES):
            call("PUT", f"/api/v1/schedules/schedule-{number}", schedule)
        call("PUT", "/api/v1/queues/narrow/limits", LIMITS[1])
        call("PUT", "/api/v1/routes/noop", {"targets": [{"arm": "only", "http": {"url": "https://example.com/"}, "weight": 100}]})

    def look(self):
        """Reads the names, and fills the host where jobs are few."""
        call("POST", "/api/v1/queues/held/pause")
        jobs = (call("GET", "/api/v1/jobs?limit=200") or {}).get("jobs", [])
        if len({job["status"] for job in jobs}) < 5:
            self.fill()
            jobs = (call("GET", "/api/v1/jobs?limit=200") or {}).get("jobs", [])
        # A few of every state.
        kept = {}
        for job in jobs:
            kept.setdefault((job["status"], job["type"]), []).append(job["id"])
        listed = {
            "workflows": ("/api/v1/workflows?limit=20", "jobs", "id"),
            "errors": ("/api/v1/errors?limit=20", "errors", "fingerprint"),
            "schedules": ("/api/v1/schedules?limit=20", "schedules", "name"),
            "hosts": ("/api/v1/hosts", "hosts", "id"),
        }
        names = {"jobs": [job for ids in kept.values() for job in ids[:3]]}
        for name, (path, field, key) in listed.items():
            names[name] = [one[key] for one in (call("GET", path) or {}).get(field, [])]
        names |= {"queues": ["counter", "held", "narrow"], "plugins": ["counter", "noop", "wrong"], "routes": ["counter", "noop"]}
        return names

    def of(self, kind):
        """Names of a kind."""
        with self.lock:
            if self.read_at is None or time.monotonic() - self.read_at > LOOK_AGAIN:
                self.names, self.read_at = self.look(), time.monotonic()
            return self.names[kind]


WORLD = World()


class Choice:
    """Takes the same turns for the same request."""

    def __init__(self, case):
        seed = repr((case.operation.label, case.path_parameters, case.query, case.body))
        self.number = int.from_bytes(hashlib.sha256(seed.encode(errors="replace")).digest(), "big")

    def one(self, of):
        self.number, at = divmod(self.number, len(of))
        return of[at]

    def often(self):
        return self.one([True, True, True, False])


@schemathesis.serializer("application/wasm")
def as_it_is(context, value):
    """A body of bytes."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Real names and fitting bodies, in most requests."""
    operation = case.operation.definition.raw.get("operationId")
    choice = Choice(case)
    kind = case.path.split("/")[3] if case.path.startswith("/api/v1/") else ""
    path = case.path_parameters or {}
    for name in path:
        if name in ("id", "queue", "fingerprint") or name == "name" and kind == "schedules" or name == "type":
            known = WORLD.of(kind)
            if known and choice.often():
                path[name] = choice.one(known)
        elif name == "action" and choice.often():
            path[name] = choice.one(ACTIONS[operation])
        elif name == "name" and choice.often():
            path[name] = "go"
    for name in case.query or {}:
        if name in QUERIES and choice.often():
            case.query[name] = choice.one(QUERIES[name])
    for name in case.headers or {}:
        if name in HEADERS and choice.often():
            case.headers[name] = choice.one(HEADERS[name])
    if operation in WHOLE_QUERIES and choice.one([True, False]):
        case.query = choice.one(WHOLE_QUERIES[operation])
    if operation in BODIES and choice.one([True, False]):
        case.body = choice.one(BODIES[operation])
    # What would end the run, or leave nothing to look at: the host goes, nothing runs any more, the job types are gone.
    if operation == "drain_host" and path.get("id") in WORLD.of("hosts"):
        path["id"] = "another"
    if operation == "put_plugin" and choice.often():
        path["type"] = "wrong"
        with open(SPARE, "rb") as file:
            case.body = file.read()
    if operation == "delete_plugin" and path.get("type") == "counter":
        path["type"] = "wrong"


@schemathesis.hook
def after_call(context, case, response):
    """Hosts and queues that were paused go on."""
    operation = case.operation.definition.raw.get("operationId")
    if operation == "pause_host" and response.status_code == 202:
        call("POST", f"/api/v1/hosts/{case.path_parameters['id']}/resume")
    if operation == "pause_queue" and response.status_code == 202 and case.path_parameters.get("queue") != "held":
        call("POST", f"/api/v1/queues/{case.path_parameters['queue']}/resume")
