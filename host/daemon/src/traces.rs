//! Traces (OpenTelemetry): spans of requests and of jobs, sent to a collector over OTLP/HTTP.
//!
//! Nobody waits for the collector. A span that ended goes into a queue; a task of the process sends what gathered there
//! every half second. What does not fit into the queue, or cannot be sent, is dropped and counted. Without an address
//! there is no queue and no task, and a span is never made.
//!
//! Which traces are kept is decided once, where a trace begins: by the caller's `traceparent`, else by chance. Jobs
//! carry the decision with them, so that every process that has to do with one comes to the same.

use crate::config::Telemetry;
use anyhow::Context as _;
use axum::http::HeaderMap;
use opentelemetry::{
    InstrumentationScope, KeyValue, TraceFlags,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use prometheus::{IntCounterVec, Opts, Registry};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use waymark_job::{JobId, Trace};
use waymark_sandbox::bounded;

/// Spans that wait to be sent, about 1 KiB each.
const QUEUE_MAX: usize = 8_192;
/// Spans in one message.
const BATCH_MAX: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_millis(500);
/// Longest time of one message; spans gather meanwhile.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Longest time to send what is left when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest answer of a collector that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Takes spans. Cheap to clone; by default it takes none.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    spans: mpsc::Sender<SpanData>,
    /// Of traces that begin here, the share that is kept.
    ratio: f64,
    counted: IntCounterVec,
    scope: InstrumentationScope,
}

/// The task that sends.
pub struct Sending {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sending {
    /// Sends what is left, as far as the collector takes it within 2 s.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(FAREWELL, self.task).await;
    }
}

/// A span, from its beginning on. It is sent by [`Tracer::end`].
#[derive(Clone, Debug)]
pub struct Span {
    /// Its own place.
    pub trace: Trace,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// What it is.
    pub name: Cow<'static, str>,
    /// Who asks whom.
    pub kind: SpanKind,
    /// When it began.
    pub began: SystemTime,
    /// More about it.
    pub attributes: Vec<KeyValue>,
}

impl Span {
    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }
}

impl Tracer {
    /// Starts sending, unless no address is configured. `instance` tells this process from others of the deployment.
    ///
    /// # Errors
    /// The address is malformed, or there are such metrics already.
    pub fn start(
        config: &Telemetry,
        instance: &str,
        registry: &Registry,
    ) -> anyhow::Result<(Self, Option<Sending>)> {
        let Some(endpoint) = config.traces_url() else { return Ok((Self::default(), None)) };
        let counted = IntCounterVec::new(
            Opts::new(
                "waymark_trace_spans_total",
                "Spans of traces, by what became of them: sent or dropped.",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(counted.clone()))?;
        for outcome in ["sent", "dropped"] {
            counted.with_label_values(&[outcome]).inc_by(0);
        }
        let client = reqwest::Client::builder().timeout(SEND_MAX).build().context("telemetry")?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(client))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(SEND_MAX)
            // Another try would hold up the thread, and the spans behind.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .context("telemetry.otlp_endpoint")?;
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        exporter.set_resource(&resource);
        let (spans, waiting) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let task = crate::task::spawn(send(waiting, exporter, counted.clone(), stop.clone()));
        let scope = InstrumentationScope::builder("waymark").with_version(env!("CARGO_PKG_VERSION")).build();
        let inner = Inner { spans, ratio: config.sample_ratio, counted, scope };
        Ok((Self(Some(Arc::new(inner))), Some(Sending { stop, task })))
    }

    /// A span below `parent`, or the first of a trace; `None` where the trace is not kept.
    #[must_use]
    pub fn span(
        &self,
        parent: Option<&Trace>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        began: SystemTime,
    ) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let own = match parent {
            Some(parent) => parent.with_span(fresh()?),
            None => {
                let trace_id = u128::from(fresh()?) << 64 | u128::from(fresh()?);
                Trace { trace_id, span_id: fresh()?, sampled: inner.keeps(trace_id), state: String::new() }
            }
        };
        let span = Span {
            parent: parent.map(|parent| parent.span_id),
            trace: own,
            name: name.into(),
            kind,
            began,
            attributes: Vec::new(),
        };
        span.trace.sampled.then_some(span)
    }

    /// The first span of a job that nobody's request made, such as that of a schedule. Its trace follows from the job's
    /// id, so that all workers that have the job come to the same trace.
    #[must_use]
    pub fn span_of_job(
        &self,
        id: &JobId,
        name: impl Into<Cow<'static, str>>,
        began: SystemTime,
    ) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let digest = Sha256::digest(id.as_str());
        let trace_id = digest.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte)).max(1);
        let trace = Trace { trace_id, span_id: fresh()?, sampled: true, state: String::new() };
        inner.keeps(trace_id).then(|| Span {
            trace,
            parent: None,
            name: name.into(),
            kind: SpanKind::Consumer,
            began,
            attributes: Vec::new(),
        })
    }

    /// The span is over; what went wrong, if anything did.
    pub fn end(&self, span: Span, ended: SystemTime, error: Option<String>) {
        let Some(inner) = &self.0 else { return };
        let context = |span_id: u64| {
            let flags = if span.trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            SpanContext::new(
                TraceId::from_bytes(span.trace.trace_id.to_be_bytes()),
                SpanId::from_bytes(span_id.to_be_bytes()),
                flags,
                false,
                TraceState::from_str(&span.trace.state).unwrap_or_default(),
            )
        };
        let data = SpanData {
            span_context: context(span.trace.span_id),
            parent_span_id: span
                .parent
                .map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
            parent_span_is_remote: matches!(span.kind, SpanKind::Server | SpanKind::Consumer),
            span_kind: span.kind,
            name: span.name,
            start_time: span.began,
            // Clocks of two machines meet in some spans.
            end_time: ended.max(span.began),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: inner.scope.clone(),
        };
        if inner.spans.try_send(data).is_err() {
            inner.counted.with_label_values(&["dropped"]).inc();
        }
    }
}

impl Inner {
    /// By the last seven bytes of the trace's id, which are random (W3C Trace Context, level 2).
    fn keeps(&self, trace_id: u128) -> bool {
        const BITS: u32 = 56;
        let random = (trace_id & ((1 << BITS) - 1)) as f64;
        random < self.ratio * (1_u64 << BITS) as f64
    }
}

/// A random number that is not zero; none where the system has no randomness.
pub(crate) fn fresh() -> Option<u64> {
    getrandom::u64().ok().map(|number| number.max(1))
}

/// Where the caller of a request stands.
#[must_use]
pub fn of_headers(headers: &HeaderMap) -> Option<Trace> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Trace::read(text(TRACEPARENT)?, text(TRACESTATE).unwrap_or_default())
}

/// Headers that tell others where in a trace a request to them stands.
pub(crate) fn to_headers(trace: &Trace, headers: &mut HeaderMap) {
    let state = Some(&trace.state).filter(|state| !state.is_empty());
    for (name, value) in [(TRACEPARENT, Some(&trace.parent())), (TRACESTATE, state)] {
        match value.and_then(|value| value.parse().ok()) {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

async fn send(
    mut spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    counted: IntCounterVec,
    stop: CancellationToken,
) {
    let mut away = false;
    loop {
        // What came until the end is sent whatever happens.
        let last = stop.is_cancelled();
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH_MAX
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                break;
            }
            let number = batch.len() as u64;
            let sent = tokio::time::timeout(SEND_MAX, exporter.export(batch)).await;
            let outcome = match sent {
                Ok(Ok(())) => "sent",
                _ => "dropped",
            };
            counted.with_label_values(&[outcome]).inc_by(number);
            if away != (outcome == "dropped") {
                away = !away;
                let error = match sent {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("it did not answer in time".to_owned()),
                };
                tracing::warn!(error, away, "the collector of traces goes away or comes back");
            }
        }
        if last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The HTTP client of this program, for the exporter.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let body = bounded::whole(answer.bytes_stream(), ANSWER_BYTES_MAX).await?;
        let body = body.ok_or("the collector's answer is too long")?;
        Ok(response.body(body.into())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_address_there_is_no_span() {
        let registry = Registry::new();
        let (tracer, sending) = Tracer::start(&Telemetry::default(), "x", &registry).unwrap();
        assert!(sending.is_none() && registry.gather().is_empty());
        assert!(tracer.span(None, "x", SpanKind::Internal, SystemTime::now()).is_none());
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
        let registry = Registry::new();
        // Nobody listens on the discard port of this machine.
        let config = Telemetry { otlp_endpoint: Some("http://127.0.0.1:9".into()), ..Telemetry::default() };
        let (tracer, sending) = Tracer::start(&config, "x", &registry).unwrap();
        let more = 100;
        for _ in 0..QUEUE_MAX + more {
            let span = tracer.span(None, "x", SpanKind::Internal, SystemTime::now()).unwrap();
            tracer.end(span, SystemTime::now(), None);
        }
        let dropped = || tracer.0.as_ref().unwrap().counted.with_label_values(&["dropped"]).get();
        assert_eq!(dropped(), more as u64);
        sending.unwrap().finish().await;
        assert_eq!(dropped(), (QUEUE_MAX + more) as u64);
    }

    #[tokio::test]
    async fn the_share_that_is_kept_follows_from_the_trace() {
        let endpoint = Some("http://127.0.0.1:9".into());
        let config = Telemetry { otlp_endpoint: endpoint, sample_ratio: 0.25, ..Telemetry::default() };
        let (tracer, _sending) = Tracer::start(&config, "x", &Registry::new()).unwrap();
        let kept = (0..4_000)
            .filter(|_| tracer.span(None, "x", SpanKind::Internal, SystemTime::now()).is_some())
            .count();
        assert!((800..1_200).contains(&kept), "{kept}");
        // A caller's decision stands.
        let mut parent = Trace { trace_id: 1, span_id: 1, sampled: true, state: String::new() };
        assert!(tracer.span(Some(&parent), "x", SpanKind::Internal, SystemTime::now()).is_some());
        parent.sampled = false;
        assert!(tracer.span(Some(&parent), "x", SpanKind::Internal, SystemTime::now()).is_none());
        let id = JobId::generate(1, 0).unwrap();
        let of_job =
            |tracer: &Tracer| tracer.span_of_job(&id, "x", SystemTime::now()).map(|span| span.trace.trace_id);
        assert_eq!(of_job(&tracer), of_job(&tracer));
    }
}
