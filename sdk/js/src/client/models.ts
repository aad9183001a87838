// Shapes of what the API takes and answers. Made by sdk/generate.py from host/daemon/openapi.json: change those.

/** How often a version of the plugin failed so. */
export interface Affected {
  /** Version of the plugin. */
  version: string;
  /** Failed attempts. */
  attempts: number;
}

/** A failed attempt. */
export interface Attempt {
  /** Run in which it was. */
  run: number;
  /** Its number in that run. */
  attempt: number;
  /** When it failed. */
  at: string;
  /** Stable code. */
  kind: string;
  /** One sentence, cut at 300 characters. */
  message: string;
}

/** Entries of the audit log. */
export interface AuditLog {
  /** Newest first. There may be fewer than asked for, or none, where a filter takes little. */
  entries: Array<Listed>;
  /** Where older ones begin; `null` at the end. */
  next_cursor?: string | null;
}

/** Jobs to be made. A bare list of jobs is accepted too. */
export interface Batch {
  /** 1 to 10,000 jobs. */
  jobs: Array<Submission>;
}

/** Where a job shall wait. At least one is given. */
export interface Change {
  /** Queue; the job type's own is named like the type. */
  queue?: string | null;
  /** 0 to 9; 9 is served first. */
  priority?: number | null;
}

/** The switch of a host. */
export interface Claiming {
  /** The host. */
  id: string;
  /** It was asked to claim nothing. */
  paused: boolean;
}

/** Number of jobs of one type in one state. */
export interface Count {
  /** Job type. */
  type: string;
  /** State. */
  status: Status;
  /** Jobs kept. */
  jobs: number;
}

/** Jobs kept, by type and state. */
export interface Counts {
  /** Those above zero. */
  counts: Array<Count>;
}

/** The dead list. */
export interface Dead {
  /** How many there are. */
  count: number;
  /** The newest, up to 50. */
  newest: Array<DeadMessage>;
}

/** A message that could not be taken. */
export interface DeadMessage {
  /** The list of Redis that it came from. */
  list: string;
  /** Why: `not-registered`, `serializer`, `protocol-1`, `compression`, `malformed`, `too-large` or `limit-reached`. */
  reason: string;
  /** When. */
  at: string;
  /** The beginning of its text. */
  message: string;
}

/** Answer to a request to drain. */
export interface Draining {
  /** The host. */
  id: string;
  /** It was asked. */
  draining: boolean;
}

/** A job type that this host does not have. */
export interface Elsewhere {
  /** Job type. */
  name: string;
  /** What its plugin says of itself. */
  descriptor: Record<string, unknown>;
}

/** A change that somebody asked for. */
export interface Entry {
  /** Name of the token or user; `local` where the host asks for neither. */
  actor: string;
  /** Their scope: `read`, `operate` or `admin`. */
  scope: string;
  /** `token`, `session` or `open`; `host` where the host did it by itself. */
  by: string;
  /** Address of the other end of the connection; behind a proxy, the proxy's. */
  from?: string | null;
  /** The `X-Forwarded-For` header as it came: only as true as the proxy that wrote it. */
  forwarded_for?: string | null;
  /** Method of the request. */
  method: string;
  /** Path and query, without `why`. */
  path: string;
  /** Why they asked for it, where they said; of a change that the host made by itself, the figures that decided. */
  why?: string | null;
  /** The body, where it is JSON of at most 4 KiB; inputs of jobs and payloads of signals are left out. */
  body?: unknown;
  /** HTTP status of the answer. */
  status: number;
  /** Code of the problem, if it was refused. */
  code?: string | null;
  /** The request's id. */
  request_id: string;
}

/** Failures that have job type, kind, message and innermost calls in common. */
export interface ErrorGroup {
  /** 16 hexadecimal digits. */
  fingerprint: string;
  /** Job type. */
  type: string;
  /** Stable code. */
  kind: string;
  /** The newest message. */
  message: string;
  /** The message with placeholders for what differs from job to job. */
  pattern: string;
  /** The innermost calls of the guest, where there is a back-trace. */
  frames: Array<string>;
  /** Failed attempts. */
  attempts: number;
  /** Jobs that failed for good. */
  failed: number;
  /** When it was first seen. */
  first_seen: string;
  /** When it was last seen. */
  last_seen: string;
  /** Versions of the plugin that failed so. */
  versions: Array<Affected>;
  /** Ids of the jobs that failed so last, newest first, at most 10; some may be deleted by now. */
  job_ids: Array<string>;
}

/** A group with the jobs that failed so last. */
export interface ErrorGroupJobs extends ErrorGroup {
  /** Those of `job_ids` that are still kept, without their inputs and results. */
  jobs: Array<Job>;
}

/** Groups of failures. */
export interface ErrorGroups {
  /** In the order asked for. */
  errors: Array<ErrorGroup>;
}

/** The Celery front as this host is configured. */
export interface Front {
  /** It takes messages. */
  enabled: boolean;
  /** The name under which it shows itself to Celery's clients. */
  node: string;
  /** Queues that it owns, with the number of messages that wait there. */
  queues: Record<string, number>;
  /** Job types by the names of tasks. */
  tasks: Record<string, string>;
  /** Queues of tasks that others run. */
  routes: Record<string, string>;
  /** Messages that could not be taken. */
  dead: Dead;
}

/** What becomes of a new job when the concurrency limit of its key, or else of the queue, is reached. */
export type Full = "wait" | "reject" | "replace" | "cancel_running";

/** Something is missing. */
export interface Gap {
  /** Where. */
  partition: number;
  /** What happened after this time; `null`: from the beginning on. */
  after?: string | null;
  /** And before this; `null`: until now. */
  until?: string | null;
}

/** A host that is well. */
export interface Health {
  /** `ok` or `ready`. */
  status: string;
  /** The host's id. */
  host: string;
  /** Version of the program. */
  version: string;
  /** What is wrong although jobs run: the Redis for results does not answer. */
  warning?: string | null;
}

/** What became of a planned time. */
export interface HistoryEntry {
  /** The planned time; the first of several. */
  planned_at: string;
  /** When this was noted. */
  at: string;
  /** The job that was made. */
  job?: string | null;
  /** Why none was made: `overlap`, `waiting`, `missed`, `unique` (`job` has the unique key) or `limit` (its queue's limits let no more wait); what was done, of built-in schedules. */
  note?: string | null;
  /** How many times, where it stands for several. */
  times?: number | null;
}

/** A host that said within the last seconds that it is there. */
export interface Host {
  /** New for every start. */
  id: string;
  /** Version of the program. */
  version: string;
  /** Address of its API. */
  address: string;
  /** When it started. */
  started_at: string;
  /** It can take and run jobs. */
  ready: boolean;
  /** It claims nothing until it is resumed. */
  paused: boolean;
  /** It lets its jobs go and stops. */
  draining: boolean;
  /** Queues that it serves: names and patterns with `*`; empty: all. */
  queues: Array<string>;
  /** Jobs that may run at once now. */
  slots: number;
  /** Most jobs that may run at once; more than `slots` where slots follow the load. */
  slots_max: number;
  /** How long a job stays at present, microseconds; 0: none has ended yet. */
  stay_us: number;
  /** Jobs claimed now. */
  used: number;
  /** It does what is done once for all hosts: schedules and maintenance. */
  leader: boolean;
  /** How busy it is: shares from 0 to 1 in `cpu` (of the machine), `workers_cpu` and `memory` (of what it may use), and `workers_memory_bytes`. */
  load: unknown;
  /** Its worker processes. */
  workers: Array<unknown>;
  /** Job types that it runs, each with `name`, `version` and `digest`. */
  types: Array<unknown>;
}

/** All hosts of the store. */
export interface Hosts {
  /** The host that answers. */
  this: string;
  /** Its version. */
  version: string;
  /** When it started. */
  started_at: string;
  /** By id. */
  hosts: Array<Host>;
}

/** Items of a map. */
export interface Items {
  /** In all. */
  total: number;
  /** Ended, those counted that failed. */
  ended: number;
  /** Failed or cancelled. */
  failed: number;
}

/** A job. */
export interface Job {
  /** 26 characters; ids sort by creation time. */
  id: string;
  /** Job type. */
  type: string;
  /** Queue. */
  queue: string;
  /** Where the job stands. */
  status: Status;
  /** A pause was asked for and happens at the end of the running step. */
  pause_pending?: boolean;
  /** 0 to 9, 9 first. */
  priority: number;
  progress?: Progress | null;
  /** Number of the current or last attempt in this run; 0 before the first start. */
  attempt: number;
  /** Number of the run; a restart begins the next. */
  run: number;
  /** The ended job that this one was made from. */
  replay_of?: string | null;
  /** The last 10 jobs that were made from this one after its end, oldest first. Left out if there are none. */
  replays?: Array<string>;
  /** Committed steps of this run. */
  step: number;
  /** Committed output records of this run. */
  outputs: number;
  /** As given. Left out in lists unless asked for. */
  input?: unknown;
  /** Id of the key that input and metadata are encrypted with, where this host does not have it: they are left out. */
  missing_key?: string | null;
  /** `null` until the job has succeeded. Left out in lists unless asked for. */
  result?: unknown;
  /** Why `result` is `null` although the job succeeded: it lies in the object storage and cannot be had, or its key is missing. */
  result_error?: string | null;
  /** Result and output records were forgotten: `retention.results_ms`. */
  result_expired?: boolean;
  error?: JobFailure | null;
  /** The last failed attempts, of earlier runs too, oldest first; at most 10. Left out if there were none. */
  failures?: Array<Attempt>;
  /** What was in its life, of earlier runs too, oldest first; at most 20. Left out of a job that was not more than created and run once. */
  history?: Array<JobHistory>;
  /** What was asked for about retries. Left out if that was nothing. */
  retry?: Record<string, unknown> | null;
  /** As given. */
  metadata: Record<string, unknown>;
  /** Labels. */
  tags: Array<string>;
  /** The caller's id for the larger whole. */
  correlation_id?: string | null;
  /** See the request. */
  unique_key?: string | null;
  /** Jobs of one flow key take turns with those of the queue's other keys. */
  flow_key?: string | null;
  /** What it counts for in limits, where that is not 1. */
  weight?: number | null;
  /** The job that spawned this one. */
  parent?: string | null;
  schedule?: MadeBy | null;
  /** The jobs that this one spawned in this run. */
  children?: Array<string>;
  /** The signal that the job waits for. */
  awaited_signal?: string | null;
  /** Version of the plugin that runs or ran the job. */
  plugin_version?: string | null;
  /** SHA-256 of that plugin. */
  plugin_digest?: string | null;
  route?: JobRoute | null;
  /** The job that this one is a copy of: it runs without effects. */
  shadow_of?: string | null;
  /** The worker that holds or last held the job. */
  host?: string | null;
  /** When it was accepted. */
  created_at: string;
  /** First start of this run. */
  started_at?: string | null;
  /** When it ended. */
  ended_at?: string | null;
  /** It starts or goes on no sooner than this. */
  not_before?: string | null;
}

/** A job that changed. What it is filtered by is `null` where the job was deleted meanwhile. */
export interface JobChange {
  id: string;
  /** The state that it was in then. The same as before: its progress, its output or its log grew. */
  status: Status;
  type?: string | null;
  queue?: string | null;
  /** 0 to 9, 9 first. */
  priority?: number | null;
  tags?: Array<string> | null;
  correlation_id?: string | null;
  /** When. */
  at: string;
}

/** Why a job failed, or why its last attempt did. */
export interface JobFailure {
  /** Stable code. */
  kind: string;
  /** One sentence. */
  message: string;
  /** Back-trace of the guest, where there is one. */
  trace?: string | null;
}

/** Something in a job's life: a stay on a worker that is over, or something that was asked of it. */
export interface JobHistory {
  /** When it was; of a stay, when it ended. */
  at: string;
  /** Of a stay how it ended: `succeeded`, `failed`, `tried again`, `sleeps`, `waits for children`, `waits for a signal`, `paused`, `released`, `cancelled` or `lost`. Else what was asked for: `pause`, `resume`, `restart`, `retry` or `cancel`; a pause stands where it took effect. */
  what: string;
  /** The run. */
  run: number;
  /** When the stay began; `null`: it is none. */
  since?: string | null;
  /** The worker, or who asked; `null` where that is not known. */
  by?: string | null;
  /** Version of the plugin that the run began with. */
  plugin_version?: string | null;
  /** So many stays of this kind one after the other. */
  times: number;
}

/** One page of a list. */
export interface JobPage {
  /** Newest first. */
  jobs: Array<Job>;
  /** Where the next page begins; `null` on the last one. */
  next_cursor?: string | null;
}

/** Where a route sent a job. */
export interface JobRoute {
  /** Name of the target. */
  arm: string;
  /** `version`, `celery` or `http`. */
  kind: string;
  /** SHA-256 of the version, the Celery queue and task, or the address. */
  target: string;
}

/** A flow key with jobs. */
export interface Key {
  /** The key. */
  key: string;
  /** Its jobs that are queued. */
  waiting: number;
  /** Weight of its jobs that run and were claimed under a limit. */
  running: number;
}

/** What holds for each flow key by itself. */
export interface KeyLimits {
  /** Most jobs of one key that run at once. */
  concurrency?: number | null;
  rate?: Rate | null;
}

/** Limits of a queue; what is left away is not limited. */
export interface Limits {
  /** Most jobs of the queue that run at once, 1 to 1,000,000; a job counts by its weight. */
  concurrency?: number | null;
  rate?: Rate | null;
  /** Where the flow key of a job is found that names none: a JSON Pointer that begins with `/input` or `/metadata`. */
  key?: string | null;
  per_key?: KeyLimits;
  when_full?: Full;
}

/** An entry and when it was written. */
export interface Listed extends Entry {
  /** When it was written. */
  at: string;
}

/** A log line. */
export interface LogLine {
  /** When. */
  at: string;
  /** `trace`, `debug`, `info`, `warn` or `error`. */
  level: string;
  /** The text. */
  message: string;
  /** A JSON object, where there is one. */
  fields?: Record<string, unknown> | null;
  /** The job's, where it has one. */
  correlation_id?: string | null;
}

/** A page of log lines. */
export interface Logs {
  /** Oldest first. */
  lines: Array<LogLine>;
  /** `from` of the next request. */
  next_from: number;
  /** Lines from `from` on that are no longer kept. */
  dropped: number;
}

/** The schedule that made a job. */
export interface MadeBy {
  /** Its name. */
  name: string;
  /** The planned time. */
  planned_at: string;
}

/** A node of a workflow. */
export interface NodeView {
  /** Its name. */
  name: string;
  /** Job type. */
  type: string;
  /** The nodes that end before it starts. */
  needs: Array<string>;
  /** `waiting`, `active`, `succeeded`, `failed`, `cancelled` or `skipped`. */
  state: string;
  /** Its job, as soon as there is one; a map has one for each item. */
  job_id?: string | null;
  /** Where its job stands. */
  job_status?: string | null;
  /** Attempts of its job. */
  attempt?: number | null;
  /** First start of its job. */
  started_at?: string | null;
  /** End of its job. */
  ended_at?: string | null;
  /** Why it failed, or could not be started. */
  error?: string | null;
  items?: Items | null;
}

/** What became of one job: `id` and `status`, or `error`. */
export interface Outcome {
  /** The job's id. */
  id?: string | null;
  status?: Status | null;
  /** The job stood already for its unique key. */
  existing?: boolean | null;
  error?: Problem | null;
}

/** One answer per job, in the order of the request. */
export interface Outcomes {
  /** Jobs made. */
  created: number;
  /** Jobs that stood already. */
  existing: number;
  /** Jobs refused. */
  refused: number;
  /** One answer per job. */
  jobs: Array<Outcome>;
}

/** Where a job was. */
export interface Place {
  /** Units of work finished. */
  current_index: number;
  /** Units of work in all, where known. */
  total_items?: number | null;
  /** Output records committed. */
  outputs: number;
  /** Media type of the state. */
  mime_type: string;
  /** Version of the state's shape. */
  state_version: number;
  /** `json` or `base64`: how `state` is written here; `hidden`: it is no JSON, and the job has values that are not shown. */
  encoding?: string | null;
  /** What the plugin saved. Left out in lists. */
  state?: unknown;
}

/** A plugin as `GET /plugins` shows it. The document of the API only; the directory writes it. */
export interface Plugin {
  /** Job type; of a file that was refused, its name without the ending. */
  name: string;
  /** The file in the plugin directory. */
  file: string;
  /** `loaded`, `failed`, `retired` or `quarantined`. */
  state: string;
  /** SHA-256 of the file. */
  digest?: string | null;
  /** The version that the plugin says. */
  version?: string | null;
  /** What the plugin says of itself. */
  description?: string | null;
  /** JSON Schema of the input. */
  input_schema?: unknown;
  /** JSON Schema of the result. */
  result_schema?: unknown;
  /** What it imports beyond the contract. */
  imports: Array<string>;
  /** Which of that are capabilities, and whether they are granted. */
  capabilities: Array<PluginCapability>;
  /** Length of the file, bytes. */
  bytes: number;
  /** When this host loaded it. */
  loaded_at?: string | null;
  error?: PluginError | null;
  /** Versions that this host holds, for jobs that began with them. */
  versions: Array<PluginVersion>;
}

/** A capability that a plugin imports. */
export interface PluginCapability {
  /** Name of the import. */
  import: string;
  /** `granted`, or `optional, not granted`: the plugin can do without, and its calls fail. */
  state: string;
  /** The line of configuration that would grant it, where it is not granted. */
  grant?: string | null;
}

/** Why a plugin is not in service. */
export interface PluginError {
  /** Stable code. */
  code: string;
  /** What is wrong and what to do. */
  message: string;
}

/** How a version took over from the one before it. */
export interface PluginSwap {
  /** SHA-256 of the version before. */
  from: string;
  /** When copies of checkpoints were tried. */
  at: string;
  /** How long that took, milliseconds. */
  took_ms: number;
  /** Live jobs first, then recorded checkpoints; at most 40. */
  trials: Array<PluginTrial>;
}

/** What becomes of one job. */
export interface PluginTrial {
  /** The job's id, or the recording's folder and the file of the checkpoint. */
  of: string;
  /** `migrate`, `stay` or `refuse`. */
  verdict: string;
  /** Why. */
  why: string;
}

/** A version of a plugin. */
export interface PluginVersion {
  /** SHA-256 of the file. */
  digest: string;
  /** The version that the plugin says. */
  version: string;
  /** When this host loaded it. */
  loaded_at: string;
  /** New jobs start with this one. */
  active: boolean;
  /** An operator went back from it: its jobs move to the active version or pause. Left out where it is false. */
  withdrawn?: boolean;
  swap?: PluginSwap | null;
}

/** The plugins of this host, and the job types that only others have. */
export interface Plugins {
  /** By name. */
  plugins: Array<Plugin>;
  /** Types that some host announced and this one does not have, each with its descriptor. */
  elsewhere: Array<Elsewhere>;
}

/** The document (RFC 9457) that answers every refused or failed request. */
export interface Problem {
  /** Address of the page that explains the code. */
  type: string;
  /** The same few words for every problem of this code. */
  title: string;
  /** HTTP status. */
  status: number;
  /** What happened this time. */
  detail: string;
  /** Stable code. */
  code: string;
  /** The request's id, which is also in the log. */
  request_id?: string | null;
  /** Each thing that is wrong with the body. */
  errors?: Array<Violation>;
  /** The state that a control met. */
  job_status?: string | null;
  /** Why a plugin was refused: a stable code. */
  reason?: string | null;
}

/** How far a job is. */
export interface Progress {
  /** Units of work finished. */
  current: number;
  /** Units of work in all, where known. */
  total?: number | null;
  /** One line for a person. */
  message?: string | null;
  /** 0 to 100 with one decimal, where the total is known. */
  percent?: number | null;
}

/** What a purge did. */
export interface Purged {
  /** The queue. */
  name: string;
  /** Jobs cancelled. */
  cancelled: number;
}

/** A queue. */
export interface Queue {
  /** Its name. */
  name: string;
  /** Jobs in its lines. */
  depth: number;
  /** When the oldest of them was accepted. */
  oldest_at?: string | null;
  /** Nothing is claimed from it. */
  paused: boolean;
}

/** All queues that hold jobs or are paused. */
export interface Queues {
  /** By name. */
  queues: Array<Queue>;
}

/** What became of a wish to run a schedule now. */
export interface Ran {
  /** The schedule. */
  name: string;
  /** The job that was made, or the one that has its unique key. */
  job?: string | null;
  /** The run waits for the end of the job made last. */
  waiting: boolean;
}

/** So many jobs in a time. */
export interface Rate {
  /** How many, 1 to 1,000,000; a job counts by its weight. */
  count: number;
  /** In so many milliseconds, up to a day. */
  per_ms: number;
  /** Given: a token bucket of this size that `count` tokens fall into every `per_ms`, evenly. Left away: a sliding window. */
  burst?: number | null;
}

/** What a step found and did. */
export interface Reencrypted {
  /** Id of the active key; `null` where there is none. */
  active?: string | null;
  /** Jobs looked at. */
  jobs: number;
  /** Values by the id of the key that they were encrypted with when they were looked at; a job's input with its metadata is one. */
  values: Record<string, number>;
  /** Those of other keys that are encrypted with the active one now. */
  reencrypted: number;
  /** Those of other keys that stay as they are: it was a dry run, they changed meanwhile, their key is missing, or they lie in a storage that does not answer. Another pass finds them. */
  left: number;
  /** `cursor` of the next step; `null` at the end. */
  next_cursor?: string | null;
}

/** What a requeue did. */
export interface Requeued {
  /** Messages that are in their queues again. */
  requeued: number;
  /** Messages that are still on the dead list. */
  left: number;
}

/** A route. */
export interface Route {
  /** Job type. */
  type: string;
  /** As it was put, with the weights of now and the digests of its versions: `targets`, `sticky`, `flags`, `canary`, `shadow`. */
  route: Record<string, unknown>;
  /** Grows with every change. */
  revision: number;
  /** When it was last changed. */
  changed_at: string;
  canary?: RouteCanary | null;
}

/** What was counted of one target since the route, or its canary's step, began. */
export interface RouteArm {
  /** Name of the target. */
  arm: string;
  /** Share, per cent. */
  weight: number;
  /** `version`, `celery` or `http`. */
  kind: string;
  /** SHA-256 of the version, the Celery queue and task, or the address. */
  target: string;
  /** Attempts that ended. */
  attempts: number;
  /** Those that failed. */
  errors: number;
  /** The same as a part, 0 to 1. */
  error_rate?: number | null;
  /** Mean running time of those that succeeded, milliseconds. */
  mean_ms?: number | null;
  /** Half of them ran no longer, milliseconds; as exactly as a fifth. */
  p50_ms?: number | null;
  /** 95 of 100 ran no longer. */
  p95_ms?: number | null;
  /** Mean length of their results, bytes. */
  result_bytes?: number | null;
}

/** How far a canary is. */
export interface RouteCanary {
  /** `running`, `held`, `promoted` or `rolled back`. */
  standing: string;
  /** Number of its step, from 1. */
  step: number;
  /** Steps in all. */
  steps: number;
  /** When that began. */
  since: string;
  /** How often the counts of this step were looked at. */
  looks: number;
}

/** An entry of a route's history. */
export interface RouteChange {
  /** When. */
  at: string;
  /** Name of the token or user; `waymark`: the host itself. */
  who: string;
  /** `put`, `delete`, `advance`, `promote`, `hold`, `rollback` or `undo`. */
  what: string;
  /** Why, as whoever asked said, or with the figures that decided. */
  why: string;
}

/** A route with what was counted and what changed. */
export interface RouteWithCounts extends Route {
  /** What was counted of each target. */
  arms: Array<RouteArm>;
  /** Pairs of a job and its shadow job that were compared. */
  compared: number;
  /** Those that differ. */
  mismatched: number;
  /** The last changes, newest first, at most 50. */
  history: Array<RouteChange>;
}

/** All routes. */
export interface Routes {
  /** By job type. */
  routes: Array<Route>;
}

/** The saved place of a job. */
export interface Saved {
  /** The job's id. */
  task_id: string;
  /** Job type. */
  task_name: string;
  /** Where the job was. */
  checkpoint_data: Place;
  /** When it was committed. */
  created_at: string;
  /** When it is forgotten; null while the job waits without a time-out. */
  expires_at?: string | null;
  /** Run of the job. */
  run: number;
  /** Committed steps at that time; `restart?from=` takes this number. */
  step: number;
  /** Version of the plugin that wrote it. */
  plugin_version: string;
  /** SHA-256 of that plugin. */
  plugin_digest: string;
  /** SHA-256 of the state. */
  digest: string;
  /** Length of the state, bytes. */
  bytes: number;
}

/** The kept checkpoints. */
export interface SavedList {
  /** Newest first, without their states. */
  checkpoints: Array<Saved>;
}

/** A schedule. */
export interface Schedule {
  /** Its name. */
  name: string;
  /** Who holds it: `api`, `file` (the configuration of a host) or `built-in`. */
  source: string;
  /** `active`, `paused` or `ended`. */
  status: string;
  /** See the request. */
  cron?: string | null;
  /** See the request. */
  every_ms?: number | null;
  /** See the request. */
  anchor?: string | null;
  /** See the request. */
  at?: string | null;
  /** See the request. */
  timezone: string;
  /** See the request. */
  overlap: string;
  /** See the request. */
  catch_up: string;
  /** See the request. */
  catch_up_max: number;
  /** See the request. */
  jitter_ms: number;
  /** See the request. */
  starts_at?: string | null;
  /** See the request. */
  ends_at?: string | null;
  /** See the request. */
  max_runs?: number | null;
  job?: Template | null;
  /** What a built-in one does: `expire-results`, `expire-keys` or `reconcile-indexes`. */
  action?: string | null;
  /** The next planned time. */
  next_at?: string | null;
  /** A planned time that waits for the end of the job made last. */
  waiting_at?: string | null;
  /** When it fired last. */
  last_at?: string | null;
  /** The job made last. */
  last_job?: string | null;
  /** Times it fired. */
  fired: number;
  /** Times it missed; of each downtime the first hundred or so count. */
  missed: number;
  /** Why it cannot go on, or what went wrong last. */
  error?: string | null;
  /** What a built-in one did last. */
  did?: string | null;
  /** How long that took, milliseconds. */
  took_ms?: number | null;
  /** The next ten planned times, without jitter. Left out in lists. */
  upcoming?: Array<string> | null;
  /** What became of the last 20 times, newest first. Left out in lists. */
  history?: Array<HistoryEntry> | null;
}

/** A schedule to be kept. One of `cron`, `every_ms` and `at`. */
export interface ScheduleRequest {
  /** Minute, hour, day of month, month, day of week; a sixth field in front is the second. */
  cron?: string | null;
  /** Milliseconds between two times, 1,000 at least. */
  every_ms?: number | null;
  /** A time that `every_ms` counts from (RFC 3339). Default: the Unix epoch. */
  anchor?: string | null;
  /** Once, at this time (RFC 3339). */
  at?: string | null;
  /** IANA name of the zone that `cron` is read in. Default `UTC`. */
  timezone?: string | null;
  /** What if the job made last has not ended: `skip` (default), `queue_one`, `allow` or `cancel_running`. */
  overlap?: string | null;
  /** What becomes of times that no host was there for: `skip`, `last` (default: one run for all) or `all`. */
  catch_up?: string | null;
  /** Most missed times that `all` fires, the newest, 1 to 1,000. Default 100. */
  catch_up_max?: number | null;
  /** Each time is due up to so many milliseconds late. Default 0. */
  jitter_ms?: number | null;
  /** No time before this (RFC 3339). */
  starts_at?: string | null;
  /** No time after this (RFC 3339). */
  ends_at?: string | null;
  /** The schedule ends after it has fired so often. */
  max_runs?: number | null;
  /** It does not fire. Default: the switch stays as it is. */
  paused?: boolean | null;
  /** The job to make, without `delay_ms` and `not_before`. A time that finds its `unique_key` taken makes none. */
  job: Submission;
}

/** A page of schedules. */
export interface Schedules {
  /** By name. */
  schedules: Array<Schedule>;
  /** Where the next page begins; absent on the last one. */
  next_cursor?: string | null;
}

/** A job and its shadow job that ended in different ways. */
export interface ShadowMismatch {
  /** When they were compared. */
  at: string;
  /** The job. */
  job: string;
  /** Its shadow job. */
  shadow: string;
  /** How the job ended: `{"succeeded": result}` or `{"failed": kind}`; `null`: too long to be kept here. */
  left?: Record<string, unknown> | null;
  /** How its shadow job ended. */
  right?: Record<string, unknown> | null;
  /** Where they differ, at most 20 places, each with `pointer`, `left` and `right`. */
  differences: Array<Record<string, unknown>>;
}

/** Pairs that differ. */
export interface ShadowMismatches {
  /** Newest first, at most 100. */
  mismatches: Array<ShadowMismatch>;
}

/** What waits, what runs, and what that needs. */
export interface Signal {
  /** Jobs that could be claimed now: not those that are delayed, of a paused queue, or held back by a limit. */
  waiting: number;
  /** Age of the oldest of them, seconds; 0 if none waits. */
  oldest_waiting_seconds: number;
  /** Slots in use on the hosts that serve these queues. */
  running: number;
  /** Slots that these hosts have now. */
  slots: number;
  /** Hosts that claim and serve at least one of these queues. */
  hosts: number;
  /** How long a job holds a slot at present, milliseconds; 0: not known. */
  stay_ms: number;
  /** Slots with which all that waits would begin in time. */
  wanted_slots: number;
  /** The same in hosts as large as those that are there, or of 64 slots if there are none. */
  wanted_hosts: number;
  /** Queues in which something waits, by name. */
  queues: Array<Waiting>;
}

/** Answer to a signal. */
export interface Signalled {
  /** The job waited for it and goes on. Otherwise it is kept until the job asks. */
  delivered: boolean;
}

/** A queue's limits, and how it stands against them. */
export interface Standing {
  /** The queue. */
  name: string;
  limits?: Limits | null;
  /** Weight of its jobs that run and were claimed under a limit. */
  running: number;
  /** Its flow keys with jobs, by name, at most 1,000. */
  keys: Array<Key>;
}

/** Where a job stands. */
export type Status = "scheduled" | "queued" | "running" | "waiting" | "paused" | "succeeded" | "failed" | "cancelled";

/** What a step did. */
export interface Stepped {
  /** Jobs that the filter took in this step. */
  matched: number;
  /** Of these, jobs that did as asked, or had done so already; 0 in a dry run. */
  done: number;
  /** Of these, jobs in whose state the control does not fit, or that were deleted meanwhile. */
  refused: number;
  /** Where the next step begins; `null` after the last one. */
  next_cursor?: string | null;
}

/** A job to be made. */
export interface Submission {
  /** Job type: the name of a plugin, or `waymark.echo`, whose result is its input. */
  type: string;
  /** Input; must fit the job type's input schema. At most 1 MiB. */
  input: unknown;
  /** Queue: 1 to 128 of letters, digits, '_', '-' and '.'. Default: the job type's own. */
  queue?: string | null;
  /** 0 to 9; 9 is served first. Default 0. */
  priority?: number | null;
  /** Start no sooner than so many milliseconds from now. Not together with `not_before`. */
  delay_ms?: number | null;
  /** Start no sooner than this time (RFC 3339). */
  not_before?: string | null;
  /** Attempts in all, 1 to 1,000. Default: the job type's. */
  max_attempts?: number | null;
  /** What this job says about retries; what is absent is as the job type says. `max_attempts`, `backoff` (`exponential`, `linear` or `fixed`), `base_ms`, `max_ms`, `jitter`, `max_age_ms`, `retry_after_max_ms`, `retry` (`false`: never) and `kinds`: the same for a kind of failure, such as `{"transient": {"max_attempts": 9}}`. */
  retry?: Record<string, unknown> | null;
  /** Running time after which the job is asked to finish, milliseconds. */
  soft_limit_ms?: number | null;
  /** Running time after which an attempt fails, milliseconds. */
  hard_limit_ms?: number | null;
  /** Anything the caller wants to keep with the job; a JSON object of at most 64 KiB. */
  metadata?: Record<string, unknown> | null;
  /** Labels to list jobs by, at most 32. */
  tags?: Array<string> | null;
  /** The caller's id for the larger whole that the job belongs to. */
  correlation_id?: string | null;
  /** While a job with this key has not ended, another one is not made: the first is answered. */
  unique_key?: string | null;
  unique_until?: Until | null;
  /** The unique key holds for so many milliseconds from now on instead, whatever becomes of the job. At most ten years. Such keys are apart from those that a job's end frees. */
  unique_for_ms?: number | null;
  /** Where a job with the same unique key waits and never ran, it gets this input and metadata, and waits this `delay_ms` anew if it is scheduled. Default false: the first input stays. */
  replace_input?: boolean | null;
  /** Jobs of one flow key take turns with those of the queue's other keys, and share the limits that the queue sets per key. Default: what the queue's limits point at, if they do. */
  flow_key?: string | null;
  /** What the job counts for in limits, 1 to 1,000,000. Default 1. */
  weight?: number | null;
  webhook?: WebhookRequest | null;
}

/** The switch of a queue. */
export interface Switch {
  /** The queue. */
  name: string;
  /** Nothing is claimed from it. */
  paused: boolean;
}

/** The job that a schedule makes. */
export interface Template {
  type: string;
  queue: string;
  priority: number;
  input: unknown;
  metadata: Record<string, unknown>;
  tags: Array<string>;
  correlation_id?: string | null;
  max_attempts?: number | null;
  retry?: Record<string, unknown> | null;
  soft_limit_ms?: number | null;
  hard_limit_ms?: number | null;
  /** See the submission, as the five that follow. */
  unique_key?: string | null;
  unique_until?: string | null;
  unique_for_ms?: number | null;
  replace_input?: boolean;
  flow_key?: string | null;
  weight?: number | null;
}

/** How long a unique key holds. */
export type Until = "started" | "ended";

/** Planned times. */
export interface Upcoming {
  /** The zone. */
  timezone: string;
  /** Oldest first. */
  upcoming: Array<string>;
}

/** One thing that is wrong with a request's body. */
export interface Violation {
  /** Where: a JSON pointer (RFC 6901) into the body; empty is the whole body. */
  pointer: string;
  /** What. */
  detail: string;
}

/** What waits in one queue. */
export interface Waiting {
  /** Its name. */
  name: string;
  /** Jobs that could be claimed now. */
  waiting: number;
  /** Age of the oldest of them, seconds. */
  oldest_waiting_seconds: number;
}

/** An address that is told of a job's end, by a signed message. */
export interface WebhookRequest {
  /** `https://` or `http://`; at most 2,048 characters. */
  url: string;
  /** Which ends: `succeeded`, `failed`, `cancelled`. Default: all three. */
  on?: Array<string> | null;
  /** Name of an endpoint in the host's configuration, whose secret signs. Default: unsigned. */
  secret?: string | null;
}

/** A workflow: its job, and how many of its nodes stand where. */
export interface Workflow {
  /** The job that coordinates it. */
  job: Job;
  /** Nodes by state: `total`, `waiting`, `active`, `succeeded`, `failed`, `cancelled` and `skipped`. */
  counts: Record<string, unknown>;
  /** One page of its nodes, in the order in which they were written. */
  nodes: Array<NodeView>;
  /** Number of the first node of the next page; `null` on the last one. */
  next_node?: number | null;
}
