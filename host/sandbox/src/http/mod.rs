//! `wasi:http`: requests to where the operator allows, and nowhere else.
//!
//! One request goes through: [`config`] (is the target allowed?), [`headers`] (secrets in, smuggling out), [`connect`]
//! (resolved once, [`addresses`] checked, connected to what was checked), and back through [`body`] (not too long, not
//! too slow). Every request has a connection of its own, so nothing left over from one can reach another. Redirects are
//! answers like any other: a guest that follows one sends a request of its own, which is checked like the first.

mod addresses;
mod body;
pub mod config;
mod connect;
mod headers;
mod metrics;

pub(crate) use metrics::Metrics;

use crate::{
    calls::{Calls, Ongoing},
    log::{Level, Logger},
    secrets::Secrets,
    state::State,
    wasi::Wasi,
};
use body::Bounds;
use config::Grant;
use connect::{Place, Resolve};
use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::json;
use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView, io::TokioIo,
};

/// What a guest writes to a body at once: the host holds it until it is sent.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What a job type may send, made ready.
pub(crate) struct Outbound {
    job_type: String,
    grant: Grant,
    secrets: Secrets,
    resolve: Resolve,
    tls: Arc<rustls::ClientConfig>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Outbound {
    pub(crate) fn new(
        job_type: &str,
        grant: &Grant,
        secrets: &Secrets,
        tls: Arc<rustls::ClientConfig>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            job_type: job_type.to_owned(),
            places: Arc::new(Semaphore::new(grant.concurrency.get() as usize)),
            grant: grant.clone(),
            secrets: secrets.clone(),
            resolve: connect::system(),
            tls,
            metrics,
        }
    }

    async fn send(
        &self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
        end: Option<Instant>,
    ) -> Result<Sent, Error> {
        let place = Place::of(request.uri())?;
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let target = self.grant.target(place.scheme, &place.host, place.port);
        let target = target.ok_or(Error::HttpRequestDenied)?;
        headers::prepare(request.headers_mut(), target, &self.secrets)?;
        let limit = Duration::from_millis(self.grant.timeout_ms);
        let within = |wish: Option<Duration>| {
            let until = Instant::now() + wish.map_or(limit, |wish| wish.min(limit));
            tokio::time::Instant::from(end.map_or(until, |end| end.min(until)))
        };
        let turn = tokio::time::timeout_at(within(None), self.places.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Error::ConnectionLimitReached) };

        let connecting = async {
            let addresses = connect::addresses(&self.resolve, &place, target.private).await?;
            let stream = connect::connect(&self.tls, &place, &addresses).await?;
            let mut builder = hyper::client::conn::http1::Builder::new();
            builder.max_buf_size(HEAD_BYTES_MAX);
            builder.handshake(TokioIo::new(stream)).await.map_err(Error::Hyper)
        };
        let connected = tokio::time::timeout_at(within(options.connect_timeout), connecting).await;
        let (mut sender, connection) = connected.map_err(|_| Error::ConnectionTimeout)??;
        // A server is told the path alone; the rest is in `host`.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
        let tripped = Arc::<AtomicBool>::default();
        let bounds = |bytes_max, too_long| Bounds {
            bytes_max,
            too_long,
            pause_max: options.between_bytes_timeout.map_or(limit, |wish| wish.min(limit)),
            end,
            tripped: tripped.clone(),
        };
        let sent = bounds(self.grant.request_bytes_max, Error::HttpRequestBodySize);
        let request = request.map(|body| sent.around(body, None).boxed_unsync());
        // The connection goes on as long as the answer's body is read, and ends with it.
        let mut connection: Connection = Box::pin(async move { connection.await.map_err(Error::Hyper) });
        let answer = async {
            let mut sending = pin!(sender.send_request(request));
            tokio::select! {
                biased;
                answer = &mut sending => return answer.map_err(Error::Hyper),
                ended = &mut connection => {
                    connection = Box::pin(async { Ok(()) });
                    ended?;
                }
            }
            sending.await.map_err(Error::Hyper)
        };
        let answer = tokio::time::timeout_at(within(options.first_byte_timeout), answer).await;
        let answer = match answer {
            Err(_) => return Err(Error::ConnectionReadTimeout),
            Ok(Err(_)) if tripped.load(Relaxed) => {
                return Err(Error::HttpRequestBodySize(Some(self.grant.request_bytes_max)));
            }
            Ok(answer) => answer?,
        };
        if answer.body().size_hint().lower() > self.grant.response_bytes_max {
            return Err(Error::HttpResponseBodySize(Some(self.grant.response_bytes_max)));
        }
        let received = bounds(self.grant.response_bytes_max, Error::HttpResponseBodySize);
        let answer = answer.map(|body| received.around(body, Some(turn)).boxed_unsync());
        Ok((answer, connection))
    }
}

type Connection = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
type Sent = (Response<WasiBody>, Connection);

/// What belongs to one job.
pub(crate) struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    outbound: Option<Arc<Outbound>>,
    logger: Arc<Logger>,
    calls: Option<Arc<dyn Calls>>,
    /// When a request that is sent now must be over.
    end: Option<Instant>,
    /// Requests that may change something are refused.
    shadow: bool,
}

impl Http {
    pub(crate) fn new(outbound: Option<Arc<Outbound>>, logger: Arc<Logger>, shadow: bool) -> Self {
        let hooks = Hooks { outbound, logger, calls: None, end: None, shadow };
        Self { context: WasiHttpCtx::new(), hooks }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let (end, calls) = (self.patience(), self.context.calls.clone());
        let Wasi { table, http, .. } = self.wasi();
        (http.hooks.end, http.hooks.calls) = (end, calls);
        WasiHttpCtxView { hooks: &mut http.hooks, table, ctx: &mut http.context }
    }
}

type Sending = Box<
    dyn Future<
            Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>,
        > + Send,
>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(headers::is_forbidden)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let (outbound, logger, end) = (self.outbound.clone(), self.logger.clone(), self.end);
        let harmless = matches!(*request.method(), Method::GET | Method::HEAD);
        let refused = self.shadow && !harmless;
        let call = Ongoing::begin(self.calls.as_ref());
        Box::new(async move {
            let Some(outbound) = outbound else { return Err(Error::HttpRequestDenied) };
            if refused {
                let message = "a request was refused: a shadow job sends GET and HEAD only";
                logger.say(Level::Warn, message.to_owned(), "{}".to_owned());
                return Err(Error::HttpRequestDenied);
            }
            if let Some(trace) = call.trace() {
                headers::trace(request.headers_mut(), trace);
            }
            let began = Instant::now();
            // Never the path or a header: they are the job's own business.
            let to = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let sent = outbound.send(request, options.unwrap_or_default(), end).await;
            let outcome = metrics::outcome(&sent);
            outbound.metrics.sent(&outbound.job_type, outcome, began.elapsed());
            call.end("http", &to, (!matches!(outcome, "1xx" | "2xx" | "3xx")).then_some(outcome));
            match sent {
                Ok((answer, connection)) => Ok((answer, Box::new(connection) as Box<_>)),
                Err(error) => {
                    if matches!(error, Error::HttpRequestDenied | Error::DestinationIpProhibited) {
                        let fields = json!({
                            "to": to,
                            "grant": format!("plugins.{}.grants.http.allow", outbound.job_type),
                        });
                        let message = format!("a request was refused: {error}");
                        logger.say(Level::Warn, message, fields.to_string());
                    }
                    Err(error)
                }
            }
        })
    }
}
