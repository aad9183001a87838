"""Shapes of what the API takes and answers. Made by sdk/generate.py from host/daemon/openapi.json: change those."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Affected(TypedDict):
    """How often a version of the plugin failed so."""

    version: str
    """Version of the plugin."""

    attempts: int
    """Failed attempts."""


class Attempt(TypedDict):
    """A failed attempt."""

    run: int
    """Run in which it was."""

    attempt: int
    """Its number in that run."""

    at: str
    """When it failed."""

    kind: str
    """Stable code."""

    message: str
    """One sentence, cut at 300 characters."""


class AuditLog(TypedDict):
    """Entries of the audit log."""

    entries: list[Listed]
    """Newest first. There may be fewer than asked for, or none, where a filter takes little."""

    next_cursor: NotRequired[str | None]
    """Where older ones begin; `null` at the end."""


class Batch(TypedDict):
    """Jobs to be made. A bare list of jobs is accepted too."""

    jobs: list[Submission]
    """1 to 10,000 jobs."""


class Change(TypedDict):
    """Where a job shall wait. At least one is given."""

    queue: NotRequired[str | None]
    """Queue; the job type's own is named like the type."""

    priority: NotRequired[int | None]
    """0 to 9; 9 is served first."""


class Claiming(TypedDict):
    """The switch of a host."""

    id: str
    """The host."""

    paused: bool
    """It was asked to claim nothing."""


class Count(TypedDict):
    """Number of jobs of one type in one state."""

    type: str
    """Job type."""

    status: Status
    """State."""

    jobs: int
    """Jobs kept."""


class Counts(TypedDict):
    """Jobs kept, by type and state."""

    counts: list[Count]
    """Those above zero."""


class Dead(TypedDict):
    """The dead list."""

    count: int
    """How many there are."""

    newest: list[DeadMessage]
    """The newest, up to 50."""


class DeadMessage(TypedDict):
    """A message that could not be taken."""

    list: str
    """The list of Redis that it came from."""

    reason: str
    """Why: `not-registered`, `serializer`, `protocol-1`, `compression`, `malformed`, `too-large` or
    `limit-reached`."""

    at: str
    """When."""

    message: str
    """The beginning of its text."""


class Draining(TypedDict):
    """Answer to a request to drain."""

    id: str
    """The host."""

    draining: bool
    """It was asked."""


class Elsewhere(TypedDict):
    """A job type that this host does not have."""

    name: str
    """Job type."""

    descriptor: dict[str, Any]
    """What its plugin says of itself."""


Entry = TypedDict(
    "Entry",
    {
        "actor": "str",
        "scope": "str",
        "by": "str",
        "from": "NotRequired[str | None]",
        "forwarded_for": "NotRequired[str | None]",
        "method": "str",
        "path": "str",
        "why": "NotRequired[str | None]",
        "body": "NotRequired[Any]",
        "status": "int",
        "code": "NotRequired[str | None]",
        "request_id": "str",
    },
)
"""A change that somebody asked for."""


class ErrorGroup(TypedDict):
    """Failures that have job type, kind, message and innermost calls in common."""

    fingerprint: str
    """16 hexadecimal digits."""

    type: str
    """Job type."""

    kind: str
    """Stable code."""

    message: str
    """The newest message."""

    pattern: str
    """The message with placeholders for what differs from job to job."""

    frames: list[str]
    """The innermost calls of the guest, where there is a back-trace."""

    attempts: int
    """Failed attempts."""

    failed: int
    """Jobs that failed for good."""

    first_seen: str
    """When it was first seen."""

    last_seen: str
    """When it was last seen."""

    versions: list[Affected]
    """Versions of the plugin that failed so."""

    job_ids: list[str]
    """Ids of the jobs that failed so last, newest first, at most 10; some may be deleted by now."""


class ErrorGroups(TypedDict):
    """Groups of failures."""

    errors: list[ErrorGroup]
    """In the order asked for."""


class Front(TypedDict):
    """The Celery front as this host is configured."""

    enabled: bool
    """It takes messages."""

    node: str
    """The name under which it shows itself to Celery's clients."""

    queues: dict[str, int]
    """Queues that it owns, with the number of messages that wait there."""

    tasks: dict[str, str]
    """Job types by the names of tasks."""

    routes: dict[str, str]
    """Queues of tasks that others run."""

    dead: Dead
    """Messages that could not be taken."""


Full = Literal["wait", "reject", "replace", "cancel_running"]
"""What becomes of a new job when the concurrency limit of its key, or else of the queue, is reached."""


class Gap(TypedDict):
    """Something is missing."""

    partition: int
    """Where."""

    after: NotRequired[str | None]
    """What happened after this time; `null`: from the beginning on."""

    until: NotRequired[str | None]
    """And before this; `null`: until now."""


class Health(TypedDict):
    """A host that is well."""

    status: str
    """`ok` or `ready`."""

    host: str
    """The host's id."""

    version: str
    """Version of the program."""

    warning: NotRequired[str | None]
    """What is wrong although jobs run: the Redis for results does not answer."""


class HistoryEntry(TypedDict):
    """What became of a planned time."""

    planned_at: str
    """The planned time; the first of several."""

    at: str
    """When this was noted."""

    job: NotRequired[str | None]
    """The job that was made."""

    note: NotRequired[str | None]
    """Why none was made: `overlap`, `waiting`, `missed`, `unique` (`job` has the unique key) or `limit` (its
    queue's limits let no more wait); what was done, of built-in schedules."""

    times: NotRequired[int | None]
    """How many times, where it stands for several."""


class Host(TypedDict):
    """A host that said within the last seconds that it is there."""

    id: str
    """New for every start."""

    version: str
    """Version of the program."""

    address: str
    """Address of its API."""

    started_at: str
    """When it started."""

    ready: bool
    """It can take and run jobs."""

    paused: bool
    """It claims nothing until it is resumed."""

    draining: bool
    """It lets its jobs go and stops."""

    queues: list[str]
    """Queues that it serves: names and patterns with `*`; empty: all."""

    slots: int
    """Jobs that may run at once now."""

    slots_max: int
    """Most jobs that may run at once; more than `slots` where slots follow the load."""

    stay_us: int
    """How long a job stays at present, microseconds; 0: none has ended yet."""

    used: int
    """Jobs claimed now."""

    leader: bool
    """It does what is done once for all hosts: schedules and maintenance."""

    load: Any
    """How busy it is: shares from 0 to 1 in `cpu` (of the machine), `workers_cpu` and `memory` (of what it may
    use), and `workers_memory_bytes`."""

    workers: list[Any]
    """Its worker processes."""

    types: list[Any]
    """Job types that it runs, each with `name`, `version` and `digest`."""


class Hosts(TypedDict):
    """All hosts of the store."""

    this: str
    """The host that answers."""

    version: str
    """Its version."""

    started_at: str
    """When it started."""

    hosts: list[Host]
    """By id."""


class Items(TypedDict):
    """Items of a map."""

    total: int
    """In all."""

    ended: int
    """Ended, those counted that failed."""

    failed: int
    """Failed or cancelled."""


class Job(TypedDict):
    """A job."""

    id: str
    """26 characters; ids sort by creation time."""

    type: str
    """Job type."""

    queue: str
    """Queue."""

    status: Status
    """Where the job stands."""

    pause_pending: NotRequired[bool]
    """A pause was asked for and happens at the end of the running step."""

    priority: int
    """0 to 9, 9 first."""

    progress: NotRequired[Progress | None]

    attempt: int
    """Number of the current or last attempt in this run; 0 before the first start."""

    run: int
    """Number of the run; a restart begins the next."""

    replay_of: NotRequired[str | None]
    """The ended job that this one was made from."""

    replays: NotRequired[list[str]]
    """The last 10 jobs that were made from this one after its end, oldest first. Left out if there are none."""

    step: int
    """Committed steps of this run."""

    outputs: int
    """Committed output records of this run."""

    input: NotRequired[Any]
    """As given. Left out in lists unless asked for."""

    missing_key: NotRequired[str | None]
    """Id of the key that input and metadata are encrypted with, where this host does not have it: they are left
    out."""

    result: NotRequired[Any]
    """`null` until the job has succeeded. Left out in lists unless asked for."""

    result_error: NotRequired[str | None]
    """Why `result` is `null` although the job succeeded: it lies in the object storage and cannot be had, or
    its key is missing."""

    result_expired: NotRequired[bool]
    """Result and output records were forgotten: `retention.results_ms`."""

    error: NotRequired[JobFailure | None]

    failures: NotRequired[list[Attempt]]
    """The last failed attempts, of earlier runs too, oldest first; at most 10. Left out if there were none."""

    history: NotRequired[list[JobHistory]]
    """What was in its life, of earlier runs too, oldest first; at most 20. Left out of a job that was not more
    than created and run once."""

    retry: NotRequired[dict[str, Any] | None]
    """What was asked for about retries. Left out if that was nothing."""

    metadata: dict[str, Any]
    """As given."""

    tags: list[str]
    """Labels."""

    correlation_id: NotRequired[str | None]
    """The caller's id for the larger whole."""

    unique_key: NotRequired[str | None]
    """See the request."""

    flow_key: NotRequired[str | None]
    """Jobs of one flow key take turns with those of the queue's other keys."""

    weight: NotRequired[int | None]
    """What it counts for in limits, where that is not 1."""

    parent: NotRequired[str | None]
    """The job that spawned this one."""

    schedule: NotRequired[MadeBy | None]

    children: NotRequired[list[str]]
    """The jobs that this one spawned in this run."""

    awaited_signal: NotRequired[str | None]
    """The signal that the job waits for."""

    plugin_version: NotRequired[str | None]
    """Version of the plugin that runs or ran the job."""

    plugin_digest: NotRequired[str | None]
    """SHA-256 of that plugin."""

    route: NotRequired[JobRoute | None]

    shadow_of: NotRequired[str | None]
    """The job that this one is a copy of: it runs without effects."""

    host: NotRequired[str | None]
    """The worker that holds or last held the job."""

    created_at: str
    """When it was accepted."""

    started_at: NotRequired[str | None]
    """First start of this run."""

    ended_at: NotRequired[str | None]
    """When it ended."""

    not_before: NotRequired[str | None]
    """It starts or goes on no sooner than this."""


class JobChange(TypedDict):
    """A job that changed. What it is filtered by is `null` where the job was deleted meanwhile."""

    id: str

    status: Status
    """The state that it was in then. The same as before: its progress, its output or its log grew."""

    type: NotRequired[str | None]

    queue: NotRequired[str | None]

    priority: NotRequired[int | None]
    """0 to 9, 9 first."""

    tags: NotRequired[list[str] | None]

    correlation_id: NotRequired[str | None]

    at: str
    """When."""


class JobFailure(TypedDict):
    """Why a job failed, or why its last attempt did."""

    kind: str
    """Stable code."""

    message: str
    """One sentence."""

    trace: NotRequired[str | None]
    """Back-trace of the guest, where there is one."""


class JobHistory(TypedDict):
    """Something in a job's life: a stay on a worker that is over, or something that was asked of it."""

    at: str
    """When it was; of a stay, when it ended."""

    what: str
    """Of a stay how it ended: `succeeded`, `failed`, `tried again`, `sleeps`, `waits for children`, `waits for
    a signal`, `paused`, `released`, `cancelled` or `lost`. Else what was asked for: `pause`, `resume`,
    `restart`, `retry` or `cancel`; a pause stands where it took effect."""

    run: int
    """The run."""

    since: NotRequired[str | None]
    """When the stay began; `null`: it is none."""

    by: NotRequired[str | None]
    """The worker, or who asked; `null` where that is not known."""

    plugin_version: NotRequired[str | None]
    """Version of the plugin that the run began with."""

    times: int
    """So many stays of this kind one after the other."""


class JobPage(TypedDict):
    """One page of a list."""

    jobs: list[Job]
    """Newest first."""

    next_cursor: NotRequired[str | None]
    """Where the next page begins; `null` on the last one."""


class JobRoute(TypedDict):
    """Where a route sent a job."""

    arm: str
    """Name of the target."""

    kind: str
    """`version`, `celery` or `http`."""

    target: str
    """SHA-256 of the version, the Celery queue and task, or the address."""


class Key(TypedDict):
    """A flow key with jobs."""

    key: str
    """The key."""

    waiting: int
    """Its jobs that are queued."""

    running: int
    """Weight of its jobs that run and were claimed under a limit."""


class KeyLimits(TypedDict):
    """What holds for each flow key by itself."""

    concurrency: NotRequired[int | None]
    """Most jobs of one key that run at once."""

    rate: NotRequired[Rate | None]


class Limits(TypedDict):
    """Limits of a queue; what is left away is not limited."""

    concurrency: NotRequired[int | None]
    """Most jobs of the queue that run at once, 1 to 1,000,000; a job counts by its weight."""

    rate: NotRequired[Rate | None]

    key: NotRequired[str | None]
    """Where the flow key of a job is found that names none: a JSON Pointer that begins with `/input` or
    `/metadata`."""

    per_key: NotRequired[KeyLimits]

    when_full: NotRequired[Full]


class LogLine(TypedDict):
    """A log line."""

    at: str
    """When."""

    level: str
    """`trace`, `debug`, `info`, `warn` or `error`."""

    message: str
    """The text."""

    fields: NotRequired[dict[str, Any] | None]
    """A JSON object, where there is one."""

    correlation_id: NotRequired[str | None]
    """The job's, where it has one."""


class Logs(TypedDict):
    """A page of log lines."""

    lines: list[LogLine]
    """Oldest first."""

    next_from: int
    """`from` of the next request."""

    dropped: int
    """Lines from `from` on that are no longer kept."""


class MadeBy(TypedDict):
    """The schedule that made a job."""

    name: str
    """Its name."""

    planned_at: str
    """The planned time."""


class NodeView(TypedDict):
    """A node of a workflow."""

    name: str
    """Its name."""

    type: str
    """Job type."""

    needs: list[str]
    """The nodes that end before it starts."""

    state: str
    """`waiting`, `active`, `succeeded`, `failed`, `cancelled` or `skipped`."""

    job_id: NotRequired[str | None]
    """Its job, as soon as there is one; a map has one for each item."""

    job_status: NotRequired[str | None]
    """Where its job stands."""

    attempt: NotRequired[int | None]
    """Attempts of its job."""

    started_at: NotRequired[str | None]
    """First start of its job."""

    ended_at: NotRequired[str | None]
    """End of its job."""

    error: NotRequired[str | None]
    """Why it failed, or could not be started."""

    items: NotRequired[Items | None]


class Outcome(TypedDict):
    """What became of one job: `id` and `status`, or `error`."""

    id: NotRequired[str | None]
    """The job's id."""

    status: NotRequired[Status | None]

    existing: NotRequired[bool | None]
    """The job stood already for its unique key."""

    error: NotRequired[Problem | None]


class Outcomes(TypedDict):
    """One answer per job, in the order of the request."""

    created: int
    """Jobs made."""

    existing: int
    """Jobs that stood already."""

    refused: int
    """Jobs refused."""

    jobs: list[Outcome]
    """One answer per job."""


class Place(TypedDict):
    """Where a job was."""

    current_index: int
    """Units of work finished."""

    total_items: NotRequired[int | None]
    """Units of work in all, where known."""

    outputs: int
    """Output records committed."""

    mime_type: str
    """Media type of the state."""

    state_version: int
    """Version of the state's shape."""

    encoding: NotRequired[str | None]
    """`json` or `base64`: how `state` is written here; `hidden`: it is no JSON, and the job has values that are
    not shown."""

    state: NotRequired[Any]
    """What the plugin saved. Left out in lists."""


class Plugin(TypedDict):
    """A plugin as `GET /plugins` shows it. The document of the API only; the directory writes it."""

    name: str
    """Job type; of a file that was refused, its name without the ending."""

    file: str
    """The file in the plugin directory."""

    state: str
    """`loaded`, `failed`, `retired` or `quarantined`."""

    digest: NotRequired[str | None]
    """SHA-256 of the file."""

    version: NotRequired[str | None]
    """The version that the plugin says."""

    description: NotRequired[str | None]
    """What the plugin says of itself."""

    input_schema: NotRequired[Any]
    """JSON Schema of the input."""

    result_schema: NotRequired[Any]
    """JSON Schema of the result."""

    imports: list[str]
    """What it imports beyond the contract."""

    capabilities: list[PluginCapability]
    """Which of that are capabilities, and whether they are granted."""

    bytes: int
    """Length of the file, bytes."""

    loaded_at: NotRequired[str | None]
    """When this host loaded it."""

    error: NotRequired[PluginError | None]

    versions: list[PluginVersion]
    """Versions that this host holds, for jobs that began with them."""


PluginCapability = TypedDict(
    "PluginCapability",
    {
        "import": "str",
        "state": "str",
        "grant": "NotRequired[str | None]",
    },
)
"""A capability that a plugin imports."""


class PluginError(TypedDict):
    """Why a plugin is not in service."""

    code: str
    """Stable code."""

    message: str
    """What is wrong and what to do."""


PluginSwap = TypedDict(
    "PluginSwap",
    {
        "from": "str",
        "at": "str",
        "took_ms": "int",
        "trials": "list[PluginTrial]",
    },
)
"""How a version took over from the one before it."""


class PluginTrial(TypedDict):
    """What becomes of one job."""

    of: str
    """The job's id, or the recording's folder and the file of the checkpoint."""

    verdict: str
    """`migrate`, `stay` or `refuse`."""

    why: str
    """Why."""


class PluginVersion(TypedDict):
    """A version of a plugin."""

    digest: str
    """SHA-256 of the file."""

    version: str
    """The version that the plugin says."""

    loaded_at: str
    """When this host loaded it."""

    active: bool
    """New jobs start with this one."""

    withdrawn: NotRequired[bool]
    """An operator went back from it: its jobs move to the active version or pause. Left out where it is
    false."""

    swap: NotRequired[PluginSwap | None]


class Plugins(TypedDict):
    """The plugins of this host, and the job types that only others have."""

    plugins: list[Plugin]
    """By name."""

    elsewhere: list[Elsewhere]
    """Types that some host announced and this one does not have, each with its descriptor."""


class Problem(TypedDict):
    """The document (RFC 9457) that answers every refused or failed request."""

    type: str
    """Address of the page that explains the code."""

    title: str
    """The same few words for every problem of this code."""

    status: int
    """HTTP status."""

    detail: str
    """What happened this time."""

    code: str
    """Stable code."""

    request_id: NotRequired[str | None]
    """The request's id, which is also in the log."""

    errors: NotRequired[list[Violation]]
    """Each thing that is wrong with the body."""

    job_status: NotRequired[str | None]
    """The state that a control met."""

    reason: NotRequired[str | None]
    """Why a plugin was refused: a stable code."""


class Progress(TypedDict):
    """How far a job is."""

    current: int
    """Units of work finished."""

    total: NotRequired[int | None]
    """Units of work in all, where known."""

    message: NotRequired[str | None]
    """One line for a person."""

    percent: NotRequired[float | None]
    """0 to 100 with one decimal, where the total is known."""


class Purged(TypedDict):
    """What a purge did."""

    name: str
    """The queue."""

    cancelled: int
    """Jobs cancelled."""


class Queue(TypedDict):
    """A queue."""

    name: str
    """Its name."""

    depth: int
    """Jobs in its lines."""

    oldest_at: NotRequired[str | None]
    """When the oldest of them was accepted."""

    paused: bool
    """Nothing is claimed from it."""


class Queues(TypedDict):
    """All queues that hold jobs or are paused."""

    queues: list[Queue]
    """By name."""


class Ran(TypedDict):
    """What became of a wish to run a schedule now."""

    name: str
    """The schedule."""

    job: NotRequired[str | None]
    """The job that was made, or the one that has its unique key."""

    waiting: bool
    """The run waits for the end of the job made last."""


class Rate(TypedDict):
    """So many jobs in a time."""

    count: int
    """How many, 1 to 1,000,000; a job counts by its weight."""

    per_ms: int
    """In so many milliseconds, up to a day."""

    burst: NotRequired[int | None]
    """Given: a token bucket of this size that `count` tokens fall into every `per_ms`, evenly. Left away: a
    sliding window."""


class Reencrypted(TypedDict):
    """What a step found and did."""

    active: NotRequired[str | None]
    """Id of the active key; `null` where there is none."""

    jobs: int
    """Jobs looked at."""

    values: dict[str, int]
    """Values by the id of the key that they were encrypted with when they were looked at; a job's input with
    its metadata is one."""

    reencrypted: int
    """Those of other keys that are encrypted with the active one now."""

    left: int
    """Those of other keys that stay as they are: it was a dry run, they changed meanwhile, their key is
    missing, or they lie in a storage that does not answer. Another pass finds them."""

    next_cursor: NotRequired[str | None]
    """`cursor` of the next step; `null` at the end."""


class Requeued(TypedDict):
    """What a requeue did."""

    requeued: int
    """Messages that are in their queues again."""

    left: int
    """Messages that are still on the dead list."""


class Route(TypedDict):
    """A route."""

    type: str
    """Job type."""

    route: dict[str, Any]
    """As it was put, with the weights of now and the digests of its versions: `targets`, `sticky`, `flags`,
    `canary`, `shadow`."""

    revision: int
    """Grows with every change."""

    changed_at: str
    """When it was last changed."""

    canary: NotRequired[RouteCanary | None]


class RouteArm(TypedDict):
    """What was counted of one target since the route, or its canary's step, began."""

    arm: str
    """Name of the target."""

    weight: int
    """Share, per cent."""

    kind: str
    """`version`, `celery` or `http`."""

    target: str
    """SHA-256 of the version, the Celery queue and task, or the address."""

    attempts: int
    """Attempts that ended."""

    errors: int
    """Those that failed."""

    error_rate: NotRequired[float | None]
    """The same as a part, 0 to 1."""

    mean_ms: NotRequired[float | None]
    """Mean running time of those that succeeded, milliseconds."""

    p50_ms: NotRequired[float | None]
    """Half of them ran no longer, milliseconds; as exactly as a fifth."""

    p95_ms: NotRequired[float | None]
    """95 of 100 ran no longer."""

    result_bytes: NotRequired[int | None]
    """Mean length of their results, bytes."""


class RouteCanary(TypedDict):
    """How far a canary is."""

    standing: str
    """`running`, `held`, `promoted` or `rolled back`."""

    step: int
    """Number of its step, from 1."""

    steps: int
    """Steps in all."""

    since: str
    """When that began."""

    looks: int
    """How often the counts of this step were looked at."""


class RouteChange(TypedDict):
    """An entry of a route's history."""

    at: str
    """When."""

    who: str
    """Name of the token or user; `waymark`: the host itself."""

    what: str
    """`put`, `delete`, `advance`, `promote`, `hold`, `rollback` or `undo`."""

    why: str
    """Why, as whoever asked said, or with the figures that decided."""


class Routes(TypedDict):
    """All routes."""

    routes: list[Route]
    """By job type."""


class Saved(TypedDict):
    """The saved place of a job."""

    task_id: str
    """The job's id."""

    task_name: str
    """Job type."""

    checkpoint_data: Place
    """Where the job was."""

    created_at: str
    """When it was committed."""

    expires_at: NotRequired[str | None]
    """When it is forgotten; null while the job waits without a time-out."""

    run: int
    """Run of the job."""

    step: int
    """Committed steps at that time; `restart?from=` takes this number."""

    plugin_version: str
    """Version of the plugin that wrote it."""

    plugin_digest: str
    """SHA-256 of that plugin."""

    digest: str
    """SHA-256 of the state."""

    bytes: int
    """Length of the state, bytes."""


class SavedList(TypedDict):
    """The kept checkpoints."""

    checkpoints: list[Saved]
    """Newest first, without their states."""


class Schedule(TypedDict):
    """A schedule."""

    name: str
    """Its name."""

    source: str
    """Who holds it: `api`, `file` (the configuration of a host) or `built-in`."""

    status: str
    """`active`, `paused` or `ended`."""

    cron: NotRequired[str | None]
    """See the request."""

    every_ms: NotRequired[int | None]
    """See the request."""

    anchor: NotRequired[str | None]
    """See the request."""

    at: NotRequired[str | None]
    """See the request."""

    timezone: str
    """See the request."""

    overlap: str
    """See the request."""

    catch_up: str
    """See the request."""

    catch_up_max: int
    """See the request."""

    jitter_ms: int
    """See the request."""

    starts_at: NotRequired[str | None]
    """See the request."""

    ends_at: NotRequired[str | None]
    """See the request."""

    max_runs: NotRequired[int | None]
    """See the request."""

    job: NotRequired[Template | None]

    action: NotRequired[str | None]
    """What a built-in one does: `expire-results`, `expire-keys` or `reconcile-indexes`."""

    next_at: NotRequired[str | None]
    """The next planned time."""

    waiting_at: NotRequired[str | None]
    """A planned time that waits for the end of the job made last."""

    last_at: NotRequired[str | None]
    """When it fired last."""

    last_job: NotRequired[str | None]
    """The job made last."""

    fired: int
    """Times it fired."""

    missed: int
    """Times it missed; of each downtime the first hundred or so count."""

    error: NotRequired[str | None]
    """Why it cannot go on, or what went wrong last."""

    did: NotRequired[str | None]
    """What a built-in one did last."""

    took_ms: NotRequired[int | None]
    """How long that took, milliseconds."""

    upcoming: NotRequired[list[str] | None]
    """The next ten planned times, without jitter. Left out in lists."""

    history: NotRequired[list[HistoryEntry] | None]
    """What became of the last 20 times, newest first. Left out in lists."""


class ScheduleRequest(TypedDict):
    """A schedule to be kept. One of `cron`, `every_ms` and `at`."""

    cron: NotRequired[str | None]
    """Minute, hour, day of month, month, day of week; a sixth field in front is the second."""

    every_ms: NotRequired[int | None]
    """Milliseconds between two times, 1,000 at least."""

    anchor: NotRequired[str | None]
    """A time that `every_ms` counts from (RFC 3339). Default: the Unix epoch."""

    at: NotRequired[str | None]
    """Once, at this time (RFC 3339)."""

    timezone: NotRequired[str | None]
    """IANA name of the zone that `cron` is read in. Default `UTC`."""

    overlap: NotRequired[str | None]
    """What if the job made last has not ended: `skip` (default), `queue_one`, `allow` or `cancel_running`."""

    catch_up: NotRequired[str | None]
    """What becomes of times that no host was there for: `skip`, `last` (default: one run for all) or `all`."""

    catch_up_max: NotRequired[int | None]
    """Most missed times that `all` fires, the newest, 1 to 1,000. Default 100."""

    jitter_ms: NotRequired[int | None]
    """Each time is due up to so many milliseconds late. Default 0."""

    starts_at: NotRequired[str | None]
    """No time before this (RFC 3339)."""

    ends_at: NotRequired[str | None]
    """No time after this (RFC 3339)."""

    max_runs: NotRequired[int | None]
    """The schedule ends after it has fired so often."""

    paused: NotRequired[bool | None]
    """It does not fire. Default: the switch stays as it is."""

    job: Submission
    """The job to make, without `delay_ms` and `not_before`. A time that finds its `unique_key` taken makes
    none."""


class Schedules(TypedDict):
    """A page of schedules."""

    schedules: list[Schedule]
    """By name."""

    next_cursor: NotRequired[str | None]
    """Where the next page begins; absent on the last one."""


class ShadowMismatch(TypedDict):
    """A job and its shadow job that ended in different ways."""

    at: str
    """When they were compared."""

    job: str
    """The job."""

    shadow: str
    """Its shadow job."""

    left: NotRequired[dict[str, Any] | None]
    """How the job ended: `{"succeeded": result}` or `{"failed": kind}`; `null`: too long to be kept here."""

    right: NotRequired[dict[str, Any] | None]
    """How its shadow job ended."""

    differences: list[dict[str, Any]]
    """Where they differ, at most 20 places, each with `pointer`, `left` and `right`."""


class ShadowMismatches(TypedDict):
    """Pairs that differ."""

    mismatches: list[ShadowMismatch]
    """Newest first, at most 100."""


class Signal(TypedDict):
    """What waits, what runs, and what that needs."""

    waiting: int
    """Jobs that could be claimed now: not those that are delayed, of a paused queue, or held back by a
    limit."""

    oldest_waiting_seconds: float
    """Age of the oldest of them, seconds; 0 if none waits."""

    running: int
    """Slots in use on the hosts that serve these queues."""

    slots: int
    """Slots that these hosts have now."""

    hosts: int
    """Hosts that claim and serve at least one of these queues."""

    stay_ms: float
    """How long a job holds a slot at present, milliseconds; 0: not known."""

    wanted_slots: int
    """Slots with which all that waits would begin in time."""

    wanted_hosts: int
    """The same in hosts as large as those that are there, or of 64 slots if there are none."""

    queues: list[Waiting]
    """Queues in which something waits, by name."""


class Signalled(TypedDict):
    """Answer to a signal."""

    delivered: bool
    """The job waited for it and goes on. Otherwise it is kept until the job asks."""


class Standing(TypedDict):
    """A queue's limits, and how it stands against them."""

    name: str
    """The queue."""

    limits: NotRequired[Limits | None]

    running: int
    """Weight of its jobs that run and were claimed under a limit."""

    keys: list[Key]
    """Its flow keys with jobs, by name, at most 1,000."""


Status = Literal["scheduled", "queued", "running", "waiting", "paused", "succeeded", "failed", "cancelled"]
"""Where a job stands."""


class Stepped(TypedDict):
    """What a step did."""

    matched: int
    """Jobs that the filter took in this step."""

    done: int
    """Of these, jobs that did as asked, or had done so already; 0 in a dry run."""

    refused: int
    """Of these, jobs in whose state the control does not fit, or that were deleted meanwhile."""

    next_cursor: NotRequired[str | None]
    """Where the next step begins; `null` after the last one."""


class Submission(TypedDict):
    """A job to be made."""

    type: str
    """Job type: the name of a plugin, or `waymark.echo`, whose result is its input."""

    input: Any
    """Input; must fit the job type's input schema. At most 1 MiB."""

    queue: NotRequired[str | None]
    """Queue: 1 to 128 of letters, digits, '_', '-' and '.'. Default: the job type's own."""

    priority: NotRequired[int | None]
    """0 to 9; 9 is served first. Default 0."""

    delay_ms: NotRequired[int | None]
    """Start no sooner than so many milliseconds from now. Not together with `not_before`."""

    not_before: NotRequired[str | None]
    """Start no sooner than this time (RFC 3339)."""

    max_attempts: NotRequired[int | None]
    """Attempts in all, 1 to 1,000. Default: the job type's."""

    retry: NotRequired[dict[str, Any] | None]
    """What this job says about retries; what is absent is as the job type says. `max_attempts`, `backoff`
    (`exponential`, `linear` or `fixed`), `base_ms`, `max_ms`, `jitter`, `max_age_ms`, `retry_after_max_ms`,
    `retry` (`false`: never) and `kinds`: the same for a kind of failure, such as `{"transient":
    {"max_attempts": 9}}`."""

    soft_limit_ms: NotRequired[int | None]
    """Running time after which the job is asked to finish, milliseconds."""

    hard_limit_ms: NotRequired[int | None]
    """Running time after which an attempt fails, milliseconds."""

    metadata: NotRequired[dict[str, Any] | None]
    """Anything the caller wants to keep with the job; a JSON object of at most 64 KiB."""

    tags: NotRequired[list[str] | None]
    """Labels to list jobs by, at most 32."""

    correlation_id: NotRequired[str | None]
    """The caller's id for the larger whole that the job belongs to."""

    unique_key: NotRequired[str | None]
    """While a job with this key has not ended, another one is not made: the first is answered."""

    unique_until: NotRequired[Until | None]

    unique_for_ms: NotRequired[int | None]
    """The unique key holds for so many milliseconds from now on instead, whatever becomes of the job. At most
    ten years. Such keys are apart from those that a job's end frees."""

    replace_input: NotRequired[bool | None]
    """Where a job with the same unique key waits and never ran, it gets this input and metadata, and waits this
    `delay_ms` anew if it is scheduled. Default false: the first input stays."""

    flow_key: NotRequired[str | None]
    """Jobs of one flow key take turns with those of the queue's other keys, and share the limits that the queue
    sets per key. Default: what the queue's limits point at, if they do."""

    weight: NotRequired[int | None]
    """What the job counts for in limits, 1 to 1,000,000. Default 1."""

    webhook: NotRequired[WebhookRequest | None]


class Switch(TypedDict):
    """The switch of a queue."""

    name: str
    """The queue."""

    paused: bool
    """Nothing is claimed from it."""


class Template(TypedDict):
    """The job that a schedule makes."""

    type: str

    queue: str

    priority: int

    input: Any

    metadata: dict[str, Any]

    tags: list[str]

    correlation_id: NotRequired[str | None]

    max_attempts: NotRequired[int | None]

    retry: NotRequired[dict[str, Any] | None]

    soft_limit_ms: NotRequired[int | None]

    hard_limit_ms: NotRequired[int | None]

    unique_key: NotRequired[str | None]
    """See the submission, as the five that follow."""

    unique_until: NotRequired[str | None]

    unique_for_ms: NotRequired[int | None]

    replace_input: NotRequired[bool]

    flow_key: NotRequired[str | None]

    weight: NotRequired[int | None]


Until = Literal["started", "ended"]
"""How long a unique key holds."""


class Upcoming(TypedDict):
    """Planned times."""

    timezone: str
    """The zone."""

    upcoming: list[str]
    """Oldest first."""


class Violation(TypedDict):
    """One thing that is wrong with a request's body."""

    pointer: str
    """Where: a JSON pointer (RFC 6901) into the body; empty is the whole body."""

    detail: str
    """What."""


class Waiting(TypedDict):
    """What waits in one queue."""

    name: str
    """Its name."""

    waiting: int
    """Jobs that could be claimed now."""

    oldest_waiting_seconds: float
    """Age of the oldest of them, seconds."""


class WebhookRequest(TypedDict):
    """An address that is told of a job's end, by a signed message."""

    url: str
    """`https://` or `http://`; at most 2,048 characters."""

    on: NotRequired[list[str] | None]
    """Which ends: `succeeded`, `failed`, `cancelled`. Default: all three."""

    secret: NotRequired[str | None]
    """Name of an endpoint in the host's configuration, whose secret signs. Default: unsigned."""


class Workflow(TypedDict):
    """A workflow: its job, and how many of its nodes stand where."""

    job: Job
    """The job that coordinates it."""

    counts: dict[str, Any]
    """Nodes by state: `total`, `waiting`, `active`, `succeeded`, `failed`, `cancelled` and `skipped`."""

    nodes: list[NodeView]
    """One page of its nodes, in the order in which they were written."""

    next_node: NotRequired[int | None]
    """Number of the first node of the next page; `null` on the last one."""


class ErrorGroupJobs(ErrorGroup):
    """A group with the jobs that failed so last."""

    jobs: list[Job]
    """Those of `job_ids` that are still kept, without their inputs and results."""


class Listed(Entry):
    """An entry and when it was written."""

    at: str
    """When it was written."""


class RouteWithCounts(Route):
    """A route with what was counted and what changed."""

    arms: list[RouteArm]
    """What was counted of each target."""

    compared: int
    """Pairs of a job and its shadow job that were compared."""

    mismatched: int
    """Those that differ."""

    history: list[RouteChange]
    """The last changes, newest first, at most 50."""
