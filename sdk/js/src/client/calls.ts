// One method for each call of the API. Made by sdk/generate.py from host/daemon/openapi.json: change those.

import type * as models from "./models.js";

/** How a request is sent. */
export interface Sent {
  query?: Record<string, string | number | boolean | undefined>;
  headers?: Record<string, string | undefined>;
  json?: unknown;
  content?: Uint8Array;
  /** What is made of the answer; JSON unless said otherwise. */
  answer?: "json" | "text" | "none";
  /** It may be sent again when nobody knows whether it arrived. */
  repeatable?: boolean;
  /** An idempotency key makes it repeatable. */
  keyed?: boolean;
  signal?: AbortSignal | undefined;
}

/** Each call of the API. */
export abstract class Calls {
  protected abstract call<T>(method: string, path: string, sent: Sent): Promise<T>;

  /** Pauses, resumes, restarts, retries, cancels, deletes or moves the jobs that the filter takes, newest first. */
  bulkJobs(action: string, options: { status?: string; type?: string; queue?: string; tag?: string; correlation_id?: string; error_kind?: string; created_since?: string; created_until?: string; ended_since?: string; ended_until?: string; to?: string; dry_run?: boolean; limit?: number; cursor?: string; why?: string; signal?: AbortSignal } = {}): Promise<models.Stepped> {
    return this.call<models.Stepped>("POST", `/api/v1/jobs/bulk/${encodeURIComponent(action)}`, { signal: options.signal, query: { status: options.status, type: options.type, queue: options.queue, tag: options.tag, correlation_id: options.correlation_id, error_kind: options.error_kind, created_since: options.created_since, created_until: options.created_until, ended_since: options.ended_since, ended_until: options.ended_until, to: options.to, dry_run: options.dry_run, limit: options.limit, cursor: options.cursor, why: options.why } });
  }

  /** Ends the job now. */
  cancelJob(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/cancel`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Changes a route: `promote` takes its canary to the next step, `hold` keeps it in its step, `rollback` takes all weight from it, `undo` makes the route what it was before its last change. */
  changeRoute(type: string, action: string, options: { full?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<models.Route> {
    return this.call<models.Route>("POST", `/api/v1/routes/${encodeURIComponent(type)}/${encodeURIComponent(action)}`, { signal: options.signal, query: { full: options.full, why: options.why } });
  }

  /** Counts the jobs kept, by type and state. */
  countJobs(options: { signal?: AbortSignal } = {}): Promise<models.Counts> {
    return this.call<models.Counts>("GET", `/api/v1/counts`, { signal: options.signal, repeatable: true });
  }

  /** Makes a job. */
  createJob(body: models.Submission, options: { wait_ms?: number; idempotencyKey?: string; correlationId?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs`, { signal: options.signal, query: { wait_ms: options.wait_ms }, headers: { "Idempotency-Key": options.idempotencyKey, "X-Correlation-Id": options.correlationId }, json: body, keyed: true });
  }

  /** Makes many jobs. 201 if none was refused, else 207. */
  createJobs(body: models.Batch, options: { signal?: AbortSignal } = {}): Promise<models.Outcomes> {
    return this.call<models.Outcomes>("POST", `/api/v1/jobs/batch`, { signal: options.signal, json: body });
  }

  /** Makes a workflow. */
  createWorkflow(body: Record<string, unknown>, options: { idempotencyKey?: string; correlationId?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/workflows`, { signal: options.signal, headers: { "Idempotency-Key": options.idempotencyKey, "X-Correlation-Id": options.correlationId }, json: body, keyed: true });
  }

  /** Cancels a job if it has not ended, and forgets it with all it kept. */
  deleteJob(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/jobs/${encodeURIComponent(id)}`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Takes the limits of a queue away. */
  deleteLimits(queue: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/queues/${encodeURIComponent(queue)}/limits`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Removes a plugin from this host's directory, and from those of all hosts if it was uploaded: the type retires. Running jobs end or move. */
  deletePlugin(type: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/plugins/${encodeURIComponent(type)}`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Removes a route: the active version of the plugin runs the type again. */
  deleteRoute(type: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/routes/${encodeURIComponent(type)}`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Forgets a schedule. Jobs that it made stay. */
  deleteSchedule(name: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/schedules/${encodeURIComponent(name)}`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Asks a host to claim no more, to release its jobs at the end of their steps, and to stop. */
  drainHost(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Draining> {
    return this.call<models.Draining>("POST", `/api/v1/hosts/${encodeURIComponent(id)}/drain`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Forgets a group of failures, as when its cause was mended. The next failure of its kind begins a new one. */
  forgetError(fingerprint: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<void> {
    return this.call<void>("DELETE", `/api/v1/errors/${encodeURIComponent(fingerprint)}`, { signal: options.signal, query: { why: options.why }, answer: "none", repeatable: true });
  }

  /** Does the process answer? Says nothing of Redis: a restart would not bring that back. */
  health(options: { signal?: AbortSignal } = {}): Promise<models.Health> {
    return this.call<models.Health>("GET", `/healthz`, { signal: options.signal, repeatable: true });
  }

  /** The newest checkpoint, or that of a step. */
  jobCheckpoint(id: string, options: { step?: number; reveal?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<models.Saved> {
    return this.call<models.Saved>("GET", `/api/v1/jobs/${encodeURIComponent(id)}/checkpoint`, { signal: options.signal, query: { step: options.step, reveal: options.reveal, why: options.why }, repeatable: true });
  }

  /** All kept checkpoints, without their states. */
  jobCheckpoints(id: string, options: { signal?: AbortSignal } = {}): Promise<models.SavedList> {
    return this.call<models.SavedList>("GET", `/api/v1/jobs/${encodeURIComponent(id)}/checkpoints`, { signal: options.signal, repeatable: true });
  }

  /** Log lines that the job wrote; the newest 1,000 or 1 MiB are kept. */
  jobLogs(id: string, options: { from?: number; limit?: number; signal?: AbortSignal } = {}): Promise<models.Logs> {
    return this.call<models.Logs>("GET", `/api/v1/jobs/${encodeURIComponent(id)}/logs`, { signal: options.signal, query: { from: options.from, limit: options.limit }, repeatable: true });
  }

  /** The committed output records of the job's present run, one JSON text per line. */
  jobOutput(id: string, options: { from?: number; limit?: number; reveal?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<string> {
    return this.call<string>("GET", `/api/v1/jobs/${encodeURIComponent(id)}/output`, { signal: options.signal, query: { from: options.from, limit: options.limit, reveal: options.reveal, why: options.why }, answer: "text", repeatable: true });
  }

  /** Lists changes that somebody asked for, newest first. Needs the scope `admin`. */
  listAudit(options: { actor?: string; about?: string; limit?: number; cursor?: string; signal?: AbortSignal } = {}): Promise<models.AuditLog> {
    return this.call<models.AuditLog>("GET", `/api/v1/audit`, { signal: options.signal, query: { actor: options.actor, about: options.about, limit: options.limit, cursor: options.cursor }, repeatable: true });
  }

  /** Lists groups of failures; at most 100 per job type are kept, those seen last. */
  listErrors(options: { type?: string; since?: string; sort?: string; limit?: number; signal?: AbortSignal } = {}): Promise<models.ErrorGroups> {
    return this.call<models.ErrorGroups>("GET", `/api/v1/errors`, { signal: options.signal, query: { type: options.type, since: options.since, sort: options.sort, limit: options.limit }, repeatable: true });
  }

  /** Lists the hosts. */
  listHosts(options: { signal?: AbortSignal } = {}): Promise<models.Hosts> {
    return this.call<models.Hosts>("GET", `/api/v1/hosts`, { signal: options.signal, repeatable: true });
  }

  /** Lists jobs, newest first. */
  listJobs(options: { status?: string; type?: string; queue?: string; tag?: string; correlation_id?: string; error_kind?: string; created_since?: string; created_until?: string; ended_since?: string; ended_until?: string; limit?: number; cursor?: string; include?: string; signal?: AbortSignal } = {}): Promise<models.JobPage> {
    return this.call<models.JobPage>("GET", `/api/v1/jobs`, { signal: options.signal, query: { status: options.status, type: options.type, queue: options.queue, tag: options.tag, correlation_id: options.correlation_id, error_kind: options.error_kind, created_since: options.created_since, created_until: options.created_until, ended_since: options.ended_since, ended_until: options.ended_until, limit: options.limit, cursor: options.cursor, include: options.include }, repeatable: true });
  }

  /** Lists the newest pairs of a job and its shadow job that ended in different ways. */
  listMismatches(type: string, options: { signal?: AbortSignal } = {}): Promise<models.ShadowMismatches> {
    return this.call<models.ShadowMismatches>("GET", `/api/v1/routes/${encodeURIComponent(type)}/mismatches`, { signal: options.signal, repeatable: true });
  }

  /** Lists the plugins of this host, refused files included. */
  listPlugins(options: { signal?: AbortSignal } = {}): Promise<models.Plugins> {
    return this.call<models.Plugins>("GET", `/api/v1/plugins`, { signal: options.signal, repeatable: true });
  }

  /** Lists the queues. */
  listQueues(options: { signal?: AbortSignal } = {}): Promise<models.Queues> {
    return this.call<models.Queues>("GET", `/api/v1/queues`, { signal: options.signal, repeatable: true });
  }

  /** Lists the routes. */
  listRoutes(options: { signal?: AbortSignal } = {}): Promise<models.Routes> {
    return this.call<models.Routes>("GET", `/api/v1/routes`, { signal: options.signal, repeatable: true });
  }

  /** Lists the schedules by name, the built-in ones included. */
  listSchedules(options: { limit?: number; cursor?: string; signal?: AbortSignal } = {}): Promise<models.Schedules> {
    return this.call<models.Schedules>("GET", `/api/v1/schedules`, { signal: options.signal, query: { limit: options.limit, cursor: options.cursor }, repeatable: true });
  }

  /** Lists workflows, newest first. */
  listWorkflows(options: { status?: string; tag?: string; limit?: number; cursor?: string; signal?: AbortSignal } = {}): Promise<models.JobPage> {
    return this.call<models.JobPage>("GET", `/api/v1/workflows`, { signal: options.signal, query: { status: options.status, tag: options.tag, limit: options.limit, cursor: options.cursor }, repeatable: true });
  }

  /** Figures in the Prometheus text format. */
  metrics(options: { signal?: AbortSignal } = {}): Promise<string> {
    return this.call<string>("GET", `/metrics`, { signal: options.signal, answer: "text", repeatable: true });
  }

  /** Moves a job that has not ended to another queue, another priority, or both. A running one goes there when it leaves its worker. */
  moveJob(id: string, body: models.Change, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("PATCH", `/api/v1/jobs/${encodeURIComponent(id)}`, { signal: options.signal, query: { why: options.why }, json: body, repeatable: true });
  }

  /** This document. */
  openapi(options: { signal?: AbortSignal } = {}): Promise<Record<string, unknown>> {
    return this.call<Record<string, unknown>>("GET", `/api/v1/openapi.json`, { signal: options.signal, repeatable: true });
  }

  /** Asks a host to claim nothing more. What it holds goes on. */
  pauseHost(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Claiming> {
    return this.call<models.Claiming>("POST", `/api/v1/hosts/${encodeURIComponent(id)}/pause`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Stops the job: a running one at the end of its step, any other at once. It keeps its place. While it is paused, the time until which it sleeps goes on, and signals and ends of children that it waits for are kept. */
  pauseJob(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/pause`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Stops claims from a queue; running jobs go on. A queue that holds nothing yet can be paused too. */
  pauseQueue(queue: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Switch> {
    return this.call<models.Switch>("POST", `/api/v1/queues/${encodeURIComponent(queue)}/pause`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Pauses a schedule: it does not fire, and what passes meanwhile is not missed. */
  pauseSchedule(name: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Schedule> {
    return this.call<models.Schedule>("POST", `/api/v1/schedules/${encodeURIComponent(name)}/pause`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** The next times of a pattern, without keeping a schedule. */
  previewSchedule(options: { cron?: string; every_ms?: number; anchor?: string; at?: string; timezone?: string; after?: string; limit?: number; signal?: AbortSignal } = {}): Promise<models.Upcoming> {
    return this.call<models.Upcoming>("GET", `/api/v1/schedules/preview`, { signal: options.signal, query: { cron: options.cron, every_ms: options.every_ms, anchor: options.anchor, at: options.at, timezone: options.timezone, after: options.after, limit: options.limit }, repeatable: true });
  }

  /** Cancels every job that is queued in a queue. Running and scheduled jobs stay. */
  purgeQueue(queue: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Purged> {
    return this.call<models.Purged>("POST", `/api/v1/queues/${encodeURIComponent(queue)}/purge`, { signal: options.signal, query: { why: options.why } });
  }

  /** Puts a plugin into this host's directory, and answers when it is in service; the other hosts take it within seconds. A refused one leaves the version before it in service, and goes nowhere. */
  putPlugin(type: string, body: Uint8Array, options: { force?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<models.Plugin> {
    return this.call<models.Plugin>("PUT", `/api/v1/plugins/${encodeURIComponent(type)}`, { signal: options.signal, query: { force: options.force, why: options.why }, content: body, repeatable: true });
  }

  /** Puts a route in the place of the one there is. It holds within two seconds for every job that has not committed a step; a canary begins with its first step. */
  putRoute(type: string, body: Record<string, unknown>, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Route> {
    return this.call<models.Route>("PUT", `/api/v1/routes/${encodeURIComponent(type)}`, { signal: options.signal, query: { why: options.why }, json: body, repeatable: true });
  }

  /** Creates or replaces a schedule. The same again changes nothing. As long as the fields that say when stay the same, the next time does. */
  putSchedule(name: string, body: models.ScheduleRequest, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Schedule> {
    return this.call<models.Schedule>("PUT", `/api/v1/schedules/${encodeURIComponent(name)}`, { signal: options.signal, query: { why: options.why }, json: body, repeatable: true });
  }

  /** Can the host take and run jobs? */
  ready(options: { signal?: AbortSignal } = {}): Promise<models.Health> {
    return this.call<models.Health>("GET", `/readyz`, { signal: options.signal, repeatable: true });
  }

  /** Encrypts with the active key what another one encrypted, for about a second; running hosts need not stop. Needs the scope `admin`. */
  reencrypt(options: { cursor?: string; dry_run?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<models.Reencrypted> {
    return this.call<models.Reencrypted>("POST", `/api/v1/keys/reencrypt`, { signal: options.signal, query: { cursor: options.cursor, dry_run: options.dry_run, why: options.why } });
  }

  /** Makes a new job from one that ended. The body holds the fields that are to be different; it may be empty. */
  replayJob(id: string, body: Record<string, unknown>, options: { wait_ms?: number; why?: string; idempotencyKey?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/replay`, { signal: options.signal, query: { wait_ms: options.wait_ms, why: options.why }, headers: { "Idempotency-Key": options.idempotencyKey }, json: body, keyed: true });
  }

  /** Puts messages of the dead list back into their Celery queues, the oldest first. Mend first what they died of: those that still cannot be taken come back. */
  requeueCelery(options: { limit?: number; why?: string; signal?: AbortSignal } = {}): Promise<models.Requeued> {
    return this.call<models.Requeued>("POST", `/api/v1/celery/dead/requeue`, { signal: options.signal, query: { limit: options.limit, why: options.why } });
  }

  /** Runs a paused or ended job again, from the beginning or from a kept checkpoint, as its next run. */
  restartJob(id: string, options: { from?: number; why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/restart`, { signal: options.signal, query: { from: options.from, why: options.why } });
  }

  /** Asks a host to claim again. */
  resumeHost(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Claiming> {
    return this.call<models.Claiming>("POST", `/api/v1/hosts/${encodeURIComponent(id)}/resume`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Lets a paused job go on from its last checkpoint: it goes back to its queue. One that slept or waited sleeps or waits again, unless its time, its signal or the end of its children has come meanwhile. A job that is not paused stays as it is. */
  resumeJob(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/resume`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Allows claims from a queue again. */
  resumeQueue(queue: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Switch> {
    return this.call<models.Switch>("POST", `/api/v1/queues/${encodeURIComponent(queue)}/resume`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Lets a schedule fire again, from its next time on. */
  resumeSchedule(name: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Schedule> {
    return this.call<models.Schedule>("POST", `/api/v1/schedules/${encodeURIComponent(name)}/resume`, { signal: options.signal, query: { why: options.why }, repeatable: true });
  }

  /** Lets a failed job go on from its last kept checkpoint, as its next run with all its attempts; from the beginning where it keeps none. */
  retryJob(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/retry`, { signal: options.signal, query: { why: options.why } });
  }

  /** Runs an ended workflow again, as its next run: what succeeded is kept, the rest runs again. */
  retryWorkflow(id: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("POST", `/api/v1/workflows/${encodeURIComponent(id)}/retry`, { signal: options.signal, query: { why: options.why } });
  }

  /** Makes the version before the active one active again on this host. Jobs of the version that it goes back from move with their next commit where the other reads their checkpoints, and pause with an error where it does not. */
  rollBackPlugin(type: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Plugin> {
    return this.call<models.Plugin>("POST", `/api/v1/plugins/${encodeURIComponent(type)}/rollback`, { signal: options.signal, query: { why: options.why } });
  }

  /** Runs a schedule now, whether it is paused or not. Its planned times stay as they are; its overlap policy holds. */
  runSchedule(name: string, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Ran> {
    return this.call<models.Ran>("POST", `/api/v1/schedules/${encodeURIComponent(name)}/run`, { signal: options.signal, query: { why: options.why } });
  }

  /** What really waits, and what it would need to begin within a time. */
  scale(options: { queue?: string; target_ms?: number; signal?: AbortSignal } = {}): Promise<models.Signal> {
    return this.call<models.Signal>("GET", `/api/v1/scale`, { signal: options.signal, query: { queue: options.queue, target_ms: options.target_ms }, repeatable: true });
  }

  /** Sets the limits of a queue, all of them: what the body leaves away is not limited any more. They hold at once; jobs that run already count from their next claim on. */
  setLimits(queue: string, body: models.Limits, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Standing> {
    return this.call<models.Standing>("PUT", `/api/v1/queues/${encodeURIComponent(queue)}/limits`, { signal: options.signal, query: { why: options.why }, json: body, repeatable: true });
  }

  /** Shows the Celery front. */
  showCelery(options: { signal?: AbortSignal } = {}): Promise<models.Front> {
    return this.call<models.Front>("GET", `/api/v1/celery`, { signal: options.signal, repeatable: true });
  }

  /** Shows a group of failures with the jobs that failed so last. */
  showError(fingerprint: string, options: { signal?: AbortSignal } = {}): Promise<models.ErrorGroupJobs> {
    return this.call<models.ErrorGroupJobs>("GET", `/api/v1/errors/${encodeURIComponent(fingerprint)}`, { signal: options.signal, repeatable: true });
  }

  /** Shows a job. */
  showJob(id: string, options: { wait_ms?: number; reveal?: boolean; why?: string; signal?: AbortSignal } = {}): Promise<models.Job> {
    return this.call<models.Job>("GET", `/api/v1/jobs/${encodeURIComponent(id)}`, { signal: options.signal, query: { wait_ms: options.wait_ms, reveal: options.reveal, why: options.why }, repeatable: true });
  }

  /** Shows the limits of a queue, what runs under them, and its flow keys. */
  showLimits(queue: string, options: { signal?: AbortSignal } = {}): Promise<models.Standing> {
    return this.call<models.Standing>("GET", `/api/v1/queues/${encodeURIComponent(queue)}/limits`, { signal: options.signal, repeatable: true });
  }

  /** Shows a plugin. */
  showPlugin(type: string, options: { signal?: AbortSignal } = {}): Promise<models.Plugin> {
    return this.call<models.Plugin>("GET", `/api/v1/plugins/${encodeURIComponent(type)}`, { signal: options.signal, repeatable: true });
  }

  /** Shows the route of a job type, what was counted of each of its targets, and its last changes. */
  showRoute(type: string, options: { signal?: AbortSignal } = {}): Promise<models.RouteWithCounts> {
    return this.call<models.RouteWithCounts>("GET", `/api/v1/routes/${encodeURIComponent(type)}`, { signal: options.signal, repeatable: true });
  }

  /** One schedule, its next ten times, and what became of the last 20. */
  showSchedule(name: string, options: { signal?: AbortSignal } = {}): Promise<models.Schedule> {
    return this.call<models.Schedule>("GET", `/api/v1/schedules/${encodeURIComponent(name)}`, { signal: options.signal, repeatable: true });
  }

  /** Shows a workflow and a page of its nodes. */
  showWorkflow(id: string, options: { nodes?: number; from?: number; signal?: AbortSignal } = {}): Promise<models.Workflow> {
    return this.call<models.Workflow>("GET", `/api/v1/workflows/${encodeURIComponent(id)}`, { signal: options.signal, query: { nodes: options.nodes, from: options.from }, repeatable: true });
  }

  /** Sends a signal to a job; the body is its payload, any JSON, `null` when empty. */
  signalJob(id: string, name: string, body: unknown, options: { why?: string; signal?: AbortSignal } = {}): Promise<models.Signalled> {
    return this.call<models.Signalled>("POST", `/api/v1/jobs/${encodeURIComponent(id)}/signals/${encodeURIComponent(name)}`, { signal: options.signal, query: { why: options.why }, json: body, repeatable: true });
  }
}
