//! What a trace tells of a job: its wait in the queue, its stay on this worker, steps, calls that leave the sandbox,
//! commits.
//!
//! A job of a million steps must not make a million spans. Which steps get one follows from their numbers
//! ([`is_step_traced`]); of the calls of a step the first [`CALLS_MAX`] do. A stay is told of where one of its steps is, or
//! where the job ends in it. What is left out is counted in the span of the stay.

use crate::traces::{Span, Tracer, fresh};
use opentelemetry::trace::SpanKind;
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use waymark_job::{JobId, Record, Spec, Trace, trace::is_step_traced};
use waymark_sandbox::calls::{Call, Calls};

/// Calls of one step that get a span.
const CALLS_MAX: u32 = 32;

/// What is told of one stay of a job on this worker.
pub(in crate::worker) struct Stay {
    /// What others are told who are made by this job, or asked by it.
    handed_on: Option<Trace>,
    kept: Option<Kept>,
}

struct Kept {
    tracer: Tracer,
    queued: Option<Span>,
    claimed: SystemTime,
    stay: Span,
    clock: Clock,
    calls: Arc<Told>,
    /// Some step of the stay is told of.
    told: bool,
    /// Steps that are not.
    left_out: u64,
}

/// The store's time at an instant of this machine.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    time: SystemTime,
}

impl Clock {
    fn of(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.at) {
            Some(after) => self.time + after,
            None => self.time - self.at.duration_since(instant),
        }
    }
}

fn at_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

/// A step, or what comes before the first.
pub(super) struct Ongoing {
    span: Option<Span>,
}

impl Stay {
    /// The job was claimed; `record` is as it was then, `now_ms` the store's time.
    pub(super) fn begin(
        tracer: &Tracer,
        id: &JobId,
        spec: &Spec,
        record: &Record,
        worker: &str,
        now_ms: u64,
    ) -> Self {
        let clock = Clock { at: Instant::now(), time: at_ms(now_ms) };
        let name = format!("run {}", spec.job_type);
        let stay = match &spec.trace {
            Some(trace) => tracer.span(Some(trace), name, SpanKind::Consumer, clock.time),
            // Nobody's request decided about it. Of all others a request did, or a parent.
            None if spec.schedule.is_some() => tracer.span_of_job(id, name, clock.time),
            None => None,
        };
        let Some(mut stay) = stay else { return Self { handed_on: spec.trace.clone(), kept: None } };
        stay.set("waymark.job.id", id.to_string());
        stay.set("waymark.job.type", spec.job_type.clone());
        stay.set("waymark.queue", spec.queue().to_owned());
        stay.set("waymark.job.run", i64::from(record.run));
        stay.set("waymark.job.attempt", i64::from(record.attempt) + 1);
        stay.set("waymark.worker", worker.to_owned());
        if let Some(correlation_id) = &spec.correlation_id {
            stay.set("waymark.correlation_id", correlation_id.clone());
        }
        let since_ms = record.not_before_ms.or(record.committed_ms).unwrap_or_else(|| id.created_ms());
        let parent = spec.trace.as_ref().unwrap_or(&stay.trace);
        let queued = tracer.span(Some(parent), "wait in the queue", SpanKind::Internal, at_ms(since_ms));
        let place = Place { parent: stay.trace.clone(), left: CALLS_MAX };
        let calls = Arc::new(Told { tracer: tracer.clone(), clock, place: Mutex::new(place) });
        let kept = Kept {
            tracer: tracer.clone(),
            queued,
            claimed: clock.time,
            clock,
            calls,
            told: is_step_traced(record.step + 1),
            left_out: 0,
            stay,
        };
        Self { handed_on: Some(kept.stay.trace.clone()), kept: Some(kept) }
    }

    /// What others are told who are made by this job.
    pub(in crate::worker) fn handed_on(&self) -> Option<&Trace> {
        self.handed_on.as_ref()
    }

    /// Who is told of calls that leave the sandbox.
    pub(in crate::worker) fn calls(&self) -> Option<Arc<dyn Calls>> {
        match &self.kept {
            Some(kept) => Some(kept.calls.clone()),
            None => Some(Arc::new(HandedOn(self.handed_on.clone()?))),
        }
    }

    /// More about the stay.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(kept) = &mut self.kept {
            kept.stay.set(name, value);
        }
    }

    /// What comes before the first step: an instance is made, and takes the input or a checkpoint.
    pub(super) fn beginning(&mut self) -> Ongoing {
        self.part("begin", true)
    }

    /// The step with this number begins.
    pub(super) fn step(&mut self, number: u64) -> Ongoing {
        let mut step = self.part("step", is_step_traced(number));
        if let Some(span) = &mut step.span {
            span.set("waymark.step", i64::try_from(number).unwrap_or(i64::MAX));
        }
        step
    }

    fn part(&mut self, name: &'static str, told: bool) -> Ongoing {
        let Some(kept) = &mut self.kept else { return Ongoing { span: None } };
        if !told {
            kept.left_out += 1;
            *kept.calls.place() = Place { parent: kept.stay.trace.clone(), left: 0 };
            return Ongoing { span: None };
        }
        kept.told |= name == "step";
        let began = kept.clock.of(Instant::now());
        let span = kept.tracer.span(Some(&kept.stay.trace), name, SpanKind::Internal, began);
        if let Some(span) = &span {
            *kept.calls.place() = Place { parent: span.trace.clone(), left: CALLS_MAX };
        }
        Ongoing { span }
    }

    /// A step, or what comes before, is over.
    pub(super) fn ended(&self, part: Ongoing, error: Option<String>) {
        if let (Some(kept), Some(span)) = (&self.kept, part.span) {
            kept.tracer.end(span, kept.clock.of(Instant::now()), error);
        }
    }

    /// The commit of this step is handed over; `leaves` where the job leaves with it, and `ends` where it ends, and why.
    pub(super) fn committing(
        &mut self,
        step: u64,
        leaves: bool,
        outcome: &str,
        error: Option<&str>,
    ) -> Commit {
        let ends = matches!(outcome, "succeeded" | "failed");
        let Some(kept) = &self.kept else { return Commit::default() };
        let told = kept.told || ends;
        let mut commit = Commit { tracer: kept.tracer.clone(), clock: Some(kept.clock), ..Commit::default() };
        if (leaves && told) || is_step_traced(step) {
            let began = kept.clock.of(Instant::now());
            commit.span = kept.tracer.span(Some(&kept.stay.trace), "commit", SpanKind::Client, began);
        }
        if let Some(span) = &mut commit.span {
            span.set("waymark.step", i64::try_from(step).unwrap_or(i64::MAX));
        }
        if leaves && let Some(kept) = self.kept.take().filter(|_| told) {
            commit.stay = Some(kept.close(outcome, error));
        }
        commit
    }

    /// The job left without a commit.
    pub(super) fn taken_away(&mut self) {
        let Some(kept) = self.kept.take().filter(|kept| kept.told) else { return };
        let (tracer, clock) = (kept.tracer.clone(), kept.clock);
        let (stay, error) = kept.close("taken away", None);
        tracer.end(stay, clock.of(Instant::now()), error);
    }
}

impl Kept {
    fn close(self, outcome: &str, error: Option<&str>) -> (Span, Option<String>) {
        let Self { tracer, queued, claimed, mut stay, left_out, .. } = self;
        if let Some(queued) = queued {
            tracer.end(queued, claimed, None);
        }
        stay.set("waymark.job.outcome", outcome.to_owned());
        if left_out > 0 {
            stay.set("waymark.steps_without_spans", i64::try_from(left_out).unwrap_or(i64::MAX));
        }
        (stay, error.map(str::to_owned))
    }
}

/// A commit on its way, and the stay that ends with it.
#[derive(Default)]
pub(in crate::worker) struct Commit {
    tracer: Tracer,
    clock: Option<Clock>,
    span: Option<Span>,
    stay: Option<(Span, Option<String>)>,
}

impl Commit {
    /// The store answered.
    pub(in crate::worker) fn answered(self, error: Option<&'static str>) {
        let Some(clock) = self.clock else { return };
        let now = clock.of(Instant::now());
        if let Some(span) = self.span {
            self.tracer.end(span, now, error.map(str::to_owned));
        }
        if let Some((stay, own)) = self.stay {
            self.tracer.end(stay, now, own.or_else(|| error.map(str::to_owned)));
        }
    }
}

/// Where the next call stands.
struct Place {
    parent: Trace,
    /// Calls that still get a span.
    left: u32,
}

/// Tells of calls.
struct Told {
    tracer: Tracer,
    clock: Clock,
    place: Mutex<Place>,
}

impl Told {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls for Told {
    fn begin(&self) -> Trace {
        let mut place = self.place();
        match fresh().filter(|_| place.left > 0) {
            Some(span_id) => {
                place.left -= 1;
                place.parent.with_span(span_id)
            }
            None => place.parent.clone(),
        }
    }

    fn end(&self, trace: Trace, call: Call) {
        let parent = self.place().parent.span_id;
        // A call without a span of its own stands where its step does. One that outlives its step belongs to nobody.
        if trace.span_id == parent {
            return;
        }
        let name = if call.to.is_empty() {
            Cow::Borrowed(call.capability)
        } else {
            Cow::Owned(format!("{} {}", call.capability, call.to))
        };
        let began = self.clock.of(call.began);
        let mut span =
            Span { trace, parent: Some(parent), name, kind: SpanKind::Client, began, attributes: Vec::new() };
        span.set("waymark.capability", call.capability);
        if !call.to.is_empty() {
            span.set("server.address", call.to);
        }
        self.tracer.end(span, began + call.took, call.error.map(str::to_owned));
    }
}

/// Hands on what the job's maker said, where nothing is told.
struct HandedOn(Trace);

impl Calls for HandedOn {
    fn begin(&self) -> Trace {
        self.0.clone()
    }

    fn end(&self, _: Trace, _: Call) {}
}
