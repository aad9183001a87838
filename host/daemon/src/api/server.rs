//! Connections: how many, how slow their heads may be, and how they end.
//!
//! A connection that asks for nothing within the time of a head is closed: the library's own limit on heads begins only when
//! it knows which version of HTTP is spoken. A connection beyond the cap is answered with 503 at once, so that health checks learn the truth instead of
//! waiting in the kernel's backlog.

use super::{
    audit::Peer,
    error::{Code, Problem},
};
use crate::config;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::util::MapRequest;
use tower_http::add_extension::AddExtension;

/// Longest head of a request, bytes: more is answered with 431. Stops header floods.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Streams at once in one HTTP/2 connection. Stops one connection from multiplying the cap on connections.
const STREAMS_MAX: u32 = 100;
/// Time for requests in flight when the host stops.
const FAREWELL: Duration = Duration::from_secs(4);
/// Pause after the kernel refused a connection, which it does when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `asked` is done.
pub async fn run(
    listener: TcpListener,
    router: Router,
    settings: &config::Api,
    asked: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(settings.header_timeout_ms))
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(20));
    let builder = Arc::new(builder);
    let quiet_max = Duration::from_millis(settings.header_timeout_ms);
    let connections = Arc::new(Semaphore::new(settings.connections_max));
    let graceful = GracefulShutdown::new();
    tokio::pin!(asked);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut asked => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = connections.clone().try_acquire_owned() else {
            crate::task::spawn(turn_away(stream));
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        let asked_once = Arc::<AtomicBool>::default();
        let asks = asked_once.clone();
        let service = MapRequest::new(AddExtension::new(router.clone(), Peer(address)), move |request| {
            asks.store(true, Relaxed);
            request
        });
        let service = TowerToHyperService::new(service);
        let builder = builder.clone();
        let watcher = graceful.watcher();
        crate::task::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(watcher.watch(connection));
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = tokio::time::sleep(quiet_max) => match asked_once.load(Relaxed) {
                    true => connection.await,
                    false => Ok(()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
    }
}

async fn turn_away(mut stream: TcpStream) {
    let problem = Problem::new(Code::TooManyConnections, "All connections are in use; try again soon.");
    let body = serde_json::to_string(&problem.document(None)).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let write = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), write).await {
        tracing::debug!(%error, "a connection beyond the cap was not answered");
    }
}
