//! Traces, as a collector receives them (OTLP over HTTP).

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use waymark_tests::{
    PATIENCE, World,
    endpoint::{Endpoint, Reply},
    eventually,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// All spans that the collector was sent so far, each with the name of the service.
fn spans(collector: &Endpoint) -> Vec<(String, Span)> {
    let mut all = Vec::new();
    for asked in collector.asked() {
        assert_eq!(asked.line, "POST /v1/traces");
        assert_eq!(asked.header("content-type"), "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(asked.body.as_slice()).expect("OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = attributes.iter().find(|attribute| attribute.key == "service.name");
            let service = service.map(|service| text(service.value.as_ref())).unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            all.extend(spans.map(|span| (service.clone(), span)));
        }
    }
    all
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.clone()) {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    text(found.and_then(|attribute| attribute.value.as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Trace and span of a `traceparent`.
fn place(header: &str) -> (String, String) {
    let parts: Vec<_> = header.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{header}");
    (parts[1].to_owned(), parts[2].to_owned())
}

#[test]
fn one_trace_leads_from_the_request_to_the_last_commit_and_the_webhook() {
    let collector = Endpoint::start(|_| Reply::new(200, ""));
    let target = Endpoint::start(|_| Reply::new(200, "hello"));
    let receiver = Endpoint::start(|_| Reply::new(204, ""));
    let port = target.address.port();
    let world = World::new(&format!(
        "[telemetry]\notlp_endpoint = \"http://{}\"\nservice_name = \"jobs\"\n\
         [delivery]\nprivate_addresses = true\n\
         [plugins.fetcher]\ncheckpoint = {{ every_steps = 1 }}\n[plugins.fetcher.grants.http]\n\
         allow = [{{ host = \"127.0.0.1\", schemes = [\"http\"], ports = [{port}], private = true }}]\n",
        collector.address
    ));
    let host = world.host(&["fetcher"]);
    let request = json!({"url": format!("http://{}/secret-path", target.address)});
    let job = json!({
        "type": "fetcher", "input": [request, request, request],
        "webhook": {"url": format!("http://{}/hook", receiver.address)},
    });
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", &format!("00-{TRACE}-{CALLER}-01")),
        ("tracestate", "vendor=1"),
        ("x-correlation-id", "order-7"),
    ];
    let answer = host.request("POST", "/api/v1/jobs", &headers, job.to_string().as_bytes()).expect(201);
    let id = answer["id"].as_str().expect("an id");
    assert_eq!(host.ended(id)["status"], "succeeded");
    let all = eventually("the trace is complete", PATIENCE, || {
        let spans = spans(&collector);
        // The processes of a host send by themselves.
        let has = |name: &str| spans.iter().any(|(_, span)| span.name == name);
        (has("run waymark.webhook") && has("run fetcher") && has("POST /api/v1/jobs")).then_some(spans)
    });
    let (services, all): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    assert!(services.iter().all(|service| service == "jobs"), "{services:?}");
    assert!(all.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "vendor=1"));
    let names: Vec<_> = all.iter().map(|span| span.name.as_str()).collect();
    let only = |name: &str, below: &str| {
        let found: Vec<_> =
            all.iter().filter(|span| span.name == name && hex(&span.parent_span_id) == below).collect();
        assert_eq!(found.len(), 1, "{name} below {below}: {names:?}");
        found[0]
    };
    let asked = only("POST /api/v1/jobs", CALLER);
    assert_eq!(attribute(asked, "http.response.status_code"), "201");
    let asked = hex(&asked.span_id);
    only("wait in the queue", &asked);
    let run = only("run fetcher", &asked);
    assert_eq!(attribute(run, "waymark.job.id"), id);
    assert_eq!(attribute(run, "waymark.correlation_id"), "order-7");
    assert_eq!(attribute(run, "waymark.job.outcome"), "succeeded");
    let below = hex(&run.span_id);
    only("begin", &below);
    let of = |name: &str| {
        let found = all.iter().filter(|span| span.name == name && hex(&span.parent_span_id) == below);
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|span| span.start_time_unix_nano);
        found
    };
    let (steps, commits) = (of("step"), of("commit"));
    let numbers =
        |spans: &[&Span]| spans.iter().map(|span| attribute(span, "waymark.step")).collect::<Vec<_>>();
    assert_eq!(numbers(&steps), ["1", "2", "3", "4"][..steps.len()]);
    assert_eq!(numbers(&commits), numbers(&steps));
    assert!(commits.iter().all(|commit| commit.end_time_unix_nano <= run.end_time_unix_nano));

    // Those who were asked know which call it was.
    let calls: HashMap<_, _> = all
        .iter()
        .filter(|span| span.name == "http 127.0.0.1" || span.name == format!("http 127.0.0.1:{port}"))
        .map(|span| (hex(&span.span_id), span))
        .collect();
    for request in target.asked() {
        let (trace, span) = place(request.header("traceparent"));
        assert_eq!((trace.as_str(), request.header("tracestate")), (TRACE, "vendor=1"));
        let step = hex(&calls[&span].parent_span_id);
        assert!(steps.iter().any(|known| hex(&known.span_id) == step), "{names:?}");
    }
    assert_eq!(target.asked().len(), 3);
    let told = receiver.asked().remove(0);
    let (trace, span) = place(told.header("traceparent"));
    assert!(trace == TRACE && calls.contains_key(&span));
    let body: Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(body["data"]["correlation_id"], "order-7");
    only("run waymark.webhook", &below);
    // What the job is about is nobody's business.
    assert!(
        !collector.asked().iter().any(|asked| { asked.body.windows(11).any(|text| text == b"secret-path") })
    );
    eventually("what was sent is counted", PATIENCE, || {
        (host.metric("waymark_trace_spans_total{outcome=\"sent\"") >= all.len() as f64).then_some(())
    });
}

#[test]
fn a_caller_that_keeps_no_trace_is_handed_on_and_a_long_job_makes_few_spans() {
    let collector = Endpoint::start(|_| Reply::new(200, ""));
    let world = World::new(&format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", collector.address));
    let host = world.host(&["counter"]);
    let not_kept = format!("00-{TRACE}-{CALLER}-00");
    let headers = [("content-type", "application/json"), ("traceparent", not_kept.as_str())];
    let job = json!({"type": "counter", "input": {"steps": 1}}).to_string();
    let id = host.request("POST", "/api/v1/jobs", &headers, job.as_bytes()).expect(201)["id"].clone();
    assert_eq!(host.ended(id.as_str().expect("an id"))["status"], "succeeded");
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 20_000}}));
    assert_eq!(host.ended(&id)["status"], "succeeded");
    let all = eventually("the long job's trace", PATIENCE, || {
        let spans = spans(&collector);
        spans.iter().any(|(_, span)| span.name == "run counter").then_some(spans)
    });
    let all: Vec<_> = all.into_iter().map(|(_, span)| span).collect();
    assert!(all.iter().all(|span| hex(&span.trace_id) != TRACE), "what the caller does not keep");
    let run = all.iter().find(|span| span.name == "run counter").expect("it is there");
    let steps = all.iter().filter(|span| span.name == "step").count();
    let left_out: usize = attribute(run, "waymark.steps_without_spans").parse().expect("a number");
    assert!((200..400).contains(&steps), "{steps}");
    assert_eq!(steps + left_out, 20_000);
}

#[test]
fn a_collector_that_is_slow_or_away_holds_up_no_job() {
    let collector = Endpoint::start(|_| {
        std::thread::sleep(Duration::from_secs(60));
        Reply::new(503, "")
    });
    for address in [collector.address.to_string(), "127.0.0.1:9".to_owned()] {
        let world = World::new(&format!("[telemetry]\notlp_endpoint = \"http://{address}\"\n"));
        let mut host = world.host(&["counter"]);
        let began = Instant::now();
        for steps in 1..20 {
            let id = host.submit(&json!({"type": "counter", "input": {"steps": steps}}));
            assert_eq!(host.ended(&id)["status"], "succeeded");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        eventually("what is lost is counted", PATIENCE, || {
            (host.metric("waymark_trace_spans_total{outcome=\"dropped\"") > 0.0).then_some(())
        });
        let (_, took) = host.stop();
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
