//! Slow, many and long requests.

use crate::harness::Host;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn connect(host: &Host) -> TcpStream {
    TcpStream::connect(host.base.trim_start_matches("http://")).await.unwrap()
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // A connection that is cut is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("the host ends the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut_off() {
    let host = Host::with(|api| api.header_timeout_ms = 300).await;
    let mut stream = connect(&host).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let begin = Instant::now();
    read_all(&mut stream).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let host = Host::with(|api| api.request_timeout_ms = 300).await;
    let mut stream = connect(&host).await;
    stream
        .write_all(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{")
        .await
        .unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused() {
    let host = Host::start().await;
    let mut stream = connect(&host).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(host.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_turned_away_and_room_is_made_again() {
    let host = Host::with(|api| api.connections_max = 2).await;
    let first = connect(&host).await;
    let second = connect(&host).await;
    let mut third = connect(&host).await;
    let answer = read_all(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too-many-connections"), "{answer}");
    drop((first, second));
    for _ in 0..100 {
        if let Ok(response) = host.request(reqwest::Method::GET, "/healthz").send().await
            && response.status() == 200
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there is no room again");
}
