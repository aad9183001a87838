//! Callers that take without giving: the host's memory stays bounded, and others are served meanwhile.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};
use waymark_tests::{PATIENCE, World, client::Client, eventually};

const IDLE: usize = 10_000;
const READERS: usize = 500;
/// What all of them may cost the host, bytes. Idle connections take about 5 KiB each, readers what is on its way to them.
const GROWTH_BYTES_MAX: u64 = 256 << 20;
/// Longest answer to others, on a machine that does other things too.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Files that this process may open, and the hosts that it starts.
fn allow_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    assert!(maximum.is_none_or(|maximum| maximum >= wanted), "ulimit -Hn must be at least {wanted}");
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("the limit is raised");
}

fn address(host: &Client) -> String {
    host.url.replace("http://", "")
}

/// A connection that sends this, and reads nothing.
fn caller(address: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(text.as_bytes()).expect("it is sent");
    stream
}

/// The longest of 40 answers to a caller who behaves: reads and submissions by turns.
#[track_caller]
fn others_are_served(host: &Client, when: &str) {
    let mut longest = Duration::ZERO;
    for number in 0..40 {
        let began = Instant::now();
        match number % 2 {
            0 => drop(host.get("/api/v1/jobs?limit=10").expect(200)),
            _ => drop(host.submit(&json!({"type": "counter", "input": {"steps": 1}}))),
        }
        longest = longest.max(began.elapsed());
    }
    println!("{when}: the longest of 40 answers took {longest:?}");
    assert!(longest < ANSWER_MAX, "{when}: {longest:?}");
}

#[track_caller]
fn is_closed(mut stream: TcpStream, within: Duration) -> String {
    stream.set_read_timeout(Some(within)).expect("a time-out");
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it is still open: {error}"),
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn ten_thousand_idle_connections_and_five_hundred_slow_readers_cost_bounded_memory() {
    allow_files(IDLE as u64 + 2_000);
    let world = World::alone(
        "[api]\nconnections_max = 11000\nheader_timeout_ms = 60000\n\
         [plugins.counter]\ncheckpoint = { every_steps = 100 }\n",
    );
    let host = world.host(&["counter"]);
    let address = address(&host);
    others_are_served(&host, "alone");
    let before = host.serving_bytes();
    let mut idle: Vec<_> = (0..IDLE).map(|_| TcpStream::connect(&address).expect("a connection")).collect();
    let began = Instant::now();
    others_are_served(&host, "beside 10,000 idle connections");
    let idle_bytes = host.serving_bytes().saturating_sub(before);
    println!("{IDLE} idle connections: {} KiB", idle_bytes >> 10);
    assert!(idle_bytes < GROWTH_BYTES_MAX, "{idle_bytes} bytes");
    assert!(began.elapsed() < Duration::from_secs(60), "they were idle while others were served");

    let input = json!({"steps": 2_000, "emit": true, "log": true});
    let id = host.submit(&json!({"type": "counter", "input": input}));
    let ask = format!("GET /api/v1/jobs/{id}/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let readers: Vec<_> = (0..READERS).map(|_| caller(&address, &ask)).collect();
    assert_eq!(host.ended(&id)["status"], "succeeded");
    others_are_served(&host, "beside 500 readers of events that read nothing");
    let bytes = host.serving_bytes().saturating_sub(before);
    println!("with {READERS} slow readers: {} KiB", bytes >> 10);
    assert!(bytes < GROWTH_BYTES_MAX, "{bytes} bytes");

    // One more than allowed is told so, and those that are there are none the worse.
    idle.extend((0..600).filter_map(|_| TcpStream::connect(&address).ok()));
    let refused = is_closed(caller(&address, "GET /healthz HTTP/1.1\r\n\r\n"), Duration::from_secs(20));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("too-many-connections"), "{refused}");
    drop((idle, readers));
    eventually("there is room again", PATIENCE, || (host.get("/healthz").status == 200).then_some(()));
}

#[test]
fn slow_heads_and_bodies_are_cut_off_in_time() {
    let world = World::alone("[api]\nheader_timeout_ms = 1000\nrequest_timeout_ms = 2000\n");
    let host = world.host(&["counter"]);
    let address = address(&host);
    let head = format!("POST /api/v1/jobs HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
    let kinds = [
        // Says nothing; begins like HTTP/2 and stops; stops within its head; within its body.
        String::new(),
        "PRI * HT".to_owned(),
        head.clone(),
        format!("{head}content-length: 1000000\r\n\r\n{{"),
    ];
    let began = Instant::now();
    let silent: Vec<Vec<_>> =
        kinds.iter().map(|text| (0..50).map(|_| caller(&address, text)).collect()).collect();
    // One byte a second, of a head and of a body.
    let mut drops: Vec<_> = [&kinds[2], &kinds[3]].map(|text| caller(&address, text)).into_iter().collect();
    others_are_served(&host, "beside 200 slow heads and bodies");
    for _ in 0..4 {
        for stream in &mut drops {
            // It may be closed by now.
            let _ = stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    for (kind, streams) in kinds.iter().zip(silent) {
        for stream in streams {
            let said = is_closed(stream, Duration::from_secs(20));
            if kind.contains("content-length") {
                assert!(
                    said.starts_with("HTTP/1.1 408") || said.starts_with("HTTP/1.1 503"),
                    "{kind:?}: {said}"
                );
            }
        }
    }
    drops.into_iter().for_each(|stream| drop(is_closed(stream, Duration::from_secs(20))));
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    others_are_served(&host, "afterwards");
}
